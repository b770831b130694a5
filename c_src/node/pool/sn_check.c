#include "sn_check.h"

#include "core/conn/sp_recv.h"

#include <stdlib.h>
#include <string.h>

static struct sp_call call_of(const struct sn_check *check)
{
    return sn_loop_call(check->hosted->loop);
}

static void check_free(struct sn_check *check)
{
    sn_loop_unlimit(check->hosted->loop, &check->limit);
    sn_loop_drop(&check->task);
    sp_list_remove(&check->node);
    sn_conn_unref(check->conn);
    free(check);
}

static void end(struct sn_check *check, struct sn_reason reason)
{
    check->ended(check, reason);
    check_free(check);
}

static void fail(struct sn_check *check, struct sn_reason reason)
{
    struct sp_call call = call_of(check);

    sn_conn_disarm(check->conn, check->lease, &call);
    sp_check_failed(&check->hosted->core, &call, &check->conn->core, check->lease);
    end(check, reason);
}

static void pass(struct sn_check *check)
{
    struct sp_call call = call_of(check);
    sp_status status =
        sp_check_passed(&check->hosted->core, &call, &check->conn->core, check->lease);

    end(check, status == SP_OK       ? (struct sn_reason){0}
               : status == SP_UNREAD ? (struct sn_reason){.word = "unread_bytes"}
                                     : sn_reason_of(status));
}

void sn_check_abort(struct sn_check *check)
{
    struct sp_call call = call_of(check);

    sn_conn_disarm(check->conn, check->lease, &call);
    sp_check_failed(&check->hosted->core, &call, &check->conn->core, check->lease);
    check_free(check);
}

/* ---- the answer ---- */

/* Whether more of it may make it right. */
static bool may_become(const struct sn_check *check)
{
    const struct sn_bytes *expect = &check->how.expect;

    return check->answered < expect->len &&
           memcmp(check->answer, expect->bytes, check->answered) == 0;
}

static bool is_right(const struct sn_check *check, const uint8_t *answer, size_t len)
{
    const struct sn_bytes *expect = &check->how.expect;

    return (check->how.is_prefix ? len >= expect->len : len == expect->len) &&
           memcmp(answer, expect->bytes, expect->len) == 0;
}

/* In pieces, where messages have no end that is known. SP_AGAIN: there is more to come. */
static sp_status take_piece(struct sn_check *check, const uint8_t *piece, size_t len)
{
    size_t room = sizeof check->answer - check->answered, kept = len < room ? len : room;

    memcpy(check->answer + check->answered, piece, kept);
    check->answered += kept;
    if (may_become(check))
        return SP_AGAIN;
    return is_right(check, check->answer, check->answered + (len - kept)) ? SP_OK : SP_BAD_DATA;
}

static sp_status receive(struct sn_check *check, const struct sp_call *call)
{
    static uint8_t scratch[SP_FULL_RECV_BYTES];
    struct sp_conn *conn = &check->conn->core;
    bool is_raw = conn->framing.kind == SP_FRAMING_RAW;
    struct sp_want want = {.packet = !is_raw};
    struct sp_received message;
    sp_status status = sp_recv(conn, call, &want, scratch, sizeof scratch, &message);

    if (status != SP_OK)
        return status;
    if (is_raw)
        status = take_piece(check, message.data, message.len);
    else
        status = is_right(check, message.data, message.len) ? SP_OK : SP_BAD_DATA;
    sp_recv_taken(conn, &message);
    return status;
}

/* ---- all of it ---- */

static void go_on(struct sn_check *check);

static void on_ready(void *arg)
{
    go_on(arg);
}

static void on_task(struct sn_task *task)
{
    go_on(SP_CONTAINER(task, struct sn_check, task));
}

static void on_over(struct sn_limit *limit)
{
    fail(SP_CONTAINER(limit, struct sn_check, limit), sn_reason_of(SP_TIMEOUT));
}

/* Within enter/leave: as far as it goes. SP_BAD_DATA: that is not the answer. */
static sp_status advance(struct sn_check *check, const struct sp_call *call)
{
    struct iovec iov = {check->out + check->sent, check->out_len - check->sent};
    sp_status status = SP_OK;
    size_t sent = 0;

    if (iov.iov_len > 0) {
        status = sn_conn_send(check->conn, call, &iov, 1, &sent);
        check->sent += sent;
    }
    if (status == SP_OK)
        status = receive(check, call);
    if (sp_wants(status)) {
        sp_status armed = check->sent < check->out_len && status == SP_WANT_WRITE
                              ? sn_conn_arm_to_send(check->conn, check->lease, on_ready, check)
                              : sn_conn_arm(check->conn, check->lease, status, on_ready, check);
        return armed == SP_OK ? status : armed;
    }
    return status;
}

static void go_on(struct sn_check *check)
{
    struct sp_call call = call_of(check);
    sp_status status;

    sn_conn_disarm(check->conn, check->lease, &call);
    if (!sp_conn_enter(&check->conn->core, check->lease, &call)) {
        end(check, sn_reason_of(SP_CLOSED));
        return;
    }
    status = advance(check, &call);
    sp_conn_leave(&check->conn->core, &call);
    if (status == SP_OK)
        pass(check);
    else if (status == SP_AGAIN)
        sn_loop_defer(check->hosted->loop, &check->task);
    else if (status == SP_BAD_DATA)
        fail(check, (struct sn_reason){.word = "unexpected"});
    else if (!sp_wants(status))
        fail(check, sn_reason_of_conn(&check->conn->core, status));
}

static sp_status prepare(struct sn_check *check)
{
    struct sp_call call = call_of(check);
    const struct sn_bytes *send = &check->how.send;
    size_t header_len;
    sp_status status =
        sp_frame_header(&check->conn->core.framing, send->len, check->out, &header_len);

    if (status == SP_OK)
        status =
            sn_loop_limit(check->hosted->loop, &check->limit, call.now_ns + check->how.timeout_ns);
    if (status != SP_OK)
        return status;
    memcpy(check->out + header_len, send->bytes, send->len);
    check->out_len = header_len + send->len;
    sp_conn_sends(&check->conn->core);
    return SP_OK;
}

static void skip(struct sn_hosted_pool *hosted, const struct sp_check *made)
{
    struct sp_call call = sn_loop_call(hosted->loop);

    sp_check_skipped(&hosted->core, &call, made->conn, made->lease);
}

void sn_check_start(struct sn_hosted_pool *hosted, const struct sn_health *how,
                    const struct sp_check *made, struct sp_list *list,
                    void (*ended)(struct sn_check *check, struct sn_reason reason))
{
    struct sn_check *check = calloc(1, sizeof *check);
    sp_status status;

    if (!check) {
        skip(hosted, made);
        sn_conn_unref(sn_conn_of(made->conn));
        return;
    }
    check->hosted = hosted;
    check->ended = ended;
    check->conn = sn_conn_of(made->conn);
    check->lease = made->lease;
    check->limit.over = on_over;
    check->task.run = on_task;
    check->how = *how;
    atomic_store(&made->conn->owner, SN_CORE_OWNER);
    sp_list_push_newest(list, &check->node);
    status = prepare(check);
    if (status == SP_OK) {
        go_on(check);
    } else if (status == SP_NO_MEMORY) {
        skip(hosted, made);
        check_free(check);
    } else {
        fail(check, sn_reason_of(status));
    }
}
