#include "stress_lost.h"

#include "stress_host.h"
#include "core/pool/sp_control.h"
#include "core/pool/sp_grant.h"
#include "core/pool/sp_lease.h"
#include "core/pool/sp_snapshot.h"
#include "core/pool/sp_table.h"
#include "kit/fake_worker.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define USERS 3
#define SIZE 8
#define ATTEMPTS 4
/* Beyond those of the other duels. */
#define FIRST_OWNER 1000
#define SETTLES_WITHIN 30000

static struct sp_pool *pool;
static unsigned ops;
static _Atomic unsigned using;
static _Atomic bool over;

static enum sp_clean worker_validate(struct sp_conn *conn)
{
    return atomic_load_explicit(&conn->gone, memory_order_relaxed) ? SP_DEAD : SP_CLEAN;
}

static const struct sp_transport WORKER = FAKE_WORKER(worker_validate);

static void check_in(const struct sp_call *call, struct sp_conn *conn, uint64_t lease)
{
    sp_status status = sp_pool_checkin(pool, call, conn, lease, NULL);

    if (status != SP_OK && status != SP_CLOSED)
        stress_die("workers: a check-in gives %s", sp_status_name(status));
}

/* One check-out, and one of the ways in which it ends. */
static bool use(uint64_t owner)
{
    struct sp_call call = stress_call();
    struct sp_conn *conn;
    uint64_t lease;
    void *keepsake;

    if (sp_pool_checkout(pool, &call, owner, &conn, &lease, &keepsake) != SP_OK)
        return false;
    if (keepsake)
        stress_keepsake_free(keepsake);
    if (stress_random(4) == 0)
        sched_yield();
    call = stress_call();
    switch (stress_random(8)) {
    case 0:
        if (sp_pool_discard(pool, &call, conn, lease, SP_WHY_DISCARDED) == SP_BUSY)
            stress_die("workers: busy");
        break;
    case 1:
        (void)sp_pool_abandon(pool, &call, conn, lease);
        break;
    case 2:
        lease = sp_conn_give_away(conn, lease, owner);
        if (lease != SP_LEASE_NONE)
            check_in(&call, conn, lease);
        break;
    default:
        check_in(&call, conn, lease);
    }
    stress_host.conn_unref(conn);
    return true;
}

static void *user_main(void *arg)
{
    uint64_t number = (uint64_t)(uintptr_t)arg;

    stress_seed(500 + number);
    for (unsigned done = 0; done < ops;) {
        if (use(FIRST_OWNER + number))
            done++;
        else
            sched_yield();
    }
    atomic_fetch_sub(&using, 1);
    return NULL;
}

/* Any of them, wherever it is. */
static void *loser_main(void *arg)
{
    uint32_t cursor = 0;

    (void)arg;
    stress_seed(600);
    while (atomic_load(&using)) {
        struct sp_call call = stress_call();
        struct sp_conn *conn = sp_table_next(pool, &call, &cursor);
        if (!conn)
            continue;
        if (stress_random(8) == 0)
            sp_pool_lost(pool, &call, conn);
        stress_host.conn_unref(conn);
        sched_yield();
    }
    return NULL;
}

static void connect_one(struct sp_attempt *attempt, uint64_t owner)
{
    static const struct sp_addr NOWHERE = {.len = 0};
    struct sp_call call = stress_call();
    bool ready =
        sp_control_begin(pool, &call, attempt->conn, &attempt->lease, owner, &NOWHERE) == SP_OK &&
        sp_control_opened(attempt->conn, &attempt->lease, &call) == SP_OK &&
        sp_control_ready(pool, &call, attempt->conn, attempt->lease) == SP_OK;

    if (!ready)
        (void)sp_pool_abandon(pool, &call, attempt->conn, attempt->lease);
    stress_host.conn_unref(attempt->conn);
}

static void control_once(void)
{
    struct sp_attempt made[ATTEMPTS];
    struct sp_call call = stress_call();
    struct sp_plan plan;
    uint32_t cursor = 0;

    sp_control_step(pool, &call, made, ATTEMPTS, &plan);
    for (size_t i = 0; i < plan.attempts; i++)
        connect_one(&made[i], FIRST_OWNER + USERS);
    do
        call = stress_call();
    while (sp_control_tick(pool, &call, &cursor));
}

static void *control_main(void *arg)
{
    (void)arg;
    stress_seed(700);
    while (!atomic_load(&over)) {
        control_once();
        usleep(100);
    }
    return NULL;
}

/* One of those that nobody has any more. */
static bool any_gone(void)
{
    uint32_t cursor = 0;
    bool gone = false;

    do {
        struct sp_call call = stress_call();
        struct sp_conn *conn = sp_table_next(pool, &call, &cursor);
        if (!conn)
            continue;
        gone = gone || atomic_load(&conn->gone);
        stress_host.conn_unref(conn);
    } while (cursor > 0);
    return gone;
}

static bool settled(struct sp_snapshot *stats)
{
    uint32_t cursor = 0;
    bool more;

    *stats = (struct sp_snapshot){0};
    do {
        struct sp_call call = stress_call();
        more = sp_pool_snapshot(pool, &call, stats, &cursor);
    } while (more);
    return stats->connecting == 0 && stats->leased == 0 && stats->idle == SIZE &&
           stats->total == SIZE && !any_gone();
}

static void judge(void)
{
    struct sp_snapshot stats;
    unsigned turns = 0;

    while (!settled(&stats) && turns++ < SETTLES_WITHIN)
        usleep(1000);
    atomic_store(&over, true);
    if (turns > SETTLES_WITHIN)
        stress_die("workers: idle %u, leased %u, connecting %u, total %u at the end",
                   (unsigned)stats.idle, (unsigned)stats.leased, (unsigned)stats.connecting,
                   (unsigned)stats.total);
    if (stats.checkouts != stats.checkins + stats.abandoned)
        stress_die("workers: %llu check-outs, but %llu check-ins and %llu abandoned",
                   (unsigned long long)stats.checkouts, (unsigned long long)stats.checkins,
                   (unsigned long long)stats.abandoned);
    printf("stress workers: %llu check-outs, %llu abandoned, %llu closed: exact\n",
           (unsigned long long)stats.checkouts, (unsigned long long)stats.abandoned,
           (unsigned long long)stats.closed);
}

static void shut(void)
{
    struct sp_call call = stress_call();

    sp_control_shut_begin(pool, SP_PHASE_CLOSED);
    do
        call = stress_call();
    while (sp_control_shut_slice(pool, &call, SP_DRAINING));
    if (stress_conns() || atomic_load(&pool->total))
        stress_die("workers: %u leaked", stress_conns());
    sp_pool_destroy(pool);
    free(pool);
}

void stress_lost(unsigned times)
{
    const struct sp_config config = {.transport = &WORKER,
                                     .size = SIZE,
                                     .overflow_ttl_ns = SP_NEVER,
                                     .max_hold_ns = SP_NEVER,
                                     .idle_timeout_ns = SP_NEVER,
                                     .lifetime_max_ns = SP_NEVER,
                                     .max_uses = SP_NEVER,
                                     .max_waiting = SP_NEVER,
                                     .connect_parallelism = 64,
                                     .backoff_min_ns = SP_MS,
                                     .backoff_max_ns = 10 * SP_MS,
                                     .recv_limit_bytes = 1024,
                                     .reuse_abandoned = true,
                                     .strategy = SP_FIFO};
    struct sp_call call = stress_call();
    pthread_t threads[USERS + 2];

    ops = times;
    pool = aligned_alloc(_Alignof(struct sp_pool), sizeof *pool);
    memset(pool, 0, sizeof *pool);
    if (sp_pool_init(pool, &stress_host, &stress_sys, 2) != SP_OK)
        stress_die("no memory");
    sp_control_open(pool, &call, &config, 1);
    atomic_store(&using, USERS);
    for (uintptr_t i = 0; i < USERS; i++)
        pthread_create(&threads[i], NULL, user_main, (void *)i);
    pthread_create(&threads[USERS], NULL, loser_main, NULL);
    pthread_create(&threads[USERS + 1], NULL, control_main, NULL);
    for (unsigned i = 0; i <= USERS; i++)
        pthread_join(threads[i], NULL);
    judge();
    pthread_join(threads[USERS + 1], NULL);
    shut();
}
