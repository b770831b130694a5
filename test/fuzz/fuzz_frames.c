/* libFuzzer over sn_reader: the stream in pieces of any size comes to the same frames as the stream in
 * one piece, no frame exceeds the cap, and no message reaches past its frame. */
#include "sn_reader.h"

#include <stdlib.h>
#include <string.h>

#define FRAME_MAX 300

static const struct sn_term_limits LIMITS = {.bytes = FRAME_MAX, .depth = 8, .terms = 100};

struct summary {
    uint64_t hash, frames;
    sp_status status;
};

static void add(struct summary *summary, uint64_t number)
{
    summary->hash = (summary->hash ^ number) * UINT64_C(0x100000001b3);
}

static void look(struct summary *summary, const uint8_t *frame, size_t len)
{
    struct sn_message message;
    uint8_t *copy = malloc(len ? len : 1); /* so that a look past its end is seen */

    if (len > FRAME_MAX)
        abort();
    memcpy(copy, frame, len);
    summary->frames++;
    add(summary, len);
    if (sn_message_open(copy, len, &LIMITS, &message) == SN_TERM_OK) {
        if (1 + message.control_len + message.payload_len > len ||
            (message.payload && message.payload + message.payload_len != copy + len))
            abort();
        add(summary, message.control_len);
        add(summary, message.payload_result);
    }
    free(copy);
}

static void run(struct summary *summary, const uint8_t *data, size_t len, size_t piece)
{
    struct sn_reader reader;
    const uint8_t *frame;
    uint8_t *space;
    size_t room, frame_len;

    *summary = (struct summary){.status = SP_WANT_READ};
    sn_reader_init(&reader, FRAME_MAX);
    for (size_t at = 0; at < len && summary->status == SP_WANT_READ; at += room) {
        if (sn_reader_space(&reader, &space, &room) != SP_OK || room == 0)
            abort();
        room = room < piece ? room : piece;
        room = room < len - at ? room : len - at;
        memcpy(space, data + at, room);
        sn_reader_filled(&reader, room);
        while ((summary->status = sn_reader_next(&reader, &frame, &frame_len)) == SP_OK)
            look(summary, frame, frame_len);
    }
    sn_reader_free(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct summary whole, pieces;

    if (len == 0)
        return 0;
    run(&whole, data + 1, len - 1, SIZE_MAX);
    run(&pieces, data + 1, len - 1, 1 + data[0]);
    if (whole.hash != pieces.hash || whole.frames != pieces.frames || whole.status != pieces.status)
        abort();
    return 0;
}
