#include "fake_host.h"

#include "fake_pipe.h"
#include "fake_sys.h"

#include <stdlib.h>
#include <string.h>

#define NOTES_MAX 65536
#define OWNERS_MAX (1 << 18)
#define FREED 0xdd

struct fake_conn {
    struct sp_conn core;
    unsigned refs;
    int stopped_fd;
    bool ended; /* a worker that was stopped */
};

static struct {
    struct sp_call call;
    struct sp_allowance allowance;
    struct fake_note notes[NOTES_MAX];
    bool dead[OWNERS_MAX];
    unsigned note_count, conns, waiters, keepsakes, wakes, watches, worker_stops;
    unsigned no_conns, no_rbufs, no_watches;
    struct sp_conn *watched;
    uint32_t watch;
    sp_status refusal;
    struct {
        void (*run)(void *arg);
        void *arg;
    } hooks[FAKE_POINTS];
} world;

void fake_host_reset(void)
{
    memset(&world, 0, sizeof world);
    fake_pipe_reset();
    world.call.now_ns = 1000 * 1000 * SP_MS;
}

struct sp_call *fake_host_call(unsigned shard)
{
    world.call.shard = shard;
    world.call.env = &world;
    world.call.allowance = &world.allowance;
    sp_allowance_fill(&world.allowance);
    return &world.call;
}

struct sp_call *fake_host_call_of(unsigned shard, int pieces)
{
    struct sp_call *call = fake_host_call(shard);

    world.allowance.left = pieces;
    return call;
}

int fake_pieces_left(void)
{
    return world.allowance.left;
}

uint64_t fake_now_ns(void)
{
    return world.call.now_ns;
}

void fake_sleep_ms(uint64_t ms)
{
    world.call.now_ns += ms * SP_MS;
}

void fake_kill(uint64_t owner)
{
    if (owner >= OWNERS_MAX)
        fake_die("the owner's number is too high");
    world.dead[owner] = true;
}

bool fake_alive(uint64_t owner)
{
    return owner < OWNERS_MAX && !world.dead[owner];
}

static void run_hook(enum fake_point point)
{
    void (*run)(void *arg) = world.hooks[point].run;

    world.hooks[point].run = NULL;
    if (run)
        run(world.hooks[point].arg);
}

/* True where this call is one that the test wanted refused. */
static bool refused(unsigned *count)
{
    if (*count == 0)
        return false;
    --*count;
    return true;
}

static void check_call(const struct sp_call *call)
{
    if (call->env != &world)
        fake_die("the core passed on another call than it got");
}

/* ---- connections ---- */

static struct fake_conn *self_of(const struct sp_conn *conn)
{
    return SP_CONTAINER(conn, struct fake_conn, core);
}

static struct sp_conn *conn_new(struct sp_pool *pool)
{
    struct fake_conn *conn;

    (void)pool;
    if (refused(&world.no_conns))
        return NULL;
    conn = calloc(1, sizeof *conn);
    conn->refs = 1;
    conn->stopped_fd = -1;
    world.conns++;
    return &conn->core;
}

static void conn_ref(struct sp_conn *conn)
{
    if (self_of(conn)->refs++ == 0)
        fake_die("a reference to a connection that is gone");
}

static void rbuf_free(struct sp_conn *conn)
{
    free(conn->rbuf.base);
    conn->rbuf = (struct sp_rbuf){0};
}

static void keepsake_drop(struct sp_conn *conn)
{
    fake_keepsake_free(conn->keepsake);
    conn->keepsake = NULL;
}

static void conn_unref(struct sp_conn *conn)
{
    struct fake_conn *self = self_of(conn);

    if (self->refs == 0)
        fake_die("one reference to a connection too many is dropped");
    if (--self->refs > 0)
        return;
    if (conn->fd >= 0 && self->stopped_fd != conn->fd)
        fake_die("a connection is gone with its descriptor %d open", conn->fd);
    if (conn->fd >= 0 && sp_conn_state(conn) != SP_CONN_CLOSED)
        fake_die("a connection is gone in state %d", (int)sp_conn_state(conn));
    if (sp_conn_pinned(conn))
        fake_die("a connection is gone while pinned");
    if (conn->transport && sp_is_worker(conn->transport) && !self_of(conn)->ended)
        fake_die("a worker is gone that was not stopped");
    if (conn->keepsake)
        keepsake_drop(conn);
    rbuf_free(conn);
    world.conns--;
    memset(self, FREED, sizeof *self);
    free(self);
}

static void conn_stop(const struct sp_call *call, struct sp_conn *conn, int fd)
{
    check_call(call);
    if (sp_is_worker(conn->transport)) {
        if (self_of(conn)->ended)
            fake_die("a worker is stopped twice");
        self_of(conn)->ended = true;
        world.worker_stops++;
        return;
    }
    if (fd < 0 || fd != conn->fd)
        fake_die("stop of descriptor %d, the connection has %d", fd, conn->fd);
    if (sp_conn_pinned(conn))
        fake_die("descriptor %d is closed under a pin", fd);
    self_of(conn)->stopped_fd = fd;
    conn->sys->close(fd);
}

static bool rbuf_reserve(struct sp_conn *conn, size_t cap)
{
    uint8_t *base;

    if (refused(&world.no_rbufs))
        return false;
    base = realloc(conn->rbuf.base, cap);
    if (!base)
        return false;
    conn->rbuf.base = base;
    conn->rbuf.cap = cap;
    return true;
}

/* ---- owners ---- */

static bool owner_alive(const struct sp_call *call, uint64_t owner)
{
    check_call(call);
    run_hook(FAKE_ON_ALIVE);
    return fake_alive(owner);
}

static void note(struct sp_waiter *waiter, sp_status status, size_t sent)
{
    if (world.note_count == NOTES_MAX)
        fake_die("too many notes");
    world.notes[world.note_count++] = (struct fake_note){.waiter = waiter,
                                                         .owner = waiter->owner,
                                                         .status = status,
                                                         .sent = sent,
                                                         .conn = waiter->conn,
                                                         .lease = waiter->lease};
}

static bool waiter_notify(const struct sp_call *call, struct sp_waiter *waiter, sp_status status,
                          size_t sent)
{
    check_call(call);
    run_hook(FAKE_ON_NOTIFY);
    if (!fake_alive(waiter->owner))
        return false;
    note(waiter, status, sent);
    return true;
}

static void waiter_free(struct sp_waiter *waiter)
{
    if (atomic_load(&waiter->refs) != 0)
        fake_die("a waiter is freed with references left");
    world.waiters--;
    memset(waiter, FREED, sizeof *waiter);
    free(waiter);
}

static bool watch(const struct sp_call *call, struct sp_conn *conn, uint32_t generation)
{
    check_call(call);
    run_hook(FAKE_ON_WATCH);
    if (refused(&world.no_watches))
        return false;
    world.watches++;
    world.watched = conn;
    world.watch = generation;
    return true;
}

static void wake(const struct sp_call *call, struct sp_pool *pool)
{
    (void)pool;
    check_call(call);
    world.wakes++;
    run_hook(FAKE_ON_WAKE);
}

static void conn_refused(const struct sp_call *call, const struct sp_conn *conn, sp_status why,
                         bool is_outage)
{
    (void)is_outage;
    check_call(call);
    (void)conn;
    world.refusal = why;
}

const struct sp_host fake_host = {
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
    .refused = conn_refused,
    .reply_reserve = fake_reply_reserve,
    .reply_free = fake_reply_free,
    .reply_notify = fake_reply_notify,
    .pipe_select = fake_pipe_select,
    .pipe_unselect = fake_pipe_unselect,
};

/* ---- the test's side ---- */

void fake_host_hook(enum fake_point point, void (*hook)(void *arg), void *arg)
{
    world.hooks[point].run = hook;
    world.hooks[point].arg = arg;
}

void fake_refuse_conns(unsigned count)
{
    world.no_conns = count;
}

void fake_refuse_rbufs(unsigned count)
{
    world.no_rbufs = count;
}

void fake_refuse_watches(unsigned count)
{
    world.no_watches = count;
}

struct sp_waiter *fake_waiter_new(struct sp_pool *pool, uint64_t owner, const struct iovec *iov,
                                  int iov_count)
{
    struct sp_waiter *waiter = calloc(1, sizeof *waiter);

    waiter->pool = pool;
    waiter->owner = owner;
    waiter->iov = iov;
    waiter->iov_count = iov_count;
    world.waiters++;
    return waiter;
}

void *fake_keepsake_new(void)
{
    world.keepsakes++;
    return malloc(1);
}

void fake_keepsake_free(void *keepsake)
{
    if (!keepsake)
        fake_die("the core drops a keepsake that it does not have");
    free(keepsake);
    world.keepsakes--;
}

unsigned fake_keepsakes(void)
{
    return world.keepsakes;
}

unsigned fake_notes(uint64_t owner)
{
    unsigned count = 0;

    for (unsigned i = 0; i < world.note_count; i++)
        count += world.notes[i].owner == owner;
    return count;
}

void fake_forget_notes(void)
{
    world.note_count = 0;
}

unsigned fake_notes_all(void)
{
    return world.note_count;
}

const struct fake_note *fake_note(uint64_t owner, unsigned back)
{
    for (unsigned i = world.note_count; i > 0; i--)
        if (world.notes[i - 1].owner == owner && back-- == 0)
            return &world.notes[i - 1];
    fake_die("owner %u has no such note", (unsigned)owner);
}

const struct fake_note *fake_note_at(unsigned index)
{
    return &world.notes[index];
}

unsigned fake_wakes(void)
{
    return world.wakes;
}

unsigned fake_worker_stops(void)
{
    return world.worker_stops;
}

unsigned fake_watches(void)
{
    return world.watches;
}

sp_status fake_last_refusal(void)
{
    return world.refusal;
}

uint32_t fake_last_watch(struct sp_conn **conn)
{
    *conn = world.watched;
    return world.watch;
}

unsigned fake_conns(void)
{
    return world.conns;
}

unsigned fake_waiters(void)
{
    return world.waiters;
}

unsigned fake_conn_refs(const struct sp_conn *conn)
{
    return self_of(conn)->refs;
}
