#include "sp_intake.h"

#include <stdlib.h>
#include <string.h>

/* Through so many bytes one call looks for the end of a message. */
#define SEARCH_BYTES (256 * 1024)

bool sp_intake_init(struct sp_intake *intake)
{
    *intake = (struct sp_intake){.buf = malloc(SP_INTAKE_BYTES)};
    return intake->buf != NULL;
}

void sp_intake_free(struct sp_intake *intake)
{
    free(intake->buf);
}

void sp_intake_reset(struct sp_intake *intake, const struct sp_host *host)
{
    if (intake->far.far)
        host->reply_free(&intake->far);
    *intake = (struct sp_intake){.buf = intake->buf};
}

bool sp_intake_is_empty(const struct sp_intake *intake)
{
    return intake->pos == intake->len && !intake->far.far;
}

static sp_status find(struct sp_intake *intake, struct sp_conn *conn, const struct sp_call *call,
                      const struct sp_want *want, const uint8_t *bytes, size_t len,
                      struct sp_frame *frame)
{
    size_t budget;
    sp_status status;

    if (!want->packet) {
        *frame = (struct sp_frame){.len = want->len_bytes, .total = want->len_bytes};
        return len < frame->total ? SP_WANT_READ : SP_OK;
    }
    do {
        budget = SEARCH_BYTES;
        status = sp_frame_next(&conn->framing, &intake->search, bytes, len, conn->recv_limit_bytes,
                               &budget, frame);
        sp_take(call, (int)((SEARCH_BYTES - budget) / SP_BYTES_SEARCHED_PER_PIECE));
    } while (status == SP_AGAIN && !sp_spent(call));
    return status;
}

/* The message outgrows the buffer. */
static sp_status go_far(struct sp_intake *intake, const struct sp_host *host)
{
    size_t have = intake->len - intake->pos;

    if (!host->reply_reserve(&intake->far, 2 * SP_INTAKE_BYTES))
        return SP_NO_MEMORY;
    memcpy(intake->far.far, intake->buf + intake->pos, have);
    intake->far_len = have;
    intake->pos = intake->len = 0;
    return SP_WANT_READ;
}

static sp_status next_far(struct sp_intake *intake, struct sp_conn *conn,
                          const struct sp_call *call, const struct sp_want *want,
                          struct sp_cut *cut)
{
    struct sp_frame frame;
    sp_status status = find(intake, conn, call, want, intake->far.far, intake->far_len, &frame);

    if (status == SP_WANT_READ)
        intake->needed = frame.total;
    if (status != SP_OK)
        return status;
    /* No more than one receive's, which the buffer has room for. */
    intake->pos = 0;
    intake->len = intake->far_len - frame.total;
    memcpy(intake->buf, intake->far.far + frame.total, intake->len);
    *cut = (struct sp_cut){.len = frame.len, .far = intake->far};
    cut->far.offset = frame.offset;
    cut->far.len = frame.len;
    intake->far = (struct sp_reply){.far = NULL};
    intake->search = (struct sp_search){0};
    return SP_OK;
}

sp_status sp_intake_next(struct sp_intake *intake, struct sp_conn *conn, const struct sp_call *call,
                         const struct sp_want *want, struct sp_cut *cut)
{
    const uint8_t *bytes = intake->buf + intake->pos;
    size_t have = intake->len - intake->pos;
    struct sp_frame frame;
    sp_status status;

    if (intake->far.far)
        return next_far(intake, conn, call, want, cut);
    if (have == 0)
        return SP_WANT_READ;
    status = find(intake, conn, call, want, bytes, have, &frame);
    if (status == SP_WANT_READ) {
        intake->needed = frame.total;
        return frame.total > SP_INTAKE_BYTES || have == SP_INTAKE_BYTES ? go_far(intake, conn->host)
                                                                        : status;
    }
    if (status != SP_OK)
        return status;
    *cut = (struct sp_cut){.near = bytes + frame.offset, .len = frame.len};
    if (frame.len > SP_REPLY_NEAR_BYTES) {
        if (!conn->host->reply_reserve(&cut->far, frame.len))
            return SP_NO_MEMORY;
        memcpy(cut->far.far, cut->near, frame.len);
        cut->far.len = frame.len;
        sp_take(call, sp_pieces_of_bytes(frame.len));
    }
    intake->pos += frame.total;
    if (conn->framing.kind == SP_FRAMING_DELIMITER || conn->framing.kind == SP_FRAMING_RESP)
        intake->search = (struct sp_search){0};
    return SP_OK;
}

/* Where a message's length is known, nothing behind it is asked for; elsewhere no more than the buffer has room for. */
static bool make_far_room(struct sp_intake *intake, const struct sp_conn *conn, size_t *room)
{
    bool open_end =
        conn->framing.kind == SP_FRAMING_DELIMITER || conn->framing.kind == SP_FRAMING_RESP;
    size_t cap = intake->far.far_cap, missing = intake->needed - intake->far_len;

    if (open_end && missing < SP_INTAKE_BYTES)
        missing = SP_INTAKE_BYTES;
    if (intake->far_len == cap) {
        cap = missing < cap ? cap + missing : 2 * cap;
        if (!conn->host->reply_reserve(&intake->far, cap))
            return false;
    }
    *room = cap - intake->far_len < missing ? cap - intake->far_len : missing;
    return true;
}

sp_status sp_intake_fill(struct sp_intake *intake, struct sp_conn *conn, const struct sp_call *call)
{
    uint8_t *to;
    size_t room, got;
    sp_status status;

    if (intake->far.far) {
        if (!make_far_room(intake, conn, &room))
            return SP_NO_MEMORY;
        to = intake->far.far + intake->far_len;
    } else {
        if (intake->pos > 0) {
            memmove(intake->buf, intake->buf + intake->pos, intake->len - intake->pos);
            intake->len -= intake->pos;
            intake->pos = 0;
        }
        to = intake->buf + intake->len;
        room = SP_INTAKE_BYTES - intake->len;
    }
    status = conn->transport->recv(conn, to, room, &got);
    sp_conn_settle(conn, call);
    if (status == SP_OK)
        conn->heard = true;
    intake->dry = got < room && got < SP_FULL_RECV_BYTES && conn->fault == SP_OK && !conn->more;
    conn->drained = intake->dry && conn->transport->short_is_all;
    if (intake->far.far)
        intake->far_len += got;
    else
        intake->len += got;
    return status;
}
