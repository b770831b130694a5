#include "pipe_world.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CALLERS_MAX 16
#define LIVES (1u << 20) /* of each caller */
#define SELECTS 256
#define PEERS 64
#define STUCK_MS 60000

struct conn {
    struct sp_conn core;
    _Atomic unsigned refs;
};

struct waiter {
    struct sp_waiter core;
    struct caller *caller;
    uint64_t ref;
    struct iovec iov;
    uint8_t bytes[PIPE_MESSAGE_BYTES];
};

struct select {
    int fd; /* or -1 */
    bool write;
    struct caller *caller; /* NULL: the control process */
    uint64_t owner, ref;
    uint32_t pipe, generation;
};

static struct caller callers[CALLERS_MAX];
static _Atomic uint64_t lives = 2;
static _Atomic bool dead_owners[LIVES];
static _Atomic unsigned conns, waiters, replies;
static _Atomic bool over;
static struct {
    pthread_mutex_t lock;
    struct select list[SELECTS];
    unsigned count;
    struct select events[SELECTS]; /* of the control process */
    unsigned event_count;
} loop = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct sp_addr address;
static int listener;
static pthread_t loop_thread, server_thread;

struct sp_call world_call(void)
{
    static _Thread_local struct sp_allowance allowance;
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    sp_allowance_fill(&allowance);
    if (stress_random(8) == 0)
        allowance.left = 1 + (int)stress_random(20);
    return (struct sp_call){.now_ns = (uint64_t)now.tv_sec * 1000 * SP_MS + (uint64_t)now.tv_nsec,
                            .shard = (unsigned)stress_random(4),
                            .allowance = &allowance};
}

/* ---- callers ---- */

struct caller *world_caller(unsigned index)
{
    return &callers[index];
}

void world_be_born(struct caller *self)
{
    uint64_t owner = atomic_fetch_add(&lives, 1);

    if (owner >= LIVES)
        stress_die("too many lives");
    pthread_mutex_lock(&self->lock);
    self->owner = owner;
    self->dead = false;
    self->full = false;
    pthread_mutex_unlock(&self->lock);
}

void world_kill(struct caller *self)
{
    self->dead = true;
    atomic_store(&dead_owners[self->owner], true);
}

void world_fill(struct caller *self, uint8_t *bytes)
{
    uint64_t numbers[2] = {self->owner, stress_random(UINT64_MAX)};

    memset(bytes, (int)(numbers[1] & 0x7f), PIPE_MESSAGE_BYTES);
    memcpy(bytes, numbers, sizeof numbers);
}

static void send_mail(struct caller *caller, uint64_t owner, const struct mail *mail)
{
    pthread_mutex_lock(&caller->lock);
    if (caller->owner == owner && !atomic_load(&dead_owners[owner])) {
        if (caller->full || mail->ref != caller->ref)
            stress_die("a message that nobody waits for");
        caller->mail = *mail;
        caller->full = true;
        pthread_cond_signal(&caller->came);
    }
    pthread_mutex_unlock(&caller->lock);
}

bool world_await(struct caller *self, struct mail *mail, unsigned ms)
{
    struct timespec until;
    unsigned wait_ms = ms > 1000 ? STUCK_MS : ms;
    bool came;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    until.tv_sec += (time_t)(wait_ms / 1000) + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&self->lock);
    while (!self->full && pthread_cond_timedwait(&self->came, &self->lock, &until) != ETIMEDOUT)
        ;
    came = self->full;
    if (came)
        *mail = self->mail;
    self->full = false;
    pthread_mutex_unlock(&self->lock);
    if (!came && ms > 1000)
        stress_die("owner %llu is stuck", (unsigned long long)self->owner);
    return came;
}

struct sp_waiter *world_waiter_new(struct sp_pool *pool, struct caller *self)
{
    struct waiter *waiter = calloc(1, sizeof *waiter);

    atomic_fetch_add(&waiters, 1);
    pthread_mutex_lock(&self->lock);
    waiter->ref = ++self->ref;
    pthread_mutex_unlock(&self->lock);
    waiter->caller = self;
    waiter->core.pool = pool;
    waiter->core.owner = self->owner;
    return &waiter->core;
}

void world_waiter_carry(struct sp_waiter *core, const struct sp_ask *ask)
{
    struct waiter *waiter = SP_CONTAINER(core, struct waiter, core);

    memcpy(waiter->bytes, ask->iov[0].iov_base, sizeof waiter->bytes);
    waiter->iov = (struct iovec){.iov_base = waiter->bytes, .iov_len = sizeof waiter->bytes};
    core->iov = &waiter->iov;
    core->iov_count = 1;
    core->piped = true;
    core->want = ask->want;
}

/* ---- the event loop ---- */

static void fire(const struct select *select)
{
    struct mail mail = {.ref = select->ref, .kind = MAIL_READY};

    if (select->caller)
        send_mail(select->caller, select->owner, &mail);
    else if (loop.event_count < SELECTS)
        loop.events[loop.event_count++] = *select;
    else
        stress_die("too many events");
}

/* Under the lock. */
static struct select *find_select(int fd, bool write)
{
    for (unsigned i = 0; i < loop.count; i++)
        if (loop.list[i].fd == fd && loop.list[i].write == write)
            return &loop.list[i];
    return NULL;
}

static bool forget(int fd, bool write)
{
    struct select *select = find_select(fd, write);

    if (select)
        *select = loop.list[--loop.count];
    return select != NULL;
}

static void *loop_main(void *arg)
{
    struct pollfd polled[SELECTS];

    (void)arg;
    while (!atomic_load(&over)) {
        unsigned count;
        pthread_mutex_lock(&loop.lock);
        count = loop.count;
        for (unsigned i = 0; i < count; i++)
            polled[i] = (struct pollfd){.fd = loop.list[i].fd,
                                        .events = loop.list[i].write ? POLLOUT : POLLIN};
        if (poll(polled, count, 0) > 0)
            for (unsigned i = count; i > 0; i--)
                if (polled[i - 1].revents) {
                    struct select fired = loop.list[i - 1];
                    (void)forget(fired.fd, fired.write);
                    fire(&fired);
                }
        pthread_mutex_unlock(&loop.lock);
        usleep(20);
    }
    return NULL;
}

static bool pipe_select(const struct sp_call *call, struct sp_conn *conn, struct sp_waiter *core,
                        uint32_t pipe, uint32_t generation, bool write)
{
    struct waiter *waiter = core ? SP_CONTAINER(core, struct waiter, core) : NULL;

    (void)call;
    if (!sp_conn_pinned(conn))
        stress_die("a select without a pin");
    pthread_mutex_lock(&loop.lock);
    (void)forget(conn->fd, write);
    if (loop.count == SELECTS)
        stress_die("selects leak");
    loop.list[loop.count++] = (struct select){.fd = conn->fd,
                                              .write = write,
                                              .caller = waiter ? waiter->caller : NULL,
                                              .owner = core ? core->owner : 0,
                                              .ref = waiter ? waiter->ref : 0,
                                              .pipe = pipe,
                                              .generation = generation};
    pthread_mutex_unlock(&loop.lock);
    return true;
}

static bool pipe_unselect(const struct sp_call *call, struct sp_conn *conn)
{
    bool cancelled;

    (void)call;
    pthread_mutex_lock(&loop.lock);
    cancelled = forget(conn->fd, false);
    pthread_mutex_unlock(&loop.lock);
    return cancelled;
}

bool world_take_event(uint32_t *pipe, uint32_t *generation, bool *write)
{
    bool taken;

    pthread_mutex_lock(&loop.lock);
    taken = loop.event_count > 0;
    if (taken) {
        struct select *event = &loop.events[--loop.event_count];
        *pipe = event->pipe;
        *generation = event->generation;
        *write = event->write;
    }
    pthread_mutex_unlock(&loop.lock);
    return taken;
}

/* ---- the server ---- */

/* In pieces of any length, now and then late; closes one connection in some hundred receives. */
static bool echo(int fd)
{
    uint8_t bytes[4096];
    ssize_t got = recv(fd, bytes, 1 + stress_random(sizeof bytes), 0);

    if (got <= 0 || stress_random(300) == 0)
        return false;
    if (stress_random(50) == 0)
        usleep(1000);
    for (ssize_t at = 0; at < got;) {
        ssize_t piece = 1 + (ssize_t)stress_random((uint64_t)(got - at));
        ssize_t sent = send(fd, bytes + at, (size_t)piece, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += sent;
    }
    return true;
}

static void *server_main(void *arg)
{
    struct pollfd polled[PEERS + 1] = {{.fd = listener, .events = POLLIN}};
    unsigned count = 1;

    (void)arg;
    stress_seed(4711);
    while (!atomic_load(&over)) {
        (void)poll(polled, count, 10);
        for (unsigned i = count - 1; i > 0; i--)
            if (polled[i].revents && !echo(polled[i].fd)) {
                close(polled[i].fd);
                polled[i] = polled[--count];
            }
        if ((polled[0].revents & POLLIN) && count <= PEERS)
            polled[count++] = (struct pollfd){.fd = accept(listener, NULL, NULL), .events = POLLIN};
    }
    while (count > 1)
        close(polled[--count].fd);
    return NULL;
}

const struct sp_addr *world_address(void)
{
    return &address;
}

void world_begin(void)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&address.storage;

    for (int i = 0; i < CALLERS_MAX; i++) {
        pthread_mutex_init(&callers[i].lock, NULL);
        pthread_cond_init(&callers[i].came, NULL);
    }
    un->sun_family = AF_UNIX;
    snprintf(un->sun_path, sizeof un->sun_path, "/tmp/stress_pipe.%d", (int)getpid());
    address.len = sizeof *un;
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)un, sizeof *un) < 0 ||
        listen(listener, 64) < 0)
        stress_die("no server");
    pthread_create(&loop_thread, NULL, loop_main, NULL);
    pthread_create(&server_thread, NULL, server_main, NULL);
}

void world_end(void)
{
    atomic_store(&over, true);
    pthread_join(loop_thread, NULL);
    pthread_join(server_thread, NULL);
    close(listener);
    unlink(((struct sockaddr_un *)&address.storage)->sun_path);
    if (atomic_load(&conns) || atomic_load(&waiters) || atomic_load(&replies))
        stress_die("%u connections, %u waiters, %u replies leaked", atomic_load(&conns),
                   atomic_load(&waiters), atomic_load(&replies));
}

/* ---- the host ---- */

static struct sp_conn *conn_new(struct sp_pool *pool)
{
    struct conn *conn = calloc(1, sizeof *conn);

    (void)pool;
    atomic_store(&conn->refs, 1);
    atomic_fetch_add(&conns, 1);
    return &conn->core;
}

static void conn_ref(struct sp_conn *conn)
{
    atomic_fetch_add(&SP_CONTAINER(conn, struct conn, core)->refs, 1);
}

static void rbuf_free(struct sp_conn *conn)
{
    free(conn->rbuf.base);
    conn->rbuf = (struct sp_rbuf){0};
}

static void conn_unref(struct sp_conn *conn)
{
    struct conn *self = SP_CONTAINER(conn, struct conn, core);
    unsigned before = atomic_fetch_sub(&self->refs, 1);

    if (before == 0)
        stress_die("one reference too many is dropped");
    if (before > 1)
        return;
    if (sp_conn_pinned(conn) || (conn->fd >= 0 && sp_conn_state(conn) != SP_CONN_CLOSED))
        stress_die("a connection is gone in state %d", (int)sp_conn_state(conn));
    rbuf_free(conn);
    free(self);
    atomic_fetch_sub(&conns, 1);
}

static void conn_stop(const struct sp_call *call, struct sp_conn *conn, int fd)
{
    (void)call;
    if (sp_conn_pinned(conn))
        stress_die("descriptor %d is closed under a pin", fd);
    pthread_mutex_lock(&loop.lock);
    (void)forget(fd, false);
    (void)forget(fd, true);
    (void)conn->sys->close(fd);
    pthread_mutex_unlock(&loop.lock);
}

static void keepsake_drop(struct sp_conn *conn)
{
    conn->keepsake = NULL;
}

static bool rbuf_reserve(struct sp_conn *conn, size_t cap)
{
    conn->rbuf.base = realloc(conn->rbuf.base, cap);
    conn->rbuf.cap = cap;
    return true;
}

static bool owner_alive(const struct sp_call *call, uint64_t owner)
{
    (void)call;
    return owner < LIVES && !atomic_load(&dead_owners[owner]);
}

static bool waiter_notify(const struct sp_call *call, struct sp_waiter *core, sp_status status,
                          size_t sent)
{
    struct waiter *waiter = SP_CONTAINER(core, struct waiter, core);
    struct mail mail = {.ref = waiter->ref, .kind = MAIL_REPLY, .status = status};

    (void)call;
    (void)sent;
    send_mail(waiter->caller, core->owner, &mail);
    return true;
}

static void waiter_free(struct sp_waiter *waiter)
{
    free(SP_CONTAINER(waiter, struct waiter, core));
    atomic_fetch_sub(&waiters, 1);
}

static bool reply_reserve(struct sp_reply *reply, size_t cap)
{
    if (!reply->far)
        atomic_fetch_add(&replies, 1);
    reply->far = realloc(reply->far, cap);
    reply->far_cap = cap;
    return true;
}

static void reply_free(struct sp_reply *reply)
{
    free(reply->far);
    reply->far = NULL;
    atomic_fetch_sub(&replies, 1);
}

static void reply_notify(const struct sp_call *call, struct sp_waiter *core, sp_status status,
                         struct sp_reply *reply)
{
    struct waiter *waiter = SP_CONTAINER(core, struct waiter, core);
    struct mail mail = {.ref = waiter->ref, .kind = MAIL_REPLY, .status = status};

    (void)call;
    if (status == SP_OK) {
        mail.len = reply->len;
        memcpy(mail.bytes, (reply->far ? reply->far : reply->bytes) + reply->offset,
               reply->len < sizeof mail.bytes ? reply->len : sizeof mail.bytes);
        if (reply->far)
            reply_free(reply);
    }
    send_mail(waiter->caller, core->owner, &mail);
}

static bool watch(const struct sp_call *call, struct sp_conn *conn, uint32_t generation)
{
    (void)call;
    (void)conn;
    (void)generation;
    return true;
}

static void wake(const struct sp_call *call, struct sp_pool *pool)
{
    (void)call;
    (void)pool; /* it steps all the time */
}

static void refused(const struct sp_call *call, const struct sp_conn *conn, sp_status why,
                    bool is_outage)
{
    (void)call;
    (void)conn;
    (void)why;
    (void)is_outage;
}

static void leak(const struct sp_call *call, struct sp_conn *conn, uint64_t owner, uint64_t held_ns)
{
    (void)call;
    (void)conn;
    (void)owner;
    (void)held_ns;
}

const struct sp_host world_host = {
    .conn_new = conn_new,
    .conn_ref = conn_ref,
    .conn_unref = conn_unref,
    .conn_stop = conn_stop,
    .keepsake_drop = keepsake_drop,
    .rbuf_reserve = rbuf_reserve,
    .rbuf_free = rbuf_free,
    .owner_alive = owner_alive,
    .waiter_notify = waiter_notify,
    .waiter_free = waiter_free,
    .watch = watch,
    .wake = wake,
    .refused = refused,
    .leak = leak,
    .reply_reserve = reply_reserve,
    .reply_free = reply_free,
    .reply_notify = reply_notify,
    .pipe_select = pipe_select,
    .pipe_unselect = pipe_unselect,
};
