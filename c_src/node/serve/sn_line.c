#include "sn_line.h"

#include "sn_answer.h"
#include "sn_line_answer.h"
#include "sn_line_frame.h"
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
struct line_call {
    struct sn_hash_node by_number;
    struct sp_node node;
    struct sn_line *line;
    uint64_t number;
    struct sn_promise *promise; /* NULL: the job's own, or nobody waits any more */
    struct sn_limit limit;
};

/* A message whose sender waits until it is out. */
struct line_send {
    struct sp_node node;
    struct sn_line *line;
    uint64_t end;               /* of its bytes among all that were queued */
    struct sn_promise *promise; /* as with a call */
    struct sn_limit limit;
};

struct sn_line {
    struct sn_job *job;
    struct sp_node_names us;
    struct sn_queue out;
    uint64_t queued_bytes, numbers;
    struct sn_hash by_number;
    struct sp_list calls, sends;
    struct sn_limit stuck; /* nothing can be sent */
    bool is_stuck;
    bool is_over;  /* the errand of a request was answered */
    bool readable; /* worth a try */
    sp_status read_wants;
    uint64_t spoke_ns;
};

static void turn(struct sn_job *job);

/* ---- calls and messages under way ---- */

static void answer_status(const struct sn_line *line, const struct sn_promise *promise,
                          sp_status status)
{
    if (promise && promise->client)
        sn_answer_status(line->job->jobs->mail, promise->client, &promise->caller, status);
}

static struct sn_promise *promise_of(const struct sn_line *line, struct sn_promise *own)
{
    return line->job->is_request ? line->job->promise : own;
}

static void call_free(struct line_call *call)
{
    struct sn_line *line = call->line;

    sn_loop_unlimit(line->job->jobs->loop, &call->limit);
    sn_hash_remove(&line->by_number, &call->by_number);
    sp_list_remove(&call->node);
    if (call->promise)
        sn_promise_free(call->promise);
    free(call);
}

static void send_free(struct line_send *send)
{
    sn_loop_unlimit(send->line->job->jobs->loop, &send->limit);
    sp_list_remove(&send->node);
    if (send->promise)
        sn_promise_free(send->promise);
    free(send);
}

static struct line_call *find_call(const struct sn_line *line, uint64_t number)
{
    struct sn_hash_node *node = sn_hash_first(&line->by_number, number);

    return node ? SP_CONTAINER(node, struct line_call, by_number) : NULL;
}

static void break_promise(const struct sn_line *line, struct sn_promise **promise)
{
    answer_status(line, *promise, SP_TIMEOUT);
    if (*promise)
        sn_promise_free(*promise);
    *promise = NULL;
}

/* Nobody waits any more; it counts until its reply comes. */
static void on_call_over(struct sn_limit *limit)
{
    struct line_call *call = SP_CONTAINER(limit, struct line_call, limit);

    break_promise(call->line, &call->promise);
}

/* Likewise; its bytes stay where they are among the others'. */
static void on_send_over(struct sn_limit *limit)
{
    struct line_send *send = SP_CONTAINER(limit, struct line_send, limit);

    break_promise(send->line, &send->promise);
}

static void end_all(struct sn_line *line, sp_status status)
{
    struct sp_node *node;

    while ((node = sp_list_oldest(&line->calls))) {
        struct line_call *call = SP_CONTAINER(node, struct line_call, node);
        answer_status(line, call->promise, status);
        call_free(call);
    }
    while ((node = sp_list_oldest(&line->sends))) {
        struct line_send *send = SP_CONTAINER(node, struct line_send, node);
        answer_status(line, send->promise, status);
        send_free(send);
    }
}

bool sn_line_is_at_rest(const struct sn_line *line)
{
    return line->by_number.count == 0 && line->out.bytes == 0;
}

/* ---- the end ---- */

static void unstick(struct sn_line *line)
{
    sn_loop_unlimit(line->job->jobs->loop, &line->stuck);
    line->is_stuck = false;
}

void sn_line_close(struct sn_job *job)
{
    struct sn_line *line = job->line;

    end_all(line, SP_CLOSED);
    unstick(line);
    sn_job_count_kept(job, 0, line->out.bytes);
    sn_queue_free(&line->out);
    sn_hash_free(&line->by_number);
    free(line);
    job->line = NULL;
}

void sn_line_give_back(struct sn_job *job)
{
    struct sp_call call = sn_loop_call(job->jobs->loop);
    struct sp_pool *core = &job->pool->home.core;
    sp_status status = SP_CLOSED;

    sn_conn_disarm(job->conn, job->lease, &call);
    if (job->line && sn_line_is_at_rest(job->line))
        status = sp_pool_checkin(core, &call, &job->conn->core, job->lease, NULL);
    if (status != SP_OK)
        (void)sp_pool_abandon(core, &call, &job->conn->core, job->lease);
}

/* The connection is gone, and the job with it. */
static void end(struct sn_job *job)
{
    if (job->line)
        sn_line_close(job);
    sn_job_free(job);
}

/* The connection cannot go on. */
static void lose(struct sn_job *job, sp_status status)
{
    struct sp_call call = sn_loop_call(job->jobs->loop);
    struct sn_line *line = job->line;

    if (!job->is_request)
        end_all(line, status);
    else if (!line->is_over)
        answer_status(line, job->promise, status);
    sn_conn_disarm(job->conn, job->lease, &call);
    (void)sp_pool_discard(&job->pool->home.core, &call, &job->conn->core, job->lease);
    end(job);
}

static void on_stuck(struct sn_limit *limit)
{
    lose(SP_CONTAINER(limit, struct sn_line, stuck)->job, SP_TIMEOUT);
}

/* An errand that was answered: the connection goes back. */
static void finish(struct sn_job *job)
{
    struct sp_call call = sn_loop_call(job->jobs->loop);
    struct sp_pool *core = &job->pool->home.core;
    sp_status status = sn_line_is_at_rest(job->line)
                           ? sp_pool_checkin(core, &call, &job->conn->core, job->lease, NULL)
                           : sp_pool_discard(core, &call, &job->conn->core, job->lease);

    (void)status; /* whatever else ended the lease has the connection */
    end(job);
}

/* ---- sending ---- */

static void count_queued(struct sn_line *line, size_t before)
{
    line->queued_bytes += line->out.bytes - before;
    sn_job_count_kept(line->job, line->out.bytes - before, 0);
    sn_loop_later(line->job->jobs->loop, &line->job->task);
}

/* Whatever is under way to the node is as good as a tick. */
static void tick(struct sn_line *line)
{
    if (line->out.bytes == 0 && sn_queue_tick(&line->out) == SP_OK)
        count_queued(line, 0);
}

static void tell_sent(struct sn_line *line)
{
    struct sp_node *node;

    while ((node = sp_list_oldest(&line->sends))) {
        struct line_send *send = SP_CONTAINER(node, struct line_send, node);

        if (send->end > line->queued_bytes - line->out.bytes)
            return;
        answer_status(line, promise_of(line, send->promise), SP_OK);
        line->is_over = line->job->is_request;
        send_free(send);
    }
}

static void stick(struct sn_line *line)
{
    struct sn_loop *loop = line->job->jobs->loop;
    uint64_t timeout_ns = line->job->pool->options.send_timeout_ns;

    if (!line->is_stuck && timeout_ns != SP_NEVER)
        line->is_stuck =
            sn_loop_limit(loop, &line->stuck, sn_loop_now_ns(loop) + timeout_ns) == SP_OK;
}

/* Within enter/leave: SP_OK (all is out), SP_AGAIN, or what transport.send says. */
static sp_status write_out(struct sn_line *line, const struct sp_call *call)
{
    struct sp_conn *conn = &line->job->conn->core;
    struct iovec pieces[PIECES_MAX];
    size_t sent;

    while (line->out.bytes > 0) {
        int count = sn_queue_front(&line->out, pieces, PIECES_MAX);
        sp_status status;

        conn->touched = true;
        status = conn->transport->send(conn, pieces, count, &sent);
        sp_conn_settle(conn, call);
        if (sp_wants(status))
            stick(line);
        else if (status != SP_OK)
            conn->tainted = true;
        if (status != SP_OK)
            return status;
        unstick(line);
        sn_queue_written(&line->out, sent);
        sn_job_count_kept(line->job, 0, sent);
        line->spoke_ns = sn_loop_now_ns(line->job->jobs->loop);
        tell_sent(line);
        if (line->out.bytes > 0 && sp_spent(call))
            return SP_AGAIN;
    }
    return SP_OK;
}

/* ---- receiving ---- */

static void end_call(struct sn_line *line, const struct sn_reply *reply)
{
    struct line_call *call = find_call(line, reply->number);

    if (!call)
        return;
    sn_line_answer(line->job->jobs->mail, promise_of(line, call->promise), reply);
    line->is_over = line->job->is_request;
    call_free(call);
}

/* What a function prints is dropped; who printed it goes on. */
static void take_message(struct sn_line *line, struct sn_slice message)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX], request[SN_SLICE_PARTS_MAX];
    size_t before = line->out.bytes;
    bool is_output;

    if (sn_slice_tuple(message, parts) != 4 || !sn_slice_is_atom(parts[0], "io_request") ||
        !sn_slice_is_pid(parts[1]) ||
        !sn_slice_is_atom(sn_slice_pid_node(parts[1]), line->job->pool->options.node))
        return;
    is_output = sn_slice_tuple(parts[3], request) > 0 && sn_slice_is_atom(request[0], "put_chars");
    if (sn_line_queue_io_reply(&line->out, parts[1], parts[2], is_output) == SP_OK)
        count_queued(line, before);
}

static void take_question(struct sn_line *line, const struct sp_received *received)
{
    uint8_t answer[SP_DIST_ANSWER_MAX], us[SP_DIST_PID_NUMBERS];
    size_t before = line->out.bytes, len;

    sn_line_pid_numbers(&line->us, us);
    len = sp_dist_answer(received->data, received->len, us, answer);

    if (len > 0 && sn_queue_parts(&line->out, &(struct sn_slice){answer, len}, 1) == SP_OK)
        count_queued(line, before);
}

static void take(struct sn_line *line, const struct sp_received *received)
{
    uint64_t now_ns = sn_loop_now_ns(line->job->jobs->loop);
    struct sn_reply reply;

    sn_reply_open(received->data, received->len, &reply);
    switch (reply.kind) {
    case SN_REPLY_TICK:
        tick(line);
        return;
    case SN_REPLY_ENDED:
    case SN_REPLY_REFUSED:
        end_call(line, &reply);
        break;
    case SN_REPLY_MESSAGE:
        take_message(line, reply.term);
        break;
    case SN_REPLY_OTHER:
        take_question(line, received);
        break;
    }
    if (now_ns - line->spoke_ns > SILENT_NS)
        tick(line);
}

static bool is_congested(const struct sn_promise *promise)
{
    return promise && promise->client && promise->client->out.congested;
}

/* Nothing is read while one who waits for a reply does not read what it has got already. */
static bool hold_up(struct sn_line *line)
{
    struct sn_job *job = line->job;
    struct sn_promise *slow = is_congested(job->promise) ? job->promise : NULL;

    if (job->held_up)
        return true;
    for (struct sp_node *at = line->calls.head.next; !slow && at != &line->calls.head;
         at = at->next)
        if (is_congested(SP_CONTAINER(at, struct line_call, node)->promise))
            slow = SP_CONTAINER(at, struct line_call, node)->promise;
    if (!slow)
        return false;
    job->held_up = true;
    sp_list_push_newest(&slow->client->held_up, &job->in_held_up);
    return true;
}

/* Within enter/leave: SP_OK (nothing is to be read now), SP_AGAIN, or what sp_recv() says. */
static sp_status read_in(struct sn_line *line, const struct sp_call *call)
{
    static uint8_t scratch[SP_FULL_RECV_BYTES];
    const struct sp_want want = {.packet = true};
    struct sp_conn *conn = &line->job->conn->core;
    struct sp_received received;
    sp_status status;

    do {
        if (hold_up(line))
            return SP_OK;
        status = sp_recv(conn, call, &want, scratch, sizeof scratch, &received);
        if (sp_wants(status)) {
            line->readable = false;
            line->read_wants = status;
        }
        if (status != SP_OK)
            return status;
        sp_take(call, SP_PIECES_TELL + sp_pieces_of_bytes(received.len));
        take(line, &received);
        sp_recv_taken(conn, &received);
    } while (!line->is_over && !sp_spent(call));
    return SP_AGAIN;
}

/* ---- both ---- */

static void on_ready(void *arg)
{
    struct sn_job *job = arg;

    job->line->readable = true;
    turn(job);
}

static void on_task(struct sn_task *task)
{
    turn(SP_CONTAINER(task, struct sn_job, task));
}

static bool is_fatal(sp_status status)
{
    return status != SP_OK && status != SP_AGAIN && !sp_wants(status);
}

/* Within enter/leave: SP_OK, or why the connection cannot go on. */
static sp_status go_on(struct sn_line *line, const struct sp_call *call)
{
    struct sn_job *job = line->job;
    sp_status wrote = write_out(line, call), read = line->read_wants;

    if (!is_fatal(wrote) && line->readable && !line->is_over)
        read = read_in(line, call);
    if (wrote == SP_OK && !is_fatal(read))
        wrote = write_out(line, call); /* ticks */
    if (is_fatal(wrote) || is_fatal(read))
        return is_fatal(wrote) ? wrote : read;
    if (line->is_over)
        return SP_OK;
    if (wrote == SP_AGAIN || read == SP_AGAIN) {
        sn_loop_later(job->jobs->loop, &job->task);
        return SP_OK;
    }
    if (sp_wants(wrote) || sp_wants(read))
        return sn_conn_arm(job->conn, job->lease, sp_wants(wrote) ? wrote : read, on_ready, job);
    return SP_OK;
}

static void turn(struct sn_job *job)
{
    struct sp_call call = sn_loop_call(job->jobs->loop);
    sp_status status;

    sn_conn_disarm(job->conn, job->lease, &call);
    if (!sp_conn_enter(&job->conn->core, job->lease, &call)) {
        lose(job, SP_CLOSED);
        return;
    }
    status = go_on(job->line, &call);
    sp_conn_leave(&job->conn->core, &call);
    if (job->line->is_over)
        finish(job);
    else if (status != SP_OK)
        lose(job, status);
}

/* ---- beginning ---- */

sp_status sn_line_open(struct sn_job *job)
{
    const struct sp_node_names *names = sp_node_names(&job->conn->core);
    struct sn_line *line;

    line = names ? calloc(1, sizeof *line) : NULL;
    if (!line)
        return names ? SP_NO_MEMORY : SP_CLOSED;
    line->job = job;
    line->us = *names;
    sn_queue_init(&line->out);
    sn_hash_init(&line->by_number);
    sp_list_init(&line->calls);
    sp_list_init(&line->sends);
    line->stuck.over = on_stuck;
    line->readable = true;
    line->read_wants = SP_WANT_READ;
    line->spoke_ns = sn_loop_now_ns(job->jobs->loop);
    job->line = line;
    job->task.run = on_task;
    sn_loop_later(job->jobs->loop, &job->task);
    return SP_OK;
}

/* The promise becomes the call's only where it is SP_OK. */
static sp_status begin_call(struct sn_line *line, const struct sn_errand *errand,
                            struct sn_promise *promise, uint64_t timeout_ns)
{
    struct sn_loop *loop = line->job->jobs->loop;
    struct line_call *call;
    size_t before = line->out.bytes;
    sp_status status;

    if (line->by_number.count >= line->job->pool->options.max_inflight)
        return SP_BUSY;
    call = calloc(1, sizeof *call);
    if (!call)
        return SP_NO_MEMORY;
    call->line = line;
    call->number = ++line->numbers;
    call->limit.over = on_call_over;
    if (sn_hash_add(&line->by_number, &call->by_number, call->number) != SP_OK) {
        free(call);
        return SP_NO_MEMORY;
    }
    sp_list_push_newest(&line->calls, &call->node);
    status = timeout_ns == SP_NEVER
                 ? SP_OK
                 : sn_loop_limit(loop, &call->limit, sn_loop_now_ns(loop) + timeout_ns);
    if (status == SP_OK)
        status = sn_line_queue_call(&line->out, &line->us, call->number, errand->module,
                                    errand->function, errand->args);
    if (status != SP_OK) {
        call_free(call);
        return status;
    }
    call->promise = promise;
    count_queued(line, before);
    return SP_OK;
}

static sp_status begin_send(struct sn_line *line, const struct sn_errand *errand,
                            struct sn_promise *promise, uint64_t timeout_ns)
{
    struct sn_loop *loop = line->job->jobs->loop;
    struct line_send *send = calloc(1, sizeof *send);
    size_t before = line->out.bytes;
    sp_status status = SP_OK;

    if (!send)
        return SP_NO_MEMORY;
    send->line = line;
    send->limit.over = on_send_over;
    sp_list_push_newest(&line->sends, &send->node);
    if (timeout_ns != SP_NEVER)
        status = sn_loop_limit(loop, &send->limit, sn_loop_now_ns(loop) + timeout_ns);
    if (status == SP_OK)
        status = sn_line_queue_message(&line->out, &line->us, errand->destination, errand->message);
    if (status != SP_OK) {
        send_free(send);
        return status;
    }
    count_queued(line, before);
    send->end = line->queued_bytes;
    send->promise = promise;
    return SP_OK;
}

void sn_line_take(struct sn_job *job, struct sn_client *client, const struct sn_caller *caller,
                  const struct sn_errand *errand, uint64_t timeout_ns)
{
    struct sn_promise *promise;
    sp_status status = SP_NO_MEMORY;

    if (!sn_jobs_may_keep(job->jobs, job->holder->client, sn_errand_len(errand))) {
        sn_answer_status(job->jobs->mail, client, caller, -ENOBUFS);
        return;
    }
    promise = sn_promise_new(client, caller);
    if (promise)
        status = errand->is_call ? begin_call(job->line, errand, promise, timeout_ns)
                                 : begin_send(job->line, errand, promise, timeout_ns);
    if (status == SP_OK)
        return;
    if (promise)
        sn_promise_free(promise);
    sn_answer_status(job->jobs->mail, client, caller, status == SP_FULL ? -ENOBUFS : status);
}

void sn_line_run(struct sn_job *job)
{
    sp_status status;

    job->state = SN_JOB_HELD;
    status = sn_line_open(job);
    if (status == SP_OK && job->errand->is_call) {
        status = begin_call(job->line, job->errand, NULL, SP_NEVER);
    } else if (status == SP_OK) {
        if (job->errand->is_by_default)
            sn_loop_unlimit(job->jobs->loop, &job->limit); /* that was for the wait */
        status = begin_send(job->line, job->errand, NULL, SP_NEVER);
    }
    sn_errand_unkeep(job);
    if (status == SP_OK)
        return;
    sn_answer_status(job->jobs->mail, job->promise->client, &job->promise->caller, status);
    sn_line_give_back(job);
    end(job);
}
