/* sn_reader: frames at every cut, caps, memory that follows what came; messages and what is wrong
 * with them. */
#include "sn_reader.h"

#include "fail_alloc.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const struct sn_term_limits LIMITS = {.bytes = 1 << 20, .depth = 4, .terms = 20};

static struct sn_reader reader;

static void end(void)
{
    sn_reader_free(&reader);
    cr_assert(!reader.buf && reader.cap == 0);
}

TestSuite(sn_reader, .fini = end);

static void feed(const void *data, size_t len)
{
    const uint8_t *from = data;
    uint8_t *space;
    size_t room;

    while (len) {
        cr_assert_eq(sn_reader_space(&reader, &space, &room), SP_OK);
        cr_assert_gt(room, 0);
        if (room > len)
            room = len;
        memcpy(space, from, room);
        sn_reader_filled(&reader, room);
        from += room;
        len -= room;
    }
}

static void expect_frame(const char *text, size_t len)
{
    const uint8_t *frame;
    size_t frame_len;

    cr_assert_eq(sn_reader_next(&reader, &frame, &frame_len), SP_OK);
    cr_assert_eq(frame_len, len);
    if (len)
        cr_assert_arr_eq(frame, text, len);
}

static void expect(sp_status status)
{
    const uint8_t *frame;
    size_t len;

    cr_assert_eq(sn_reader_next(&reader, &frame, &len), status);
}

Test(sn_reader, frames_and_ticks_cut_anywhere)
{
    static const char bytes[] = "\0\0\0\2ab\0\0\0\0\0\0\0\5hello";
    static const struct {
        size_t end, len;
        const char *text;
    } frames[] = {{6, 2, "ab"}, {10, 0, ""}, {19, 5, "hello"}};
    size_t len = sizeof bytes - 1;

    for (size_t cut = 0; cut <= len; cut++) {
        size_t at = 0;

        sn_reader_init(&reader, 100);
        feed(bytes, cut);
        for (; at < 3 && frames[at].end <= cut; at++)
            expect_frame(frames[at].text, frames[at].len);
        expect(SP_WANT_READ);
        feed(bytes + cut, len - cut);
        for (; at < 3; at++)
            expect_frame(frames[at].text, frames[at].len);
        expect(SP_WANT_READ);
        sn_reader_free(&reader);
    }
}

Test(sn_reader, the_cap_is_checked_as_soon_as_the_length_is_there)
{
    sn_reader_init(&reader, 258);
    feed("\0\0\1\2", 4);
    expect(SP_WANT_READ);
    sn_reader_free(&reader);
    feed("\0\0\1\3", 4);
    expect(SP_TOO_BIG);
    sn_reader_free(&reader);
    feed("\xff\xff\xff\xff", 4);
    expect(SP_TOO_BIG);
}

Test(sn_reader, memory_follows_what_came)
{
    enum { LEN = 1000000 };
    uint8_t *frame = malloc(LEN + 4);
    uint8_t *space;
    size_t room;

    for (size_t i = 0; i < LEN; i++)
        frame[4 + i] = (uint8_t)(i % 251);
    memcpy(frame, "\0\x0f\x42\x40", 4);
    sn_reader_init(&reader, LEN);
    feed(frame, 4);
    expect(SP_WANT_READ);
    cr_assert_eq(sn_reader_space(&reader, &space, &room), SP_OK);
    cr_assert_eq(reader.cap, SN_READER_BYTES, "a claim alone takes no memory");
    for (size_t at = 4; at < LEN + 4; at += 1000) {
        expect(SP_WANT_READ);
        feed(frame + at, LEN + 4 - at < 1000 ? LEN + 4 - at : 1000);
        cr_assert(reader.cap <= SN_READER_BYTES || reader.cap <= 2 * (reader.end - reader.start));
    }
    expect_frame((const char *)frame + 4, LEN);
    cr_assert_eq(sn_reader_space(&reader, &space, &room), SP_OK);
    cr_assert_eq(reader.cap, SN_READER_BYTES, "and it is given back");
    free(frame);
}

Test(sn_reader, no_memory)
{
    uint8_t *space;
    size_t room;

    sn_reader_init(&reader, 100);
    fail_alloc_after(0);
    cr_assert_eq(sn_reader_space(&reader, &space, &room), SP_NO_MEMORY);
    feed("\0\0\0\1x", 5);
    expect_frame("x", 1);
}

static struct sn_message message;

#define OPEN(text) sn_message_open((const uint8_t *)(text), sizeof(text) - 1, &LIMITS, &message)

Test(sn_message, with_and_without_payload)
{
    cr_assert_eq(OPEN("p\x83"
                      "h\1a\2"),
                 SN_TERM_OK);
    cr_assert_eq(message.control_len, 5);
    cr_assert_null(message.payload);
    cr_assert_eq(message.payload_result, SN_TERM_OK);
    cr_assert_eq(OPEN("p\x83"
                      "h\1a\2\x83j"),
                 SN_TERM_OK);
    cr_assert_eq(message.control_len, 5);
    cr_assert_eq(message.payload_len, 2);
    cr_assert_arr_eq(message.payload, "\x83j", 2);
}

Test(sn_message, a_head_or_control_message_that_is_wrong)
{
    cr_assert_eq(OPEN(""), SN_TERM_BAD);
    cr_assert_eq(OPEN("q\x83j"), SN_TERM_BAD);
    cr_assert_eq(OPEN("pj"), SN_TERM_BAD);
    cr_assert_eq(OPEN("\x83"
                      "Dj"),
                 SN_TERM_BAD);
    cr_assert_eq(OPEN("p"), SN_TERM_CUT);
    cr_assert_eq(OPEN("p\x83h\2j"), SN_TERM_CUT);
    cr_assert_eq(OPEN("p\x83h\1h\1h\1h\1h\1j"), SN_TERM_DEEP);
}

Test(sn_message, a_payload_that_is_wrong_leaves_the_control_message)
{
    cr_assert_eq(OPEN("p\x83jj"), SN_TERM_OK);
    cr_assert_eq(message.payload_result, SN_TERM_BAD, "no version byte");
    cr_assert(message.payload == NULL && message.payload_len == 0 && message.control_len == 2);
    cr_assert_eq(OPEN("p\x83j\x83h\2j"), SN_TERM_OK);
    cr_assert_eq(message.payload_result, SN_TERM_CUT);
    cr_assert_eq(OPEN("p\x83j\x83h\1h\1h\1h\1h\1j"), SN_TERM_OK);
    cr_assert_eq(message.payload_result, SN_TERM_DEEP);
    cr_assert_eq(OPEN("p\x83j\x83h\xc8"), SN_TERM_OK);
    cr_assert_eq(message.payload_result, SN_TERM_MANY);
    cr_assert_eq(OPEN("p\x83j\x83jj"), SN_TERM_OK);
    cr_assert_eq(message.payload_result, SN_TERM_BAD, "something after it");
    cr_assert_null(message.payload);
}
