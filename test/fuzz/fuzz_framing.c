/* libFuzzer over sp_frame and sp_recv: whatever the framing and the bytes, in whatever pieces and budgets, the messages
 * and the error are the same, also through a connection's buffer; and what would be put before a message that is
 * sent is what was before the one that came. */
#include "core/conn/sp_recv.h"
#include "feed.h"

#include <stdlib.h>
#include <string.h>

#define SCRATCH_MAX 64

/* What comes in. */
static struct {
    const uint8_t *bytes;
    size_t left, piece;
} peer;

static sp_status take(struct sp_conn *conn, void *buf, size_t cap, size_t *got)
{
    size_t most = peer.piece < cap ? peer.piece : cap;

    (void)conn;
    *got = peer.left < most ? peer.left : most;
    memcpy(buf, peer.bytes, *got);
    peer.bytes += *got;
    peer.left -= *got;
    return *got > 0 ? SP_OK : SP_WANT_READ;
}

static bool rbuf_reserve(struct sp_conn *conn, size_t cap)
{
    uint8_t *base = realloc(conn->rbuf.base, cap);

    if (!base)
        abort();
    conn->rbuf.base = base;
    conn->rbuf.cap = cap;
    return true;
}

static const struct sp_transport transport = {.name = "peer", .recv = take};
static const struct sp_host host = {.rbuf_reserve = rbuf_reserve};

/* The last message may be known to be too big before anything of it has come: who receives looks then. */
static void receive(const struct sp_framing *framing, size_t limit, size_t scratch_cap,
                    const uint8_t *bytes, const struct story *story)
{
    struct sp_conn conn = {
        .transport = &transport, .host = &host, .framing = *framing, .recv_limit_bytes = limit};
    struct sp_allowance allowance = {0};
    struct sp_call call = {.allowance = &allowance};
    uint8_t *scratch = malloc(scratch_cap);
    const struct sp_want want = {.packet = true};
    struct sp_received received;
    sp_status status;
    size_t count = 0;

    for (;;) {
        allowance.left = (int)(count % 3);
        status = sp_recv(&conn, &call, &want, scratch, scratch_cap, &received);
        if (status == SP_AGAIN || (status == SP_WANT_READ && peer.left > 0))
            continue;
        if (status != SP_OK)
            break;
        if (count >= story->count || received.len != story->messages[count].len ||
            memcmp(received.data, bytes + story->messages[count].offset, received.len) != 0)
            abort();
        bytes += story->messages[count++].total;
        sp_recv_taken(&conn, &received);
    }
    if (count != story->count)
        abort();
    if (status != story->status && (bytes < peer.bytes || status != SP_WANT_READ))
        abort();
    free(scratch);
    free(conn.rbuf.base);
}

/* Of every message that came. */
static void assert_headers(const struct sp_framing *framing, const uint8_t *bytes,
                           const struct story *story)
{
    const struct sp_framing packed = sp_framing_unpack(sp_framing_pack(framing));
    uint8_t header[SP_FRAME_HEADER_MAX];
    size_t len;

    for (size_t i = 0; i < story->count; i++) {
        const struct sp_frame *frame = &story->messages[i];
        if (sp_frame_header(&packed, frame->len, header, &len) != SP_OK || len != frame->offset ||
            memcmp(header, bytes, len) != 0)
            abort();
        bytes += frame->total;
    }
}

static struct sp_framing with_length(const uint8_t *data)
{
    struct sp_framing framing = {.kind = SP_FRAMING_LENGTH,
                                 .offset = data[0],
                                 .bytes = 1 + data[1] % 8,
                                 .little = data[1] & 8,
                                 .strip = data[1] & 16,
                                 .adjust = (int8_t)data[2]};

    if (framing.strip)
        framing.offset = 0;
    if (data[1] & 32)
        framing.offset %= 8;
    if (data[1] & 64)
        framing.adjust = data[2] & 1 ? INT32_MAX : -INT32_MAX;
    return framing;
}

static struct sp_framing delimited(const uint8_t *data)
{
    struct sp_framing framing = {.kind = SP_FRAMING_DELIMITER,
                                 .delimiter_len = 1 + data[0] % SP_DELIMITER_MAX};

    for (unsigned i = 0; i < framing.delimiter_len; i++)
        framing.delimiter[i] = data[1 + i % 2];
    if (data[0] & 32)
        framing.delimiter[framing.delimiter_len - 1] = '\n';
    return framing;
}

static struct sp_framing framing_of(uint8_t kind, const uint8_t data[3])
{
    switch (kind % 5) {
    case 0:
        return with_length(data);
    case 1:
        return delimited(data);
    case 2:
        return (struct sp_framing){.kind = SP_FRAMING_FIXED, .fixed = 1 + data[0]};
    case 3:
        return (struct sp_framing){.kind = SP_FRAMING_RESP};
    default:
        return sp_framing_line();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct story story;
    uint8_t bytes[FEED_MAX];
    struct sp_framing framing;
    size_t limit, piece;

    if (len < 7)
        return 0;
    framing = framing_of(data[0], data + 1);
    limit = data[4] & 1 ? 1 + data[4] / 2u : 1000000;
    piece = 1 + data[5] % 16u;
    if (data[5] & 128)
        len = feed_resp(data + 7, len - 7, bytes);
    else
        memcpy(bytes, data + 7, len = len - 7 < FEED_MAX ? len - 7 : FEED_MAX);
    feed_every_way(&framing, limit, piece, 1 + data[6] % 64u, bytes, len, &story);
    assert_headers(&framing, bytes, &story);
    peer.bytes = bytes;
    peer.left = len;
    peer.piece = piece;
    receive(&framing, limit, 1 + data[6] % SCRATCH_MAX, bytes, &story);
    return 0;
}
