#include "stress_host.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define FDS 4096
#define OWNERS (1u << 22)
#define WATCHES 256

static struct {
    _Atomic bool open, unread, down, dead;
} fds[FDS];
static _Atomic bool dead_owners[OWNERS];
static _Atomic unsigned conns, waiters, keepsakes;
static _Atomic uint64_t closes_told;
static _Atomic bool woken, failing;
static struct {
    pthread_mutex_t lock;
    struct {
        uint32_t slot, generation;
        int fd;
    } ring[WATCHES];
    unsigned first, count;
} watches = {.lock = PTHREAD_MUTEX_INITIALIZER};

#define GET(atomic) atomic_load_explicit(&(atomic), memory_order_relaxed)
#define SET(atomic, value) atomic_store_explicit(&(atomic), value, memory_order_relaxed)
#define ADD(atomic, value) atomic_fetch_add_explicit(&(atomic), value, memory_order_relaxed)

uint64_t stress_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return 50 * ((uint64_t)now.tv_sec * 1000 * SP_MS + (uint64_t)now.tv_nsec);
}

struct sp_call stress_call(void)
{
    static __thread struct sp_allowance allowance;

    /* Some may do next to nothing, so that others have to go on. */
    sp_allowance_fill(&allowance);
    if (stress_random(4) == 0)
        allowance.left = 1 + (int)stress_random(2 * SP_PIECES_CLOSE);
    return (struct sp_call){
        .now_ns = stress_now_ns(), .shard = (unsigned)stress_random(8), .allowance = &allowance};
}

/* ---- sockets ---- */

static int check(int fd)
{
    if (fd < 0 || fd >= FDS || !GET(fds[fd].open))
        stress_die("a call on descriptor %d, which is not open", fd);
    return fd;
}

static int fail(int error)
{
    errno = error;
    return -1;
}

static int sys_socket(int family)
{
    (void)family;
    for (int fd = 0; fd < FDS; fd++) {
        bool closed = false;
        if (!GET(fds[fd].open) &&
            atomic_compare_exchange_strong_explicit(&fds[fd].open, &closed, true,
                                                    memory_order_relaxed, memory_order_relaxed)) {
            SET(fds[fd].unread, false);
            SET(fds[fd].down, false);
            SET(fds[fd].dead, false);
            return fd;
        }
    }
    stress_die("descriptors leak");
}

static int sys_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
    (void)addr;
    (void)len;
    check(fd);
    return 0;
}

static int sys_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    (void)addr;
    (void)len;
    check(fd);
    return GET(failing) && stress_random(4) ? fail(ECONNREFUSED) : 0;
}

static int sys_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    (void)level;
    (void)name;
    (void)len;
    check(fd);
    *(int *)value = 0;
    return 0;
}

static int sys_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    (void)level;
    (void)name;
    (void)value;
    (void)len;
    check(fd);
    return 0;
}

static int sys_name(int fd, struct sockaddr *addr, socklen_t *len)
{
    (void)addr;
    (void)len;
    check(fd);
    return 0;
}

static ssize_t sys_sendv(int fd, const struct iovec *iov, int count)
{
    size_t len = 0;

    check(fd);
    if (GET(fds[fd].down) || GET(fds[fd].dead))
        return fail(EPIPE);
    for (int i = 0; i < count; i++)
        len += iov[i].iov_len;
    if (stress_random(8) == 0)
        return (ssize_t)(len / 2);
    SET(fds[fd].unread, true);
    return (ssize_t)len;
}

static ssize_t sys_recv(int fd, void *buf, size_t cap, int flags)
{
    check(fd);
    if (GET(fds[fd].down) || GET(fds[fd].dead))
        return 0;
    if (cap == 0 || !GET(fds[fd].unread))
        return fail(EAGAIN);
    *(char *)buf = 'x';
    if (!(flags & MSG_PEEK))
        SET(fds[fd].unread, false);
    return 1;
}

static int sys_shutdown(int fd)
{
    SET(fds[check(fd)].down, true);
    return 0;
}

static int sys_close(int fd)
{
    SET(fds[check(fd)].open, false);
    return 0;
}

const struct sp_sys stress_sys = {
    .socket = sys_socket,
    .bind = sys_bind,
    .connect = sys_connect,
    .getsockopt = sys_getsockopt,
    .setsockopt = sys_setsockopt,
    .getsockname = sys_name,
    .getpeername = sys_name,
    .sendv = sys_sendv,
    .recv = sys_recv,
    .shutdown = sys_shutdown,
    .close = sys_close,
};

void stress_peer_closes(int fd)
{
    SET(fds[fd].dead, true);
}

bool stress_readable(int fd)
{
    return GET(fds[fd].unread) || GET(fds[fd].down) || GET(fds[fd].dead);
}

bool stress_unread(int fd)
{
    return GET(fds[fd].unread);
}

void stress_backend_fails(bool on)
{
    SET(failing, on);
}

/* ---- connections ---- */

static struct stress_conn *self_of(struct sp_conn *conn)
{
    return SP_CONTAINER(conn, struct stress_conn, core);
}

static struct sp_conn *conn_new(struct sp_pool *pool)
{
    struct stress_conn *conn;

    (void)pool;
    if (stress_random(64) == 0)
        return NULL;
    conn = calloc(1, sizeof *conn);
    conn->refs = 1;
    ADD(conns, 1);
    return &conn->core;
}

static void conn_ref(struct sp_conn *conn)
{
    if (ADD(self_of(conn)->refs, 1) == 0)
        stress_die("a reference to a connection that is gone");
}

static void keepsake_drop(struct sp_conn *conn)
{
    stress_keepsake_free(conn->keepsake);
    conn->keepsake = NULL;
}

static void rbuf_free(struct sp_conn *conn)
{
    free(conn->rbuf.base);
    conn->rbuf = (struct sp_rbuf){0};
}

static void conn_unref(struct sp_conn *conn)
{
    unsigned before = atomic_fetch_sub(&self_of(conn)->refs, 1);

    if (before == 0)
        stress_die("one reference to a connection too many is dropped");
    if (before > 1)
        return;
    if (sp_conn_pinned(conn) || (conn->fd >= 0 && sp_conn_state(conn) != SP_CONN_CLOSED))
        stress_die("a connection is gone in state %d, pinned or not closed",
                   (int)sp_conn_state(conn));
    if (conn->keepsake)
        keepsake_drop(conn);
    rbuf_free(conn);
    ADD(conns, -1u);
    free(self_of(conn));
}

static void conn_stop(const struct sp_call *call, struct sp_conn *conn, int fd)
{
    (void)call;
    if (sp_conn_pinned(conn))
        stress_die("descriptor %d is closed under a pin", fd);
    if (!sp_is_worker(conn->transport))
        conn->sys->close(fd);
}

static bool rbuf_reserve(struct sp_conn *conn, size_t cap)
{
    conn->rbuf.base = realloc(conn->rbuf.base, cap);
    conn->rbuf.cap = cap;
    return true;
}

/* ---- owners ---- */

void stress_kill(uint64_t owner)
{
    SET(dead_owners[owner % OWNERS], true);
}

bool stress_alive(uint64_t owner)
{
    return !GET(dead_owners[owner % OWNERS]);
}

static bool owner_alive(const struct sp_call *call, uint64_t owner)
{
    (void)call;
    return stress_alive(owner);
}

static void tell(struct sp_waiter *waiter, sp_status status, size_t sent)
{
    struct mail *mail = SP_CONTAINER(waiter, struct stress_waiter, core)->mail;

    SET(mail->status, status);
    SET(mail->sent, sent);
    atomic_fetch_add_explicit(&mail->told, 1, memory_order_release);
}

/* Now and then the owner dies just here, and has a moment to notice it. */
static void maybe_kill(uint64_t owner)
{
    if (stress_random(16))
        return;
    stress_kill(owner);
    for (unsigned turns = (unsigned)stress_random(2000); turns > 0; turns--)
        atomic_signal_fence(memory_order_seq_cst);
}

static bool waiter_notify(const struct sp_call *call, struct sp_waiter *waiter, sp_status status,
                          size_t sent)
{
    bool request = waiter->iov_count > 0;

    (void)call;
    if (request)
        maybe_kill(waiter->owner);
    if (!stress_alive(waiter->owner))
        return false;
    tell(waiter, status, sent);
    if (request)
        maybe_kill(waiter->owner);
    return true;
}

static void waiter_free(struct sp_waiter *waiter)
{
    ADD(waiters, -1u);
    free(SP_CONTAINER(waiter, struct stress_waiter, core));
}

struct stress_waiter *stress_waiter_new(struct sp_pool *pool, uint64_t owner, struct mail *mail)
{
    struct stress_waiter *waiter = calloc(1, sizeof *waiter);

    waiter->core.pool = pool;
    waiter->core.owner = owner;
    waiter->mail = mail;
    ADD(waiters, 1);
    return waiter;
}

/* ---- the control process ---- */

static bool watch(const struct sp_call *call, struct sp_conn *conn, uint32_t generation)
{
    unsigned place;

    (void)call;
    if (sp_is_worker(conn->transport))
        return true; /* it has no descriptor */
    pthread_mutex_lock(&watches.lock);
    place = (watches.first + watches.count) % WATCHES;
    watches.ring[place].slot = conn->slot;
    watches.ring[place].generation = generation;
    watches.ring[place].fd = conn->fd;
    if (watches.count < WATCHES)
        watches.count++;
    else
        watches.first = (watches.first + 1) % WATCHES;
    pthread_mutex_unlock(&watches.lock);
    return stress_random(32) != 0;
}

bool stress_take_watch(uint32_t *slot, uint32_t *generation, int *fd)
{
    bool taken;

    pthread_mutex_lock(&watches.lock);
    taken = watches.count > 0;
    if (taken) {
        *slot = watches.ring[watches.first].slot;
        *generation = watches.ring[watches.first].generation;
        *fd = watches.ring[watches.first].fd;
        watches.first = (watches.first + 1) % WATCHES;
        watches.count--;
    }
    pthread_mutex_unlock(&watches.lock);
    return taken;
}

static void wake(const struct sp_call *call, struct sp_pool *pool)
{
    (void)call;
    (void)pool;
    atomic_store_explicit(&woken, true, memory_order_release);
}

bool stress_take_wake(void)
{
    return atomic_exchange_explicit(&woken, false, memory_order_acquire);
}

/* ---- accounts ---- */

void *stress_keepsake_new(void)
{
    ADD(keepsakes, 1);
    return malloc(1);
}

void stress_keepsake_free(void *keepsake)
{
    free(keepsake);
    ADD(keepsakes, -1u);
}

unsigned stress_conns(void)
{
    return GET(conns);
}

unsigned stress_waiters(void)
{
    return GET(waiters);
}

unsigned stress_keepsakes(void)
{
    return GET(keepsakes);
}

unsigned stress_fds(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < FDS; fd++)
        count += GET(fds[fd].open);
    return count;
}

static void refused(const struct sp_call *call, const struct sp_conn *conn, sp_status why,
                    bool is_outage)
{
    (void)call;
    (void)is_outage;
    if (why != SP_CLOSED && (why != SP_UNREAD || !conn->words.text[0]))
        abort(); /* its connections have no transport that could say more */
}

static void leak(const struct sp_call *call, struct sp_conn *conn, uint64_t owner, uint64_t held_ns)
{
    (void)call;
    (void)conn;
    (void)owner;
    (void)held_ns;
}

/* What is read here is whoever closes it alone with. */
static void closed(const struct sp_call *call, const struct sp_conn *conn, uint64_t age_ns,
                   uint64_t idle_ns)
{
    (void)call;
    if (conn->ended >= SP_WHYS || idle_ns > age_ns || conn->uses == UINT32_MAX)
        stress_die("closed for %u, idle for longer than it is old, or used too often",
                   (unsigned)conn->ended);
    atomic_fetch_add_explicit(&closes_told, 1, memory_order_relaxed);
}

uint64_t stress_closes_told(void)
{
    return atomic_load(&closes_told);
}

const struct sp_host stress_host = {
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
    .closed = closed,
};
