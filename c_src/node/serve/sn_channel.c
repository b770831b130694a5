#include "sn_channel.h"

#include "sn_answer.h"
#include "sn_channel_frame.h"
#include "core/dist/sp_dist_answer.h"
#include "core/pool/sp_lease.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIECES_MAX 16
/* A node takes for dead who is silent for its tick time; while it sends without a pause it sends no
 * ticks that would be answered. */
#define SILENT_NS (200 * SP_MS)

/* One that was sent, until its reply has come. */
struct channel_call {
    struct sn_hash_node by_number;
    struct sp_list_node node;
    struct sn_channel *channel;
    uint64_t number;
    struct sn_promise *promise; /* NULL: the session's own, or nobody waits any more */
    struct sn_limit limit;
};

/* A message whose sender waits until it is out. */
struct channel_send {
    struct sp_list_node node;
    struct sn_channel *channel;
    uint64_t end;               /* of its bytes among all that were queued */
    struct sn_promise *promise; /* as with a call */
    struct sn_limit limit;
};

struct sn_channel {
    struct sn_session *session;
    struct sp_node_names us;
    struct sn_queue out;
    uint64_t queued_bytes, numbers;
    struct sn_hash by_number;
    struct sp_list calls, sends;
    struct sn_limit stuck; /* nothing can be sent */
    bool is_stuck;
    bool is_over;  /* the session is a request, and was answered */
    bool readable; /* worth a try */
    sp_status read_wants;
    uint64_t spoke_ns;
};

static void turn(struct sn_session *session);

/* ---- calls and messages under way ---- */

static void answer_status(const struct sn_channel *channel, const struct sn_promise *promise,
                          sp_status status)
{
    if (promise && promise->client)
        sn_answer_status(channel->session->sessions->outbox, promise->client, &promise->caller,
                         status);
}

static struct sn_promise *promise_of(const struct sn_channel *channel, struct sn_promise *own)
{
    return channel->session->is_request ? channel->session->promise : own;
}

static void call_free(struct channel_call *call)
{
    struct sn_channel *channel = call->channel;

    sn_loop_unlimit(channel->session->sessions->loop, &call->limit);
    sn_hash_remove(&channel->by_number, &call->by_number);
    sp_list_remove(&call->node);
    if (call->promise)
        sn_promise_free(call->promise);
    free(call);
}

static void send_free(struct channel_send *send)
{
    sn_loop_unlimit(send->channel->session->sessions->loop, &send->limit);
    sp_list_remove(&send->node);
    if (send->promise)
        sn_promise_free(send->promise);
    free(send);
}

static void break_promise(const struct sn_channel *channel, struct sn_promise **promise)
{
    answer_status(channel, *promise, SP_TIMEOUT);
    if (*promise)
        sn_promise_free(*promise);
    *promise = NULL;
}

/* Nobody waits any more; it counts until its reply comes. */
static void on_call_over(struct sn_limit *limit)
{
    struct channel_call *call = SP_CONTAINER(limit, struct channel_call, limit);

    break_promise(call->channel, &call->promise);
}

/* Likewise; its bytes stay where they are among the others'. */
static void on_send_over(struct sn_limit *limit)
{
    struct channel_send *send = SP_CONTAINER(limit, struct channel_send, limit);

    break_promise(send->channel, &send->promise);
}

static void end_all(struct sn_channel *channel, sp_status status)
{
    struct sp_list_node *node;

    while ((node = sp_list_oldest(&channel->calls))) {
        struct channel_call *call = SP_CONTAINER(node, struct channel_call, node);
        answer_status(channel, call->promise, status);
        call_free(call);
    }
    while ((node = sp_list_oldest(&channel->sends))) {
        struct channel_send *send = SP_CONTAINER(node, struct channel_send, node);
        answer_status(channel, send->promise, status);
        send_free(send);
    }
}

bool sn_channel_is_idle(const struct sn_channel *channel)
{
    return channel->by_number.count == 0 && channel->out.bytes == 0;
}

/* ---- the end ---- */

static void unstick(struct sn_channel *channel)
{
    sn_loop_unlimit(channel->session->sessions->loop, &channel->stuck);
    channel->is_stuck = false;
}

void sn_channel_close(struct sn_session *session)
{
    struct sn_channel *channel = session->channel;

    if (!channel)
        return;
    end_all(channel, SP_CLOSED);
    unstick(channel);
    sn_session_count_kept(session, 0, channel->out.bytes);
    sn_queue_free(&channel->out);
    sn_hash_free(&channel->by_number);
    free(channel);
    session->channel = NULL;
}

void sn_channel_give_back(struct sn_session *session)
{
    struct sp_call call = sn_loop_call(session->sessions->loop);
    struct sp_pool *core = &session->pool->hosted.core;
    sp_status status = SP_CLOSED;

    sn_conn_disarm(session->conn, session->lease, &call);
    if (session->channel && sn_channel_is_idle(session->channel))
        status = sp_pool_checkin(core, &call, &session->conn->core, session->lease, NULL);
    if (status != SP_OK)
        (void)sp_pool_abandon(core, &call, &session->conn->core, session->lease);
}

/* The connection is gone, and the session with it. */
static void end(struct sn_session *session)
{
    sn_channel_close(session);
    sn_session_free(session);
}

/* The connection cannot go on. */
static void lose(struct sn_session *session, sp_status status)
{
    struct sp_call call = sn_loop_call(session->sessions->loop);
    struct sn_channel *channel = session->channel;

    if (!session->is_request)
        end_all(channel, status);
    else if (!channel->is_over)
        answer_status(channel, session->promise, status);
    sn_conn_disarm(session->conn, session->lease, &call);
    (void)sp_pool_discard(&session->pool->hosted.core, &call, &session->conn->core, session->lease,
                          sp_why_of(status));
    end(session);
}

static void on_stuck(struct sn_limit *limit)
{
    lose(SP_CONTAINER(limit, struct sn_channel, stuck)->session, SP_TIMEOUT);
}

/* A request that was answered: the connection goes back. */
static void finish(struct sn_session *session)
{
    struct sp_call call = sn_loop_call(session->sessions->loop);
    struct sp_pool *core = &session->pool->hosted.core;
    sp_status status =
        sn_channel_is_idle(session->channel)
            ? sp_pool_checkin(core, &call, &session->conn->core, session->lease, NULL)
            : sp_pool_discard(core, &call, &session->conn->core, session->lease, SP_WHY_UNANSWERED);

    (void)status; /* whatever else ended the lease has the connection */
    end(session);
}

/* ---- sending ---- */

static void count_queued(struct sn_channel *channel, size_t before)
{
    channel->queued_bytes += channel->out.bytes - before;
    sn_session_count_kept(channel->session, channel->out.bytes - before, 0);
    sn_loop_defer(channel->session->sessions->loop, &channel->session->task);
}

/* Whatever is under way to the node is as good as a tick. */
static void tick(struct sn_channel *channel)
{
    if (channel->out.bytes == 0 && sn_queue_tick(&channel->out) == SP_OK)
        count_queued(channel, 0);
}

static void tell_sent(struct sn_channel *channel)
{
    struct sp_list_node *node;

    while ((node = sp_list_oldest(&channel->sends))) {
        struct channel_send *send = SP_CONTAINER(node, struct channel_send, node);

        if (send->end > channel->queued_bytes - channel->out.bytes)
            return;
        answer_status(channel, promise_of(channel, send->promise), SP_OK);
        channel->is_over = channel->session->is_request;
        send_free(send);
    }
}

static void stick(struct sn_channel *channel)
{
    struct sn_loop *loop = channel->session->sessions->loop;
    uint64_t timeout_ns = channel->session->pool->options.send_timeout_ns;

    if (!channel->is_stuck && timeout_ns != SP_NEVER)
        channel->is_stuck =
            sn_loop_limit(loop, &channel->stuck, sn_loop_now_ns(loop) + timeout_ns) == SP_OK;
}

/* Within enter/leave: SP_OK (all is out), SP_AGAIN, or what transport.send says. */
static sp_status write_out(struct sn_channel *channel, const struct sp_call *call)
{
    struct sp_conn *conn = &channel->session->conn->core;
    struct iovec pieces[PIECES_MAX];
    size_t sent;

    while (channel->out.bytes > 0) {
        int count = sn_queue_front(&channel->out, pieces, PIECES_MAX);
        sp_status status;

        conn->touched = true;
        status = conn->transport->send(conn, pieces, count, &sent);
        sp_conn_settle(conn, call);
        if (sp_wants(status))
            stick(channel);
        else if (status != SP_OK)
            sp_conn_taint(conn, sp_why_of(status));
        if (status != SP_OK)
            return status;
        unstick(channel);
        sn_queue_written(&channel->out, sent);
        sn_session_count_kept(channel->session, 0, sent);
        channel->spoke_ns = sn_loop_now_ns(channel->session->sessions->loop);
        tell_sent(channel);
        if (channel->out.bytes > 0 && sp_spent(call))
            return SP_AGAIN;
    }
    return SP_OK;
}

/* ---- receiving ---- */

static void end_call(struct sn_channel *channel, const struct sn_reply *reply)
{
    struct sn_hash_node *node = sn_hash_first(&channel->by_number, reply->number);
    struct channel_call *call;

    if (!node)
        return;
    call = SP_CONTAINER(node, struct channel_call, by_number);
    sn_answer_reply(channel->session->sessions->outbox, promise_of(channel, call->promise), reply);
    channel->is_over = channel->session->is_request;
    call_free(call);
}

/* What a function prints is dropped; who printed it goes on. */
static void take_message(struct sn_channel *channel, struct sn_slice message)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX], request[SN_SLICE_PARTS_MAX];
    size_t before = channel->out.bytes;
    bool is_output;

    if (sn_slice_tuple(message, parts) != 4 || !sn_slice_is_atom(parts[0], "io_request") ||
        !sn_slice_is_pid(parts[1]) ||
        !sn_slice_is_atom(sn_slice_pid_node(parts[1]), channel->session->pool->options.node))
        return;
    is_output = sn_slice_tuple(parts[3], request) > 0 && sn_slice_is_atom(request[0], "put_chars");
    if (sn_channel_queue_io_reply(&channel->out, parts[1], parts[2], is_output) == SP_OK)
        count_queued(channel, before);
}

static void take_question(struct sn_channel *channel, const struct sp_received *received)
{
    uint8_t answer[SP_DIST_ANSWER_MAX], us[SP_DIST_PID_NUMBERS];
    size_t before = channel->out.bytes, len;

    sn_channel_pid_numbers(&channel->us, us);
    len = sp_dist_answer(received->data, received->len, us, answer);

    if (len > 0 && sn_queue_parts(&channel->out, &(struct sn_slice){answer, len}, 1) == SP_OK)
        count_queued(channel, before);
}

static void take(struct sn_channel *channel, const struct sp_received *received)
{
    uint64_t now_ns = sn_loop_now_ns(channel->session->sessions->loop);
    struct sn_reply reply;

    sn_reply_open(received->data, received->len, &reply);
    switch (reply.kind) {
    case SN_REPLY_TICK:
        tick(channel);
        return;
    case SN_REPLY_ENDED:
    case SN_REPLY_REFUSED:
        end_call(channel, &reply);
        break;
    case SN_REPLY_MESSAGE:
        take_message(channel, reply.term);
        break;
    case SN_REPLY_OTHER:
        take_question(channel, received);
        break;
    }
    if (now_ns - channel->spoke_ns > SILENT_NS)
        tick(channel);
}

static bool is_congested(const struct sn_promise *promise)
{
    return promise && promise->client && promise->client->out.congested;
}

/* Nothing is read while one who waits for a reply does not read what it has got already. */
static bool hold_up(struct sn_channel *channel)
{
    struct sn_session *session = channel->session;
    struct sn_promise *slow = is_congested(session->promise) ? session->promise : NULL;

    if (session->held_up)
        return true;
    for (struct sp_list_node *at = channel->calls.head.next; !slow && at != &channel->calls.head;
         at = at->next)
        if (is_congested(SP_CONTAINER(at, struct channel_call, node)->promise))
            slow = SP_CONTAINER(at, struct channel_call, node)->promise;
    if (!slow)
        return false;
    session->held_up = true;
    sp_list_push_newest(&slow->client->held_up, &session->in_held_up);
    return true;
}

/* Within enter/leave: SP_OK (nothing is to be read now), SP_AGAIN, or what sp_recv() says. */
static sp_status read_in(struct sn_channel *channel, const struct sp_call *call)
{
    static uint8_t scratch[SP_FULL_RECV_BYTES];
    const struct sp_want want = {.packet = true};
    struct sp_conn *conn = &channel->session->conn->core;
    struct sp_received received;
    sp_status status;

    do {
        if (hold_up(channel))
            return SP_OK;
        status = sp_recv(conn, call, &want, scratch, sizeof scratch, &received);
        if (sp_wants(status)) {
            channel->readable = false;
            channel->read_wants = status;
        }
        if (status != SP_OK)
            return status;
        sp_take(call, SP_PIECES_TELL + sp_pieces_of_bytes(received.len));
        take(channel, &received);
        sp_recv_taken(conn, &received);
    } while (!channel->is_over && !sp_spent(call));
    return SP_AGAIN;
}

/* ---- both ---- */

static void on_ready(void *arg)
{
    struct sn_session *session = arg;

    session->channel->readable = true;
    turn(session);
}

static void on_task(struct sn_task *task)
{
    turn(SP_CONTAINER(task, struct sn_session, task));
}

static bool is_fatal(sp_status status)
{
    return status != SP_OK && status != SP_AGAIN && !sp_wants(status);
}

/* Within enter/leave: SP_OK, or why the connection cannot go on. */
static sp_status go_on(struct sn_channel *channel, const struct sp_call *call)
{
    struct sn_session *session = channel->session;
    sp_status wrote = write_out(channel, call), read = channel->read_wants;

    if (!is_fatal(wrote) && channel->readable && !channel->is_over)
        read = read_in(channel, call);
    if (wrote == SP_OK && !is_fatal(read))
        wrote = write_out(channel, call); /* ticks */
    if (is_fatal(wrote) || is_fatal(read))
        return is_fatal(wrote) ? wrote : read;
    if (channel->is_over)
        return SP_OK;
    if (wrote == SP_AGAIN || read == SP_AGAIN) {
        sn_loop_defer(session->sessions->loop, &session->task);
        return SP_OK;
    }
    if (sp_wants(wrote) || sp_wants(read))
        return sn_conn_arm(session->conn, session->lease, sp_wants(wrote) ? wrote : read, on_ready,
                           session);
    return SP_OK;
}

static void turn(struct sn_session *session)
{
    struct sp_call call = sn_loop_call(session->sessions->loop);
    sp_status status;

    sn_conn_disarm(session->conn, session->lease, &call);
    if (!sp_conn_enter(&session->conn->core, session->lease, &call)) {
        lose(session, SP_CLOSED);
        return;
    }
    status = go_on(session->channel, &call);
    sp_conn_leave(&session->conn->core, &call);
    if (session->channel->is_over)
        finish(session);
    else if (status != SP_OK)
        lose(session, status);
}

/* ---- beginning ---- */

sp_status sn_channel_open(struct sn_session *session)
{
    const struct sp_node_names *names = sp_node_names(&session->conn->core);
    struct sn_channel *channel;

    channel = names ? calloc(1, sizeof *channel) : NULL;
    if (!channel)
        return names ? SP_NO_MEMORY : SP_CLOSED;
    channel->session = session;
    channel->us = *names;
    sn_queue_init(&channel->out);
    sn_hash_init(&channel->by_number);
    sp_list_init(&channel->calls);
    sp_list_init(&channel->sends);
    channel->stuck.over = on_stuck;
    channel->readable = true;
    channel->read_wants = SP_WANT_READ;
    channel->spoke_ns = sn_loop_now_ns(session->sessions->loop);
    session->channel = channel;
    session->task.run = on_task;
    sn_loop_defer(session->sessions->loop, &session->task);
    return SP_OK;
}

/* The promise becomes the call's only where it is SP_OK. */
static sp_status begin_call(struct sn_channel *channel, const struct sn_node_request *request,
                            struct sn_promise *promise, uint64_t timeout_ns)
{
    struct sn_loop *loop = channel->session->sessions->loop;
    struct channel_call *call;
    size_t before = channel->out.bytes;
    sp_status status;

    if (channel->by_number.count >= channel->session->pool->options.max_inflight)
        return SP_BUSY;
    call = calloc(1, sizeof *call);
    if (!call)
        return SP_NO_MEMORY;
    call->channel = channel;
    call->number = ++channel->numbers;
    call->limit.over = on_call_over;
    if (sn_hash_add(&channel->by_number, &call->by_number, call->number) != SP_OK) {
        free(call);
        return SP_NO_MEMORY;
    }
    sp_list_push_newest(&channel->calls, &call->node);
    status = timeout_ns == SP_NEVER
                 ? SP_OK
                 : sn_loop_limit(loop, &call->limit, sn_loop_now_ns(loop) + timeout_ns);
    if (status == SP_OK)
        status = sn_channel_queue_call(&channel->out, &channel->us, call->number, request->module,
                                       request->function, request->args);
    if (status != SP_OK) {
        call_free(call);
        return status;
    }
    call->promise = promise;
    count_queued(channel, before);
    return SP_OK;
}

static sp_status begin_send(struct sn_channel *channel, const struct sn_node_request *request,
                            struct sn_promise *promise, uint64_t timeout_ns)
{
    struct sn_loop *loop = channel->session->sessions->loop;
    struct channel_send *send = calloc(1, sizeof *send);
    size_t before = channel->out.bytes;
    sp_status status = SP_OK;

    if (!send)
        return SP_NO_MEMORY;
    send->channel = channel;
    send->limit.over = on_send_over;
    sp_list_push_newest(&channel->sends, &send->node);
    if (timeout_ns != SP_NEVER)
        status = sn_loop_limit(loop, &send->limit, sn_loop_now_ns(loop) + timeout_ns);
    if (status == SP_OK)
        status = sn_channel_queue_message(&channel->out, &channel->us, request->destination,
                                          request->message);
    if (status != SP_OK) {
        send_free(send);
        return status;
    }
    count_queued(channel, before);
    send->end = channel->queued_bytes;
    send->promise = promise;
    return SP_OK;
}

void sn_channel_take(struct sn_session *session, struct sn_client *client,
                     const struct sn_caller *caller, const struct sn_node_request *request,
                     uint64_t timeout_ns)
{
    struct sn_promise *promise;
    sp_status status = SP_NO_MEMORY;

    if (!sn_sessions_may_keep(session->sessions, session->owner->client,
                              sn_node_request_len(request))) {
        sn_answer_status(session->sessions->outbox, client, caller, -ENOBUFS);
        return;
    }
    promise = sn_promise_new(client, caller);
    if (promise)
        status = request->is_call ? begin_call(session->channel, request, promise, timeout_ns)
                                  : begin_send(session->channel, request, promise, timeout_ns);
    if (status == SP_OK)
        return;
    if (promise)
        sn_promise_free(promise);
    sn_answer_status(session->sessions->outbox, client, caller,
                     status == SP_FULL ? -ENOBUFS : status);
}

void sn_channel_run(struct sn_session *session)
{
    sp_status status = sn_channel_open(session);

    if (status == SP_OK && session->request->is_call) {
        status = begin_call(session->channel, session->request, NULL, SP_NEVER);
    } else if (status == SP_OK) {
        if (session->request->is_by_default)
            sn_loop_unlimit(session->sessions->loop, &session->limit); /* that was for the wait */
        status = begin_send(session->channel, session->request, NULL, SP_NEVER);
    }
    sn_node_request_unkeep(session);
    if (status == SP_OK)
        return;
    sn_answer_status(session->sessions->outbox, session->promise->client, &session->promise->caller,
                     status);
    sn_channel_give_back(session);
    end(session);
}
