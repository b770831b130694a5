#include "sn_io.h"

#include "sn_answer.h"
#include "sn_job_end.h"
#include "sn_line.h"
#include "core/pool/sp_grant.h"
#include "core/pool/sp_lease.h"

#include <errno.h>
#include <string.h>

static void advance(struct sn_job *job);
static void receive(struct sn_job *job);

static struct sp_call call_of(const struct sn_job *job)
{
    return sn_loop_call(job->jobs->loop);
}

static struct sp_pool *core_of(const struct sn_job *job)
{
    return &job->pool->home.core;
}

/* ---- the ends of a call ---- */

static void answer(const struct sn_job *job, sp_status status)
{
    sn_answer_status(job->jobs->mail, job->promise->client, &job->promise->caller, status);
}

/* The lease is over: so is the job. */
static void closed(struct sn_job *job)
{
    if (job->promise)
        answer(job, SP_CLOSED);
    sn_job_end(job);
}

/* A request gives its connection up; a lease stays, and is closed when it is given back. */
static void fail(struct sn_job *job, sp_status status)
{
    struct sp_call call = call_of(job);

    answer(job, status);
    if (!job->is_request) {
        sn_job_rest(job);
        return;
    }
    sn_conn_disarm(job->conn, job->lease, &call);
    (void)sp_pool_discard(core_of(job), &call, &job->conn->core, job->lease);
    sn_job_end(job);
}

static void answer_lease(struct sn_job *job, struct sn_client *client,
                         const struct sn_caller *caller)
{
    struct sn_writer reply = sn_mail_begin_reply(job->jobs->mail, caller);

    sn_put_tuple(&reply, 2);
    sn_put_atom(&reply, "ok");
    sn_put_lease(&reply, job);
    sn_answer_end(job->jobs->mail, client, caller, &reply);
}

/* Its wait is over, or there was none. */
static void begin_lease(struct sn_job *job, struct sn_client *client,
                        const struct sn_caller *caller)
{
    answer_lease(job, client, caller);
    sn_job_rest(job);
    if (job->pool->options.node && sn_line_open(job) != SP_OK)
        sn_job_drop(job); /* its next call hears `closed' */
}

/* ---- time ---- */

static void give_up_waiting(struct sn_job *job)
{
    struct sp_call call = call_of(job);
    struct sn_writer reply;

    if (job->told || sp_waiter_cancel(&job->waiter->core, &call) != SP_CANCELLED) {
        /* It hears of it in a moment. A request that is out has no time left then. */
        sp_status status = sn_loop_limit(job->jobs->loop, &job->limit, call.now_ns);
        (void)status; /* there is room: this limit has just left */
        return;
    }
    reply = sn_mail_begin_reply(job->jobs->mail, &job->promise->caller);
    sn_pool_put_give_up(&reply, job->pool);
    sn_answer_end(job->jobs->mail, job->promise->client, &job->promise->caller, &reply);
    sn_job_drop(job);
}

static void on_over(struct sn_limit *limit)
{
    struct sn_job *job = SP_CONTAINER(limit, struct sn_job, limit);
    struct sp_call call = call_of(job);

    if (job->state == SN_JOB_TRYING)
        return; /* it had none from the start */
    if (job->state == SN_JOB_WAITING) {
        give_up_waiting(job);
        return;
    }
    sn_conn_disarm(job->conn, job->lease, &call);
    if (!sp_conn_enter(&job->conn->core, job->lease, &call)) {
        closed(job);
        return;
    }
    job->conn->core.tainted = true; /* nobody knows where in its stream it is */
    sp_conn_leave(&job->conn->core, &call);
    fail(job, SP_TIMEOUT);
}

static void on_task(struct sn_task *task)
{
    advance(SP_CONTAINER(task, struct sn_job, task));
}

static void on_ready(void *arg)
{
    advance(arg);
}

/* The answer comes later. SP_OK or SP_NO_MEMORY. */
static sp_status promise(struct sn_job *job, struct sn_client *client,
                         const struct sn_caller *caller, uint64_t timeout_ns)
{
    uint64_t now_ns = sn_loop_now_ns(job->jobs->loop);

    job->task.run = on_task;
    job->limit.over = on_over;
    job->promise = sn_promise_new(client, caller);
    if (!job->promise)
        return SP_NO_MEMORY;
    return sn_loop_limit(job->jobs->loop, &job->limit,
                         timeout_ns == SP_NEVER ? UINT64_MAX : now_ns + timeout_ns);
}

/* ---- sending ---- */

/* Within enter/leave, after any but SP_OK: goes on later, or says why not. */
static sp_status go_on_later(struct sn_job *job, sp_status status)
{
    if (status == SP_AGAIN) {
        sn_loop_later(job->jobs->loop, &job->task);
        return SP_OK;
    }
    if (sp_wants(status)) {
        status = sn_conn_arm(job->conn, job->lease, status, on_ready, job);
        if (status != SP_OK)
            job->conn->core.tainted = true;
    }
    return status;
}

static void all_sent(struct sn_job *job)
{
    if (!job->is_request) {
        answer(job, SP_OK);
        sn_job_rest(job);
        return;
    }
    sn_job_unkeep(job);
    job->state = SN_JOB_RECEIVING;
    receive(job);
}

/* A request's server may have said why. What is not there by now never comes. */
static void broken(struct sn_job *job, sp_status status)
{
    if (!job->is_request || status == SP_BUSY || status == SP_NO_MEMORY) {
        fail(job, status);
        return;
    }
    job->broken = status;
    all_sent(job);
}

static void send_on(struct sn_job *job)
{
    struct sp_call call = call_of(job);
    struct iovec iov = {job->kept, job->kept_len};
    sp_status status, later = SP_OK;

    sn_conn_disarm(job->conn, job->lease, &call);
    if (!sp_conn_enter(&job->conn->core, job->lease, &call)) {
        closed(job);
        return;
    }
    status = sn_conn_send(job->conn, &call, &iov, 1, &job->sent);
    if (status != SP_OK)
        later = go_on_later(job, status);
    sp_conn_leave(&job->conn->core, &call);
    if (status == SP_OK)
        all_sent(job);
    else if (later != SP_OK)
        broken(job, later);
}

static sp_status keep_rest(struct sn_job *job, const struct iovec iov[2], size_t sent)
{
    struct iovec rest[2];

    for (int i = 0; i < 2; i++) {
        size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;

        rest[i] = (struct iovec){(char *)iov[i].iov_base + skip, iov[i].iov_len - skip};
        sent -= skip;
    }
    return sn_job_keep(job, rest, 2);
}

/* The bytes with their header, from where they lie; the rest of them is kept. *later as it comes from
 * go_on_later(). */
static sp_status send_first(struct sn_job *job, const struct sp_call *call,
                            const struct iovec iov[2], sp_status *later)
{
    size_t sent = 0;
    sp_status status = sn_conn_send(job->conn, call, iov, 2, &sent);

    *later = status;
    if (status != SP_AGAIN && !sp_wants(status))
        return status;
    *later = keep_rest(job, iov, sent);
    if (*later == SP_OK)
        *later = go_on_later(job, status);
    else
        job->conn->core.tainted = true;
    job->state = SN_JOB_SENDING;
    return status;
}

/* Begins to send, for a call that was promised an answer. */
static void send_all(struct sn_job *job, enum sp_packet packet, struct sn_slice data)
{
    uint8_t header[SP_FRAME_HEADER_MAX];
    struct iovec iov[2] = {{header, 0}, {(void *)data.data, data.len}};
    struct sp_call call = call_of(job);
    sp_status status, later;

    if (!sp_conn_enter(&job->conn->core, job->lease, &call)) {
        closed(job);
        return;
    }
    later = sp_frame_header(packet, data.len, header, &iov[0].iov_len);
    status = later == SP_OK ? send_first(job, &call, iov, &later) : later;
    sp_conn_leave(&job->conn->core, &call);
    if (status == SP_OK)
        all_sent(job);
    else if (later != SP_OK)
        broken(job, later);
}

void sn_io_send(struct sn_job *job, struct sn_client *client, const struct sn_caller *caller,
                struct sn_slice data, uint64_t timeout_ns)
{
    sp_status status = promise(job, client, caller, timeout_ns);

    if (status == SP_OK && !sn_jobs_may_keep(job->jobs, client, data.len))
        status = -ENOBUFS;
    if (status == SP_OK) {
        send_all(job, job->conn->core.packet, data);
        return;
    }
    sn_answer_status(job->jobs->mail, client, caller, status);
    sn_job_rest(job);
}

/* ---- receiving ---- */

static void received(struct sn_job *job, const struct sp_received *received)
{
    sn_answer_bytes(job->jobs->mail, job->promise->client, &job->promise->caller, received->data,
                    received->len);
    sp_recv_taken(&job->conn->core, received);
}

/* A request that is through. Whatever else ended the lease meanwhile has the connection. */
static void finish(struct sn_job *job)
{
    struct sp_call call = call_of(job);
    sp_status status;

    if (!job->is_request) {
        sn_job_rest(job);
        return;
    }
    status = sp_pool_finish(core_of(job), &call, &job->conn->core, job->lease);
    (void)status;
    sn_job_end(job);
}

static void hold_up(struct sn_job *job)
{
    if (job->held_up)
        return;
    job->held_up = true;
    sp_list_push_newest(&job->promise->client->held_up, &job->in_held_up);
}

static void receive(struct sn_job *job)
{
    static uint8_t scratch[SP_FULL_RECV_BYTES];
    struct sp_call call = call_of(job);
    struct sp_conn *conn = &job->conn->core;
    struct sp_received message;
    sp_status status, later = SP_OK;

    sn_conn_disarm(job->conn, job->lease, &call);
    if (job->promise->client->out.congested) {
        hold_up(job);
        return;
    }
    if (!sp_conn_enter(conn, job->lease, &call)) {
        closed(job);
        return;
    }
    status = sp_recv(conn, &call, &job->want, scratch, sizeof scratch, &message);
    if (status == SP_OK)
        received(job, &message);
    else if (job->broken != SP_OK && status != SP_AGAIN)
        later = status >= SP_STATUS_TRANSPORT ? status : job->broken;
    else
        later = go_on_later(job, status);
    sp_conn_leave(conn, &call);
    if (status == SP_OK)
        finish(job);
    else if (later != SP_OK)
        fail(job, later);
}

void sn_io_recv(struct sn_job *job, struct sn_client *client, const struct sn_caller *caller,
                const struct sp_want *want, uint64_t timeout_ns)
{
    sp_status status = promise(job, client, caller, timeout_ns);

    if (status != SP_OK) {
        sn_answer_status(job->jobs->mail, client, caller, status);
        sn_job_rest(job);
        return;
    }
    job->want = *want;
    job->state = SN_JOB_RECEIVING;
    receive(job);
}

/* ---- waiting for a connection ---- */

static void on_told(struct sn_waiter *waiter, sp_status status, size_t sent)
{
    struct sn_job *job = waiter->arg;

    job->told = true;
    job->told_status = status;
    job->told_sent = sent;
    sn_loop_later(job->jobs->loop, &job->task);
}

static void has_connection(struct sn_job *job)
{
    if (job->errand) {
        sn_line_run(job);
    } else if (!job->is_request) {
        begin_lease(job, job->promise->client, &job->promise->caller);
    } else if (job->sent == job->kept_len) {
        all_sent(job);
    } else {
        job->state = SN_JOB_SENDING;
        send_on(job);
    }
}

static void hear(struct sn_job *job)
{
    struct sp_conn *conn;

    if (job->told_status != SP_OK || !sp_waiter_adopt(&job->waiter->core, &conn, &job->lease)) {
        answer(job, job->told_status != SP_OK ? job->told_status : SP_CLOSED);
        sn_job_drop(job);
        return;
    }
    job->waiter = NULL;
    job->conn = sn_conn_of(conn);
    job->sent = job->told_sent;
    has_connection(job);
}

/* A connection at once, or SP_EMPTY where it pays to wait for one, SP_AGAIN to try again; otherwise why
 * not. */
static sp_status try_checkout(struct sn_pool *pool, const struct sp_call *call, uint64_t timeout_ns,
                              struct sp_conn **conn, uint64_t *lease)
{
    void *keepsake;
    sp_status status = sp_pool_checkout(&pool->home.core, call, SN_OWNER, conn, lease, &keepsake);

    if (timeout_ns > 0)
        return status == SP_AGAIN ? SP_EMPTY : status;
    if (status != SP_EMPTY)
        return status;
    sp_pool_want(&pool->home.core, call);
    return SP_FULL;
}

static void try_again(struct sn_job *job)
{
    struct sp_call call = call_of(job);
    struct sp_conn *conn;
    sp_status status = try_checkout(job->pool, &call, 0, &conn, &job->lease);

    if (status == SP_AGAIN) {
        sn_loop_later(job->jobs->loop, &job->task);
        return;
    }
    if (status == SP_OK) {
        job->conn = sn_conn_of(conn);
        /* Whatever comes now, it has no time for that either. */
        status = sn_loop_limit(job->jobs->loop, &job->limit, call.now_ns);
    }
    if (status == SP_OK) {
        has_connection(job);
        return;
    }
    answer(job, status);
    sn_job_drop(job);
}

static void advance(struct sn_job *job)
{
    switch (job->state) {
    case SN_JOB_TRYING:
        try_again(job);
        return;
    case SN_JOB_WAITING:
        hear(job);
        return;
    case SN_JOB_SENDING:
        send_on(job);
        return;
    case SN_JOB_RECEIVING:
        receive(job);
        return;
    case SN_JOB_HELD:
        return;
    }
}

/* Queues the job, with the bytes that it keeps; or has it try again. */
static void enqueue(struct sn_job *job)
{
    struct sp_call call = call_of(job);
    struct iovec bytes = {job->kept, job->kept ? job->kept_len : 0};
    struct sn_waiter *waiter;
    sp_status status;

    if (job->state == SN_JOB_TRYING) {
        sn_loop_later(job->jobs->loop, &job->task);
        return;
    }
    waiter = sn_waiter_new(core_of(job), bytes, on_told, job);
    status = waiter ? SP_OK : SP_NO_MEMORY;
    job->state = SN_JOB_WAITING;
    job->waiter = waiter;
    if (waiter)
        status = sp_pool_enqueue(core_of(job), &call, &waiter->core);
    if (status == SP_OK)
        return;
    if (waiter)
        sn_face.waiter_free(&waiter->core);
    job->waiter = NULL;
    answer(job, status);
    sn_job_drop(job);
}

/* The job of a call that has a connection, or waits for one. NULL: it was answered. */
static struct sn_job *job_for(struct sn_jobs *jobs, struct sn_client *client,
                              const struct sn_caller *caller, struct sn_pool *pool,
                              struct sn_slice id, bool is_request, uint64_t timeout_ns)
{
    struct sp_call call = sn_loop_call(jobs->loop);
    struct sp_conn *conn = NULL;
    struct sn_job *job = NULL;
    uint64_t lease;
    sp_status status = try_checkout(pool, &call, timeout_ns, &conn, &lease);

    if (status == SP_OK || status == SP_EMPTY || status == SP_AGAIN) {
        job = sn_job_new(jobs, client, caller->pid, pool, id, is_request);
        if (job && status == SP_OK) {
            job->conn = sn_conn_of(conn);
            job->lease = lease;
        } else if (job && status == SP_AGAIN) {
            job->state = SN_JOB_TRYING;
        } else if (status == SP_OK) {
            (void)sp_pool_abandon(&pool->home.core, &call, conn, lease);
            sn_conn_unref(sn_conn_of(conn));
        }
        status = SP_NO_MEMORY;
    }
    if (!job)
        sn_answer_status(jobs->mail, client, caller, status);
    return job;
}

void sn_io_checkout(struct sn_jobs *jobs, struct sn_client *client, const struct sn_caller *caller,
                    struct sn_pool *pool, struct sn_slice id, uint64_t timeout_ns)
{
    struct sn_job *job = job_for(jobs, client, caller, pool, id, false, timeout_ns);

    if (!job)
        return;
    if (job->conn) {
        begin_lease(job, client, caller);
    } else if (promise(job, client, caller, timeout_ns) == SP_OK) {
        enqueue(job);
    } else {
        sn_answer_status(jobs->mail, client, caller, SP_NO_MEMORY);
        sn_job_drop(job);
    }
}

static sp_status keep_request(struct sn_job *job, struct sn_slice data)
{
    uint8_t header[SP_FRAME_HEADER_MAX];
    struct iovec iov[2] = {{header, 0}, {(void *)data.data, data.len}};
    sp_status status =
        sp_frame_header(job->pool->options.config.packet, data.len, header, &iov[0].iov_len);

    return status == SP_OK ? sn_job_keep(job, iov, 2) : status;
}

void sn_io_request(struct sn_jobs *jobs, struct sn_client *client, const struct sn_caller *caller,
                   struct sn_pool *pool, struct sn_slice id, struct sn_slice data,
                   const struct sp_want *want, uint64_t timeout_ns)
{
    const struct sp_config *config = &pool->options.config;
    uint8_t header[SP_FRAME_HEADER_MAX];
    size_t header_len;
    struct sn_job *job;
    sp_status status = sp_frame_header(config->packet, data.len, header, &header_len);

    /* Before a connection is taken: what cannot be done shall cost none. */
    if (status == SP_OK && want->len_bytes > config->recv_limit_bytes)
        status = SP_TOO_BIG;
    if (status == SP_OK && !sn_jobs_may_keep(jobs, client, data.len))
        status = -ENOBUFS;
    if (status != SP_OK) {
        sn_answer_status(jobs->mail, client, caller, status);
        return;
    }
    job = job_for(jobs, client, caller, pool, id, true, timeout_ns);
    if (!job)
        return;
    job->want = *want;
    job->want.last = true;
    status = promise(job, client, caller, timeout_ns);
    if (status == SP_OK && !job->conn)
        status = keep_request(job, data);
    if (status != SP_OK) {
        sn_answer_status(jobs->mail, client, caller, status);
        sn_job_drop(job);
    } else if (job->conn) {
        send_all(job, pool->options.config.packet, data);
    } else {
        enqueue(job);
    }
}

void sn_io_errand(struct sn_jobs *jobs, struct sn_client *client, const struct sn_caller *caller,
                  struct sn_pool *pool, struct sn_slice id, const struct sn_errand *errand,
                  uint64_t timeout_ns)
{
    struct sn_job *job = job_for(jobs, client, caller, pool, id, true, timeout_ns);

    if (!job)
        return;
    if (!sn_errand_keep(job, errand) || promise(job, client, caller, timeout_ns) != SP_OK) {
        sn_answer_status(jobs->mail, client, caller, SP_NO_MEMORY);
        sn_job_drop(job);
    } else if (job->conn) {
        sn_line_run(job);
    } else {
        enqueue(job);
    }
}

/* ---- leases that the core has ended ---- */

void sn_io_ended_leases(struct sn_pool *pool)
{
    struct sp_node *at, *next;

    for (at = pool->jobs.head.next; at != &pool->jobs.head; at = next) {
        struct sn_job *job = SP_CONTAINER(at, struct sn_job, in_pool);

        next = at->next;
        if (job->conn && job->conn->core.lease != job->lease)
            closed(job);
    }
}
