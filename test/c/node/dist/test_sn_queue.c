/* sn_queue: order, frames byte by byte, partial writes, the bounds and back-pressure, no memory. */
#include "node/dist/sn_queue.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static struct sn_queue queue;

static void begin(void)
{
    sn_queue_init(&queue);
}

static void end(void)
{
    sn_queue_free(&queue);
    cr_assert(!queue.first && !queue.last && queue.bytes == 0);
}

TestSuite(sn_queue, .init = begin, .fini = end);

/* Takes up to `len` of what is in front, from at most `count` pieces. */
static size_t write_out(uint8_t *to, size_t len, int count)
{
    struct iovec pieces[8];
    int used = sn_queue_front(&queue, pieces, count);
    size_t out = 0;

    for (int i = 0; i < used && out < len; i++) {
        size_t part = pieces[i].iov_len < len - out ? pieces[i].iov_len : len - out;

        cr_assert_gt(pieces[i].iov_len, 0);
        memcpy(to + out, pieces[i].iov_base, part);
        out += part;
    }
    sn_queue_written(&queue, out);
    return out;
}

#define NOTHING ((struct sn_slice){NULL, 0})

static struct sn_slice slice(const void *data, size_t len)
{
    return (struct sn_slice){data, len};
}

Test(sn_queue, frames_byte_by_byte)
{
    static const uint8_t expected[] = "hello"
                                      "\0\0\0\5p\x83"
                                      "a\1j"
                                      "\0\0\0\0"
                                      "\0\0\0\4pABC";
    uint8_t out[64];

    cr_assert_eq(sn_queue_bytes(&queue, "hello", 5), SP_OK);
    cr_assert_eq(sn_queue_bytes(&queue, NULL, 0), SP_OK);
    cr_assert_eq(sn_queue_frame(&queue,
                                slice("\x83"
                                      "a\1",
                                      3),
                                NOTHING, slice("j", 1)),
                 SP_OK);
    cr_assert_eq(sn_queue_tick(&queue), SP_OK);
    cr_assert_eq(sn_queue_frame(&queue, slice("A", 1), slice("B", 1), slice("C", 1)), SP_OK);
    cr_assert_eq(queue.bytes, sizeof expected - 1);
    cr_assert_eq(write_out(out, sizeof out, 8), sizeof expected - 1);
    cr_assert_arr_eq(out, expected, sizeof expected - 1);
    cr_assert_eq(queue.bytes, 0);
    cr_assert_eq(write_out(out, sizeof out, 8), 0);
}

Test(sn_queue, any_writes_keep_the_order)
{
    enum { TOTAL = 200000 };
    uint8_t *in = malloc(TOTAL), *out = malloc(TOTAL);
    size_t queued = 0, written = 0;

    srand(1);
    for (size_t i = 0; i < TOTAL; i++)
        in[i] = (uint8_t)(i * 7 + i / 256);
    while (written < TOTAL) {
        size_t len = (size_t)rand() % 9000;

        if (len > TOTAL - queued)
            len = TOTAL - queued;
        cr_assert_eq(sn_queue_bytes(&queue, in + queued, len), SP_OK);
        queued += len;
        written += write_out(out + written, (size_t)rand() % 9000, 1 + rand() % 4);
        cr_assert_eq(queue.bytes, queued - written);
    }
    cr_assert_arr_eq(out, in, TOTAL);
    free(in);
    free(out);
}

Test(sn_queue, back_pressure_has_two_marks)
{
    uint8_t *bytes = calloc(1, SN_QUEUE_HIGH);

    cr_assert_eq(sn_queue_bytes(&queue, bytes, SN_QUEUE_HIGH - 1), SP_OK);
    cr_assert_not(queue.congested);
    cr_assert_eq(sn_queue_bytes(&queue, bytes, 1), SP_OK);
    cr_assert(queue.congested);
    sn_queue_written(&queue, SN_QUEUE_HIGH - SN_QUEUE_LOW);
    cr_assert(queue.congested);
    sn_queue_written(&queue, 1);
    cr_assert_not(queue.congested);
    free(bytes);
}

/* One frame may go beyond the bound, so that none is too long for an empty queue. */
Test(sn_queue, it_is_bounded)
{
    uint8_t *bytes = calloc(1, SN_QUEUE_MAX);

    cr_assert_eq(sn_queue_bytes(&queue, bytes, SN_QUEUE_MAX - 1), SP_OK);
    cr_assert_eq(sn_queue_frame(&queue, slice(bytes, 10), NOTHING, slice(bytes, SN_QUEUE_MAX)),
                 SP_OK);
    cr_assert_eq(queue.bytes, SN_QUEUE_MAX - 1 + 5 + 10 + SN_QUEUE_MAX);
    cr_assert_eq(sn_queue_bytes(&queue, bytes, 1), SP_FULL);
    cr_assert_eq(sn_queue_frame(&queue, slice(bytes, 2), NOTHING, NOTHING), SP_FULL);
    cr_assert_eq(sn_queue_tick(&queue), SP_FULL);
    sn_queue_written(&queue, 5 + 10 + SN_QUEUE_MAX);
    cr_assert_eq(sn_queue_tick(&queue), SP_OK);
    free(bytes);
}

Test(sn_queue, a_frame_longer_than_its_header_can_say)
{
    const uint64_t most = UINT32_MAX;

    cr_assert_eq(sn_queue_frame(&queue, slice("x", most), NOTHING, NOTHING), SP_TOO_BIG);
    cr_assert_eq(sn_queue_frame(&queue, slice("x", 1), slice("y", most - 1), NOTHING), SP_TOO_BIG);
    cr_assert_eq(sn_queue_frame(&queue, slice("x", 1), slice("y", 1), slice("z", most - 2)),
                 SP_TOO_BIG);
    cr_assert_eq(queue.bytes, 0);
    /* One byte less is not too long: a full queue says only that it is full. */
    queue.bytes = SN_QUEUE_MAX;
    cr_assert_eq(sn_queue_frame(&queue, slice("x", most - 1), NOTHING, NOTHING), SP_FULL);
    cr_assert_eq(sn_queue_frame(&queue, slice("x", 1), slice("y", most - 2), NOTHING), SP_FULL);
    cr_assert_eq(sn_queue_frame(&queue, slice("x", 1), slice("y", 1), slice("z", most - 3)),
                 SP_FULL);
    queue.bytes = 0;
}
