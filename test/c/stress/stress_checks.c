#include "stress_checks.h"

#include "core/pool/sp_check.h"

#include <unistd.h>

static struct {
    pthread_mutex_t lock;
    struct sp_check list[2 * SP_CHECKS_MAX];
    unsigned count;
} checks = {.lock = PTHREAD_MUTEX_INITIALIZER};

bool stress_checks_begin(const struct sp_call *call, uint64_t *again_ns)
{
    struct sp_check made[4];
    struct sp_check_plan plan;

    sp_check_step(pool, call, made, 4, &plan);
    pthread_mutex_lock(&checks.lock);
    for (size_t i = 0; i < plan.count; i++) {
        if (checks.count == 2 * SP_CHECKS_MAX)
            stress_die("more are checked at a time than may be");
        checks.list[checks.count++] = made[i];
    }
    pthread_mutex_unlock(&checks.lock);
    if (plan.wait_ns != SP_NEVER && call->now_ns + plan.wait_ns < *again_ns)
        *again_ns = call->now_ns + plan.wait_ns;
    return plan.more;
}

static bool take(struct handle *handle)
{
    bool taken;

    pthread_mutex_lock(&checks.lock);
    taken = checks.count > 0;
    if (taken) {
        checks.count--;
        *handle = (struct handle){.conn = checks.list[checks.count].conn,
                                  .lease = checks.list[checks.count].lease};
    }
    pthread_mutex_unlock(&checks.lock);
    return taken;
}

/* As check_claim/2. */
static void claim(const struct handle *handle, uint64_t owner)
{
    if (!sp_conn_still(handle->conn, handle->lease))
        return;
    atomic_store(&handle->conn->owner, owner);
    sp_conn_go_on(handle->conn, handle->lease);
}

bool stress_checks_end_one(void)
{
    uint64_t owner = new_owner();
    struct sp_call call = stress_call();
    struct handle handle;
    sp_status status;

    if (!take(&handle))
        return false;
    claim(&handle, owner);
    usleep((unsigned)stress_random(300));
    switch (stress_random(6)) {
    case 0:
        sp_check_failed(pool, &call, handle.conn, handle.lease);
        break;
    case 1:
        sp_check_skipped(pool, &call, handle.conn, handle.lease);
        break;
    case 2: /* a sweep may find it first, or may not */
        stress_kill(owner);
        usleep((unsigned)stress_random(400));
        break;
    case 3: /* nobody's to give back */
        if (sp_pool_checkin(pool, &call, handle.conn, handle.lease, NULL) == SP_OK)
            stress_die("a check was checked in");
        break;
    default:
        status = sp_check_passed(pool, &call, handle.conn, handle.lease);
        (void)status;
    }
    drop(&handle);
    return true;
}
