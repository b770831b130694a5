#include "sn_io.h"

#include "sn_answer.h"
#include "sn_session_end.h"
#include "sn_channel.h"
#include "sn_piped.h"
#include "node/pool/sn_pool_term.h"
#include "core/pool/sp_grant.h"
#include "core/pool/sp_lease.h"

#include <errno.h>
#include <string.h>

static void advance(struct sn_session *session);
static void receive(struct sn_session *session);

static struct sp_call call_of(const struct sn_session *session)
{
    return sn_loop_call(session->sessions->loop);
}

static struct sp_pool *core_of(const struct sn_session *session)
{
    return &session->pool->hosted.core;
}

/* ---- the ends of a call ---- */

static void answer(const struct sn_session *session, sp_status status)
{
    sn_answer_status(session->sessions->outbox, session->promise->client, &session->promise->caller,
                     status);
}

/* There is no connection for it. */
static void refuse(const struct sn_session *session, sp_status status)
{
    sn_answer_refusal(session->sessions->outbox, session->promise->client,
                      &session->promise->caller, session->pool, status);
}

/* The lease is over: so is the session. */
static void closed(struct sn_session *session)
{
    if (session->promise)
        answer(session, SP_CLOSED);
    sn_session_end(session);
}

/* A request gives its connection up; a lease stays, and is closed when it is given back. */
static void fail(struct sn_session *session, sp_status status)
{
    struct sp_call call = call_of(session);

    answer(session, status);
    if (!session->is_request) {
        sn_session_call_over(session);
        return;
    }
    sn_conn_disarm(session->conn, session->lease, &call);
    (void)sp_pool_discard(core_of(session), &call, &session->conn->core, session->lease,
                          sp_why_of(status));
    sn_session_end(session);
}

static void answer_lease(struct sn_session *session, struct sn_client *client,
                         const struct sn_caller *caller)
{
    struct sn_writer reply = sn_outbox_begin_reply(session->sessions->outbox, caller);

    sn_put_tuple(&reply, 2);
    sn_put_atom(&reply, "ok");
    sn_put_lease(&reply, session);
    sn_answer_end(session->sessions->outbox, client, caller, &reply);
}

/* Its wait is over, or there was none. */
static void begin_lease(struct sn_session *session, struct sn_client *client,
                        const struct sn_caller *caller)
{
    answer_lease(session, client, caller);
    sn_session_settle(session);
    if (session->pool->options.node && sn_channel_open(session) != SP_OK)
        sn_session_drop(session); /* its next call hears `closed' */
}

/* ---- time ---- */

static void give_up_waiting(struct sn_session *session)
{
    struct sp_call call = call_of(session);
    struct sn_writer reply;

    if (session->state == SN_SESSION_TOLD ||
        sp_waiter_cancel(&session->waiter->core, &call) != SP_CANCELLED) {
        /* It hears of it in a moment. A request that is out has no time left then. */
        sp_status status = sn_loop_limit(session->sessions->loop, &session->limit, call.now_ns);
        (void)status; /* there is room: this limit has just left */
        return;
    }
    reply = sn_outbox_begin_reply(session->sessions->outbox, &session->promise->caller);
    sn_pool_put_give_up(&reply, session->pool);
    sn_answer_end(session->sessions->outbox, session->promise->client, &session->promise->caller,
                  &reply);
    sn_session_drop(session);
}

static void on_over(struct sn_limit *limit)
{
    struct sn_session *session = SP_CONTAINER(limit, struct sn_session, limit);
    struct sp_call call = call_of(session);

    if (session->state == SN_SESSION_TRYING)
        return; /* it had none from the start */
    if (!sn_session_has_connection(session)) {
        give_up_waiting(session);
        return;
    }
    sn_conn_disarm(session->conn, session->lease, &call);
    if (!sp_conn_enter(&session->conn->core, session->lease, &call)) {
        closed(session);
        return;
    }
    /* Nobody knows where in its stream it is. */
    sp_conn_taint(&session->conn->core, SP_WHY_IO_TIMEOUT);
    sp_conn_leave(&session->conn->core, &call);
    fail(session, SP_TIMEOUT);
}

static void on_task(struct sn_task *task)
{
    advance(SP_CONTAINER(task, struct sn_session, task));
}

static void on_ready(void *arg)
{
    advance(arg);
}

static sp_status promise(struct sn_session *session, struct sn_client *client,
                         const struct sn_caller *caller, uint64_t timeout_ns)
{
    session->task.run = on_task;
    session->limit.over = on_over;
    return sn_session_promise(session, client, caller, timeout_ns);
}

/* ---- sending ---- */

/* Within enter/leave, after any but SP_OK: goes on later, or says why not. */
static sp_status go_on_later(struct sn_session *session, sp_status status)
{
    if (status == SP_AGAIN) {
        sn_loop_defer(session->sessions->loop, &session->task);
        return SP_OK;
    }
    if (sp_wants(status)) {
        status = status == SP_WANT_WRITE && session->state == SN_SESSION_SENDING
                     ? sn_conn_arm_to_send(session->conn, session->lease, on_ready, session)
                     : sn_conn_arm(session->conn, session->lease, status, on_ready, session);
        if (status != SP_OK)
            session->conn->core.tainted = true;
    }
    return status;
}

static void all_sent(struct sn_session *session)
{
    if (!session->is_request) {
        answer(session, SP_OK);
        sn_session_call_over(session);
        return;
    }
    sn_session_unkeep(session);
    sn_session_become(session, SN_SESSION_RECEIVING);
    receive(session);
}

/* A request's server may have said why. What is not there by now never comes. */
static void broken(struct sn_session *session, sp_status status)
{
    if (!session->is_request || status == SP_BUSY || status == SP_NO_MEMORY) {
        fail(session, status);
        return;
    }
    session->broken = status;
    all_sent(session);
}

static void send_on(struct sn_session *session)
{
    struct sp_call call = call_of(session);
    struct iovec iov = {session->kept, session->kept_len};
    sp_status status, later = SP_OK;

    sn_conn_disarm(session->conn, session->lease, &call);
    if (!sp_conn_enter(&session->conn->core, session->lease, &call)) {
        closed(session);
        return;
    }
    status = sn_conn_send(session->conn, &call, &iov, 1, &session->sent);
    if (status != SP_OK)
        later = go_on_later(session, status);
    sp_conn_leave(&session->conn->core, &call);
    if (status == SP_OK)
        all_sent(session);
    else if (later != SP_OK)
        broken(session, later);
}

static sp_status keep_rest(struct sn_session *session, const struct iovec iov[2], size_t sent)
{
    struct iovec rest[2];

    for (int i = 0; i < 2; i++) {
        size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;

        rest[i] = (struct iovec){(char *)iov[i].iov_base + skip, iov[i].iov_len - skip};
        sent -= skip;
    }
    return sn_session_keep(session, rest, 2);
}

/* The bytes with their header, from where they lie; the rest of them is kept. *later as it comes from
 * go_on_later(). */
static sp_status send_first(struct sn_session *session, const struct sp_call *call,
                            const struct iovec iov[2], sp_status *later)
{
    size_t sent = 0;
    sp_status status = sn_conn_send(session->conn, call, iov, 2, &sent);

    *later = status;
    if (status != SP_AGAIN && !sp_wants(status))
        return status;
    *later = keep_rest(session, iov, sent);
    if (*later == SP_OK)
        *later = go_on_later(session, status);
    else
        session->conn->core.tainted = true;
    return status;
}

/* Begins to send, for a call that was promised an answer. */
static void send_all(struct sn_session *session, const struct sp_framing *framing,
                     struct sn_slice data)
{
    uint8_t header[SP_FRAME_HEADER_MAX];
    struct iovec iov[2] = {{header, 0}, {(void *)data.data, data.len}};
    struct sp_call call = call_of(session);
    sp_status status, later;

    if (!sp_conn_enter(&session->conn->core, session->lease, &call)) {
        closed(session);
        return;
    }
    later = sp_frame_header(framing, data.len, header, &iov[0].iov_len);
    status = later == SP_OK ? send_first(session, &call, iov, &later) : later;
    sp_conn_leave(&session->conn->core, &call);
    if (status == SP_OK)
        all_sent(session);
    else if (later != SP_OK)
        broken(session, later);
}

void sn_io_send(struct sn_session *session, struct sn_client *client,
                const struct sn_caller *caller, struct sn_slice data, uint64_t timeout_ns)
{
    sp_status status;

    sn_session_become(session, SN_SESSION_SENDING);
    status = promise(session, client, caller, timeout_ns);
    if (status == SP_OK && !sn_sessions_may_keep(session->sessions, client, data.len))
        status = -ENOBUFS;
    if (status == SP_OK) {
        send_all(session, &session->conn->core.framing, data);
        return;
    }
    sn_answer_status(session->sessions->outbox, client, caller, status);
    sn_session_call_over(session);
}

/* ---- receiving ---- */

static void received(struct sn_session *session, const struct sp_received *received)
{
    sn_answer_bytes(session->sessions->outbox, session->promise->client, &session->promise->caller,
                    received->data, received->len);
    sp_recv_taken(&session->conn->core, received);
}

/* A request that is through. Whatever else ended the lease meanwhile has the connection. */
static void finish(struct sn_session *session)
{
    struct sp_call call = call_of(session);
    sp_status status;

    if (!session->is_request) {
        sn_session_call_over(session);
        return;
    }
    status = sp_pool_finish(core_of(session), &call, &session->conn->core, session->lease);
    (void)status;
    sn_session_end(session);
}

static void receive(struct sn_session *session)
{
    static uint8_t scratch[SP_FULL_RECV_BYTES];
    struct sp_call call = call_of(session);
    struct sp_conn *conn = &session->conn->core;
    struct sp_received message;
    sp_status status, later = SP_OK;

    sn_conn_disarm(session->conn, session->lease, &call);
    if (session->promise->client->out.congested) {
        sn_session_hold_up(session);
        return;
    }
    if (!sp_conn_enter(conn, session->lease, &call)) {
        closed(session);
        return;
    }
    status = sp_recv(conn, &call, &session->want, scratch, sizeof scratch, &message);
    if (status == SP_OK)
        received(session, &message);
    else if (session->broken != SP_OK && status != SP_AGAIN)
        later = status >= SP_STATUS_TRANSPORT ? status : session->broken;
    else
        later = go_on_later(session, status);
    sp_conn_leave(conn, &call);
    if (status == SP_OK)
        finish(session);
    else if (later != SP_OK)
        fail(session, later);
}

void sn_io_recv(struct sn_session *session, struct sn_client *client,
                const struct sn_caller *caller, const struct sp_want *want, uint64_t timeout_ns)
{
    sp_status status;

    sn_session_become(session, SN_SESSION_RECEIVING);
    status = promise(session, client, caller, timeout_ns);
    if (status != SP_OK) {
        sn_answer_status(session->sessions->outbox, client, caller, status);
        sn_session_call_over(session);
        return;
    }
    session->want = *want;
    receive(session);
}

/* ---- waiting for a connection ---- */

static void on_told(struct sn_waiter *waiter, sp_status status, size_t sent)
{
    struct sn_session *session = waiter->arg;

    sn_session_become(session, SN_SESSION_TOLD);
    session->told_status = status;
    session->told_sent = sent;
    sn_loop_defer(session->sessions->loop, &session->task);
}

static void has_connection(struct sn_session *session)
{
    if (session->state == SN_SESSION_ASKING)
        sn_channel_run(session);
    else if (session->state == SN_SESSION_HELD)
        begin_lease(session, session->promise->client, &session->promise->caller);
    else if (session->sent == session->kept_len)
        all_sent(session);
    else
        send_on(session);
}

static void hear(struct sn_session *session)
{
    struct sp_conn *conn;
    uint64_t lease;

    if (session->told_status != SP_OK || !sp_waiter_adopt(&session->waiter->core, &conn, &lease)) {
        refuse(session, session->told_status != SP_OK ? session->told_status : SP_CLOSED);
        sn_session_drop(session);
        return;
    }
    session->sent = session->told_sent;
    sn_session_grant(session, sn_conn_of(conn), lease);
    has_connection(session);
}

/* A connection at once, or SP_EMPTY where it pays to wait for one, SP_AGAIN to try again; otherwise why
 * not. */
static sp_status try_checkout(struct sn_pool *pool, const struct sp_call *call, uint64_t timeout_ns,
                              struct sp_conn **conn, uint64_t *lease)
{
    void *keepsake;
    sp_status status =
        sp_pool_checkout(&pool->hosted.core, call, SN_CORE_OWNER, conn, lease, &keepsake);

    if (timeout_ns > 0)
        return status == SP_AGAIN ? SP_EMPTY : status;
    return status == SP_EMPTY ? sp_pool_want(&pool->hosted.core, call) : status;
}

static void try_again(struct sn_session *session)
{
    struct sp_call call = call_of(session);
    struct sp_conn *conn;
    uint64_t lease;
    sp_status status = try_checkout(session->pool, &call, 0, &conn, &lease);

    if (status == SP_AGAIN) {
        sn_loop_defer(session->sessions->loop, &session->task);
        return;
    }
    if (status == SP_OK) {
        sn_session_grant(session, sn_conn_of(conn), lease);
        /* Whatever comes now, it has no time for that either. */
        status = sn_loop_limit(session->sessions->loop, &session->limit, call.now_ns);
    }
    if (status == SP_OK) {
        has_connection(session);
        return;
    }
    refuse(session, status);
    sn_session_drop(session);
}

static void advance(struct sn_session *session)
{
    switch (session->state) {
    case SN_SESSION_TRYING:
        try_again(session);
        return;
    case SN_SESSION_TOLD:
        hear(session);
        return;
    case SN_SESSION_SENDING:
        send_on(session);
        return;
    case SN_SESSION_RECEIVING:
        receive(session);
        return;
    case SN_SESSION_WAITING:
    case SN_SESSION_HELD:
    case SN_SESSION_ASKING: /* its task is the channel's */
    case SN_SESSION_PIPED:  /* sn_piped.c's */
    case SN_SESSION_REPLIED:
        return;
    }
}

/* Queues the session, with the bytes that it keeps; or has it try again where it would not wait. */
static void enqueue(struct sn_session *session, uint64_t timeout_ns)
{
    struct sp_call call = call_of(session);
    struct iovec bytes = {session->kept, session->kept ? session->kept_len : 0};
    struct sn_waiter *waiter;
    sp_status status = SP_NO_MEMORY;

    if (timeout_ns == 0) {
        sn_loop_defer(session->sessions->loop, &session->task);
        return;
    }
    waiter = sn_waiter_new(core_of(session), bytes, on_told, session);
    if (waiter) {
        sn_session_become(session, SN_SESSION_WAITING);
        session->waiter = waiter;
        status = sp_pool_enqueue(core_of(session), &call, &waiter->core);
        if (status == SP_OK)
            return;
        sn_uv_host.waiter_free(&waiter->core);
    }
    refuse(session, status);
    sn_session_end(session);
}

/* The session of a call that has a connection, or waits for one. NULL: it was answered. */
static struct sn_session *session_for(struct sn_sessions *sessions, struct sn_client *client,
                                      const struct sn_caller *caller, struct sn_pool *pool,
                                      struct sn_slice id, bool is_request, uint64_t timeout_ns)
{
    struct sp_call call = sn_loop_call(sessions->loop);
    struct sp_conn *conn = NULL;
    struct sn_session *session = NULL;
    uint64_t lease;
    sp_status status = try_checkout(pool, &call, timeout_ns, &conn, &lease);

    if (status == SP_OK || status == SP_EMPTY || status == SP_AGAIN) {
        session = sn_session_new(sessions, client, caller->pid, pool, id, is_request);
        if (session && status == SP_OK) {
            sn_session_grant(session, sn_conn_of(conn), lease);
        } else if (status == SP_OK) {
            (void)sp_pool_abandon(&pool->hosted.core, &call, conn, lease);
            sn_conn_unref(sn_conn_of(conn));
        }
        status = SP_NO_MEMORY;
    }
    if (!session)
        sn_answer_refusal(sessions->outbox, client, caller, pool, status);
    return session;
}

void sn_io_checkout(struct sn_sessions *sessions, struct sn_client *client,
                    const struct sn_caller *caller, struct sn_pool *pool, struct sn_slice id,
                    uint64_t timeout_ns)
{
    struct sn_session *session = session_for(sessions, client, caller, pool, id, false, timeout_ns);

    if (!session)
        return;
    if (sn_session_has_connection(session)) {
        begin_lease(session, client, caller);
    } else if (promise(session, client, caller, timeout_ns) == SP_OK) {
        enqueue(session, timeout_ns);
    } else {
        sn_answer_status(sessions->outbox, client, caller, SP_NO_MEMORY);
        sn_session_drop(session);
    }
}

void sn_io_request(struct sn_sessions *sessions, struct sn_client *client,
                   const struct sn_caller *caller, struct sn_pool *pool, struct sn_slice id,
                   struct sn_slice data, const struct sp_want *want, uint64_t timeout_ns)
{
    const struct sp_config *config = &pool->options.config;
    uint8_t header[SP_FRAME_HEADER_MAX];
    struct iovec pieces[2] = {{header, 0}, {(void *)data.data, data.len}};
    struct sn_session *session;
    sp_status status = sp_frame_header(&config->framing, data.len, header, &pieces[0].iov_len);

    /* Before a connection is taken: what cannot be done shall cost none. */
    if (status == SP_OK && want->len_bytes > config->recv_limit_bytes)
        status = SP_TOO_BIG;
    if (status == SP_OK && !sn_sessions_may_keep(sessions, client, data.len))
        status = -ENOBUFS;
    if (status != SP_OK) {
        sn_answer_status(sessions->outbox, client, caller, status);
        return;
    }
    if (sn_piped_takes(pool, pieces)) {
        sn_piped_request(sessions, client, caller, pool, id, pieces, want, timeout_ns);
        return;
    }
    session = session_for(sessions, client, caller, pool, id, true, timeout_ns);
    if (!session)
        return;
    session->want = *want;
    session->want.ends_lease = true;
    status = promise(session, client, caller, timeout_ns);
    if (status == SP_OK && !sn_session_has_connection(session))
        status = sn_session_keep(session, pieces, 2);
    if (status != SP_OK) {
        sn_answer_status(sessions->outbox, client, caller, status);
        sn_session_drop(session);
    } else if (sn_session_has_connection(session)) {
        send_all(session, &pool->options.config.framing, data);
    } else {
        enqueue(session, timeout_ns);
    }
}

void sn_io_node_request(struct sn_sessions *sessions, struct sn_client *client,
                        const struct sn_caller *caller, struct sn_pool *pool, struct sn_slice id,
                        const struct sn_node_request *request, uint64_t timeout_ns)
{
    struct sn_session *session = session_for(sessions, client, caller, pool, id, true, timeout_ns);

    if (!session)
        return;
    if (!sn_node_request_keep(session, request) ||
        promise(session, client, caller, timeout_ns) != SP_OK) {
        sn_answer_status(sessions->outbox, client, caller, SP_NO_MEMORY);
        sn_session_drop(session);
    } else if (sn_session_has_connection(session)) {
        sn_channel_run(session);
    } else {
        enqueue(session, timeout_ns);
    }
}

/* ---- leases that the core has ended ---- */

void sn_io_ended_leases(struct sn_pool *pool)
{
    struct sp_list_node *at, *next;

    for (at = pool->sessions.head.next; at != &pool->sessions.head; at = next) {
        struct sn_session *session = SP_CONTAINER(at, struct sn_session, in_pool);

        next = at->next;
        if (sn_session_has_connection(session) && session->conn->core.lease != session->lease)
            closed(session);
    }
}
