/* libFuzzer over sn_reader and sn_message: the stream in pieces of any size comes to the same frames as the
 * stream in one piece, and each frame opened in pieces to the same message; no frame exceeds the cap, and no
 * message reaches past its frame. */
#include "node/dist/sn_message.h"
#include "node/dist/sn_reader.h"

#include <stdlib.h>
#include <string.h>

#define FRAME_MAX 300

struct summary {
    uint64_t hash, frames;
    sp_status status;
};

static void add(struct summary *summary, uint64_t number)
{
    summary->hash = (summary->hash ^ number) * UINT64_C(0x100000001b3);
}

static void add_slice(struct summary *summary, struct sn_slice slice, const uint8_t *frame,
                      size_t len)
{
    if (!slice.data)
        return;
    if (slice.data < frame || slice.data + slice.len > frame + len)
        abort();
    add(summary, (uint64_t)(slice.data - frame));
    add(summary, slice.len);
}

static void add_message(struct summary *summary, const struct sn_message *message,
                        const uint8_t *frame, size_t len)
{
    const struct sn_request *request = &message->request;

    add(summary, message->kind);
    add(summary, message->result);
    for (int i = 1; message->kind == SN_MESSAGE_CONTROL && i < SN_CONTROL_PARTS; i++)
        add_slice(summary, message->control[i], frame, len);
    add_slice(summary, message->target, frame, len);
    add_slice(summary, message->from, frame, len);
    if (message->kind < SN_MESSAGE_CALL || message->result != SN_TERM_OK)
        return;
    add_slice(summary, request->term, frame, len);
    add(summary, request->all_terms);
    for (int i = 0; i < request->arity && i < SN_SLICE_PARTS_MAX; i++) {
        add_slice(summary, request->parts[i], frame, len);
        add(summary, sn_request_is_proper_list(request, i));
    }
}

static void look(struct summary *summary, const uint8_t *frame, size_t len, bool is_cut,
                 size_t pieces_each)
{
    static struct sn_opening opening;
    uint8_t *copy = malloc(len ? len : 1); /* so that a look past its end is seen */
    enum sn_term_result result;
    size_t pieces;

    if (len > FRAME_MAX)
        abort();
    memcpy(copy, frame, len);
    summary->frames++;
    add(summary, len);
    sn_message_begin(&opening, copy, len, is_cut);
    do {
        pieces = pieces_each;
        result = sn_message_go_on(&opening, &pieces);
    } while (result == SN_TERM_AGAIN);
    add(summary, result);
    if (result == SN_TERM_OK)
        add_message(summary, &opening.message, copy, len);
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
        while ((summary->status = sn_reader_next(&reader, &frame, &frame_len)) != SP_WANT_READ)
            look(summary, frame, frame_len, summary->status == SP_TOO_BIG, piece);
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
