/* sp_frame and sp_resp: lengths in headers of every shape, delimiters, fixed sizes, values of RESP; at every split
 * point, through every budget, and against what is no message. */
#include "core/conn/sp_frame.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT 1000

static struct sp_search search;
static struct sp_frame frame;

static const struct sp_framing RESP = {.kind = SP_FRAMING_RESP};
/* PostgreSQL's: a kind, and a length that counts itself. */
static const struct sp_framing PG = {
    .kind = SP_FRAMING_LENGTH, .offset = 1, .bytes = 4, .adjust = -4};
/* MySQL's: three bytes, the lowest first, and a number. */
static const struct sp_framing MYSQL = {
    .kind = SP_FRAMING_LENGTH, .bytes = 3, .little = true, .adjust = 1};

static struct sp_framing delimiter(const char *bytes)
{
    struct sp_framing framing = {.kind = SP_FRAMING_DELIMITER,
                                 .delimiter_len = (uint8_t)strlen(bytes)};

    memcpy(framing.delimiter, bytes, strlen(bytes));
    return framing;
}

/* In memory that ends where the bytes do, so that a sanitizer sees who looks further. */
static sp_status go_on(const struct sp_framing *framing, const char *bytes, size_t len,
                       size_t limit, size_t budget)
{
    uint8_t *copy = malloc(len ? len : 1);
    sp_status status;

    memcpy(copy, bytes, len);
    status = sp_frame_next(framing, &search, copy, len, limit, &budget, &frame);
    free(copy);
    return status;
}

static sp_status next_of(const struct sp_framing *framing, const char *bytes, size_t len)
{
    search = (struct sp_search){0};
    return go_on(framing, bytes, len, LIMIT, SIZE_MAX);
}

/* One byte more each time, with the search going on; then each number of bytes at once; then all of them by small
 * budgets. */
static void whole_with(const struct sp_framing *framing, const char *bytes, size_t len,
                       size_t offset)
{
    char more[2 * LIMIT];
    sp_status status = SP_WANT_READ;

    search = (struct sp_search){0};
    for (size_t have = 0; have < len; have++) {
        cr_assert_eq(go_on(framing, bytes, have, LIMIT, SIZE_MAX), SP_WANT_READ, "%.20s: %zu",
                     bytes, have);
        cr_assert(frame.total > have && frame.total <= len, "%.20s asks for %zu with %zu", bytes,
                  frame.total, have);
    }
    cr_assert_eq(go_on(framing, bytes, len, LIMIT, SIZE_MAX), SP_OK, "%.20s", bytes);
    for (size_t have = 0; have < len; have++)
        cr_assert_eq(next_of(framing, bytes, have), SP_WANT_READ);
    memcpy(more, bytes, len);
    memset(more + len, '*', 40);
    for (size_t budget = 1; budget < 40; budget++) {
        size_t turns = 0;
        search = (struct sp_search){0};
        while ((status = go_on(framing, more, len + 40, LIMIT, budget)) == SP_AGAIN)
            cr_assert(++turns < 2 * LIMIT, "%.20s never ends with %zu", bytes, budget);
        cr_assert_eq(status, SP_OK, "%.20s by %zu: %s", bytes, budget, sp_status_name(status));
        cr_assert_eq(frame.total, len);
    }
    cr_assert_eq(frame.offset, offset);
    cr_assert_eq(frame.len, len - offset);
}

static void whole(const struct sp_framing *framing, const char *text)
{
    whole_with(framing, text, strlen(text), 0);
}

static void wrong(const struct sp_framing *framing, const char *text)
{
    cr_assert_eq(next_of(framing, text, strlen(text)), SP_BAD_FRAME, "%s", text);
}

/* ---- lengths ---- */

Test(framing, lengths_in_headers)
{
    const struct sp_framing stripped = {
        .kind = SP_FRAMING_LENGTH, .bytes = 2, .strip = true, .adjust = -2};

    whole_with(&PG, "Z\0\0\0\5I", 6, 0);
    whole_with(&PG, "S\0\0\0\4", 5, 0);
    whole_with(&MYSQL, "\3\0\0\1abc", 7, 0);
    whole_with(&stripped, "\0\5abc", 5, 2);
    whole_with(&(struct sp_framing){.kind = SP_FRAMING_LENGTH, .bytes = 8}, "\0\0\0\0\0\0\0\2ab",
               10, 0);
    whole_with(&(struct sp_framing){.kind = SP_FRAMING_LENGTH, .offset = 255, .bytes = 1},
               (char[258]){[255] = 2}, 258, 0);
}

Test(framing, lengths_that_are_none)
{
    cr_assert_eq(next_of(&PG, "Z\0\0\0\3", 5), SP_BAD_FRAME, "shorter than itself");
    cr_assert_eq(next_of(&PG, "Z\0\0\0\0", 5), SP_BAD_FRAME);
    cr_assert_eq(next_of(&PG, "Z\0\0\3\354", 5), SP_WANT_READ, "1,000 behind the header");
    cr_assert_eq(next_of(&PG, "Z\0\0\3\355", 5), SP_TOO_BIG);
    cr_assert_eq(
        next_of(&(struct sp_framing){.kind = SP_FRAMING_LENGTH, .bytes = 8, .adjust = 2147483647},
                "\377\377\377\377\377\377\377\377", 8),
        SP_TOO_BIG);
    cr_assert_eq(
        next_of(&(struct sp_framing){.kind = SP_FRAMING_LENGTH, .bytes = 8, .adjust = INT32_MIN},
                "\177\377\377\377\377\377\377\377", 8),
        SP_TOO_BIG);
    cr_assert_eq(
        next_of(&(struct sp_framing){.kind = SP_FRAMING_LENGTH, .bytes = 1, .adjust = INT32_MIN},
                "\377", 1),
        SP_BAD_FRAME);
}

/* What is put before a message is what takes it off again. */
Test(framing, headers_that_are_sent)
{
    for (unsigned bytes = 1; bytes <= 8; bytes++)
        for (int little = 0; little <= 1; little++)
            for (int32_t adjust = -9; adjust <= 9; adjust += 3) {
                const struct sp_framing framing = {.kind = SP_FRAMING_LENGTH,
                                                   .bytes = (uint8_t)bytes,
                                                   .little = little,
                                                   .strip = true,
                                                   .adjust = adjust};
                struct sp_framing packed = sp_framing_unpack(sp_framing_pack(&framing));
                uint8_t message[SP_FRAME_HEADER_MAX + 200] = {0};
                size_t header_len, len = 200;
                cr_assert(sp_framing_equal(&packed, &framing));
                cr_assert_eq(sp_frame_header(&packed, len, message, &header_len), SP_OK);
                cr_assert_eq(header_len, bytes);
                cr_assert_eq(next_of(&framing, (char *)message, bytes + len), SP_OK);
                cr_assert(frame.offset == bytes && frame.len == len);
                if (adjust > 0)
                    cr_assert_eq(
                        sp_frame_header(&framing, (size_t)adjust - 1, message, &header_len),
                        SP_TOO_BIG, "no length says so");
            }
}

Test(framing, a_header_that_has_no_room_for_the_length)
{
    struct sp_framing framing = sp_framing_header(1);
    uint8_t header[SP_FRAME_HEADER_MAX];
    size_t header_len;

    cr_assert_eq(sp_frame_header(&framing, 256, header, &header_len), SP_TOO_BIG);
    framing.adjust = -1;
    cr_assert_eq(sp_frame_header(&framing, 255, header, &header_len), SP_TOO_BIG, "with itself");
    framing.strip = false;
    cr_assert_eq(sp_frame_header(&framing, 1000, header, &header_len), SP_OK);
    cr_assert_eq(header_len, 0, "the user's own");
}

/* ---- delimiters, fixed sizes ---- */

Test(framing, delimiters)
{
    struct sp_framing crlf = delimiter("\r\n"), mail = delimiter("\r\n.\r\n"),
                      aab = delimiter("aab");

    whole(&crlf, "abc\r\n");
    whole(&crlf, "\r\n");
    whole(&crlf, "\r\r\n");
    whole(&crlf, "\n\r\n");
    whole(&mail, "\r\n\r\n.\r\n");
    whole(&mail, "a\r\n.\r.\r\n.\r\n");
    whole(&aab, "aaaaab");
    cr_assert_eq(next_of(&crlf, "12345", 5), SP_WANT_READ);
    search = (struct sp_search){0};
    cr_assert_eq(go_on(&crlf, "12345", 5, 5, SIZE_MAX), SP_TOO_BIG);
}

Test(framing, fixed_sizes)
{
    const struct sp_framing five = {.kind = SP_FRAMING_FIXED, .fixed = 5};

    whole(&five, "abcde");
    cr_assert_eq(next_of(&(struct sp_framing){.kind = SP_FRAMING_FIXED, .fixed = LIMIT + 1}, "", 0),
                 SP_TOO_BIG);
}

/* ---- RESP ---- */

Test(framing, resp_values_of_every_kind)
{
    static const char *const VALUES[] = {"+OK\r\n",
                                         "-ERR no\r\n",
                                         ":-12\r\n",
                                         "_\r\n",
                                         ",3.14\r\n",
                                         "#t\r\n",
                                         "(349283\r\n",
                                         "$5\r\nhello\r\n",
                                         "$0\r\n\r\n",
                                         "$-1\r\n",
                                         "!5\r\nERR x\r\n",
                                         "=7\r\ntxt:abc\r\n",
                                         "$4\r\n\r\n\r\n\r\n",
                                         "*0\r\n",
                                         "*-1\r\n",
                                         "*2\r\n:1\r\n$1\r\na\r\n",
                                         "*1\r\n*1\r\n*1\r\n*0\r\n",
                                         "%1\r\n+k\r\n*2\r\n:1\r\n:2\r\n",
                                         "%0\r\n",
                                         "~2\r\n:1\r\n:2\r\n",
                                         ">2\r\n+message\r\n$1\r\nx\r\n",
                                         "|1\r\n+ttl\r\n:3\r\n*1\r\n+v\r\n",
                                         "|0\r\n+v\r\n",
                                         "*2\r\n|1\r\n+a\r\n:1\r\n:5\r\n:6\r\n",
                                         "$?\r\n;2\r\nab\r\n;1\r\nc\r\n;0\r\n",
                                         "$?\r\n;0\r\n",
                                         "*?\r\n:1\r\n*?\r\n.\r\n.\r\n",
                                         "*2\r\n*?\r\n.\r\n$?\r\n;1\r\nx\r\n;0\r\n",
                                         "+\r\n"};

    for (size_t i = 0; i < sizeof VALUES / sizeof *VALUES; i++)
        whole(&RESP, VALUES[i]);
}

Test(framing, resp_that_is_none)
{
    static const char *const WRONG[] = {
        "hello\r\n",   "PING\r\n",     "\r\n",         "+OK\n",       "\n",           "$\r\n",
        "$x\r\n",      "$-2\r\n",      "$+1\r\n",      "$ 1\r\n",     "$1\r\nabc",    "$1\r\na\rb",
        "*\r\n",       "*x\r\n",       "*-2\r\n",      "%-1\r\n",     "%x\r\n",       "~-1\r\n",
        "|?\r\n",      ".\r\n",        ";0\r\n",       ";1\r\na\r\n", "$?\r\n:1\r\n", "$?\r\n.\r\n",
        "*1\r\n.\r\n", "*?\r\n;0\r\n", "*?\r\n.x\r\n", "$?\r\n;\r\n", "=-1\r\n",      "!?\r\n",
        ";9999\r\n"};

    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++)
        wrong(&RESP, WRONG[i]);
}

static size_t nested(char *text, unsigned depth)
{
    size_t len = 0;

    for (unsigned i = 0; i < depth; i++)
        len += (size_t)sprintf(text + len, "*1\r\n");
    return len + (size_t)sprintf(text + len, ":1\r\n");
}

Test(framing, resp_is_bounded)
{
    char text[LIMIT];

    whole_with(&RESP, text, nested(text, SP_RESP_DEPTH_MAX), 0);
    cr_assert_eq(next_of(&RESP, text, nested(text, SP_RESP_DEPTH_MAX + 1)), SP_TOO_BIG);
    cr_assert_eq(next_of(&RESP, "$1000\r\n", 7), SP_TOO_BIG, "with its header above the limit");
    cr_assert_eq(next_of(&RESP, "$991\r\n", 6), SP_WANT_READ);
    cr_assert_eq(next_of(&RESP, "*334\r\n", 6), SP_TOO_BIG,
                 "none of them has less than three bytes");
    cr_assert_eq(next_of(&RESP, "*333\r\n", 6), SP_WANT_READ);
    cr_assert_eq(next_of(&RESP, "%99999999999999999999999\r\n", 26), SP_TOO_BIG);
    memset(text, '+', sizeof text);
    cr_assert_eq(next_of(&RESP, text, LIMIT - 1), SP_WANT_READ);
    cr_assert_eq(next_of(&RESP, text, LIMIT), SP_TOO_BIG);
}

/* What is beyond the limit is not looked at, whether it has come or not. */
Test(framing, resp_says_the_same_of_a_line_above_the_limit_however_it_comes)
{
    static const char *const TEXTS[] = {"+abcde\n", "+abcd\r\n", "abcdef\r\n", "\r\r\r\r\r\n"};

    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        size_t len = strlen(TEXTS[i]), limit = 5;
        for (size_t have = 0; have <= len; have++)
            for (size_t budget = 1; budget <= 8; budget++) {
                sp_status status;
                search = (struct sp_search){0};
                while ((status = go_on(&RESP, TEXTS[i], have, limit, budget)) == SP_AGAIN)
                    ;
                cr_assert_eq(status, have < limit ? SP_WANT_READ : SP_TOO_BIG, "%s: %zu", TEXTS[i],
                             have);
            }
    }
}

/* An attribute belongs to a value: the end of what it stands in is none. */
Test(framing, resp_has_no_attribute_of_nothing)
{
    wrong(&RESP, "*?\r\n|1\r\n+k\r\n+v\r\n.\r\n");
    wrong(&RESP, "*?\r\n|0\r\n.\r\n");
    wrong(&RESP, "%?\r\n+k\r\n|0\r\n.\r\n");
    whole(&RESP, "*?\r\n|0\r\n*?\r\n.\r\n.\r\n");
    whole(&RESP, "|1\r\n+a\r\n|0\r\n+b\r\n|0\r\n$?\r\n;0\r\n");
    whole(&RESP, "|1\r\n|0\r\n+a\r\n%1\r\n+k\r\n*0\r\n*-1\r\n");
}

/* Whatever the bytes, by whatever pieces: the same answer as at once, and never beyond the bytes. */
Test(framing, resp_of_any_bytes)
{
    static const char ALPHABET[] = "+-:_,#($!=;*%~>|.?0123\r\n\r\n\r\n\r\n";
    unsigned rng = 1;

    for (int round = 0; round < 200000; round++) {
        char text[24];
        size_t len = 1 + (size_t)rand_r(&rng) % sizeof text, limit = 1 + (size_t)rand_r(&rng) % 40,
               at_once_total;
        sp_status at_once, status = SP_WANT_READ;
        for (size_t i = 0; i < len; i++)
            text[i] = ALPHABET[(size_t)rand_r(&rng) % (sizeof ALPHABET - 1)];
        search = (struct sp_search){0};
        at_once = go_on(&RESP, text, len, limit, SIZE_MAX);
        at_once_total = frame.total;
        search = (struct sp_search){0};
        for (size_t have = 1; have <= len && status == SP_WANT_READ; have++)
            do
                status = go_on(&RESP, text, have, limit, 1 + (size_t)rand_r(&rng) % 3);
            while (status == SP_AGAIN);
        cr_assert_eq(status, at_once, "%.*s", (int)len, text);
        cr_assert(status != SP_OK || frame.total == at_once_total);
    }
}
