/* libFuzzer over sn_atoms_in and sn_atoms_out: frames with any headers, one after the other over one cache;
 * a good message that comes of one is the same after it was sent with numbers and taken again. */
#include "sn_atoms_in.h"
#include "sn_atoms_out.h"
#include "sn_reader.h"

#include <stdlib.h>
#include <string.h>

#define PLAIN_MAX 4096

static const struct sn_term_limits LIMITS = {.bytes = PLAIN_MAX, .depth = 16, .terms = 1000};

struct both_ways {
    struct sn_atoms_in from_fuzzer, from_us;
    struct sn_atoms_out *to_node;
    struct sn_queue queue;
};

static void send_and_take(struct both_ways *ways, const struct sn_message *message)
{
    const struct sn_slice control = {message->control, message->control_len},
                          payload = {message->payload, message->payload_len}, none = {NULL, 0};
    const uint8_t *plain;
    struct iovec frame;
    size_t plain_len;

    if (sn_atoms_out_frame(ways->to_node, &ways->queue, control, payload, none) != SP_OK ||
        sn_queue_front(&ways->queue, &frame, 1) != 1 || frame.iov_len != ways->queue.bytes ||
        sn_atoms_in_take(&ways->from_us, (uint8_t *)frame.iov_base + 4, frame.iov_len - 4,
                         PLAIN_MAX, &plain, &plain_len) != SP_OK ||
        plain_len != 1 + control.len + payload.len ||
        memcmp(plain + 1, control.data, control.len) != 0 ||
        (payload.len && memcmp(plain + 1 + control.len, payload.data, payload.len) != 0))
        abort();
    sn_queue_written(&ways->queue, frame.iov_len);
}

/* Returns whether the connection goes on. */
static int take(struct both_ways *ways, const uint8_t *frame, size_t len)
{
    uint8_t *copy = malloc(len); /* so that a look past its end is seen */
    struct sn_message message;
    const uint8_t *plain;
    size_t plain_len;
    sp_status status;

    memcpy(copy, frame, len);
    status = sn_atoms_in_take(&ways->from_fuzzer, copy, len, PLAIN_MAX, &plain, &plain_len);
    free(copy);
    if (status != SP_OK)
        return 0;
    if (plain_len > PLAIN_MAX || plain[0] != 112)
        abort();
    if (sn_message_open(plain, plain_len, &LIMITS, &message) == SN_TERM_OK)
        send_and_take(ways, &message);
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
