#include "sn_uv_host.h"

#include "core/conn/sp_recv.h"
#include "core/pool/sp_control.h"
#include "core/pool/sp_piped.h"
#include "core/base/sp_sys.h"

#include <stdlib.h>

/* Of one descriptor. It outlives its connection's interest in it by a turn of the loop. */
struct sn_poll {
    uv_poll_t uv;
    struct sn_conn *conn; /* NULL: given up */
    const struct sp_sys *sys;
    int fd, events;
};

static struct sn_hosted_pool *hosted_of(struct sp_pool *core)
{
    return SP_CONTAINER(core, struct sn_hosted_pool, core);
}

/* ---- connections ---- */

static struct sp_conn *conn_new(struct sp_pool *pool)
{
    struct sn_conn *conn = calloc(1, sizeof *conn);

    if (!conn)
        return NULL;
    conn->refs = 1;
    conn->core.pool = pool;
    hosted_of(pool)->conns++;
    return &conn->core;
}

static void conn_ref(struct sp_conn *core)
{
    sn_conn_of(core)->refs++;
}

static void rbuf_free(struct sp_conn *conn)
{
    free(conn->rbuf.base);
    conn->rbuf = (struct sp_rbuf){0};
}

static void conn_unref(struct sp_conn *core)
{
    struct sn_conn *conn = sn_conn_of(core);
    struct sn_hosted_pool *hosted = hosted_of(core->pool);

    if (--conn->refs > 0)
        return;
    rbuf_free(core);
    free(conn);
    if (--hosted->conns == 0)
        hosted->emptied(hosted);
}

void sn_conn_unref(struct sn_conn *conn)
{
    conn_unref(&conn->core);
}

static bool rbuf_reserve(struct sp_conn *conn, size_t cap)
{
    uint8_t *base = realloc(conn->rbuf.base, cap);

    if (!base)
        return false;
    conn->rbuf.base = base;
    conn->rbuf.cap = cap;
    return true;
}

/* ---- descriptors ---- */

static void on_poll_closed(uv_handle_t *handle)
{
    struct sn_poll *poll = handle->data;

    (void)poll->sys->close(poll->fd);
    free(poll);
}

static void conn_stop(const struct sp_call *call, struct sp_conn *core, int fd)
{
    struct sn_conn *conn = sn_conn_of(core);
    struct sn_poll *poll = conn->poll;

    (void)call;
    if (!poll) {
        (void)core->sys->close(fd);
        return;
    }
    conn->poll = NULL;
    poll->conn = NULL;
    uv_close((uv_handle_t *)&poll->uv, on_poll_closed);
}

static sp_status poll_for(struct sn_conn *conn, int events);

/* The connection may be gone afterwards. */
static void tell_pipe(struct sn_conn *conn, int told)
{
    struct sp_pool *pool = conn->core.pool;
    uint32_t pipe = conn->pipe, generation = conn->pipe_generation;
    struct sp_call call = sn_loop_call(hosted_of(pool)->loop);

    conn->piped &= ~told;
    if ((told & UV_WRITABLE) && poll_for(conn, UV_READABLE) != SP_OK) {
        told |= conn->piped;
        conn->piped = 0;
    }
    if (told & UV_WRITABLE)
        sp_piped_event(pool, &call, pipe, generation, true);
    if (told & UV_READABLE)
        sp_piped_event(pool, &call, pipe, generation, false);
}

static void on_event(uv_poll_t *uv, int status, int events)
{
    struct sn_poll *poll = uv->data;
    struct sn_conn *conn = poll->conn;
    struct sp_call call;

    if (status < 0) {
        poll->events = 0; /* libuv has stopped it, and whoever tries will see the error */
        events = conn->wanted | conn->piped | UV_READABLE;
    }
    if (conn->piped & events) {
        tell_pipe(conn, conn->piped & events);
        return;
    }
    if (conn->wanted & events) {
        if (conn->wanted & UV_WRITABLE) {
            uv_poll_stop(&poll->uv);
            poll->events = 0;
        }
        conn->wanted = 0;
        conn->ready(conn->arg);
        return;
    }
    if (conn->wanted)
        return;
    if (conn->piped) { /* for what is not there yet */
        sp_status unheard = poll_for(conn, conn->piped);
        (void)unheard; /* the tick looks after pipes */
        return;
    }
    uv_poll_stop(&poll->uv);
    poll->events = 0;
    if (!conn->watched)
        return;
    conn->watched = false;
    call = sn_loop_call(hosted_of(conn->core.pool)->loop);
    sp_control_idle_event(conn->core.pool, &call, conn->core.slot, conn->generation);
}

static sp_status poll_new(struct sn_conn *conn)
{
    struct sn_poll *poll = calloc(1, sizeof *poll);
    int status;

    if (!poll)
        return SP_NO_MEMORY;
    status = uv_poll_init(hosted_of(conn->core.pool)->loop->uv, &poll->uv, conn->core.fd);
    if (status != 0) {
        free(poll);
        return status; /* which is -errno */
    }
    poll->uv.data = poll;
    poll->conn = conn;
    poll->sys = conn->core.sys;
    poll->fd = conn->core.fd;
    conn->poll = poll;
    return SP_OK;
}

static sp_status poll_for(struct sn_conn *conn, int events)
{
    sp_status status = conn->poll ? SP_OK : poll_new(conn);

    if (status != SP_OK || conn->poll->events == events)
        return status;
    status = uv_poll_start(&conn->poll->uv, events, on_event);
    conn->poll->events = status == SP_OK ? events : 0;
    return status;
}

static sp_status arm(struct sn_conn *conn, uint64_t lease, int events, void (*ready)(void *arg),
                     void *arg)
{
    struct sp_call call;
    sp_status status;

    if (!sp_conn_arming(&conn->core, lease))
        return SP_BUSY;
    status = poll_for(conn, events);
    if (status != SP_OK) {
        call = sn_loop_call(hosted_of(conn->core.pool)->loop);
        sp_conn_disarmed(&conn->core, lease, &call);
        return status;
    }
    conn->piped = 0; /* of a pipe that has given it back */
    conn->wanted = events;
    conn->ready = ready;
    conn->arg = arg;
    return SP_OK;
}

sp_status sn_conn_arm(struct sn_conn *conn, uint64_t lease, sp_status wants,
                      void (*ready)(void *arg), void *arg)
{
    return arm(conn, lease, wants == SP_WANT_WRITE ? UV_WRITABLE : UV_READABLE, ready, arg);
}

sp_status sn_conn_arm_to_send(struct sn_conn *conn, uint64_t lease, void (*ready)(void *arg),
                              void *arg)
{
    bool more = conn->ahead == SP_WANT_READ || conn->ahead == SP_AGAIN;

    return arm(conn, lease, more ? UV_WRITABLE | UV_READABLE : UV_WRITABLE, ready, arg);
}

void sn_conn_disarm(struct sn_conn *conn, uint64_t lease, const struct sp_call *call)
{
    if (!sp_conn_armed(&conn->core, lease))
        return;
    conn->wanted = 0;
    sp_conn_disarmed(&conn->core, lease, call);
}

sp_status sn_conn_send(struct sn_conn *self, const struct sp_call *call, const struct iovec *iov,
                       int count, size_t *sent)
{
    struct sp_conn *conn = &self->core;
    struct iovec rest[2];
    size_t len = 0, skip, now;

    for (int i = 0; i < count; i++)
        len += iov[i].iov_len;
    conn->touched = true;
    if (len > 0)
        sp_conn_sends(conn);
    while (*sent < len) {
        sp_status status;
        int left = 0;

        skip = *sent;
        for (int i = 0; i < count; i++) {
            if (skip < iov[i].iov_len)
                rest[left++] =
                    (struct iovec){(char *)iov[i].iov_base + skip, iov[i].iov_len - skip};
            skip = skip < iov[i].iov_len ? 0 : skip - iov[i].iov_len;
        }
        status = conn->transport->send(conn, rest, left, &now);
        sp_conn_settle(conn, call);
        if (status == SP_WANT_WRITE)
            self->ahead = sp_recv_ahead(conn, call, &now);
        if (status != SP_OK) {
            if (!sp_wants(status))
                sp_conn_taint(conn, sp_why_of(status));
            return status;
        }
        *sent += now;
        if (*sent < len && sp_spent(call))
            return SP_AGAIN;
    }
    return SP_OK;
}

/* Idle, so nobody waits for it. */
static bool watch(const struct sp_call *call, struct sp_conn *core, uint32_t generation)
{
    struct sn_conn *conn = sn_conn_of(core);

    (void)call;
    conn->piped = 0;
    conn->watched = true;
    conn->generation = generation;
    return poll_for(conn, UV_READABLE) == SP_OK;
}

static bool pipe_select(const struct sp_call *call, struct sp_conn *core, struct sp_waiter *waiter,
                        uint32_t pipe, uint32_t generation, bool write)
{
    struct sn_conn *conn = sn_conn_of(core);

    (void)call;
    (void)waiter;
    if (conn->pipe != pipe || conn->pipe_generation != generation)
        conn->piped = 0;
    conn->pipe = pipe;
    conn->pipe_generation = generation;
    conn->piped |= write ? UV_WRITABLE : UV_READABLE;
    if (poll_for(conn, conn->piped) == SP_OK)
        return true;
    conn->piped = 0;
    return false;
}

/* ---- waiters ---- */

struct sn_waiter *
sn_waiter_new(struct sp_pool *pool, struct iovec bytes,
              void (*told)(struct sn_waiter *waiter, sp_status status, size_t sent), void *arg)
{
    struct sn_waiter *waiter = calloc(1, sizeof *waiter);

    if (!waiter)
        return NULL;
    waiter->told = told;
    waiter->arg = arg;
    waiter->bytes = bytes;
    waiter->core.pool = pool;
    waiter->core.owner = SN_CORE_OWNER;
    waiter->core.iov = &waiter->bytes;
    waiter->core.iov_count = bytes.iov_len > 0;
    return waiter;
}

struct sn_waiter *
sn_waiter_piped(struct sp_pool *pool, struct iovec bytes, const struct sp_want *want,
                void (*told)(struct sn_waiter *waiter, sp_status status, size_t sent),
                void (*replied)(struct sn_waiter *waiter, sp_status status, struct sp_reply *reply),
                void *arg)
{
    struct sn_waiter *waiter = sn_waiter_new(pool, bytes, told, arg);

    if (!waiter)
        return NULL;
    waiter->replied = replied;
    waiter->core.piped = true;
    waiter->core.want = *want;
    return waiter;
}

static bool waiter_notify(const struct sp_call *call, struct sp_waiter *core, sp_status status,
                          size_t sent)
{
    struct sn_waiter *waiter = SP_CONTAINER(core, struct sn_waiter, core);

    (void)call;
    waiter->told(waiter, status, sent);
    return true;
}

static void reply_notify(const struct sp_call *call, struct sp_waiter *core, sp_status status,
                         struct sp_reply *reply)
{
    struct sn_waiter *waiter = SP_CONTAINER(core, struct sn_waiter, core);

    (void)call;
    waiter->replied(waiter, status, reply);
}

static bool reply_reserve(struct sp_reply *reply, size_t cap)
{
    uint8_t *far = realloc(reply->far, cap);

    if (!far)
        return false;
    reply->far = far;
    reply->far_cap = cap;
    return true;
}

static void reply_free(struct sp_reply *reply)
{
    free(reply->far);
    reply->far = NULL;
}

static void waiter_free(struct sp_waiter *core)
{
    free(SP_CONTAINER(core, struct sn_waiter, core));
}

static bool owner_alive(const struct sp_call *call, uint64_t owner)
{
    (void)call;
    (void)owner;
    return true;
}

static void wake(const struct sp_call *call, struct sp_pool *core)
{
    struct sn_hosted_pool *hosted = hosted_of(core);

    (void)call;
    hosted->wake(hosted);
}

static void refused(const struct sp_call *call, const struct sp_conn *conn, sp_status why,
                    bool is_outage)
{
    struct sn_hosted_pool *hosted = hosted_of(conn->pool);

    (void)call;
    hosted->refused(hosted, conn, why, is_outage);
}

/* No lease leaves anything with its connection, so there is no keepsake_drop; and no owner waits for a descriptor on which
 * others have something as well, so there is no pipe_unselect. */
const struct sp_host sn_uv_host = {
    .conn_new = conn_new,
    .conn_ref = conn_ref,
    .conn_unref = conn_unref,
    .conn_stop = conn_stop,
    .rbuf_reserve = rbuf_reserve,
    .rbuf_free = rbuf_free,
    .owner_alive = owner_alive,
    .waiter_notify = waiter_notify,
    .waiter_free = waiter_free,
    .watch = watch,
    .wake = wake,
    .refused = refused,
    .reply_reserve = reply_reserve,
    .reply_free = reply_free,
    .reply_notify = reply_notify,
    .pipe_select = pipe_select,
};
