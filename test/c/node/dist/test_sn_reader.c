/* sn_reader: frames at every cut, those that are too long, memory that follows what came. */
#include "node/dist/sn_reader.h"

#include "kit/fail_alloc.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

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

/* Its beginning is told, the rest is read past, and what follows it is as it was. */
Test(sn_reader, frames_that_are_too_long)
{
    static const size_t more[] = {1, 10, 1000000};
    uint8_t *frame = malloc(4 + SN_READER_HEAD_BYTES + 1000000 + 6);
    const uint8_t *head;
    size_t len;

    for (size_t i = 0; i < 3; i++) {
        size_t all = SN_READER_HEAD_BYTES + more[i];

        for (size_t at = 0; at < all; at++)
            frame[4 + at] = (uint8_t)(at % 251);
        frame[0] = 0;
        frame[1] = (uint8_t)(all >> 16);
        frame[2] = (uint8_t)(all >> 8);
        frame[3] = (uint8_t)all;
        memcpy(frame + 4 + all, "\0\0\0\2ab", 6);
        sn_reader_init(&reader, SN_READER_HEAD_BYTES);
        feed(frame, 4 + SN_READER_HEAD_BYTES - 1);
        expect(SP_WANT_READ);
        feed(frame + 3 + SN_READER_HEAD_BYTES, 1);
        cr_assert_eq(sn_reader_next(&reader, &head, &len), SP_TOO_BIG);
        cr_assert_eq(len, SN_READER_HEAD_BYTES);
        cr_assert_arr_eq(head, frame + 4, len);
        for (size_t at = SN_READER_HEAD_BYTES; at < all; at += 1000) {
            expect(SP_WANT_READ);
            feed(frame + 4 + at, at + 1000 < all ? 1000 : all - at);
        }
        expect(SP_WANT_READ);
        cr_assert_leq(reader.cap, 2 * SN_READER_HEAD_BYTES);
        feed(frame + 4 + all, 6);
        expect_frame("ab", 2);
        expect(SP_WANT_READ);
        sn_reader_free(&reader);
    }
    free(frame);
}

Test(sn_reader, a_claim_of_4_gb)
{
    uint8_t *head = calloc(1, SN_READER_HEAD_BYTES + 4);

    memset(head, 0xff, 4);
    sn_reader_init(&reader, 1 << 30);
    feed(head, SN_READER_HEAD_BYTES + 4);
    expect(SP_TOO_BIG);
    cr_assert_eq(reader.skipped, UINT32_MAX - SN_READER_HEAD_BYTES);
    free(head);
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
