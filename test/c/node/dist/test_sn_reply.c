/* sn_reply: each frame that matters at every cut, and what else a node may send. */
#include "node/dist/sn_reply.h"

#include "kit/term_kit.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define PID "Xw\3a@b\0\0\0\1\0\0\0\0\0\0\0\7"
#define REF "Z\0\3w\3a@b\0\0\0\7\0\0\0\0\0\0\0\1\0\0\0\2"
#define NUMBER UINT64_C(0x100000002)
#define FRAME(text) text, sizeof(text) - 1

static struct sn_reply reply;

static uint8_t *held;

static void end(void)
{
    free(held);
}

TestSuite(sn_reply, .fini = end);

/* In memory of exactly its size, which stays until the next one or the test's end. */
static enum sn_reply_kind open_frame(const char *bytes, size_t len)
{
    free(held);
    held = malloc(len);
    memcpy(held, bytes, len);
    sn_reply_open(held, len, &reply);
    return reply.kind;
}

static void assert_term(const char *bytes)
{
    cr_assert(reply.term.data && reply.term.len == strlen(bytes) &&
                  memcmp(reply.term.data, bytes, reply.term.len) == 0,
              "not %s", bytes);
}

Test(sn_reply, a_tick)
{
    sn_reply_open(NULL, 0, &reply);
    cr_assert_eq(reply.kind, SN_REPLY_TICK);
}

Test(sn_reply, the_end_of_a_call)
{
    static const char frame[] = "p\x83h\5a\x15" PID PID REF "h\3a\1w\6returnw\2ok";
    const size_t len = sizeof frame - 1, reason = len - 14;

    cr_assert_eq(open_frame(frame, len), SN_REPLY_ENDED);
    cr_assert_eq(reply.number, NUMBER);
    assert_term("h\3a\1w\6returnw\2ok");
    /* Who is meant is known as soon as the reason begins; one that is not whole is none. */
    for (size_t cut = 1; cut < len; cut++) {
        cr_assert_eq(open_frame(frame, cut), cut < reason - 2 ? SN_REPLY_OTHER : SN_REPLY_ENDED,
                     "cut at %zu of %zu", cut, len);
        cr_assert(!reply.term.data);
    }
    cr_assert_eq(open_frame(FRAME("p\x83h\5a\x15" PID PID REF "a\1a\2")), SN_REPLY_ENDED);
    cr_assert(!reply.term.data, "something follows");
    cr_assert_eq(open_frame(FRAME("p\x83h\5a\x15" PID PID REF "\xff")), SN_REPLY_ENDED);
    cr_assert(!reply.term.data, "no term");
    cr_assert_eq(open_frame(FRAME("p\x83h\5a\x15" PID PID PID "a\1")), SN_REPLY_OTHER);
}

Test(sn_reply, a_refusal)
{
    cr_assert_eq(open_frame(FRAME("p\x83h\5a\x1f" REF PID "a\0w\7notsup!")), SN_REPLY_REFUSED);
    cr_assert_eq(reply.number, NUMBER);
    cr_assert_eq(reply.term.len, 9);
    cr_assert_eq(open_frame(FRAME("p\x83h\5a\x1f" REF PID "a\0" PID)), SN_REPLY_OTHER);
    cr_assert_eq(open_frame(FRAME("p\x83h\5a\x1f" REF PID "a\0")), SN_REPLY_OTHER);
}

Test(sn_reply, a_message)
{
    cr_assert_eq(open_frame(FRAME("p\x83h\3a\2w\0" PID "\x83w\2ok")), SN_REPLY_MESSAGE);
    assert_term("w\2ok");
    cr_assert_eq(open_frame(FRAME("p\x83h\3a\2w\0" PID)), SN_REPLY_OTHER);
    cr_assert_eq(open_frame(FRAME("p\x83h\3a\2w\0" PID "w\2ok")), SN_REPLY_OTHER);
    cr_assert_eq(open_frame(FRAME("p\x83h\3a\2w\0" PID "\x83w\2o")), SN_REPLY_OTHER);
    cr_assert_eq(open_frame(FRAME("p\x83h\3a\2w\0" PID "\x83w\2okk")), SN_REPLY_OTHER);
}

Test(sn_reply, what_is_no_use)
{
    cr_assert_eq(open_frame(FRAME("p")), SN_REPLY_OTHER);
    cr_assert_eq(open_frame(FRAME("q\x83h\3a\2w\0" PID "\x83w\2ok")), SN_REPLY_OTHER);
    cr_assert_eq(open_frame(FRAME("p\x82h\3a\2w\0" PID "\x83w\2ok")), SN_REPLY_OTHER);
    cr_assert_eq(open_frame(FRAME("p\x83h\4a\2w\0" PID "\x83w\2ok")), SN_REPLY_OTHER);
    cr_assert_eq(open_frame(FRAME("p\x83h\3a\3w\0" PID "\x83w\2ok")), SN_REPLY_OTHER);
    cr_assert_eq(open_frame(FRAME("p\x83h\0")), SN_REPLY_OTHER);
    cr_assert_eq(open_frame(FRAME("p\x83h\5w\2ok")), SN_REPLY_OTHER);
}

static struct sn_outcome outcome_of(const char *text)
{
    return sn_reply_outcome(7, term_of(text));
}

static void assert_outcome(const char *text, enum sn_outcome_kind kind, const char *word,
                           const char *value, const char *stack)
{
    struct sn_outcome outcome = outcome_of(text);

    cr_assert_eq(outcome.kind, kind, "%s", text);
    cr_assert(word ? outcome.word && strcmp(outcome.word, word) == 0 : !outcome.word, "%s", text);
    cr_assert(sn_slice_equals(outcome.value, term_of(value)), "%s: not %s", text, value);
    if (stack)
        cr_assert(sn_slice_equals(outcome.stack, term_of(stack)), "%s: not %s", text, stack);
    else
        cr_assert(!outcome.stack.data, "%s", text);
}

Test(sn_reply, outcomes)
{
    const char *signals[] = {"killed",
                             "{8, return, ok}",
                             "{7, return}",
                             "{7, return, a, b}",
                             "{a, return, ok}",
                             "{7, error, {rpc, x}}",
                             "{7, error, x}",
                             "{7, other, x}",
                             "[7]"};

    assert_outcome("{7, return, [1, 2]}", SN_OUTCOME_RETURNED, NULL, "[1, 2]", NULL);
    assert_outcome("{7, throw, x}", SN_OUTCOME_EXCEPTION, "throw", "x", NULL);
    assert_outcome("{7, exit, x}", SN_OUTCOME_EXCEPTION, "exit", "x", NULL);
    assert_outcome("{7, error, x, [s]}", SN_OUTCOME_EXCEPTION, "error", "x", "[s]");
    assert_outcome("{7, error, {erpc, x}}", SN_OUTCOME_EXCEPTION, "error", "x", NULL);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        assert_outcome(signals[i], SN_OUTCOME_SIGNAL, "exit", signals[i], NULL);
}
