/* Threads against one pool, for ThreadSanitizer: processes that check out, wait, time out, use,
 * give away, lose and die; connectors that succeed, fail and die; a control process; one that
 * kills; one that shuts the pool and opens it again; and its size changes all the time. At the end every account must be exact.
 *
 * It runs once with the control process's ticks and once without, which would make good for a
 * wake-up or a hand-over that was lost. SOCKPOOL_OPS and SOCKPOOL_SEED in the environment set how
 * many operations each worker does, and the seed. */
#include "stress_threads.h"

#include "stress_checks.h"
#include "stress_duel.h"
#include "stress_lost.h"
#include "stress_sleep.h"
#include "core/pool/sp_peek.h"
#include "core/pool/sp_settings.h"
#include "core/pool/sp_table.h"
#include "core/pool/sp_times.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORKERS 4
#define CONNECTORS 2
#define THREADS (WORKERS + CONNECTORS + 5)
#define OPS_DEFAULT 50000
#define SIZE 6
#define OVERFLOW 4

struct sp_pool *pool;
static uint64_t told_before; /* closes of earlier pools */
_Atomic uint64_t usable_epoch;
static struct worker workers[WORKERS];
static uint64_t seed;
static bool ticking;
static _Atomic unsigned working;
static _Atomic bool disturbed; /* the killer and the closer are at work */
static _Atomic bool over;
static pthread_mutex_t control_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    pthread_mutex_t lock;
    struct sp_attempt list[1024];
    unsigned count;
} attempts = {.lock = PTHREAD_MUTEX_INITIALIZER};
static const struct sp_addr ADDR = {.storage.ss_family = AF_INET, .len = sizeof ADDR.storage};

/* ---- connectors ---- */

static bool take_attempt(struct handle *handle)
{
    bool taken;

    pthread_mutex_lock(&attempts.lock);
    taken = attempts.count > 0;
    if (taken) {
        attempts.count--;
        *handle = (struct handle){.conn = attempts.list[attempts.count].conn,
                                  .lease = attempts.list[attempts.count].lease};
    }
    pthread_mutex_unlock(&attempts.lock);
    return taken;
}

/* True where it is ready. False: it failed, or the connector died of it. */
static bool connect_one(struct handle *handle)
{
    struct sp_call call = stress_call();
    uint64_t owner = new_owner();
    sp_status status = sp_control_begin(pool, &call, handle->conn, &handle->lease, owner, &ADDR);

    if (status < 0)
        status = sp_control_begin(pool, &call, handle->conn, &handle->lease, owner, &ADDR);
    if (status != SP_OK || sp_control_opened(handle->conn, &handle->lease, &call) != SP_OK)
        return false;
    if (stress_random(16) == 0) {
        stress_kill(owner);
        usleep((unsigned)stress_random(400)); /* a sweep may find it first, or may not */
        return false;
    }
    return sp_control_ready(pool, &call, handle->conn, handle->lease) == SP_OK;
}

static void *connector_main(void *arg)
{
    struct handle handle;

    stress_seed(seed + 100 + (uint64_t)(uintptr_t)arg);
    while (!atomic_load(&over)) {
        if (!take_attempt(&handle)) {
            usleep(100);
            continue;
        }
        if (connect_one(&handle)) {
            stress_host.conn_unref(handle.conn);
            handle.conn = NULL;
        }
        drop(&handle);
    }
    return NULL;
}

static void *checker_main(void *arg)
{
    (void)arg;
    stress_seed(seed + 500);
    while (!atomic_load(&over))
        if (!stress_checks_end_one())
            usleep(100);
    return NULL;
}

/* ---- the control process ---- */

static bool step(uint64_t *again_ns)
{
    struct sp_call call = stress_call();
    struct sp_attempt made[4];
    struct sp_plan plan;

    sp_control_step(pool, &call, made, 4, &plan);
    pthread_mutex_lock(&attempts.lock);
    for (size_t i = 0; i < plan.attempts; i++)
        attempts.list[attempts.count++] = made[i];
    pthread_mutex_unlock(&attempts.lock);
    *again_ns = plan.wait_ns == SP_NEVER ? SP_NEVER : call.now_ns + plan.wait_ns;
    return stress_checks_begin(&call, again_ns) || plan.more;
}

static void idle_events(const struct sp_call *call)
{
    uint32_t slot, generation;
    int fd;

    while (stress_take_watch(&slot, &generation, &fd)) {
        if (stress_random(2))
            continue;
        if (stress_random(2))
            stress_peer_closes(fd);
        sp_control_idle_event(pool, call, slot, generation);
    }
}

static struct sp_config random_config(void)
{
    return (struct sp_config){.transport = &sp_transport_tcp,
                              .size = 1 + (uint32_t)stress_random(SIZE),
                              .max_overflow = (uint32_t)stress_random(OVERFLOW + 1),
                              .overflow_ttl_ns = stress_random(3) ? 100 * SP_MS : 0,
                              .max_hold_ns = 400 * SP_MS,
                              .health_interval_ns = stress_random(4) ? 2 * SP_MS : 0,
                              .health_timeout_ns = stress_random(8) ? 500 * SP_MS : SP_MS,
                              .leak_threshold_ns = 200 * SP_MS,
                              .min_size = stress_random(3),
                              .idle_timeout_ns = stress_random(2) ? 100 * SP_MS : SP_NEVER,
                              .lifetime_min_ns = 50 * SP_MS,
                              .lifetime_max_ns = stress_random(2) ? 100 * SP_MS : SP_NEVER,
                              .max_uses = stress_random(2) ? 20 : SP_NEVER,
                              .max_waiting = SP_NEVER,
                              .connect_parallelism = 64,
                              .backoff_min_ns = 10 * SP_MS,
                              .backoff_max_ns = 100 * SP_MS,
                              .recv_limit_bytes = 1024,
                              .strategy = stress_random(2) ? SP_LIFO : SP_FIFO};
}

/* As its caller does, it steps afterwards. */
static void resize(void)
{
    struct sp_config config = random_config();

    sp_settings_update(pool, &config);
}

/* Steps only when it is told to, so that a lost wake-up shows. */
static void control_once(bool *more, uint64_t *again_ns, bool tick)
{
    struct sp_call call = stress_call();
    uint32_t cursor = 0;

    pthread_mutex_lock(&control_lock);
    if (sp_pool_phase(pool) == SP_PHASE_OPEN) {
        if (atomic_load(&disturbed) && stress_random(64) == 0) {
            resize();
            *more = true;
        }
        if (stress_take_wake() || *more || call.now_ns >= *again_ns)
            *more = step(again_ns);
        while (tick && sp_control_tick(pool, &call, &cursor))
            call = stress_call();
        if (tick)
            idle_events(&call);
    }
    pthread_mutex_unlock(&control_lock);
}

static void *control_main(void *arg)
{
    bool more = true;
    uint64_t again_ns = 0;

    (void)arg;
    stress_seed(seed + 200);
    for (unsigned i = 0; !atomic_load(&over); i++) {
        control_once(&more, &again_ns, ticking && i % 16 == 0);
        usleep(100);
    }
    return NULL;
}

/* ---- those who disturb ---- */

static void open_pool(void)
{
    struct sp_call call = stress_call();
    struct sp_config config = random_config();

    sp_control_open(pool, &call, &config, stress_random(UINT64_MAX));
}

static void shut(enum sp_phase phase, sp_status status)
{
    struct sp_call call = stress_call();
    int pieces = 1 + (int)stress_random(4 * SP_PIECES_CLOSE);

    sp_control_shut_begin(pool, phase);
    do
        call.allowance->left = pieces;
    while (sp_control_shut_slice(pool, &call, status));
    atomic_store(&usable_epoch, atomic_load(&pool->epoch));
}

static void take_snapshot(struct sp_snapshot *stats)
{
    uint32_t cursor = 0;
    bool more;

    *stats = (struct sp_snapshot){0};
    do {
        struct sp_call call = stress_call();
        more = sp_pool_snapshot(pool, &call, stats, &cursor);
    } while (more);
}

/* What was on its way to a shut pool's idle list does not stay there. */
static void await_no_idle(void)
{
    struct sp_snapshot stats;

    take_snapshot(&stats);
    for (int i = 0; i < STUCK_S * 1000 && stats.idle > 0; i++) {
        usleep(1000);
        take_snapshot(&stats);
    }
    if (stats.idle > 0)
        stress_die("a shut pool keeps %u idle connections", (unsigned)stats.idle);
}

static void *closer_main(void *arg)
{
    (void)arg;
    stress_seed(seed + 300);
    while (atomic_load(&disturbed)) {
        usleep(1000 + (unsigned)stress_random(10000));
        stress_backend_fails(stress_random(2));
        pthread_mutex_lock(&control_lock);
        shut(stress_random(2) ? SP_PHASE_DOWN : SP_PHASE_CLOSED, SP_CLOSED);
        pthread_mutex_unlock(&control_lock);
        if (stress_random(2))
            await_no_idle();
        pthread_mutex_lock(&control_lock);
        open_pool();
        pthread_mutex_unlock(&control_lock);
    }
    return NULL;
}

/* Looks at all connections, whoever has them. */
static void *onlooker_main(void *arg)
{
    struct sp_peek peek;
    uint32_t cursor = 0;

    (void)arg;
    stress_seed(seed + 500);
    while (!atomic_load(&over)) {
        struct sp_call call = stress_call();
        struct sp_conn *conn = sp_table_next(pool, &call, &cursor);
        if (conn && sp_peek(pool, &call, conn, &peek) && peek.state == SP_PEEK_IDLE && peek.owner)
            stress_die("somebody has an idle connection");
        if (conn)
            pool->host->conn_unref(conn);
        if (cursor == 0)
            usleep((unsigned)stress_random(300));
    }
    return NULL;
}

static void *killer_main(void *arg)
{
    (void)arg;
    stress_seed(seed + 400);
    while (atomic_load(&disturbed)) {
        usleep((unsigned)stress_random(500));
        stress_kill(atomic_load(&workers[stress_random(WORKERS)].owner));
    }
    return NULL;
}

static void *worker_main(void *arg)
{
    struct worker *self = arg;

    stress_seed(seed + 1 + (uint64_t)(self - workers));
    worker_run(self);
    atomic_fetch_sub(&working, 1);
    return NULL;
}

/* ---- the end ---- */

static bool settled(struct sp_snapshot *stats)
{
    take_snapshot(stats);
    return stats->connecting == 0 && stats->leased == 0 && stats->waiting == 0 &&
           stats->idle == stats->total && stats->total >= stats->size &&
           stress_fds() == stats->total;
}

static void await_settled(struct sp_snapshot *stats)
{
    for (int i = 0; i < STUCK_S * 1000 && !settled(stats); i++)
        usleep(1000);
    if (!settled(stats))
        stress_die("idle %llu, leased %llu, connecting %llu, total %llu, waiting %llu, "
                   "descriptors %u at the end",
                   (unsigned long long)stats->idle, (unsigned long long)stats->leased,
                   (unsigned long long)stats->connecting, (unsigned long long)stats->total,
                   (unsigned long long)stats->waiting, stress_fds());
}

/* Of a pool that is shut: each connection was closed for a reason, each attempt has ended in one way, and each
 * histogram has as many as its counter. */
static void judge_sums(void)
{
    struct sp_snapshot stats;

    take_snapshot(&stats);
    if (stats.created != stats.closed ||
        stats.connect_attempts != stats.created + stats.connect_failures)
        stress_die("%llu attempts, %llu failed, %llu made, %llu closed",
                   (unsigned long long)stats.connect_attempts,
                   (unsigned long long)stats.connect_failures, (unsigned long long)stats.created,
                   (unsigned long long)stats.closed);
    if (stress_closes_told() - told_before != stats.closed)
        stress_die("%llu of %llu closes are told",
                   (unsigned long long)(stress_closes_told() - told_before),
                   (unsigned long long)stats.closed);
    if (sp_times_count(pool, SP_TIME_AGE) != stats.closed ||
        sp_times_count(pool, SP_TIME_CONNECT) != stats.created ||
        sp_times_count(pool, SP_TIME_WAIT) != stats.checkouts)
        stress_die("a histogram has another count than its counter");
}

static void judge_rest(void)
{
    while (stress_checks_end_one())
        ;
    shut(SP_PHASE_CLOSED, SP_DRAINING);
    judge_sums();
    if (stress_conns() || stress_waiters() || stress_fds() || stress_keepsakes() ||
        atomic_load(&pool->total) || atomic_load(&pool->connecting))
        stress_die("%u connections, %u waiters, %u descriptors, %u keepsakes, total %u leaked",
                   stress_conns(), stress_waiters(), stress_fds(), stress_keepsakes(),
                   atomic_load(&pool->total));
    sp_pool_destroy(pool);
    free(pool);
}

/* The closer is the first: it is waited for first. */
static void start(pthread_t threads[THREADS], unsigned ops)
{
    unsigned count = 0;

    for (unsigned i = 0; i < WORKERS; i++)
        worker_start(&workers[i], ops);
    atomic_store(&working, WORKERS);
    atomic_store(&disturbed, true);
    atomic_store(&over, false);
    pthread_create(&threads[count++], NULL, closer_main, NULL);
    pthread_create(&threads[count++], NULL, killer_main, NULL);
    pthread_create(&threads[count++], NULL, control_main, NULL);
    pthread_create(&threads[count++], NULL, checker_main, NULL);
    pthread_create(&threads[count++], NULL, onlooker_main, NULL);
    for (uintptr_t i = 0; i < CONNECTORS; i++)
        pthread_create(&threads[count++], NULL, connector_main, (void *)i);
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_create(&threads[count++], NULL, worker_main, &workers[i]);
}

static void run(unsigned ops)
{
    pthread_t threads[THREADS];
    struct sp_snapshot stats;
    unsigned waits = 0;

    pool = aligned_alloc(_Alignof(struct sp_pool), sizeof *pool);
    memset(pool, 0, sizeof *pool);
    if (sp_pool_init(pool, &stress_host, &stress_sys, 4) != SP_OK)
        stress_die("no memory");
    atomic_store(&usable_epoch, 0);
    told_before = stress_closes_told();
    atomic_store(&pool->listened, true);
    open_pool();
    start(threads, ops);
    while (atomic_load(&working))
        usleep(1000);
    atomic_store(&disturbed, false);
    pthread_join(threads[0], NULL);
    stress_backend_fails(false);
    pthread_mutex_lock(&control_lock);
    atomic_store(&pool->health_interval_ns, 0); /* or one that fails disturbs the rest */
    pthread_mutex_unlock(&control_lock);
    await_settled(&stats);
    atomic_store(&over, true);
    for (unsigned i = 1; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < WORKERS; i++)
        waits += worker_judge(&workers[i]);
    judge_rest();
    if (stats.checkouts != stats.checkins + stats.abandoned)
        stress_die("%llu check-outs, but %llu check-ins and %llu abandoned",
                   (unsigned long long)stats.checkouts, (unsigned long long)stats.checkins,
                   (unsigned long long)stats.abandoned);
    printf("stress %s ticks: %llu check-outs, %u waits, %llu connects, %llu abandoned, "
           "%llu timeouts, %llu checks and %llu that failed, %llu epochs: exact\n",
           ticking ? "with" : "without", (unsigned long long)stats.checkouts, waits,
           (unsigned long long)stats.connect_attempts, (unsigned long long)stats.abandoned,
           (unsigned long long)stats.timeouts, (unsigned long long)stats.health_ok,
           (unsigned long long)stats.health_failed, (unsigned long long)usable_epoch);
}

int main(void)
{
    const char *given_ops = getenv("SOCKPOOL_OPS"), *given_seed = getenv("SOCKPOOL_SEED");
    unsigned ops = given_ops ? (unsigned)strtoul(given_ops, NULL, 10) : OPS_DEFAULT;

    seed = given_seed ? strtoull(given_seed, NULL, 10) : 1;
    stress_seed(seed);
    stress_duel_hand_over(ops);
    stress_duel_phases(20 * ops);
    stress_lost(ops);
    stress_sleep(ops);
    for (int with = 1; with >= 0; with--) {
        ticking = with;
        run(ops);
    }
    return 0;
}
