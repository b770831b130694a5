/* libFuzzer over sp_dist_answer: what is answered does not depend on what follows, fits, and is a frame of
 * whole terms where the question is one. The first byte tells which operation and arity the input is put
 * behind, if any, which parts of questions are in front of it, and whether a process has the connection. */
#include "node/dist/sn_operation.h"
#include "node/etf/sn_term.h"
#include "core/dist/sp_dist_answer.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX 2048
#define MORE 7
#define PID "Xw\1a\0\0\0\1\0\0\0\0\0\0\0\1"
#define CALL PID "w\0w\12net_kernel\203h\3w\11$gen_callh\2" PID
#define IS_AUTH "Z\0\1w\1a\0\0\0\1\0\0\0\7h\2w\7is_auth"
#define PASS_THROUGH 112
#define VERSION 131

static const struct {
    uint8_t operation, arity;
} questions[] = {{SN_OP_MONITOR, 4}, {SN_OP_LINK, 3}, {SN_OP_UNLINK_ID, 4}, {SN_OP_REG_SEND, 4}};

static size_t add(uint8_t *bytes, size_t at, const void *data, size_t len)
{
    memcpy(bytes + at, data, len);
    return at + len;
}

static size_t compose(uint8_t *frame, const uint8_t *data, size_t len)
{
    unsigned how = data[0], which = how & 3;
    const uint8_t head[] = {PASS_THROUGH,           VERSION, 'h',
                            questions[which].arity, 'a',     questions[which].operation};
    size_t at = 0;

    if (!(how & 4))
        at = add(frame, at, head, sizeof head);
    if (how & 32)
        at = add(frame, at, CALL, sizeof CALL - 1);
    else if (how & 8)
        at = add(frame, at, PID, sizeof PID - 1);
    if (how & 64)
        at = add(frame, at, IS_AUTH, sizeof IS_AUTH - 1);
    return add(frame, at, data + 1, len - 1);
}

static bool is_known(const uint8_t *frame)
{
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++)
        if (frame[5] == questions[i].operation && frame[3] == questions[i].arity)
            return true;
    return false;
}

/* A control message and nothing else, or one more term. */
static bool is_whole(const uint8_t *frame, size_t len)
{
    size_t at = 1, used;

    for (int terms = 0; terms < 2 && at < len; terms++) {
        if (frame[at] != VERSION ||
            sn_term_check(frame + at + 1, len - at - 1, &used) != SN_TERM_OK)
            return false;
        at += 1 + used;
    }
    return at == len && at > 1;
}

/* In a piece of memory of its length. */
static size_t ask(const uint8_t *frame, size_t len, const uint8_t *user,
                  uint8_t answer[SP_DIST_ANSWER_MAX])
{
    uint8_t *copy = malloc(len ? len : 1);
    size_t answered;

    if (!copy)
        abort();
    memcpy(copy, frame, len);
    answered = sp_dist_answer(copy, len, user, answer);
    free(copy);
    return answered;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static uint8_t answer[SP_DIST_ANSWER_MAX], again[SP_DIST_ANSWER_MAX];
    uint8_t frame[INPUT_MAX + 128 + MORE];
    const uint8_t *user;
    size_t frame_len, answered;

    if (len == 0 || len > INPUT_MAX)
        return 0;
    user = data[0] & 16 ? (const uint8_t *)PID + sizeof PID - 1 - SP_DIST_PID_NUMBERS : NULL;
    frame_len = compose(frame, data, len);
    answered = ask(frame, frame_len, user, answer);
    if (answered == 0)
        return 0;
    memset(frame + frame_len, 'x', MORE);
    if (answered > SP_DIST_ANSWER_MAX || answer[0] != PASS_THROUGH ||
        ask(frame, frame_len + MORE, user, again) != answered ||
        memcmp(answer, again, answered) != 0)
        abort();
    if (is_known(frame) && is_whole(frame, frame_len) && !is_whole(answer, answered))
        abort();
    return 0;
}
