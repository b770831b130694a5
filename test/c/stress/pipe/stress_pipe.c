/* Threads with requests on the pipes of one pool, for ThreadSanitizer: callers who look, sleep, give up and die, a server
 * that echoes, is late and closes, a control process, an event loop, and shuts in between. Each reply is checked for its
 * own request; who sleeps gets one message; at the end every account must be exact.
 *
 * It runs over real sockets. SOCKPOOL_OPS and SOCKPOOL_SEED in the environment as for stress_threads. */
#include "pipe_world.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CALLERS 6
#define OPS_DEFAULT 20000
#define MESSAGE_BYTES PIPE_MESSAGE_BYTES
#define LOOKS 3

static struct sp_pool *pool;
static unsigned ops;
static uint64_t seed;
static _Atomic bool over;
static _Atomic unsigned calling, right, retried, closed, timed_out, died;
static pthread_mutex_t control_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- callers ---- */

static void check(const struct caller *self, const uint8_t *bytes, size_t len, const uint8_t *asked)
{
    if (len != MESSAGE_BYTES || memcmp(bytes, asked, MESSAGE_BYTES) != 0)
        stress_die("owner %llu got %zu bytes of the reply of %llu", (unsigned long long)self->owner,
                   len, (unsigned long long)*(const uint64_t *)(const void *)bytes);
    atomic_fetch_add(&right, 1);
}

static void count(sp_status status)
{
    if (status == SP_AGAIN)
        atomic_fetch_add(&retried, 1);
    else if (status == SP_TIMEOUT)
        atomic_fetch_add(&timed_out, 1);
    else
        atomic_fetch_add(&closed, 1);
}

/* True where it is over. */
static bool ends(struct caller *self, sp_status status, struct sp_reply *reply,
                 const uint8_t *asked)
{
    if (status == SP_WANT_READ)
        return false;
    if (status != SP_OK) {
        count(status);
        return true;
    }
    check(self, (reply->far ? reply->far : reply->bytes) + reply->offset, reply->len, asked);
    if (reply->far)
        world_host.reply_free(reply);
    return true;
}

static bool dies(struct caller *self, unsigned one_in)
{
    if (stress_random(one_in))
        return false;
    world_kill(self);
    atomic_fetch_add(&died, 1);
    return true;
}

/* After a message: true where that was all. */
static bool told(struct caller *self, const struct mail *mail, const uint8_t *asked)
{
    if (mail->kind == MAIL_READY)
        return false;
    if (mail->status == SP_OK)
        check(self, mail->bytes, mail->len, asked);
    else
        count(mail->status);
    return true;
}

static void give_up(struct caller *self, uint64_t at, const uint8_t *asked)
{
    struct sp_call call = world_call();
    struct sp_reply reply = {.far = NULL};
    struct mail mail;

    if (ends(self, sp_piped_give_up(pool, &call, at, self->owner, true, &reply), &reply, asked))
        return;
    world_await(self, &mail, 10000);
    if (told(self, &mail, asked))
        return;
    call = world_call();
    if (!ends(self, sp_piped_give_up(pool, &call, at, self->owner, false, &reply), &reply, asked))
        stress_die("one who does not sleep cannot give up");
}

/* False: woken for nothing, or not asleep. */
static bool sleeps(struct caller *self, uint64_t at, const uint8_t *asked)
{
    struct sp_waiter *waiter = world_waiter_new(pool, self);
    struct sp_call call = world_call();
    struct sp_reply reply = {.far = NULL};
    struct mail mail;
    uint64_t placed_ns;
    sp_status status;

    atomic_store(&waiter->refs, 1);
    status = sp_piped_arm(pool, &call, at, self->owner, waiter, &reply, &placed_ns);
    if (status != SP_WANT_READ)
        sp_waiter_unref(waiter);
    if (ends(self, status, &reply, asked) || dies(self, 200))
        return true;
    if (!world_await(self, &mail, stress_random(20) ? 10000 : 0)) {
        give_up(self, at, asked);
        return true;
    }
    if (told(self, &mail, asked))
        return true;
    call = world_call();
    return ends(self, sp_piped_look(pool, &call, at, self->owner, true, &reply), &reply, asked);
}

static void find_reply(struct caller *self, uint64_t at, const uint8_t *asked)
{
    for (int looks = 0; looks < LOOKS; looks++) {
        struct sp_call call = world_call();
        struct sp_reply reply = {.far = NULL};
        if (dies(self, 500))
            return;
        if (ends(self, sp_piped_look(pool, &call, at, self->owner, false, &reply), &reply, asked))
            return;
        sched_yield();
    }
    while (!self->dead && !sleeps(self, at, asked))
        ;
}

static void wait_for_place(struct caller *self, const struct sp_ask *ask, const uint8_t *asked)
{
    struct sp_waiter *waiter = world_waiter_new(pool, self);
    struct sp_call call = world_call();
    struct mail mail;
    bool came;

    world_waiter_carry(waiter, ask);
    if (sp_pool_enqueue(pool, &call, waiter) != SP_OK) {
        world_host.waiter_free(waiter);
        atomic_fetch_add(&closed, 1);
        return;
    }
    if (sp_piped_step(pool, &call))
        sp_pool_wake(pool, &call);
    came = world_await(self, &mail, stress_random(20) ? 10000 : 1);
    call = world_call();
    if (!came && sp_waiter_cancel(waiter, &call) == SP_CANCELLED)
        atomic_fetch_add(&timed_out, 1);
    else if (!came && atomic_load(&waiter->handoff) == SP_HANDOFF_DELIVERED)
        give_up(self, sp_piped_at(waiter->pipe, waiter->lease), asked);
    else if (!came)
        (void)(world_await(self, &mail, 10000) && told(self, &mail, asked));
    else if (!told(self, &mail, asked)) {
        struct sp_reply reply = {.far = NULL};
        uint64_t at = sp_piped_at(waiter->pipe, waiter->lease);
        if (!ends(self, sp_piped_look(pool, &call, at, self->owner, true, &reply), &reply, asked))
            find_reply(self, at, asked);
    }
    sp_waiter_abandon(waiter, &call);
}

static void ask_once(struct caller *self)
{
    uint8_t bytes[MESSAGE_BYTES];
    struct iovec iov = {.iov_base = bytes, .iov_len = sizeof bytes};
    struct sp_call call = world_call();
    struct sp_ask ask = {.iov = &iov, .count = 1, .len = sizeof bytes, .want = {.packet = true}};
    uint64_t at;
    sp_status status;

    if (self->dead)
        world_be_born(self);
    world_fill(self, bytes);
    ask.owner = self->owner;
    status = sp_piped_request(pool, &call, &ask, &at);
    if (status == SP_OK)
        find_reply(self, at, bytes);
    else if (status == SP_EMPTY || status == SP_AGAIN)
        wait_for_place(self, &ask, bytes);
    else
        usleep(100); /* shut */
}

/* One who has a connection for itself. */
static void exclusive(struct caller *self)
{
    struct sp_call call = world_call();
    struct sp_conn *conn;
    uint64_t lease;
    void *keepsake;

    if (self->dead)
        world_be_born(self);
    if (sp_pool_checkout(pool, &call, self->owner, &conn, &lease, &keepsake) != SP_OK)
        return;
    sched_yield();
    call = world_call();
    (void)(sp_pool_checkin(pool, &call, conn, lease, NULL) == SP_OK);
    world_host.conn_unref(conn);
}

static void *caller_main(void *arg)
{
    struct caller *self = world_caller((unsigned)(uintptr_t)arg);

    stress_seed(seed + 1 + (uintptr_t)arg);
    world_be_born(self);
    for (unsigned i = 0; i < ops; i++) {
        if (stress_random(50) == 0)
            exclusive(self);
        else
            ask_once(self);
    }
    if (!self->dead)
        world_kill(self);
    atomic_fetch_sub(&calling, 1);
    return NULL;
}

/* ---- the control process ---- */

static void connect_one(const struct sp_attempt *attempt)
{
    struct sp_call call = world_call();
    uint64_t lease = attempt->lease;
    sp_status status =
        sp_control_begin(pool, &call, attempt->conn, &lease, WORLD_CONNECTOR, world_address());

    if (status == SP_OK)
        status = sp_control_opened(attempt->conn, &lease, &call);
    if (status != SP_OK || sp_control_ready(pool, &call, attempt->conn, lease) != SP_OK)
        (void)sp_pool_abandon(pool, &call, attempt->conn, lease);
    world_host.conn_unref(attempt->conn);
}

static void control_once(bool tick)
{
    struct sp_attempt made[4];
    struct sp_plan plan = {.attempts = 0};
    struct sp_call call = world_call();
    uint32_t cursor = 0, pipe, generation;
    bool write;

    pthread_mutex_lock(&control_lock);
    if (sp_pool_phase(pool) == SP_PHASE_OPEN) {
        while (world_take_event(&pipe, &generation, &write))
            sp_piped_event(pool, &call, pipe, generation, write);
        call = world_call();
        sp_control_step(pool, &call, made, 4, &plan);
        for (size_t i = 0; i < plan.attempts; i++)
            connect_one(&made[i]);
        while (tick && sp_control_tick(pool, &call, &cursor))
            call = world_call();
    }
    pthread_mutex_unlock(&control_lock);
}

static void *control_main(void *arg)
{
    (void)arg;
    stress_seed(seed + 100);
    for (unsigned i = 0; !atomic_load(&over); i++) {
        control_once(i % 64 == 0);
        usleep(50);
    }
    return NULL;
}

static void open_pool(void)
{
    struct sp_call call = world_call();
    struct sp_config config = {.transport = &sp_transport_unix,
                               .size = 2,
                               .max_overflow = 1,
                               .overflow_ttl_ns = 100 * SP_MS,
                               .max_hold_ns = SP_NEVER,
                               .leak_threshold_ns = SP_NEVER,
                               .idle_timeout_ns = SP_NEVER,
                               .lifetime_max_ns = SP_NEVER,
                               .max_uses = SP_NEVER,
                               .max_waiting = SP_NEVER,
                               .connect_parallelism = 8,
                               .backoff_min_ns = SP_MS,
                               .backoff_max_ns = 2 * SP_MS,
                               .recv_limit_bytes = 1 << 20,
                               .pipeline = stress_random(2) ? 4 : 2,
                               .pipeline_bytes = 256,
                               .pipeline_stall_ns = 2000 * SP_MS,
                               .framing = {.kind = SP_FRAMING_FIXED, .fixed = MESSAGE_BYTES}};

    if (sp_piped_open(pool) != SP_OK)
        stress_die("no memory");
    sp_control_open(pool, &call, &config, stress_random(UINT64_MAX));
}

static void shut(void)
{
    struct sp_call call = world_call();

    sp_control_shut_begin(pool, SP_PHASE_DOWN);
    while (sp_control_shut_slice(pool, &call, SP_CLOSED))
        call = world_call();
}

static void *closer_main(void *arg)
{
    (void)arg;
    stress_seed(seed + 200);
    while (atomic_load(&calling)) {
        usleep(20000 + (unsigned)stress_random(50000));
        pthread_mutex_lock(&control_lock);
        shut();
        open_pool();
        pthread_mutex_unlock(&control_lock);
    }
    return NULL;
}

int main(void)
{
    const char *given_ops = getenv("SOCKPOOL_OPS"), *given_seed = getenv("SOCKPOOL_SEED");
    pthread_t threads[CALLERS], control, closer;

    ops = given_ops ? (unsigned)strtoul(given_ops, NULL, 10) : OPS_DEFAULT;
    seed = given_seed ? strtoull(given_seed, NULL, 10) : 1;
    stress_seed(seed);
    world_begin();
    pool = aligned_alloc(_Alignof(struct sp_pool), sizeof *pool);
    memset(pool, 0, sizeof *pool);
    if (sp_pool_init(pool, &world_host, &sp_sys_posix, 3) != SP_OK)
        stress_die("no memory");
    open_pool();
    atomic_store(&calling, CALLERS);
    pthread_create(&control, NULL, control_main, NULL);
    for (uintptr_t i = 0; i < CALLERS; i++)
        pthread_create(&threads[i], NULL, caller_main, (void *)i);
    pthread_create(&closer, NULL, closer_main, NULL);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);
    pthread_join(closer, NULL);
    atomic_store(&over, true);
    pthread_join(control, NULL);
    shut();
    sp_piped_destroy(pool);
    sp_pool_destroy(pool);
    free(pool);
    world_end();
    printf("stress of pipes: %u right, %u to be asked again, %u closed, %u timed out, %u died: "
           "exact\n",
           atomic_load(&right), atomic_load(&retried), atomic_load(&closed),
           atomic_load(&timed_out), atomic_load(&died));
    return 0;
}
