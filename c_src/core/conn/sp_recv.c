#include "sp_recv.h"

#include <assert.h>
#include <string.h>

/* A buffer grows to this before the peer's claim of a length is believed further. */
#define RBUF_STEP (64 * 1024)
/* And from this on to the most that it may become: to grow means to copy, but the system gives no memory
 * for what was not touched yet. */
#define RBUF_LEAP (1024 * 1024)
/* By so many bytes the last receive of a call may overdraw its allowance: not to take crumbs. */
#define OVERDRAWN_BYTES (16 * 1024)
/* In so many bytes a message's end is looked for at once. */
#define SEARCH_BYTES (256 * 1024)

static sp_status next_packet(struct sp_conn *conn, const struct sp_call *call, const uint8_t *buf,
                             size_t len, struct sp_frame *frame)
{
    size_t budget = SEARCH_BYTES;
    sp_status status = sp_frame_next(&conn->framing, &conn->search, buf, len,
                                     conn->recv_limit_bytes, &budget, frame);

    sp_take(call, (int)((SEARCH_BYTES - budget) / SP_BYTES_SEARCHED_PER_PIECE));
    return status;
}

/* Where its messages end is looked for, so that nothing tells how long one will be. */
static bool is_searched(const struct sp_conn *conn)
{
    return conn->framing.kind == SP_FRAMING_DELIMITER || conn->framing.kind == SP_FRAMING_RESP;
}

static bool is_shown(const struct sp_conn *conn, const struct sp_want *want)
{
    return want->packet && conn->framing.kind == SP_FRAMING_FUN;
}

static sp_status next_shown(const struct sp_conn *conn, const struct sp_want *want, size_t len,
                            struct sp_frame *frame)
{
    size_t least = want->shown ? want->shown : 1;

    *frame = (struct sp_frame){.len = len, .total = least};
    if (least > conn->recv_limit_bytes)
        return SP_TOO_BIG;
    if (len < least)
        return SP_WANT_READ;
    frame->total = 0;
    return SP_OK;
}

/* SP_AGAIN: it has not looked at all that is there. */
static sp_status next_message(struct sp_conn *conn, const struct sp_call *call,
                              const struct sp_want *want, const uint8_t *buf, size_t len,
                              struct sp_frame *frame)
{
    if (is_shown(conn, want))
        return next_shown(conn, want, len, frame);
    if (want->packet && conn->framing.kind != SP_FRAMING_RAW)
        return next_packet(conn, call, buf, len, frame);
    *frame = (struct sp_frame){.len = want->len_bytes ? want->len_bytes : len};
    frame->total = frame->len ? frame->len : 1;
    return len < frame->total ? SP_WANT_READ : SP_OK;
}

/* How many bytes one receive may take: of a raw stream no more than were asked for, so that what
 * follows stays where the next validation sees it. With the last one of a lease this one sees it, at
 * no cost: one byte more, which does not come. */
static size_t ask(const struct sp_conn *conn, const struct sp_want *want, size_t have, size_t room)
{
    size_t missing = want->len_bytes - have;

    if (conn->framing.kind == SP_FRAMING_RAW && want->len_bytes && missing < room)
        return missing + (want->ends_lease && conn->transport->short_is_all);
    return room;
}

static sp_status broken(struct sp_conn *conn, sp_status status)
{
    sp_conn_taint(conn, sp_why_of(status));
    return status;
}

static sp_status keep(struct sp_conn *conn, const uint8_t *data, size_t len)
{
    if (len == 0)
        return SP_OK;
    if (!conn->host->rbuf_reserve(conn, len))
        return broken(conn, SP_NO_MEMORY);
    memcpy(conn->rbuf.base, data, len);
    conn->rbuf.pos = 0;
    conn->rbuf.len = len;
    return SP_OK;
}

static bool grow(struct sp_conn *conn, size_t total)
{
    const struct sp_host *host = conn->host;
    const struct sp_rbuf *rbuf = &conn->rbuf;
    size_t next = 2 * rbuf->cap > RBUF_STEP ? 2 * rbuf->cap : RBUF_STEP, most = total;

    if (is_searched(conn) || rbuf->shown)
        most = rbuf->pos + conn->recv_limit_bytes + SP_SLICE_BYTES;
    if (most <= next)
        return host->rbuf_reserve(conn, most);
    /* A message out of it may keep all of it. */
    if (rbuf->shown)
        return host->rbuf_reserve(conn, next);
    return (next > RBUF_LEAP && host->rbuf_reserve(conn, most)) || host->rbuf_reserve(conn, next);
}

static bool make_room(struct sp_conn *conn, const struct sp_want *want, size_t total)
{
    struct sp_rbuf *rbuf = &conn->rbuf;

    /* What would take long to move stays where it is. */
    if (rbuf->pos > 0 && rbuf->len - rbuf->pos <= SP_SLICE_BYTES && !rbuf->shown) {
        memmove(rbuf->base, rbuf->base + rbuf->pos, rbuf->len - rbuf->pos);
        rbuf->len -= rbuf->pos;
        rbuf->pos = 0;
    }
    total += rbuf->pos;
    if (rbuf->len < rbuf->cap)
        return true;
    if (want->len_bytes)
        return conn->host->rbuf_reserve(conn, total); /* the user's own claim */
    return grow(conn, total);
}

static sp_status take(struct sp_conn *conn, const struct sp_call *call, void *buf, size_t cap,
                      size_t *got)
{
    sp_status status = conn->transport->recv(conn, buf, cap, got);

    sp_conn_settle(conn, call);
    if (status == SP_OK)
        conn->heard = true;
    conn->drained = conn->transport->short_is_all && *got < cap && *got < SP_FULL_RECV_BYTES;
    return status;
}

/* How much of the room that the buffer has is still within the allowance. */
static size_t affordable(const struct sp_call *call, size_t room)
{
    size_t most = OVERDRAWN_BYTES;

    if (!sp_spent(call))
        most += (size_t)call->allowance->left * SP_BYTES_PER_PIECE;
    return room < most ? room : most;
}

static sp_status recv_buffered(struct sp_conn *conn, const struct sp_call *call,
                               const struct sp_want *want, struct sp_received *received)
{
    struct sp_rbuf *rbuf = &conn->rbuf;
    struct sp_frame frame;

    if (!rbuf->base && !make_room(conn, want, want->len_bytes))
        return broken(conn, SP_NO_MEMORY);
    for (bool first = true;; first = false) {
        size_t have = rbuf->len - rbuf->pos, got;
        sp_status status = next_message(conn, call, want, rbuf->base + rbuf->pos, have, &frame);
        if (status == SP_OK) {
            *received = (struct sp_received){.data = rbuf->base + rbuf->pos + frame.offset,
                                             .len = frame.len,
                                             .in_rbuf = true,
                                             .only_shown = is_shown(conn, want),
                                             .rbuf_taken = frame.total};
            return SP_OK;
        }
        if (status != SP_WANT_READ && status != SP_AGAIN)
            return broken(conn, status);
        if (!first && sp_spent(call))
            return SP_AGAIN;
        if (status == SP_AGAIN)
            continue;
        if (!make_room(conn, want, frame.total))
            return broken(conn, SP_NO_MEMORY);
        status = take(conn, call, rbuf->base + rbuf->len,
                      ask(conn, want, have, affordable(call, rbuf->cap - rbuf->len)), &got);
        if (status != SP_OK)
            return sp_wants(status) ? status : broken(conn, status);
        rbuf->len += got;
    }
}

static sp_status recv_scratch(struct sp_conn *conn, const struct sp_call *call,
                              const struct sp_want *want, uint8_t *scratch, size_t cap,
                              struct sp_received *received)
{
    size_t have = 0, got, asked;
    struct sp_frame frame;
    sp_status status, wants = SP_WANT_READ;
    bool more = false;

    do {
        asked = ask(conn, want, have, cap - have);
        status = take(conn, call, scratch + have, asked, &got);
        if (sp_wants(status)) {
            wants = status;
            more = false;
            break;
        }
        if (status != SP_OK)
            return broken(conn, status);
        have += got;
        status = next_message(conn, call, want, scratch, have, &frame);
        if (status == SP_OK) {
            *received = (struct sp_received){.data = scratch + frame.offset, .len = frame.len};
            return keep(conn, scratch + frame.total, have - frame.total);
        }
        if (status == SP_AGAIN) {
            more = true;
            break;
        }
        if (status != SP_WANT_READ)
            return broken(conn, status);
        /* A short receive has emptied the socket: the next would only say so. */
        more = got == asked || conn->fault != SP_OK || conn->more;
    } while (more && have < cap && !sp_spent(call));
    if (keep(conn, scratch, have) != SP_OK)
        return SP_NO_MEMORY;
    if (have == cap)
        return recv_buffered(conn, call, want, received);
    return more ? SP_AGAIN : wants;
}

sp_status sp_recv(struct sp_conn *conn, const struct sp_call *call, const struct sp_want *want,
                  uint8_t *scratch, size_t scratch_cap, struct sp_received *received)
{
    sp_status status;

    assert(scratch_cap <= SP_FULL_RECV_BYTES);
    if (want->len_bytes > conn->recv_limit_bytes)
        return SP_TOO_BIG;
    conn->touched = true;
    conn->drained = false;
    if (conn->rbuf.len > conn->rbuf.pos || want->len_bytes > scratch_cap || is_shown(conn, want))
        status = recv_buffered(conn, call, want, received);
    else
        status = recv_scratch(conn, call, want, scratch, scratch_cap, received);
    if (status == SP_OK)
        conn->unanswered = false;
    return status;
}

sp_status sp_recv_ahead(struct sp_conn *conn, const struct sp_call *call, size_t *taken)
{
    static const struct sp_want MESSAGE = {.packet = true};
    struct sp_rbuf *rbuf = &conn->rbuf;
    sp_status status = SP_OK;

    *taken = 0;
    while (status == SP_OK) {
        size_t have = rbuf->len - rbuf->pos, got;
        if (have >= conn->recv_limit_bytes)
            return SP_TOO_BIG;
        if (sp_spent(call))
            return SP_AGAIN;
        if (!make_room(conn, &MESSAGE, conn->recv_limit_bytes))
            return SP_NO_MEMORY;
        status =
            take(conn, call, rbuf->base + rbuf->len, affordable(call, rbuf->cap - rbuf->len), &got);
        if (status == SP_OK) {
            rbuf->len += got;
            *taken += got;
        }
    }
    return status;
}

void sp_recv_taken(struct sp_conn *conn, const struct sp_received *received)
{
    if (is_searched(conn))
        conn->search = (struct sp_search){0};
    conn->rbuf.pos += received->rbuf_taken;
    if (conn->rbuf.pos == conn->rbuf.len && conn->rbuf.shown)
        conn->host->rbuf_free(conn);
    else if (conn->rbuf.pos == conn->rbuf.len)
        conn->rbuf.pos = conn->rbuf.len = 0;
}

static void make_printable(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] < ' ' || text[i] > '~' || text[i] == '"' || text[i] == '\\')
            text[i] = '.';
}

bool sp_recv_words(struct sp_conn *conn)
{
    const struct sp_rbuf *rbuf = &conn->rbuf;
    char *text = conn->words.text;
    size_t len, got;

    if (sp_is_node(conn->transport) || sp_is_worker(conn->transport))
        return false;
    len = rbuf->len - rbuf->pos;
    if (len > SP_WORDS_MAX)
        len = SP_WORDS_MAX;
    if (len > 0)
        memcpy(text, rbuf->base + rbuf->pos, len);
    while (len < SP_WORDS_MAX &&
           conn->transport->recv(conn, text + len, SP_WORDS_MAX - len, &got) == SP_OK)
        len += got;
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        len--;
    make_printable(text, len);
    text[len] = 0;
    return len > 0;
}
