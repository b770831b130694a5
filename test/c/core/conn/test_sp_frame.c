/* sp_frame: every mode, every split point, limits, header ranges. */
#include "core/conn/sp_frame.h"

#include <criterion/criterion.h>
#include <string.h>

#define LIMIT 1000

static struct sp_frame frame;

static sp_status next(enum sp_packet packet, const void *buf, size_t len, size_t limit)
{
    return sp_frame_next(packet, buf, len, 0, limit, &frame);
}

/* At every split point the message is incomplete, and what `total` asks for leads to its end. */
static void splits(enum sp_packet packet, const char *buf, size_t offset, size_t len)
{
    size_t total = offset + len, asked = 0;

    for (size_t have = 0; have < total; have++) {
        cr_assert_eq(next(packet, buf, have, LIMIT), SP_WANT_READ, "with %zu bytes", have);
        cr_assert(frame.total > have && frame.total <= total, "asks for %zu with %zu", frame.total,
                  have);
    }
    while (next(packet, buf, asked, LIMIT) == SP_WANT_READ)
        asked = frame.total;
    cr_assert_eq(asked, total);
    cr_assert_eq(next(packet, buf, total, LIMIT), SP_OK);
    cr_assert_eq(frame.offset, offset);
    cr_assert_eq(frame.len, len);
    cr_assert_eq(frame.total, total);
}

Test(frame, a_message_of_each_mode_at_every_split)
{
    splits(SP_PACKET_1, "\5hello", 1, 5);
    splits(SP_PACKET_2, "\0\5hello", 2, 5);
    splits(SP_PACKET_4, "\0\0\0\5hello", 4, 5);
    splits(SP_PACKET_LINE, "hello\n", 0, 6);
}

Test(frame, what_follows_a_message_is_left)
{
    cr_assert_eq(next(SP_PACKET_1, "\2abXYZ", 6, LIMIT), SP_OK);
    cr_assert_eq(frame.total, 3);
    cr_assert_eq(next(SP_PACKET_LINE, "a\nb\n", 4, LIMIT), SP_OK);
    cr_assert_eq(frame.total, 2);
}

Test(frame, empty_messages)
{
    cr_assert_eq(next(SP_PACKET_1, "\0", 1, LIMIT), SP_OK);
    cr_assert(frame.len == 0 && frame.total == 1);
    cr_assert_eq(next(SP_PACKET_2, "\0\0", 2, LIMIT), SP_OK);
    cr_assert(frame.len == 0 && frame.total == 2);
    cr_assert_eq(next(SP_PACKET_4, "\0\0\0\0", 4, LIMIT), SP_OK);
    cr_assert(frame.len == 0 && frame.total == 4);
    cr_assert_eq(next(SP_PACKET_LINE, "\n", 1, LIMIT), SP_OK);
    cr_assert(frame.len == 1 && frame.total == 1);
}

Test(frame, headers_are_big_endian_and_unsigned)
{
    cr_assert_eq(next(SP_PACKET_1, "\xff", 1, SIZE_MAX), SP_WANT_READ);
    cr_assert_eq(frame.total, 256);
    cr_assert_eq(next(SP_PACKET_2, "\x12\x34", 2, SIZE_MAX), SP_WANT_READ);
    cr_assert_eq(frame.total, 2 + 0x1234);
    cr_assert_eq(next(SP_PACKET_2, "\xff\xff", 2, SIZE_MAX), SP_WANT_READ);
    cr_assert_eq(frame.total, 2 + 0xffff);
    cr_assert_eq(next(SP_PACKET_4, "\x12\x34\x56\x78", 4, SIZE_MAX), SP_WANT_READ);
    cr_assert_eq(frame.total, 4 + UINT64_C(0x12345678));
    cr_assert_eq(next(SP_PACKET_4, "\xff\xff\xff\xff", 4, SIZE_MAX), SP_WANT_READ);
    cr_assert_eq(frame.total, 4 + UINT64_C(0xffffffff));
}

Test(frame, a_claim_above_the_limit_is_refused_as_soon_as_it_is_read)
{
    cr_assert_eq(next(SP_PACKET_1, "\5", 1, 5), SP_WANT_READ);
    cr_assert_eq(next(SP_PACKET_1, "\6", 1, 5), SP_TOO_BIG);
    cr_assert_eq(next(SP_PACKET_2, "\0\6", 2, 5), SP_TOO_BIG);
    cr_assert_eq(next(SP_PACKET_4, "\0\0\0\6", 4, 5), SP_TOO_BIG);
    cr_assert_eq(next(SP_PACKET_4, "\xff\xff\xff\xff", 4, LIMIT), SP_TOO_BIG);
    cr_assert_eq(next(SP_PACKET_4, "\xff\xff\xff", 3, LIMIT), SP_WANT_READ);
}

Test(frame, a_line_counts_its_end_against_the_limit)
{
    cr_assert_eq(next(SP_PACKET_LINE, "1234\n", 5, 5), SP_OK);
    cr_assert_eq(next(SP_PACKET_LINE, "1234", 4, 5), SP_WANT_READ, "its end may be next");
    cr_assert_eq(next(SP_PACKET_LINE, "12345\n", 6, 5), SP_TOO_BIG);
    cr_assert_eq(next(SP_PACKET_LINE, "12345", 5, 5), SP_TOO_BIG, "no end can come in time");
}

Test(frame, a_line_is_searched_from_where_the_last_search_ended)
{
    static const uint8_t BUF[] = "ab\ncd\n";

    cr_assert_eq(sp_frame_next(SP_PACKET_LINE, BUF, 6, 3, LIMIT, &frame), SP_OK);
    cr_assert_eq(frame.len, 6, "the caller knows that there is none in the first three");
    cr_assert_eq(sp_frame_next(SP_PACKET_LINE, BUF, 6, 2, LIMIT, &frame), SP_OK);
    cr_assert_eq(frame.len, 3);
    cr_assert_eq(sp_frame_next(SP_PACKET_LINE, BUF, 2, 2, LIMIT, &frame), SP_WANT_READ);
    cr_assert_eq(frame.total, 3);
}

Test(frame, of_nothing_asks_for_the_first_bytes)
{
    static const struct {
        enum sp_packet packet;
        size_t total;
    } ALL[] = {{SP_PACKET_1, 1}, {SP_PACKET_2, 2}, {SP_PACKET_4, 4}, {SP_PACKET_LINE, 1}};

    for (size_t i = 0; i < 4; i++) {
        cr_expect_eq(next(ALL[i].packet, "", 0, LIMIT), SP_WANT_READ);
        cr_expect_eq(frame.total, ALL[i].total);
    }
}

/* ---- headers to send ---- */

static sp_status header(enum sp_packet packet, size_t len, const char *expected,
                        size_t expected_len)
{
    uint8_t bytes[SP_FRAME_HEADER_MAX + 1] = {0, 0, 0, 0, 0xa5};
    size_t header_len = 99;
    sp_status status = sp_frame_header(packet, len, bytes, &header_len);

    cr_expect_eq(bytes[SP_FRAME_HEADER_MAX], 0xa5);
    if (status == SP_OK) {
        cr_expect_eq(header_len, expected_len);
        cr_expect_eq(memcmp(bytes, expected, expected_len), 0);
    }
    return status;
}

Test(frame_header, is_the_big_endian_length)
{
    cr_expect_eq(header(SP_PACKET_1, 0, "\0", 1), SP_OK);
    cr_expect_eq(header(SP_PACKET_1, 255, "\xff", 1), SP_OK);
    cr_expect_eq(header(SP_PACKET_2, 0x1234, "\x12\x34", 2), SP_OK);
    cr_expect_eq(header(SP_PACKET_2, 65535, "\xff\xff", 2), SP_OK);
    cr_expect_eq(header(SP_PACKET_4, 0x12345678, "\x12\x34\x56\x78", 4), SP_OK);
    cr_expect_eq(header(SP_PACKET_4, UINT32_MAX, "\xff\xff\xff\xff", 4), SP_OK);
}

Test(frame_header, refuses_a_length_that_does_not_fit)
{
    cr_expect_eq(header(SP_PACKET_1, 256, "", 0), SP_TOO_BIG);
    cr_expect_eq(header(SP_PACKET_2, 65536, "", 0), SP_TOO_BIG);
    cr_expect_eq(header(SP_PACKET_4, (size_t)UINT32_MAX + 1, "", 0), SP_TOO_BIG);
}

Test(frame_header, raw_and_line_have_none)
{
    cr_expect_eq(header(SP_PACKET_RAW, SIZE_MAX, "", 0), SP_OK);
    cr_expect_eq(header(SP_PACKET_LINE, SIZE_MAX, "", 0), SP_OK);
}

Test(frame_header, is_what_next_reads)
{
    static const enum sp_packet MODES[] = {SP_PACKET_1, SP_PACKET_2, SP_PACKET_4};
    uint8_t bytes[SP_FRAME_HEADER_MAX];
    size_t header_len;

    for (size_t i = 0; i < 3; i++) {
        for (size_t len = 1; len < 256; len += 7) {
            cr_assert_eq(sp_frame_header(MODES[i], len, bytes, &header_len), SP_OK);
            cr_assert_eq(next(MODES[i], bytes, header_len, SIZE_MAX), SP_WANT_READ);
            cr_assert_eq(frame.total, header_len + len);
        }
    }
}
