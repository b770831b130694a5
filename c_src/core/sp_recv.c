#include "sp_recv.h"

#include "sp_pool.h"

#include <assert.h>
#include <string.h>

/* A buffer grows to this before the peer's claim of a length is believed further. */
#define RBUF_STEP (64 * 1024)
#define SLICES_MAX 2

static sp_status next_message(struct sp_conn *conn, const struct sp_want *want, const uint8_t *buf,
                              size_t len, struct sp_frame *frame)
{
    sp_status status;

    if (want->packet && conn->packet != SP_PACKET_RAW) {
        status = sp_frame_next(conn->packet, buf, len, conn->rbuf.searched, conn->recv_limit_bytes,
                               frame);
        conn->rbuf.searched = status == SP_WANT_READ ? len : 0;
        return status;
    }
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

    if (conn->packet == SP_PACKET_RAW && want->len_bytes && missing < room)
        return missing + (want->last && conn->transport->short_is_all);
    return room;
}

static sp_status broken(struct sp_conn *conn, sp_status status)
{
    conn->tainted = true;
    return status;
}

static sp_status keep(struct sp_conn *conn, const uint8_t *data, size_t len)
{
    if (len == 0)
        return SP_OK;
    if (!conn->pool->host->rbuf_reserve(conn, len))
        return broken(conn, SP_NO_MEMORY);
    memcpy(conn->rbuf.base, data, len);
    conn->rbuf.pos = 0;
    conn->rbuf.len = len;
    return SP_OK;
}

static bool make_room(struct sp_conn *conn, const struct sp_want *want, size_t total)
{
    struct sp_rbuf *rbuf = &conn->rbuf;
    size_t cap;

    if (rbuf->pos > 0) {
        memmove(rbuf->base, rbuf->base + rbuf->pos, rbuf->len - rbuf->pos);
        rbuf->len -= rbuf->pos;
        rbuf->pos = 0;
    }
    if (rbuf->len < rbuf->cap)
        return true;
    cap = 2 * rbuf->cap > RBUF_STEP ? 2 * rbuf->cap : RBUF_STEP;
    if (conn->packet == SP_PACKET_RAW && want->len_bytes)
        cap = total; /* the user's own claim */
    else if (total < cap && conn->packet != SP_PACKET_LINE)
        cap = total;
    return conn->pool->host->rbuf_reserve(conn, cap);
}

static sp_status take(struct sp_conn *conn, void *buf, size_t cap, size_t *got)
{
    sp_status status = conn->transport->recv(conn, buf, cap, got);

    if (status == SP_OK)
        conn->heard = true;
    conn->drained = conn->transport->short_is_all && *got < cap && *got < SP_FULL_RECV_BYTES;
    return status;
}

static sp_status recv_buffered(struct sp_conn *conn, const struct sp_want *want,
                               struct sp_received *received)
{
    struct sp_rbuf *rbuf = &conn->rbuf;
    struct sp_frame frame;

    if (!rbuf->base && !make_room(conn, want, want->len_bytes))
        return broken(conn, SP_NO_MEMORY);
    for (int slices = 0;; slices++) {
        size_t have = rbuf->len - rbuf->pos, got;
        sp_status status = next_message(conn, want, rbuf->base + rbuf->pos, have, &frame);
        if (status == SP_OK) {
            *received = (struct sp_received){.data = rbuf->base + rbuf->pos + frame.offset,
                                             .len = frame.len,
                                             .in_rbuf = true,
                                             .rbuf_taken = frame.total};
            return SP_OK;
        }
        if (status != SP_WANT_READ)
            return broken(conn, status);
        if (slices == SLICES_MAX)
            return SP_AGAIN;
        if (!make_room(conn, want, frame.total))
            return broken(conn, SP_NO_MEMORY);
        status =
            take(conn, rbuf->base + rbuf->len, ask(conn, want, have, rbuf->cap - rbuf->len), &got);
        if (status != SP_OK)
            return sp_wants(status) ? status : broken(conn, status);
        rbuf->len += got;
    }
}

static sp_status recv_scratch(struct sp_conn *conn, const struct sp_want *want, uint8_t *scratch,
                              size_t cap, struct sp_received *received)
{
    size_t have = 0, got, asked;
    struct sp_frame frame;
    sp_status status, wants = SP_WANT_READ;

    do {
        asked = ask(conn, want, have, cap - have);
        status = take(conn, scratch + have, asked, &got);
        if (sp_wants(status)) {
            wants = status;
            break;
        }
        if (status != SP_OK)
            return broken(conn, status);
        have += got;
        status = next_message(conn, want, scratch, have, &frame);
        if (status == SP_OK) {
            *received = (struct sp_received){.data = scratch + frame.offset, .len = frame.len};
            return keep(conn, scratch + frame.total, have - frame.total);
        }
        if (status != SP_WANT_READ)
            return broken(conn, status);
        /* A short receive has emptied the socket: the next would only say so. */
    } while ((got == asked || conn->fault != SP_OK) && have < cap);
    if (keep(conn, scratch, have) != SP_OK)
        return SP_NO_MEMORY;
    return have == cap ? recv_buffered(conn, want, received) : wants;
}

sp_status sp_recv(struct sp_conn *conn, const struct sp_want *want, uint8_t *scratch,
                  size_t scratch_cap, struct sp_received *received)
{
    assert(scratch_cap <= SP_FULL_RECV_BYTES);
    if (!want->packet && want->len_bytes && conn->packet != SP_PACKET_RAW)
        return SP_BAD_LENGTH;
    if (want->len_bytes > conn->recv_limit_bytes)
        return SP_TOO_BIG;
    conn->touched = true;
    conn->drained = false;
    if (conn->rbuf.len > conn->rbuf.pos || want->len_bytes > scratch_cap)
        return recv_buffered(conn, want, received);
    return recv_scratch(conn, want, scratch, scratch_cap, received);
}

void sp_recv_taken(struct sp_conn *conn, const struct sp_received *received)
{
    conn->rbuf.searched = 0;
    conn->rbuf.pos += received->rbuf_taken;
    if (conn->rbuf.pos == conn->rbuf.len)
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
    size_t len = rbuf->len - rbuf->pos, got;

    if (conn->transport->node)
        return false;
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
