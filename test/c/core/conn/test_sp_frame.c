/* sp_frame: every mode, every split point, limits, header ranges. */
#include "core/conn/sp_frame.h"

#include <criterion/criterion.h>
#include <string.h>

#define LIMIT 1000

static struct sp_frame frame;

static struct sp_search search;

static sp_status go_on(struct sp_framing framing, const void *buf, size_t len, size_t limit,
                       size_t budget)
{
    return sp_frame_next(&framing, &search, buf, len, limit, &budget, &frame);
}

/* Of bytes that were not looked at before. */
static sp_status next(struct sp_framing framing, const void *buf, size_t len, size_t limit)
{
    search = (struct sp_search){0};
    return go_on(framing, buf, len, limit, SIZE_MAX);
}

/* At every split point the message is incomplete, and what `total` asks for leads to its end. */
static void splits(struct sp_framing framing, const char *buf, size_t offset, size_t len)
{
    size_t total = offset + len, asked = 0;

    for (size_t have = 0; have < total; have++) {
        cr_assert_eq(next(framing, buf, have, LIMIT), SP_WANT_READ, "with %zu bytes", have);
        cr_assert(frame.total > have && frame.total <= total, "asks for %zu with %zu", frame.total,
                  have);
    }
    while (next(framing, buf, asked, LIMIT) == SP_WANT_READ)
        asked = frame.total;
    cr_assert_eq(asked, total);
    cr_assert_eq(next(framing, buf, total, LIMIT), SP_OK);
    cr_assert_eq(frame.offset, offset);
    cr_assert_eq(frame.len, len);
    cr_assert_eq(frame.total, total);
}

Test(frame, a_message_of_each_mode_at_every_split)
{
    splits(sp_framing_header(1), "\5hello", 1, 5);
    splits(sp_framing_header(2), "\0\5hello", 2, 5);
    splits(sp_framing_header(4), "\0\0\0\5hello", 4, 5);
    splits(sp_framing_line(), "hello\n", 0, 6);
}

Test(frame, what_follows_a_message_is_left)
{
    cr_assert_eq(next(sp_framing_header(1), "\2abXYZ", 6, LIMIT), SP_OK);
    cr_assert_eq(frame.total, 3);
    cr_assert_eq(next(sp_framing_line(), "a\nb\n", 4, LIMIT), SP_OK);
    cr_assert_eq(frame.total, 2);
}

Test(frame, empty_messages)
{
    cr_assert_eq(next(sp_framing_header(1), "\0", 1, LIMIT), SP_OK);
    cr_assert(frame.len == 0 && frame.total == 1);
    cr_assert_eq(next(sp_framing_header(2), "\0\0", 2, LIMIT), SP_OK);
    cr_assert(frame.len == 0 && frame.total == 2);
    cr_assert_eq(next(sp_framing_header(4), "\0\0\0\0", 4, LIMIT), SP_OK);
    cr_assert(frame.len == 0 && frame.total == 4);
    cr_assert_eq(next(sp_framing_line(), "\n", 1, LIMIT), SP_OK);
    cr_assert(frame.len == 1 && frame.total == 1);
}

Test(frame, headers_are_big_endian_and_unsigned)
{
    cr_assert_eq(next(sp_framing_header(1), "\xff", 1, SIZE_MAX), SP_WANT_READ);
    cr_assert_eq(frame.total, 256);
    cr_assert_eq(next(sp_framing_header(2), "\x12\x34", 2, SIZE_MAX), SP_WANT_READ);
    cr_assert_eq(frame.total, 2 + 0x1234);
    cr_assert_eq(next(sp_framing_header(2), "\xff\xff", 2, SIZE_MAX), SP_WANT_READ);
    cr_assert_eq(frame.total, 2 + 0xffff);
    cr_assert_eq(next(sp_framing_header(4), "\x12\x34\x56\x78", 4, SIZE_MAX), SP_WANT_READ);
    cr_assert_eq(frame.total, 4 + UINT64_C(0x12345678));
    cr_assert_eq(next(sp_framing_header(4), "\xff\xff\xff\xff", 4, SIZE_MAX), SP_WANT_READ);
    cr_assert_eq(frame.total, 4 + UINT64_C(0xffffffff));
}

Test(frame, a_claim_above_the_limit_is_refused_as_soon_as_it_is_read)
{
    cr_assert_eq(next(sp_framing_header(1), "\5", 1, 5), SP_WANT_READ);
    cr_assert_eq(next(sp_framing_header(1), "\6", 1, 5), SP_TOO_BIG);
    cr_assert_eq(next(sp_framing_header(2), "\0\6", 2, 5), SP_TOO_BIG);
    cr_assert_eq(next(sp_framing_header(4), "\0\0\0\6", 4, 5), SP_TOO_BIG);
    cr_assert_eq(next(sp_framing_header(4), "\xff\xff\xff\xff", 4, LIMIT), SP_TOO_BIG);
    cr_assert_eq(next(sp_framing_header(4), "\xff\xff\xff", 3, LIMIT), SP_WANT_READ);
}

Test(frame, a_line_counts_its_end_against_the_limit)
{
    cr_assert_eq(next(sp_framing_line(), "1234\n", 5, 5), SP_OK);
    cr_assert_eq(next(sp_framing_line(), "1234", 4, 5), SP_WANT_READ, "its end may be next");
    cr_assert_eq(next(sp_framing_line(), "12345\n", 6, 5), SP_TOO_BIG);
    cr_assert_eq(next(sp_framing_line(), "12345", 5, 5), SP_TOO_BIG, "no end can come in time");
}

Test(frame, a_line_is_searched_from_where_the_last_search_ended)
{
    search = (struct sp_search){.looked = 3};
    cr_assert_eq(go_on(sp_framing_line(), "ab\ncd\n", 6, LIMIT, SIZE_MAX), SP_OK);
    cr_assert_eq(frame.len, 6, "there is none in the first three");
    cr_assert_eq(next(sp_framing_line(), "ab", 2, LIMIT), SP_WANT_READ);
    cr_assert_eq(search.looked, 2);
    cr_assert_eq(frame.total, 3);
}

Test(frame, of_nothing_asks_for_the_first_bytes)
{
    const struct {
        struct sp_framing framing;
        size_t total;
    } ALL[] = {{sp_framing_header(1), 1},
               {sp_framing_header(2), 2},
               {sp_framing_header(4), 4},
               {sp_framing_line(), 1}};

    for (size_t i = 0; i < 4; i++) {
        cr_expect_eq(next(ALL[i].framing, "", 0, LIMIT), SP_WANT_READ);
        cr_expect_eq(frame.total, ALL[i].total);
    }
}

/* ---- headers to send ---- */

static sp_status header(struct sp_framing framing, size_t len, const char *expected,
                        size_t expected_len)
{
    uint8_t bytes[SP_FRAME_HEADER_MAX + 1] = {[SP_FRAME_HEADER_MAX] = 0xa5};
    size_t header_len = 99;
    sp_status status = sp_frame_header(&framing, len, bytes, &header_len);

    cr_expect_eq(bytes[SP_FRAME_HEADER_MAX], 0xa5);
    if (status == SP_OK) {
        cr_expect_eq(header_len, expected_len);
        cr_expect_eq(memcmp(bytes, expected, expected_len), 0);
    }
    return status;
}

Test(frame_header, is_the_big_endian_length)
{
    cr_expect_eq(header(sp_framing_header(1), 0, "\0", 1), SP_OK);
    cr_expect_eq(header(sp_framing_header(1), 255, "\xff", 1), SP_OK);
    cr_expect_eq(header(sp_framing_header(2), 0x1234, "\x12\x34", 2), SP_OK);
    cr_expect_eq(header(sp_framing_header(2), 65535, "\xff\xff", 2), SP_OK);
    cr_expect_eq(header(sp_framing_header(4), 0x12345678, "\x12\x34\x56\x78", 4), SP_OK);
    cr_expect_eq(header(sp_framing_header(4), UINT32_MAX, "\xff\xff\xff\xff", 4), SP_OK);
}

Test(frame_header, refuses_a_length_that_does_not_fit)
{
    cr_expect_eq(header(sp_framing_header(1), 256, "", 0), SP_TOO_BIG);
    cr_expect_eq(header(sp_framing_header(2), 65536, "", 0), SP_TOO_BIG);
    cr_expect_eq(header(sp_framing_header(4), (size_t)UINT32_MAX + 1, "", 0), SP_TOO_BIG);
}

Test(frame_header, raw_and_line_have_none)
{
    cr_expect_eq(header((struct sp_framing){0}, SIZE_MAX, "", 0), SP_OK);
    cr_expect_eq(header(sp_framing_line(), SIZE_MAX, "", 0), SP_OK);
}

Test(frame_header, is_what_next_reads)
{
    const struct sp_framing MODES[] = {sp_framing_header(1), sp_framing_header(2),
                                       sp_framing_header(4)};
    uint8_t bytes[SP_FRAME_HEADER_MAX];
    size_t header_len;

    for (size_t i = 0; i < 3; i++) {
        for (size_t len = 1; len < 256; len += 7) {
            cr_assert_eq(sp_frame_header(&MODES[i], len, bytes, &header_len), SP_OK);
            cr_assert_eq(next(MODES[i], bytes, header_len, SIZE_MAX), SP_WANT_READ);
            cr_assert_eq(frame.total, header_len + len);
        }
    }
}
