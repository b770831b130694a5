/* sn_message: control messages and requests, in pieces of any size; what is wrong with them, and of what is
 * only a beginning. */
#include "node/dist/sn_message.h"

#include "kit/term_kit.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define BYTES(text) (text), sizeof(text) - 1
#define TO_US "h\4a\6w\1pw\0w\1s"
#define CALL "p\x83" TO_US "\x83h\3w\x9$gen_callh\2w\1pw\1t"
#define CAST "p\x83" TO_US "\x83h\2w\x9$gen_cast"

static struct sn_opening opening;
static uint8_t *frame;

static void end(void)
{
    free(frame);
}

TestSuite(sn_message, .fini = end);

/* From memory of exactly that size, with so many pieces in each call. */
static enum sn_term_result open_by(const void *bytes, size_t len, bool is_cut, size_t by)
{
    enum sn_term_result result;
    size_t pieces;

    free(frame);
    frame = malloc(len ? len : 1);
    memcpy(frame, bytes, len);
    sn_message_begin(&opening, frame, len, is_cut);
    do {
        pieces = by;
        result = sn_message_go_on(&opening, &pieces);
        cr_assert_leq(pieces, by);
        cr_assert(result != SN_TERM_AGAIN || pieces == 0);
    } while (result == SN_TERM_AGAIN);
    return result;
}

static void expect(const void *bytes, size_t len, bool is_cut, enum sn_term_result result,
                   enum sn_message_kind kind, enum sn_term_result request)
{
    for (size_t by = 1; by < 20; by++) {
        cr_assert_eq(open_by(bytes, len, is_cut, by), result, "by %zu", by);
        if (result != SN_TERM_OK)
            continue;
        cr_assert_eq(opening.message.kind, kind);
        cr_assert_eq(opening.message.result, request, "by %zu: %d", by, opening.message.result);
    }
}

static void expect_slice(struct sn_slice slice, const char *text, size_t len)
{
    cr_assert_eq(slice.len, len);
    cr_assert_arr_eq(slice.data, text, len);
}

Test(sn_message, control_messages)
{
    expect(BYTES("p\x83h\4a\x13w\1aw\1bw\1c"), false, SN_TERM_OK, SN_MESSAGE_CONTROL, SN_TERM_OK);
    cr_assert_eq(opening.message.operation, SN_OP_MONITOR);
    expect_slice(opening.message.control[1], BYTES("w\1a"));
    expect_slice(opening.message.control[3], BYTES("w\1c"));
    expect(BYTES("p\x83i\0\0\0\3a\1w\1aw\1b"), false, SN_TERM_OK, SN_MESSAGE_CONTROL, SN_TERM_OK);
    expect_slice(opening.message.control[2], BYTES("w\1b"));
    /* One that nobody here knows. */
    expect(BYTES("p\x83h\2a\x4d\xff"), false, SN_TERM_OK, SN_MESSAGE_OTHER, SN_TERM_OK);
}

/* Why something ended does not matter, however long it is. */
Test(sn_message, reasons_are_not_looked_at)
{
    expect(BYTES("p\x83h\5a\x15w\1aw\1bw\1c\xff\xff"), false, SN_TERM_OK, SN_MESSAGE_CONTROL,
           SN_TERM_OK);
    expect_slice(opening.message.control[3], BYTES("w\1c"));
    expect(BYTES("p\x83h\5a\x15w\1aw\1bw\1cm\xff\xff\xff\xff"), true, SN_TERM_OK,
           SN_MESSAGE_CONTROL, SN_TERM_OK);
    expect(BYTES("p\x83h\4a\3w\1aw\1bm\xff\xff\xff\xff"), true, SN_TERM_OK, SN_MESSAGE_CONTROL,
           SN_TERM_OK);
    expect_slice(opening.message.control[1], BYTES("w\1a"));
}

Test(sn_message, heads_and_control_messages_that_are_wrong)
{
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {
        {BYTES("")},
        {BYTES("p")},
        {BYTES("q\x83h\3a\1jj")},
        {BYTES("ph\3a\1jj")},
        {BYTES("p\x83j")},
        {BYTES("p\x83h\0")},
        {BYTES("p\x83h\3w\1xjj")},       /* an operation that is no number */
        {BYTES("p\x83h\1a")},            /* cut */
        {BYTES("p\x83h\4a\1jjj")},       /* one element more */
        {BYTES("p\x83h\3a\6w\1pw\0")},   /* one less */
        {BYTES("p\x83h\3a\1j")},         /* cut */
        {BYTES("p\x83h\3a\1jR\0")},      /* no term */
        {BYTES("p\x83h\4a\x0cjjh\1h\1")} /* before the payload */
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        for (size_t len = 0; len <= bad[i].len; len++) {
            enum sn_term_result result = open_by(bad[i].bytes, len, false, 100);

            cr_assert(result == SN_TERM_BAD || result == SN_TERM_CUT, "row %zu: %d", i, result);
        }
    }
}

Test(sn_message, calls)
{
    const struct sn_request *request = &opening.message.request;

    expect(BYTES(CALL "h\4w\4calla\1l\0\0\0\2h\1ja\2jw\1x"), false, SN_TERM_OK, SN_MESSAGE_CALL,
           SN_TERM_OK);
    expect_slice(opening.message.target, BYTES("w\1s"));
    expect_slice(opening.message.from, BYTES("h\2w\1pw\1t"));
    cr_assert_eq(request->arity, 4);
    cr_assert_eq(request->all_terms, 9);
    expect_slice(request->parts[0], BYTES("w\4call"));
    expect_slice(request->parts[2], BYTES("l\0\0\0\2h\1ja\2j"));
    expect_slice(request->parts[3], BYTES("w\1x"));
    cr_assert_eq(request->terms[2], 5);
    cr_assert_eq(request->terms[3], 1);
    cr_assert(sn_request_is_proper_list(request, 2));
    cr_assert(!sn_request_is_proper_list(request, 1));
    expect(BYTES(CALL "w\2ok"), false, SN_TERM_OK, SN_MESSAGE_CALL, SN_TERM_OK);
    cr_assert_eq(request->arity, -1);
    cr_assert_eq(request->all_terms, 1);
    expect_slice(request->term, BYTES("w\2ok"));
    expect(BYTES(CALL "h\0"), false, SN_TERM_OK, SN_MESSAGE_CALL, SN_TERM_OK);
    cr_assert_eq(request->arity, 0);
    expect(BYTES(CAST "h\2w\6cancelj"), false, SN_TERM_OK, SN_MESSAGE_CAST, SN_TERM_OK);
    cr_assert_eq(request->arity, 2);
    expect_slice(request->parts[1], BYTES("j"));
}

/* With a trace token, to a pid. */
Test(sn_message, a_token_before_the_payload)
{
    expect(BYTES("p\x83h\4a\x0cw\0w\1ph\2ja\1\x83h\2w\x9$gen_castj"), false, SN_TERM_OK,
           SN_MESSAGE_CAST, SN_TERM_OK);
    expect_slice(opening.message.target, BYTES("w\1p"));
    expect_slice(opening.message.request.term, BYTES("j"));
}

Test(sn_message, a_request_of_many_parts)
{
    const struct sn_request *request = &opening.message.request;

    expect(BYTES(CALL "h\xaj"
                      "a\1jjjjjl\0\0\0\1jj"
                      "h\2jj"
                      "a\x9"),
           false, SN_TERM_OK, SN_MESSAGE_CALL, SN_TERM_OK);
    cr_assert_eq(request->arity, 10);
    cr_assert_eq(request->all_terms, 15);
    expect_slice(request->parts[7], BYTES("l\0\0\0\1jj"));
    cr_assert(sn_request_is_proper_list(request, 7));
}

Test(sn_message, lists_and_their_tails)
{
    static const struct {
        const char *list;
        bool is_proper;
    } rows[] = {{"[]", true}, {"[1, 2]", true}, {"\"text\"", true}, {"{1}", false}, {"#{}", false}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sn_slice term = term_of(rows[i].list);
        uint8_t bytes[100] = "h\1";
        struct sn_request request;

        memcpy(bytes + 2, term.data, term.len);
        request = sn_request_of((struct sn_slice){bytes, 2 + term.len});
        cr_assert_eq(request.arity, 1);
        cr_assert_eq(sn_request_is_proper_list(&request, 0), rows[i].is_proper, "%s", rows[i].list);
    }
    expect(BYTES(CALL "h\1l\0\0\0\1jl\0\0\0\1jj"), false, SN_TERM_OK, SN_MESSAGE_CALL, SN_TERM_OK);
    cr_assert(!sn_request_is_proper_list(&opening.message.request, 0), "as binary_to_term sees it");
    expect(BYTES(CALL "h\1l\0\0\0\1jm\0\0\0\1j"), false, SN_TERM_OK, SN_MESSAGE_CALL, SN_TERM_OK);
    cr_assert(!sn_request_is_proper_list(&opening.message.request, 0));
}

/* The stream is sound, and whoever asked is known. */
Test(sn_message, requests_that_are_wrong)
{
    static const struct {
        const char *bytes;
        size_t len;
        enum sn_term_result result;
    } rows[] = {{BYTES(CALL "h\2j"), SN_TERM_CUT},
                {BYTES(CALL "h\2jR\0"), SN_TERM_BAD},
                {BYTES(CALL "jj"), SN_TERM_BAD},
                {BYTES(CALL), SN_TERM_CUT},
                {BYTES(CALL "l\0\0\0\1"), SN_TERM_CUT}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        expect(rows[i].bytes, rows[i].len, false, SN_TERM_OK, SN_MESSAGE_CALL, rows[i].result);
        expect_slice(opening.message.from, BYTES("h\2w\1pw\1t"));
    }
}

Test(sn_message, payloads_of_nobody)
{
    expect(BYTES("p\x83" TO_US), false, SN_TERM_OK, SN_MESSAGE_OTHER, SN_TERM_OK);
    expect(BYTES("p\x83" TO_US "\x83h\2w\1xj"), false, SN_TERM_OK, SN_MESSAGE_OTHER, SN_TERM_OK);
    expect(BYTES("p\x83" TO_US "\x83j"), false, SN_TERM_OK, SN_MESSAGE_OTHER, SN_TERM_OK);
    expect(BYTES("p\x83" TO_US "j"), false, SN_TERM_OK, SN_MESSAGE_OTHER, SN_TERM_BAD);
    expect(BYTES("p\x83" TO_US "\x83h\3w\x9$gen_callh\2"), false, SN_TERM_OK, SN_MESSAGE_CALL,
           SN_TERM_CUT);
    cr_assert_null(opening.message.from.data);
}

/* Only the beginning of a frame: its sender is told apart wherever it was cut. */
Test(sn_message, what_is_cut)
{
    static const char bytes[] = CALL "h\2m\xff\xff\xff\xffxxxx";
    size_t before = sizeof("p\x83" TO_US) - 1, with_from = sizeof(CALL) - 1;

    for (size_t len = before + 3; len <= sizeof bytes - 1; len++) {
        expect(bytes, len, true, SN_TERM_OK, SN_MESSAGE_CALL, SN_TERM_LONG);
        cr_assert_eq(opening.message.from.data != NULL, len >= with_from, "%zu", len);
    }
    expect(BYTES(CAST "j"), true, SN_TERM_OK, SN_MESSAGE_CAST, SN_TERM_LONG);
}
