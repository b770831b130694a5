#include "stress_sleep.h"

#include "stress_host.h"
#include "core/pool/sp_control.h"
#include "core/pool/sp_due.h"
#include "core/pool/sp_grant.h"
#include "kit/fake_worker.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define USERS 2
#define SIZE 2
#define STUCK_S 60
/* Dead from the beginning: all of its leases are to be found. */
#define THE_DEAD 900

static struct sp_pool *pool;
static unsigned ops;
static _Atomic uint64_t now_ns; /* so far after each tick that what is idle turns cold */
static _Atomic unsigned using, sleeps;

static struct sp_call call_now(void)
{
    struct sp_call call = stress_call();

    call.now_ns = atomic_load(&now_ns);
    return call;
}

static enum sp_clean worker_validate(struct sp_conn *conn)
{
    (void)conn;
    return SP_CLEAN;
}

static const struct sp_transport WORKER = FAKE_WORKER(worker_validate);

static void await_end(struct sp_conn *conn, uint64_t lease)
{
    uint64_t began_ns = stress_now_ns();

    while (atomic_load(&conn->lease) == lease) {
        if (stress_now_ns() - began_ns > 50 * STUCK_S * 1000 * SP_MS)
            stress_die("sleep: the lease of a dead owner is not found");
        sched_yield();
    }
}

/* False: the control process has all of them just now. */
static bool take_one(void)
{
    struct sp_call call = call_now();
    struct sp_conn *conn;
    uint64_t lease;
    void *keepsake;

    if (sp_pool_checkout(pool, &call, THE_DEAD, &conn, &lease, &keepsake) != SP_OK)
        return false;
    await_end(conn, lease);
    stress_host.conn_unref(conn);
    return true;
}

static void *user_main(void *arg)
{
    stress_seed(800 + (uint64_t)(uintptr_t)arg);
    for (unsigned done = 0; done < ops;) {
        for (uint64_t i = stress_random(64); i > 0; i--)
            (void)atomic_load(&using);
        if (stress_random(8) == 0)
            sched_yield();
        if (take_one())
            done++;
    }
    atomic_fetch_sub(&using, 1);
    return NULL;
}

static void step(void)
{
    static const struct sp_addr NOWHERE = {.len = 0};
    struct sp_attempt made[SIZE];
    struct sp_call call = call_now();
    struct sp_plan plan;

    sp_control_step(pool, &call, made, SIZE, &plan);
    for (size_t i = 0; i < plan.attempts; i++) {
        if (sp_control_begin(pool, &call, made[i].conn, &made[i].lease, 1, &NOWHERE) != SP_OK ||
            sp_control_opened(made[i].conn, &made[i].lease, &call) != SP_OK ||
            sp_control_ready(pool, &call, made[i].conn, made[i].lease) != SP_OK)
            stress_die("sleep: a connection fails");
        stress_host.conn_unref(made[i].conn);
    }
}

/* Whether another one is to come. */
static bool tick(void)
{
    struct sp_call call;
    uint32_t cursor = 0;

    step();
    atomic_fetch_add(&now_ns, 2 * SP_COLD_NS);
    do
        call = call_now();
    while (sp_control_tick(pool, &call, &cursor));
    return sp_due_next(pool, &call) != SP_NEVER;
}

static void *control_main(void *arg)
{
    bool ticks = true;

    (void)arg;
    stress_seed(850);
    while (atomic_load(&using)) {
        if (stress_take_wake()) {
            step();
            ticks = true;
        }
        if (ticks && !(ticks = tick()))
            atomic_fetch_add(&sleeps, 1);
    }
    return NULL;
}

static void shut(void)
{
    struct sp_call call;

    sp_control_shut_begin(pool, SP_PHASE_CLOSED);
    do
        call = call_now();
    while (sp_control_shut_slice(pool, &call, SP_DRAINING));
    (void)stress_take_wake();
    if (stress_conns() || atomic_load(&pool->total))
        stress_die("sleep: %u leaked", stress_conns());
    sp_pool_destroy(pool);
    free(pool);
}

void stress_sleep(unsigned times)
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
                                     .reuse_abandoned = true,
                                     .strategy = SP_LIFO};
    pthread_t threads[USERS + 1];
    struct sp_call call;

    ops = times;
    atomic_store(&now_ns, 10 * SP_COLD_NS);
    pool = aligned_alloc(_Alignof(struct sp_pool), sizeof *pool);
    memset(pool, 0, sizeof *pool);
    if (sp_pool_init(pool, &stress_host, &stress_sys, 2) != SP_OK)
        stress_die("no memory");
    call = call_now();
    sp_control_open(pool, &call, &config, 1);
    stress_kill(THE_DEAD);
    atomic_store(&using, USERS);
    for (uintptr_t i = 0; i < USERS; i++)
        pthread_create(&threads[i], NULL, user_main, (void *)i);
    pthread_create(&threads[USERS], NULL, control_main, NULL);
    for (unsigned i = 0; i <= USERS; i++)
        pthread_join(threads[i], NULL);
    shut();
    printf("stress sleep: %u leases of the dead found, %u times at rest\n", USERS * ops,
           atomic_load(&sleeps));
}
