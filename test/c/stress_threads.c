/* Threads against one pool, for ThreadSanitizer: processes that check out, wait, time out, use,
 * give away, lose and die; connectors that succeed, fail and die; a control process; one that
 * kills; one that shuts the pool and opens it again. At the end every account must be exact. */
#include "sp_close.h"
#include "sp_control.h"
#include "sp_recv.h"
#include "stress_host.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORKERS 4
#define CONNECTORS 2
#define THREADS (WORKERS + CONNECTORS + 3)
#define OPS_DEFAULT 100000
#define GRAVES 8
#define SIZE 6
#define OVERFLOW 4
#define STUCK_S 60

struct handle {
    struct sp_waiter *waiter;
    struct sp_conn *conn;
    uint64_t lease;
    void *keepsake;
};

enum expect { NOTHING, ONE, AT_MOST_ONE };

struct letter {
    struct mail mail;
    enum expect expect;
};

struct worker {
    _Atomic uint64_t owner;
    struct letter *letters;
    unsigned letter_count;
    struct handle graves[GRAVES];
};

static struct sp_pool *pool;
static struct worker workers[WORKERS];
static unsigned ops;
static uint64_t seed;
static _Atomic uint64_t next_owner = 1;
static _Atomic unsigned working;
static _Atomic bool disturbed = true; /* the killer and the closer are at work */
static _Atomic bool over;
static pthread_mutex_t control_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    pthread_mutex_t lock;
    struct sp_attempt list[1024];
    unsigned count;
} attempts = {.lock = PTHREAD_MUTEX_INITIALIZER};
static const struct sp_addr ADDR = {.storage.ss_family = AF_INET, .len = sizeof ADDR.storage};
static char request_bytes[] = "request";
static const struct iovec REQUEST = {request_bytes, sizeof request_bytes};

static uint64_t new_owner(void)
{
    return atomic_fetch_add(&next_owner, 1);
}

/* ---- handles ---- */

/* As the destructor of the face's lease: with the process dead, or the handle collected. */
static void drop(struct handle *handle)
{
    struct sp_call call = stress_call();

    if (handle->waiter)
        sp_waiter_abandon(handle->waiter, &call);
    if (handle->conn) {
        (void)sp_pool_abandon(pool, &call, handle->conn, handle->lease);
        stress_host.conn_unref(handle->conn);
    }
    if (handle->keepsake)
        stress_keepsake_free(handle->keepsake);
    *handle = (struct handle){0};
}

/* The handle of a dead process lives on for a while. */
static void bury(struct worker *self, const struct handle *handle)
{
    struct handle *grave = &self->graves[stress_random(GRAVES)];

    drop(grave);
    *grave = *handle;
}

static void release(struct handle *handle, bool keep)
{
    struct sp_call call = stress_call();
    void *keepsake = handle->keepsake ? handle->keepsake : stress_keepsake_new();
    sp_status status = keep ? sp_pool_checkin(pool, &call, handle->conn, handle->lease, keepsake)
                            : sp_pool_discard(pool, &call, handle->conn, handle->lease);

    if (status == SP_BUSY)
        stress_die("a connection that nobody waits on is busy");
    if (!keep || status != SP_OK)
        stress_keepsake_free(keepsake);
    stress_host.conn_unref(handle->conn);
    *handle = (struct handle){0};
}

/* ---- using a lease ---- */

static bool enter(struct handle *handle, const struct sp_call *call)
{
    if (!sp_conn_enter(handle->conn, handle->lease, call))
        return false;
    if (atomic_fetch_add(&SP_CONTAINER(handle->conn, struct stress_conn, core)->inside, 1) != 0)
        stress_die("two are in one connection");
    return true;
}

static void leave(struct handle *handle, const struct sp_call *call)
{
    atomic_fetch_sub(&SP_CONTAINER(handle->conn, struct stress_conn, core)->inside, 1);
    sp_conn_leave(handle->conn, call);
}

/* Receives, having waited armed where nothing is there yet. False: the connection is of no use. */
static bool receive(struct handle *handle)
{
    struct sp_call call = stress_call();
    struct sp_want want = {.len_bytes = 1};
    struct sp_received received;
    uint8_t scratch[16];
    sp_status status;

    if (!enter(handle, &call))
        return false;
    status = sp_recv(handle->conn, &want, scratch, sizeof scratch, &received);
    if (status == SP_OK)
        sp_recv_taken(handle->conn, &received);
    leave(handle, &call);
    return status == SP_OK;
}

/* One exchange with the server. False: the connection is of no use any more. */
static bool exchange(struct handle *handle)
{
    struct sp_call call = stress_call();
    size_t sent;
    sp_status status;
    bool armed = false;

    if (!enter(handle, &call))
        return false;
    if (stress_unread(handle->conn->fd))
        stress_die("a connection was handed out with an unread reply");
    handle->conn->touched = true;
    status = handle->conn->transport->send(handle->conn, &REQUEST, 1, &sent);
    if (status == SP_OK && sent == REQUEST.iov_len)
        armed = sp_conn_arming(handle->conn, handle->lease);
    leave(handle, &call);
    if (!armed)
        return false;
    while (!stress_readable(handle->conn->fd))
        sched_yield();
    sp_conn_disarmed(handle->conn, handle->lease, &call);
    return stress_random(16) && receive(handle);
}

static void use(struct worker *self, struct handle *handle)
{
    bool fine = true;

    if (stress_random(8) == 0) {
        uint64_t lease, owner = new_owner();
        lease = sp_conn_give_away(handle->conn, handle->lease, owner);
        if (lease != SP_LEASE_NONE) {
            handle->lease = lease;
            atomic_store(&self->owner, owner);
        }
    }
    if (stress_random(4))
        fine = exchange(handle);
    if (!stress_alive(atomic_load(&self->owner)) || stress_random(64) == 0)
        bury(self, handle);
    else
        release(handle, fine && stress_random(32));
}

/* ---- waiting ---- */

static bool wait_for(struct mail *mail, uint64_t owner, unsigned turns)
{
    time_t began = time(NULL);

    for (unsigned i = 0; i < turns; i++) {
        if (atomic_load_explicit(&mail->told, memory_order_acquire) || !stress_alive(owner))
            return atomic_load_explicit(&mail->told, memory_order_acquire) > 0;
        if (time(NULL) - began > STUCK_S)
            stress_die("a waiter was forgotten");
        sched_yield();
    }
    return false;
}

static void granted(struct worker *self, struct handle *handle, struct mail *mail, bool request)
{
    struct sp_call call = stress_call();
    sp_status status = atomic_load(&mail->status);

    if (status != SP_OK) {
        drop(handle);
        return;
    }
    if (!sp_waiter_adopt(handle->waiter, &handle->conn, &handle->lease))
        stress_die("there is nothing to adopt after a grant");
    handle->waiter = NULL;
    if (request && !atomic_load(&mail->armed)) {
        release(handle, false); /* a request sent in part, or that could not be armed */
        return;
    }
    if (!atomic_load(&mail->armed)) {
        use(self, handle);
        return;
    }
    while (!stress_readable(handle->conn->fd))
        sched_yield();
    sp_conn_disarmed(handle->conn, handle->lease, &call);
    release(handle, receive(handle));
}

/* The owner's time is over, or it is dead. */
static void give_up(struct worker *self, struct handle *handle, struct letter *letter, bool request)
{
    uint64_t owner = atomic_load(&self->owner);
    struct sp_call call = stress_call();

    if (!stress_alive(owner) || stress_random(8) == 0) {
        letter->expect = AT_MOST_ONE;
        bury(self, handle);
    } else if (sp_waiter_cancel(handle->waiter, &call) == SP_CANCELLED) {
        letter->expect = NOTHING;
        drop(handle);
    } else if (request && stress_random(2) &&
               sp_waiter_adopt(handle->waiter, &handle->conn, &handle->lease)) {
        /* As the face does: given up though it was sent. The handle lives until the message is
         * there. */
        handle->waiter = NULL;
        sp_pool_discard(pool, &call, handle->conn, handle->lease);
        if (!wait_for(&letter->mail, owner, -1u))
            letter->expect = AT_MOST_ONE;
        drop(handle);
    } else if (wait_for(&letter->mail, owner, -1u)) {
        granted(self, handle, &letter->mail, request);
    } else {
        letter->expect = AT_MOST_ONE;
        bury(self, handle);
    }
}

static void await(struct worker *self, uint64_t owner)
{
    struct letter *letter = &self->letters[self->letter_count];
    struct stress_waiter *waiter = stress_waiter_new(pool, owner, &letter->mail);
    struct handle handle = {.waiter = &waiter->core};
    struct sp_call call = stress_call();
    bool request = stress_random(2);

    if (request) {
        waiter->core.iov = &REQUEST;
        waiter->core.iov_count = 1;
    }
    if (sp_pool_enqueue(pool, &call, &waiter->core) != SP_OK) {
        stress_host.waiter_free(&waiter->core);
        return;
    }
    self->letter_count++;
    letter->expect = ONE;
    if (wait_for(&letter->mail, owner, stress_random(3) ? -1u : (unsigned)stress_random(20)))
        granted(self, &handle, &letter->mail, request);
    else
        give_up(self, &handle, letter, request);
}

static void shut(enum sp_phase phase, unsigned slice)
{
    struct sp_call call = stress_call();

    sp_control_shut_begin(pool, phase);
    while (sp_control_shut_slice(pool, &call, SP_CLOSED, slice))
        ;
}

/* ---- threads ---- */

static void operate(struct worker *self)
{
    uint64_t owner = atomic_load(&self->owner);
    struct sp_call call = stress_call();
    struct handle handle = {0};
    sp_status status;

    if (!stress_alive(owner)) {
        owner = new_owner();
        atomic_store(&self->owner, owner);
    }
    status = sp_pool_checkout(pool, &call, owner, &handle.conn, &handle.lease, &handle.keepsake);
    if (status == SP_OK)
        use(self, &handle);
    else if (status == SP_EMPTY && stress_random(4))
        await(self, owner);
    else if (status == SP_EMPTY)
        sp_pool_want(pool, &call);
    else
        sched_yield();
}

static void *worker_main(void *arg)
{
    struct worker *self = arg;

    stress_seed(seed + 1 + (uint64_t)(self - workers));
    for (unsigned i = 0; i < ops; i++) {
        operate(self);
        if (stress_random(16) == 0)
            drop(&self->graves[stress_random(GRAVES)]);
    }
    atomic_fetch_sub(&working, 1);
    /* The others still need this process's connections back. */
    for (unsigned i = 0; i < GRAVES; i++)
        drop(&self->graves[i]);
    return NULL;
}

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
        usleep(200);
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
    return plan.more;
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

/* Steps only when it is told to, so that a lost wake-up shows. */
static void control_once(bool *more, uint64_t *again_ns, bool tick)
{
    struct sp_call call = stress_call();
    uint32_t cursor = 0;

    pthread_mutex_lock(&control_lock);
    if (sp_pool_phase(pool) == SP_PHASE_OPEN) {
        if (stress_take_wake() || *more || call.now_ns >= *again_ns)
            *more = step(again_ns);
        while (tick && sp_control_tick(pool, &call, &cursor))
            ;
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
        control_once(&more, &again_ns, i % 16 == 0);
        usleep(100);
    }
    return NULL;
}

static void open_pool(void)
{
    struct sp_call call = stress_call();
    struct sp_config config = {.transport = &sp_transport_tcp,
                               .size = SIZE,
                               .max_overflow = OVERFLOW,
                               .overflow_ttl_ns = stress_random(3) ? 100 * SP_MS : 0,
                               .max_hold_ns = 400 * SP_MS,
                               .max_waiting = SP_NEVER,
                               .backoff_min_ns = 10 * SP_MS,
                               .backoff_max_ns = 100 * SP_MS,
                               .recv_limit_bytes = 1024,
                               .strategy = stress_random(2) ? SP_LIFO : SP_FIFO};

    sp_control_open(pool, &call, &config, stress_random(UINT64_MAX));
}

static void *closer_main(void *arg)
{
    (void)arg;
    stress_seed(seed + 300);
    while (atomic_load(&disturbed)) {
        usleep(2000 + (unsigned)stress_random(30000));
        stress_backend_fails(stress_random(2));
        pthread_mutex_lock(&control_lock);
        shut(stress_random(2) ? SP_PHASE_DOWN : SP_PHASE_CLOSED, 1 + (unsigned)stress_random(8));
        pthread_mutex_unlock(&control_lock);
        usleep((unsigned)stress_random(300));
        pthread_mutex_lock(&control_lock);
        open_pool();
        pthread_mutex_unlock(&control_lock);
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

/* ---- the end ---- */

static bool settled(struct sp_snapshot *stats)
{
    sp_stats_snapshot(pool, stats);
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

static unsigned judge_letters(const struct worker *worker)
{
    static const char *const WANTED[] = {"none", "exactly one", "one at most"};

    for (unsigned i = 0; i < worker->letter_count; i++) {
        const struct letter *letter = &worker->letters[i];
        unsigned told = atomic_load(&letter->mail.told);
        bool fine = letter->expect == NOTHING ? told == 0
                    : letter->expect == ONE   ? told == 1
                                              : told <= 1;
        if (!fine)
            stress_die("a waiter was told %u times, not %s", told, WANTED[letter->expect]);
    }
    return worker->letter_count;
}

static void judge_rest(void)
{
    shut(SP_PHASE_CLOSED, 64);
    if (stress_conns() || stress_waiters() || stress_fds() || stress_keepsakes() ||
        atomic_load(&pool->total) || atomic_load(&pool->connecting))
        stress_die("%u connections, %u waiters, %u descriptors, %u keepsakes, total %u leaked",
                   stress_conns(), stress_waiters(), stress_fds(), stress_keepsakes(),
                   atomic_load(&pool->total));
    sp_pool_destroy(pool);
}

static void start(pthread_t threads[THREADS])
{
    unsigned count = 0;

    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].owner = new_owner();
        workers[i].letters = calloc(ops, sizeof *workers[i].letters);
    }
    atomic_store(&working, WORKERS);
    for (uintptr_t i = 0; i < CONNECTORS; i++)
        pthread_create(&threads[count++], NULL, connector_main, (void *)i);
    pthread_create(&threads[count++], NULL, control_main, NULL);
    pthread_create(&threads[count++], NULL, closer_main, NULL);
    pthread_create(&threads[count++], NULL, killer_main, NULL);
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_create(&threads[count++], NULL, worker_main, &workers[i]);
}

int main(void)
{
    const char *given_ops = getenv("SOCKPOOL_OPS"), *given_seed = getenv("SOCKPOOL_SEED");
    pthread_t threads[THREADS];
    struct sp_snapshot stats;
    unsigned letters = 0;

    ops = given_ops ? (unsigned)strtoul(given_ops, NULL, 10) : OPS_DEFAULT;
    seed = given_seed ? strtoull(given_seed, NULL, 10) : 1;
    stress_seed(seed);
    pool = aligned_alloc(_Alignof(struct sp_pool), sizeof *pool);
    memset(pool, 0, sizeof *pool);
    if (sp_pool_init(pool, &stress_host, &stress_sys, 4) != SP_OK)
        stress_die("no memory");
    open_pool();
    start(threads);
    while (atomic_load(&working))
        usleep(1000);
    atomic_store(&disturbed, false);
    pthread_join(threads[CONNECTORS + 1], NULL);
    stress_backend_fails(false);
    await_settled(&stats);
    atomic_store(&over, true);
    for (unsigned i = 0; i < THREADS; i++)
        if (i != CONNECTORS + 1)
            pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < WORKERS; i++) {
        letters += judge_letters(&workers[i]);
        free(workers[i].letters);
    }
    judge_rest();
    free(pool);
    printf(
        "stress: %llu check-outs, %u waits, %llu connects, %llu abandoned, %llu timeouts: exact\n",
        (unsigned long long)stats.checkouts, letters, (unsigned long long)stats.connect_attempts,
        (unsigned long long)stats.abandoned, (unsigned long long)stats.timeouts);
    return 0;
}
