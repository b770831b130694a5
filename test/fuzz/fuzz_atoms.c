/* libFuzzer over sn_atoms_in and sn_atoms_out: frames with any headers, one after the other over one cache;
 * a good message that comes of one is the same after it was sent with numbers and taken again. */
#include "node/dist/sn_atoms_in.h"
#include "node/dist/sn_atoms_out.h"
#include "node/etf/sn_term.h"

#include <stdlib.h>
#include <string.h>

#define PLAIN_MAX 4096

/* The terms of a frame without numbers, each behind its version byte. */
struct plain {
    struct sn_slice control, payload;
};

struct both_ways {
    struct sn_atoms_in from_fuzzer, from_us;
    struct sn_atoms_out *to_node;
    struct sn_queue queue;
};

static sp_status take_by(struct sn_atoms_in *atoms, const uint8_t *frame, size_t len, size_t by)
{
    sp_status status = sn_atoms_in_begin(atoms, frame, len, PLAIN_MAX);
    size_t pieces;

    while (status == SP_OK || status == SP_AGAIN) {
        pieces = by;
        status = sn_atoms_in_go_on(atoms, &pieces);
        if (status == SP_OK)
            return SP_OK;
    }
    return status;
}

static void send_and_take(struct both_ways *ways, const struct plain *plain)
{
    const struct sn_slice none = {NULL, 0};
    struct iovec frame;

    if (sn_atoms_out_frame(ways->to_node, &ways->queue, plain->control, plain->payload, none) !=
            SP_OK ||
        sn_queue_front(&ways->queue, &frame, 1) != 1 || frame.iov_len != ways->queue.bytes ||
        take_by(&ways->from_us, (uint8_t *)frame.iov_base + 4, frame.iov_len - 4, 3) != SP_OK ||
        ways->from_us.len != 1 + plain->control.len + plain->payload.len ||
        memcmp(ways->from_us.plain + 1, plain->control.data, plain->control.len) != 0 ||
        (plain->payload.len && memcmp(ways->from_us.plain + 1 + plain->control.len,
                                      plain->payload.data, plain->payload.len) != 0))
        abort();
    sn_queue_written(&ways->queue, frame.iov_len);
}

static bool take_versioned(struct sn_slice *rest, struct sn_slice *term)
{
    size_t used;

    if (rest->len < 1 || rest->data[0] != 131 ||
        sn_term_check(rest->data + 1, rest->len - 1, &used) != SN_TERM_OK)
        return false;
    *term = (struct sn_slice){rest->data, 1 + used};
    rest->data += 1 + used;
    rest->len -= 1 + used;
    return true;
}

/* Whether both terms are good, and nothing else is there. */
static bool is_good(const struct sn_atoms_in *atoms, struct plain *plain)
{
    struct sn_slice rest = {atoms->plain + 1, atoms->len - 1};

    plain->payload = (struct sn_slice){NULL, 0};
    return take_versioned(&rest, &plain->control) &&
           (rest.len == 0 || take_versioned(&rest, &plain->payload)) && rest.len == 0;
}

/* Returns whether the connection goes on. */
static int take(struct both_ways *ways, const uint8_t *frame, size_t len)
{
    uint8_t *copy = malloc(len); /* so that a look past its end is seen */
    struct plain plain;
    sp_status status;

    memcpy(copy, frame, len);
    status = take_by(&ways->from_fuzzer, copy, len, 1 + len % 7);
    free(copy);
    if (status != SP_OK && status != SP_TOO_BIG)
        return 0;
    if (ways->from_fuzzer.len > PLAIN_MAX || ways->from_fuzzer.plain[0] != 112)
        abort();
    if (status == SP_OK && is_good(&ways->from_fuzzer, &plain))
        send_and_take(ways, &plain);
    return 1;
}

/* Frames behind a length of one byte each. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct both_ways ways = {.to_node = sn_atoms_out_new()};

    sn_queue_init(&ways.queue);
    while (len > 1) {
        size_t frame_len = data[0] < len - 1 ? data[0] : len - 1;

        if (frame_len == 0 || !take(&ways, data + 1, frame_len))
            break;
        data += 1 + frame_len;
        len -= 1 + frame_len;
    }
    sn_queue_free(&ways.queue);
    sn_atoms_in_free(&ways.from_fuzzer);
    sn_atoms_in_free(&ways.from_us);
    free(ways.to_node);
    return 0;
}
