/* sp_dist_answer: each question that is answered, whole and at every cut, what is not answered, and the
 * question of ours. */
#include "core/dist/sp_dist_answer.h"
#include "core/dist/sp_node.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define THEM "Xw\3a@b\0\0\0\1\0\0\0\0\0\0\0\7"
#define OLD "gd\0\3a@b\0\0\0\1\0\0\0\0\3"
#define US "Xw\3u@b\0\0\0\2\0\0\0\0\0\0\0\5"
#define REF "Z\0\3w\3a@b\0\0\0\7\0\0\0\0\0\0\0\1\0\0\0\2"
#define OLD_REF "r\0\3d\0\3a@b\1\0\0\0\1\0\0\0\2\0\0\0\3"
#define TEXT(text) text, sizeof(text) - 1

static uint8_t answer[SP_DIST_ANSWER_MAX];
static const uint8_t *user;

/* In memory of exactly its size. */
static size_t ask(const char *frame, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    size_t answered;

    memcpy(copy, frame, len);
    answered = sp_dist_answer(copy, len, user, answer);
    free(copy);
    return answered;
}

/* The frame's last bytes are not looked at. */
static void assert_answer(const char *frame, size_t len, size_t unused, const char *expected,
                          size_t expected_len)
{
    size_t answered = ask(frame, len);

    cr_assert_eq(answered, expected_len, "%zu bytes of %zu", answered, expected_len);
    cr_assert(memcmp(answer, expected, expected_len) == 0);
    for (size_t cut = 0; cut < len - unused; cut++)
        cr_assert_eq(ask(frame, cut), 0, "cut at %zu of %zu", cut, len);
}

static void assert_none(const char *frame, size_t len)
{
    cr_assert_eq(ask(frame, len), 0);
}

Test(dist_answer, monitor)
{
    assert_answer(TEXT("p\x83h\4a\x13" THEM "w\3rex" REF), 0,
                  TEXT("p\x83h\5a\x15"
                       "w\3rex" THEM REF "w\6noproc"));
    assert_answer(TEXT("p\x83h\4a\x13" THEM US REF), 0,
                  TEXT("p\x83h\5a\x15" US THEM REF "w\6noproc"));
    assert_answer(TEXT("p\x83h\4a\x13" OLD "d\0\3rex" OLD_REF), 0,
                  TEXT("p\x83h\5a\x15"
                       "d\0\3rex" OLD OLD_REF "w\6noproc"));
    assert_none(TEXT("p\x83h\4a\x13" THEM "w\12net_kernel" REF));
    assert_none(TEXT("p\x83h\4a\x13" THEM "d\0\12net_kernel" REF));
    assert_answer(TEXT("p\x83h\4a\x13" THEM "w\11net_kerne" REF), 0,
                  TEXT("p\x83h\5a\x15"
                       "w\11net_kerne" THEM REF "w\6noproc"));
}

Test(dist_answer, link_and_unlink)
{
    assert_answer(TEXT("p\x83h\3a\1" THEM US), 0, TEXT("p\x83h\4a\3" US THEM "w\6noproc"));
    assert_answer(TEXT("p\x83h\4a\x23"
                       "a\7" THEM US),
                  0,
                  TEXT("p\x83h\4a\x24"
                       "a\7" US THEM));
    assert_answer(TEXT("p\x83h\4a\x23"
                       "b\0\1\0\7" THEM US),
                  0,
                  TEXT("p\x83h\4a\x24"
                       "b\0\1\0\7" US THEM));
    assert_answer(TEXT("p\x83h\4a\x23"
                       "n\5\0\1\2\3\4\5" THEM US),
                  0,
                  TEXT("p\x83h\4a\x24"
                       "n\5\0\1\2\3\4\5" US THEM));
}

#define IS_AUTH(tag)                                                                               \
    "p\x83h\4a\6" THEM "w\0w\12net_kernel\x83h\3w\11$gen_callh\2" THEM tag "h\2w\7is_auth"
#define NODE "w\3a@b"

Test(dist_answer, is_auth)
{
    assert_answer(TEXT(IS_AUTH(REF) NODE), sizeof NODE - 1,
                  TEXT("p\x83h\3a\2w\0" THEM "\x83h\2" REF "w\3yes"));
    assert_answer(TEXT(IS_AUTH("l\0\0\0\1w\5alias" REF) NODE), sizeof NODE - 1,
                  TEXT("p\x83h\3a\2w\0" THEM "\x83h\2l\0\0\0\1w\5alias" REF "w\3yes"));
    assert_none(TEXT(IS_AUTH("l\0\0\0\1w\5aliaz" REF) NODE));
    assert_none(TEXT(IS_AUTH("l\0\0\0\2w\5alias" REF) NODE));
    assert_none(TEXT(IS_AUTH("w\1x") NODE));
    assert_none(
        TEXT("p\x83h\4a\6" THEM "w\0w\3rex\x83h\3w\11$gen_callh\2" THEM REF "h\2w\7is_auth" NODE));
    assert_none(TEXT("p\x83h\4a\6" THEM "w\0w\12net_kernel\x83h\3w\11$gen_casth\2" THEM REF
                     "h\2w\7is_auth" NODE));
    assert_none(TEXT("p\x83h\4a\6" THEM "w\0w\12net_kernel\x83h\3w\11$gen_callh\2" THEM REF
                     "h\2w\7is_aunt" NODE));
}

Test(dist_answer, others)
{
    assert_none("", 0);
    assert_none(TEXT("p\x83h\3a\2w\0" US "\x83"
                     "a\1"));
    assert_none(TEXT("p\x83h\4a\x14" THEM US REF)); /* a monitor is taken back */
    assert_none(TEXT("q\x83h\4a\x13" THEM "w\3rex" REF));
    assert_none(TEXT("p\x82h\4a\x13" THEM "w\3rex" REF));
    assert_none(TEXT("p\x83i\4a\x13" THEM "w\3rex" REF));
    assert_none(TEXT("p\x83h\4b\x13" THEM "w\3rex" REF));
    assert_none(TEXT("p\x83h\4a\x13" REF "w\3rex" REF));
    assert_none(TEXT("p\x83h\4a\x13" THEM REF REF));
    assert_none(TEXT("p\x83h\4a\x13" THEM "w\3rex" THEM));
    assert_none(TEXT("p\x83h\3a\1" THEM "w\3rex"));
    assert_none(TEXT("p\x83h\4a\x23" THEM THEM US));
}

/* Who has the connection lives; others of its names do not. */
Test(dist_answer, user)
{
    user = (const uint8_t *)"\0\0\0\2\0\0\0\0\0\0\0\5";
    assert_none(TEXT("p\x83h\4a\x13" THEM US REF));
    assert_none(TEXT("p\x83h\3a\1" THEM US));
    user = (const uint8_t *)"\0\0\0\3\0\0\0\0\0\0\0\5";
    assert_answer(TEXT("p\x83h\4a\x13" THEM US REF), 0,
                  TEXT("p\x83h\5a\x15" US THEM REF "w\6noproc"));
    assert_answer(TEXT("p\x83h\3a\1" THEM US), 0, TEXT("p\x83h\4a\3" US THEM "w\6noproc"));
}

/* What there is no room for is not said. */
Test(dist_answer, too_large)
{
    static char frame[5000] = "p\x83h\4a\x23n\xff";

    frame[8 + 1 + 255] = 'X';
    memset(frame + 8 + 1, 1, 255);
    for (size_t at = 8 + 1 + 255, i = 0; i < 2; i++, at += 1 + 3 + 2000 + 12) {
        frame[at] = 'X';
        frame[at + 1] = 'd';
        frame[at + 2] = (char)(2000 >> 8);
        frame[at + 3] = (char)(2000 & 0xff);
    }
    assert_none(frame, 8 + 1 + 255 + 2 * (1 + 3 + 2000 + 12));
}

Test(dist_answer, probe)
{
    const struct sp_node_names us = {.creation = 5, .name = "u@b", .peer_name = "a@b"};
    static const char expected[] = "p\x83h\4a\x13"
                                   "Xw\3u@b\0\0\0\0\0\0\0\0\0\0\0\5"
                                   "w\11undefined"
                                   "Z\0\3w\3u@b\0\0\0\5\0\0\0\0\0\0\0\0\0\0\0\0";
    uint8_t probe[SP_DIST_ANSWER_MAX];

    cr_assert_eq(sp_dist_probe(&us, probe), sizeof expected - 1);
    cr_assert(memcmp(probe, expected, sizeof expected - 1) == 0);
}
