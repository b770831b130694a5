/* sn_queue: order, frames byte by byte, partial writes, the bounds and back-pressure, no memory. */
#include "sn_queue.h"

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

Test(sn_queue, frames_byte_by_byte)
{
    static const uint8_t expected[] = "hello"
                                      "\0\0\0\5p\x83"
                                      "a\1j"
                                      "\0\0\0\0"
                                      "\0\0\0\3pAB";
    uint8_t out[64];

    cr_assert_eq(sn_queue_bytes(&queue, "hello", 5), SP_OK);
    cr_assert_eq(sn_queue_bytes(&queue, NULL, 0), SP_OK);
    cr_assert_eq(sn_queue_frame(&queue,
                                "\x83"
                                "a\1",
                                3, "j", 1),
                 SP_OK);
    cr_assert_eq(sn_queue_tick(&queue), SP_OK);
    cr_assert_eq(sn_queue_frame(&queue, "AB", 2, NULL, 0), SP_OK);
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

Test(sn_queue, it_is_bounded)
{
    uint8_t *bytes = calloc(1, SN_QUEUE_MAX);

    cr_assert_eq(sn_queue_bytes(&queue, bytes, SN_QUEUE_MAX - 6), SP_OK);
    cr_assert_eq(sn_queue_bytes(&queue, bytes, 7), SP_FULL);
    cr_assert_eq(sn_queue_frame(&queue, bytes, 2, NULL, 0), SP_FULL);
    cr_assert_eq(queue.bytes, SN_QUEUE_MAX - 6);
    cr_assert_eq(sn_queue_frame(&queue, bytes, 1, NULL, 0), SP_OK);
    cr_assert_eq(sn_queue_tick(&queue), SP_FULL);
    free(bytes);
}

Test(sn_queue, a_frame_longer_than_its_header_can_say)
{
    cr_assert_eq(sn_queue_frame(&queue, "x", (size_t)UINT32_MAX, NULL, 0), SP_TOO_BIG);
    cr_assert_eq(sn_queue_frame(&queue, "x", 1, "y", (size_t)UINT32_MAX - 1), SP_TOO_BIG);
    cr_assert_eq(queue.bytes, 0);
}
