#include "stress_duel.h"

#include "core/pool/sp_control.h"
#include "core/pool/sp_grant.h"
#include "core/pool/sp_lease.h"
#include "stress_host.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STUCK_S 60

static struct sp_pool *arena;
static unsigned rounds_wanted;
static pthread_barrier_t barrier;
static _Atomic bool over;
/* The connection, in whose hands it is between the rounds. */
static struct sp_conn *held;
static uint64_t held_lease;

static void open_arena(uint32_t size)
{
    struct sp_call call = stress_call();
    struct sp_config config = {.transport = &sp_transport_tcp,
                               .size = size,
                               .overflow_ttl_ns = SP_NEVER,
                               .max_hold_ns = SP_NEVER,
                               .leak_threshold_ns = SP_NEVER,
                               .idle_timeout_ns = SP_NEVER,
                               .lifetime_max_ns = SP_NEVER,
                               .max_uses = SP_NEVER,
                               .max_waiting = SP_NEVER,
                               .connect_parallelism = 64,
                               .backoff_min_ns = SP_MS,
                               .backoff_max_ns = SP_MS,
                               .recv_limit_bytes = 1024};

    sp_control_open(arena, &call, &config, 1);
}

static void make_arena(uint32_t size)
{
    arena = aligned_alloc(_Alignof(struct sp_pool), sizeof *arena);
    memset(arena, 0, sizeof *arena);
    if (sp_pool_init(arena, &stress_host, &stress_sys, 2) != SP_OK)
        stress_die("no memory");
    open_arena(size);
}

static void shut_arena(enum sp_phase phase)
{
    struct sp_call call = stress_call();

    sp_control_shut_begin(arena, phase);
    while (sp_control_shut_slice(arena, &call, SP_CLOSED))
        ;
}

static void drop_arena(void)
{
    shut_arena(SP_PHASE_CLOSED);
    if (stress_conns() || stress_waiters() || stress_fds())
        stress_die("a duel leaks");
    sp_pool_destroy(arena);
    free(arena);
}

/* Makes the only connection, and holds it. */
static void hold_one(void)
{
    static const struct sp_addr ADDR = {.storage.ss_family = AF_INET, .len = 16};
    struct sp_call call = stress_call();
    struct sp_attempt attempt;
    struct sp_plan plan;
    void *keepsake;

    do
        sp_control_step(arena, &call, &attempt, 1, &plan);
    while (plan.attempts == 0);
    if (sp_control_begin(arena, &call, attempt.conn, &attempt.lease, 1, &ADDR) != SP_OK ||
        sp_control_opened(attempt.conn, &attempt.lease, &call) != SP_OK ||
        sp_control_ready(arena, &call, attempt.conn, attempt.lease) != SP_OK ||
        sp_pool_checkout(arena, &call, 1, &held, &held_lease, &keepsake) != SP_OK)
        stress_die("a duel has no connection");
    stress_host.conn_unref(attempt.conn);
}

static void meet(void)
{
    pthread_barrier_wait(&barrier);
    for (unsigned turns = (unsigned)stress_random(64); turns > 0; turns--)
        atomic_signal_fence(memory_order_seq_cst);
}

/* ---- hand-over ---- */

static void give_back(struct sp_conn *conn, uint64_t lease)
{
    struct sp_call call = stress_call();

    if (sp_pool_checkin(arena, &call, conn, lease, NULL) != SP_OK)
        stress_die("a check-in is refused");
    stress_host.conn_unref(conn);
}

/* The connection, at once or after a wait. */
static void get(void)
{
    struct mail mail = {.told = 0};
    struct stress_waiter *waiter = stress_waiter_new(arena, 1, &mail);
    struct sp_call call = stress_call();
    time_t began = time(NULL);

    if (sp_pool_enqueue(arena, &call, &waiter->core) != SP_OK)
        stress_die("an enqueue is refused");
    while (!atomic_load_explicit(&mail.told, memory_order_acquire)) {
        if (time(NULL) - began > STUCK_S)
            stress_die("a waiter is forgotten beside an idle connection");
        sched_yield();
    }
    if (!sp_waiter_adopt(&waiter->core, &held, &held_lease))
        stress_die("there is nothing to adopt after a grant");
}

/* Each holds in every other round. */
static void *hand_over_main(void *arg)
{
    unsigned side = *(unsigned *)arg;

    stress_seed(side);
    for (unsigned round = 0; round < rounds_wanted; round++) {
        struct sp_conn *conn = held;
        uint64_t lease = held_lease;
        meet();
        if (round % 2 == side)
            give_back(conn, lease);
        else
            get();
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

void stress_duel_hand_over(unsigned rounds)
{
    unsigned sides[2] = {0, 1};
    pthread_t thread;

    rounds_wanted = rounds;
    pthread_barrier_init(&barrier, NULL, 2);
    make_arena(1);
    hold_one();
    pthread_create(&thread, NULL, hand_over_main, &sides[1]);
    hand_over_main(&sides[0]);
    pthread_join(thread, NULL);
    give_back(held, held_lease);
    drop_arena();
    pthread_barrier_destroy(&barrier);
}

/* ---- phases ---- */

static void *phases_main(void *arg)
{
    (void)arg;
    stress_seed(1);
    while (!atomic_load(&over)) {
        shut_arena(SP_PHASE_DOWN);
        open_arena(0);
    }
    return NULL;
}

void stress_duel_phases(unsigned rounds)
{
    struct sp_call call = stress_call();
    struct sp_conn *conn = NULL;
    pthread_t thread;
    uint64_t lease;
    void *keepsake;

    atomic_store(&over, false);
    make_arena(0);
    pthread_create(&thread, NULL, phases_main, NULL);
    for (unsigned round = 0; round < rounds; round++)
        if (sp_pool_checkout(arena, &call, 1, &conn, &lease, &keepsake) == SP_OK)
            stress_die("a check-out from an empty pool succeeds");
    atomic_store(&over, true);
    pthread_join(thread, NULL);
    drop_arena();
}
