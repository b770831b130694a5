#include "sn_piped.h"

#include "sn_answer.h"
#include "sn_session_end.h"
#include "node/pool/sn_pool_term.h"
#include "core/pool/sp_lease.h"
#include "core/pool/sp_piped.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct sp_pool *core_of(const struct sn_session *session)
{
    return &session->pool->hosted.core;
}

/* ---- the ends ---- */

static void answer(const struct sn_session *session, sp_status status)
{
    sn_answer_status(session->sessions->outbox, session->promise->client, &session->promise->caller,
                     status);
}

static void answer_bytes(const struct sn_session *session, const void *bytes, size_t len)
{
    sn_answer_bytes(session->sessions->outbox, session->promise->client, &session->promise->caller,
                    bytes, len);
}

/* There is no place for it. */
static void refuse(const struct sn_session *session, sp_status status)
{
    sn_answer_refusal(session->sessions->outbox, session->promise->client,
                      &session->promise->caller, session->pool, status);
}

/* It has not got as far as a server. */
static void answer_give_up(const struct sn_session *session)
{
    struct sn_writer reply =
        sn_outbox_begin_reply(session->sessions->outbox, &session->promise->caller);

    sn_pool_put_give_up(&reply, session->pool);
    sn_answer_end(session->sessions->outbox, session->promise->client, &session->promise->caller,
                  &reply);
}

static void on_over(struct sn_limit *limit)
{
    struct sn_session *session = SP_CONTAINER(limit, struct sn_session, limit);
    struct sp_call call = sn_loop_call(session->sessions->loop);
    bool unsent;

    if (session->state == SN_SESSION_TRYING)
        return; /* it had none from the start */
    unsent = session->state == SN_SESSION_PIPED
                 ? sp_waiter_cancel(&session->waiter->core, &call) == SP_CANCELLED
                 : session->told_status == SP_AGAIN;
    if (unsent)
        answer_give_up(session);
    else
        answer(session, SP_TIMEOUT);
    sn_session_drop(session);
}

/* ---- what the core tells; it may not be called from here ---- */

/* SP_OK, or why not. */
static sp_status keep_reply(struct sn_session *session, struct sp_reply *reply)
{
    size_t len = reply->offset + reply->len;
    uint8_t *bytes;

    sn_session_unkeep(session);
    if (!sn_sessions_may_keep(session->sessions, session->owner->client, len))
        return -ENOBUFS;
    if (reply->far)
        bytes = len < reply->far_cap ? realloc(reply->far, len ? len : 1) : reply->far;
    else
        bytes = malloc(len ? len : 1);
    if (!bytes)
        return SP_NO_MEMORY;
    if (!reply->far)
        memcpy(bytes, reply->bytes, len);
    reply->far = NULL;
    session->kept = bytes;
    session->kept_len = len;
    session->sent = reply->offset;
    sn_session_count_kept(session, len, 0);
    return SP_OK;
}

/* Others' replies come behind it on that connection: it cannot be left there, as that of a lease is. */
static sp_status hold_up(struct sn_session *session, struct sp_reply *reply)
{
    sp_status status = keep_reply(session, reply);

    if (status != SP_OK)
        return status;
    sn_session_become(session, SN_SESSION_REPLIED);
    session->told_status = SP_OK;
    sn_session_hold_up(session);
    return SP_OK;
}

static void on_replied(struct sn_waiter *waiter, sp_status status, struct sp_reply *reply)
{
    struct sn_session *session = waiter->arg;

    session->waiter = NULL;
    sp_waiter_unref(&waiter->core);
    if (status == SP_AGAIN) {
        sn_session_become(session, SN_SESSION_REPLIED);
        session->told_status = SP_AGAIN;
        sn_loop_defer(session->sessions->loop, &session->task);
        return;
    }
    if (status == SP_OK && session->promise->client->out.congested) {
        status = hold_up(session, reply);
        if (status == SP_OK)
            return;
        answer(session, status);
    } else if (status == SP_OK) {
        answer_bytes(session, (reply->far ? reply->far : reply->bytes) + reply->offset, reply->len);
    } else {
        refuse(session, status);
    }
    if (reply && reply->far)
        sn_uv_host.reply_free(reply);
    sn_session_end(session);
}

/* It has got no place. */
static void on_told(struct sn_waiter *waiter, sp_status status, size_t sent)
{
    (void)sent;
    on_replied(waiter, status, NULL);
}

/* ---- its beginning ---- */

/* One that would not wait, and has a place. */
static void has_no_time(struct sn_session *session, uint64_t now_ns)
{
    sp_status status = sn_loop_limit(session->sessions->loop, &session->limit, now_ns);

    if (status == SP_OK)
        return;
    answer(session, status);
    sn_session_drop(session);
}

/* SP_OK: it has a place, or waits for one, or is over by now. SP_AGAIN: to be tried again. */
static sp_status put(struct sn_session *session, struct sn_waiter *waiter)
{
    struct sp_call call = sn_loop_call(session->sessions->loop);
    bool may_linger;
    sp_status status = sp_piped_request_asleep(core_of(session), &call, &waiter->core, &may_linger);

    if (status == SP_OK) {
        if (may_linger)
            sn_pool_linger(session->pool);
        sn_session_become(session, SN_SESSION_PIPED);
        if (!session->would_wait)
            has_no_time(session, call.now_ns);
        return SP_OK;
    }
    if (status != SP_EMPTY && status != SP_AGAIN)
        return status;
    if (session->would_wait) {
        sn_session_become(session, SN_SESSION_PIPED);
        return sp_pool_enqueue(core_of(session), &call, &waiter->core);
    }
    return status == SP_EMPTY ? sp_pool_want(core_of(session), &call) : SP_AGAIN;
}

static void begin(struct sn_session *session)
{
    struct iovec bytes = {session->kept, session->kept_len};
    struct sn_waiter *waiter =
        sn_waiter_piped(core_of(session), bytes, &session->want, on_told, on_replied, session);
    sp_status status = SP_NO_MEMORY;

    session->waiter = waiter;
    if (waiter)
        status = put(session, waiter);
    if (status == SP_OK)
        return;
    if (waiter)
        sn_uv_host.waiter_free(&waiter->core);
    if (status == SP_AGAIN) {
        sn_loop_defer(session->sessions->loop, &session->task);
        return;
    }
    refuse(session, status);
    sn_session_end(session);
}

static void on_task(struct sn_task *task)
{
    struct sn_session *session = SP_CONTAINER(task, struct sn_session, task);

    if (session->state == SN_SESSION_TRYING || session->told_status == SP_AGAIN) {
        begin(session);
    } else if (session->promise->client->out.congested) {
        sn_session_hold_up(session);
    } else {
        answer_bytes(session, session->kept + session->sent, session->kept_len - session->sent);
        sn_session_end(session);
    }
}

bool sn_piped_takes(struct sn_pool *pool, const struct iovec pieces[2])
{
    size_t len = pieces[0].iov_len + pieces[1].iov_len;

    /* Of one without bytes nobody could tell whether it is out. */
    return sp_pool_has_pipes(&pool->hosted.core) && len > 0 &&
           !sp_piped_is_too_long(&pool->hosted.core, len);
}

void sn_piped_request(struct sn_sessions *sessions, struct sn_client *client,
                      const struct sn_caller *caller, struct sn_pool *pool, struct sn_slice id,
                      const struct iovec pieces[2], const struct sp_want *want, uint64_t timeout_ns)
{
    struct sn_session *session = sn_session_new(sessions, client, caller->pid, pool, id, true);

    if (!session) {
        sn_answer_status(sessions->outbox, client, caller, SP_NO_MEMORY);
        return;
    }
    session->want = *want;
    session->would_wait = timeout_ns > 0;
    session->task.run = on_task;
    session->limit.over = on_over;
    if (sn_session_promise(session, client, caller, timeout_ns) == SP_OK &&
        sn_session_keep(session, pieces, 2) == SP_OK) {
        begin(session);
        return;
    }
    sn_answer_status(sessions->outbox, client, caller, SP_NO_MEMORY);
    sn_session_end(session);
}
