#include "sn_reply.h"

#include "sn_operation.h"
#include "node/etf/sn_tag.h"
#include "node/etf/sn_term.h"
#include "node/etf/sn_value.h"

#define HEAD_BYTES 4 /* 112, a version, the tag and arity of a small tuple */

/* Nobody has checked it yet. */
static bool take(struct sn_slice *rest, struct sn_slice *term)
{
    size_t used;

    if (sn_term_check(rest->data, rest->len, &used) != SN_TERM_OK)
        return false;
    *term = (struct sn_slice){rest->data, used};
    *rest = sn_slice_after(*rest, rest->data + used);
    return true;
}

/* {21, From, To, Reference, Reason} */
static void take_exit(struct sn_slice rest, struct sn_reply *reply)
{
    struct sn_slice from, to, reference, reason;

    if (!take(&rest, &from) || !take(&rest, &to) || !take(&rest, &reference) ||
        !sn_slice_reference_number(reference, &reply->number))
        return;
    reply->kind = SN_REPLY_ENDED;
    if (take(&rest, &reason) && rest.len == 0)
        reply->term = reason;
}

/* {31, Reference, To, Flags, Result}; the result is a pid where all went well. */
static void take_spawn_reply(struct sn_slice rest, struct sn_reply *reply)
{
    struct sn_slice reference, to, flags, result;

    if (!take(&rest, &reference) || !take(&rest, &to) || !take(&rest, &flags) ||
        !take(&rest, &result) || !sn_slice_reference_number(reference, &reply->number) ||
        !sn_slice_is_any_atom(result))
        return;
    reply->kind = SN_REPLY_REFUSED;
    reply->term = result;
}

/* {2, Unused, To}, and behind it a message. */
static void take_message(struct sn_slice rest, struct sn_reply *reply)
{
    struct sn_slice unused, to, message;

    if (!take(&rest, &unused) || !take(&rest, &to) || rest.len == 0 || rest.data[0] != SN_VERSION)
        return;
    rest.data++;
    rest.len--;
    if (!take(&rest, &message) || rest.len > 0)
        return;
    reply->kind = SN_REPLY_MESSAGE;
    reply->term = message;
}

void sn_reply_open(const uint8_t *frame, size_t len, struct sn_reply *reply)
{
    struct sn_slice rest, operation;
    int code;

    *reply = (struct sn_reply){.kind = len == 0 ? SN_REPLY_TICK : SN_REPLY_OTHER};
    if (len < HEAD_BYTES || frame[0] != SN_PASS_THROUGH || frame[1] != SN_VERSION ||
        frame[2] != SN_TAG_SMALL_TUPLE)
        return;
    rest = (struct sn_slice){frame + HEAD_BYTES, len - HEAD_BYTES};
    if (!take(&rest, &operation))
        return;
    code = sn_slice_byte(operation);
    if (code == SN_OP_MONITOR_EXIT && frame[3] == 5)
        take_exit(rest, reply);
    else if (code == SN_OP_SPAWN_REPLY && frame[3] == 5)
        take_spawn_reply(rest, reply);
    else if (code == SN_OP_SEND && frame[3] == 3)
        take_message(rest, reply);
}

/* ---- what erpc:execute_call/4 ends with ---- */

static struct sn_outcome exception(const char *word, struct sn_slice value, struct sn_slice stack)
{
    return (struct sn_outcome){SN_OUTCOME_EXCEPTION, word, value, stack};
}

struct sn_outcome sn_reply_outcome(uint64_t number, struct sn_slice reason)
{
    const struct sn_slice none = {NULL, 0};
    struct sn_slice parts[SN_SLICE_PARTS_MAX], inner[SN_SLICE_PARTS_MAX];
    int arity = sn_slice_tuple(reason, parts);
    int64_t given;

    if ((arity == 3 || arity == 4) && sn_value_integer(parts[0], &given) &&
        (uint64_t)given == number) {
        if (arity == 3 && sn_slice_is_atom(parts[1], "return"))
            return (struct sn_outcome){.kind = SN_OUTCOME_RETURNED, .value = parts[2]};
        if (arity == 3 && sn_slice_is_atom(parts[1], "throw"))
            return exception("throw", parts[2], none);
        if (arity == 3 && sn_slice_is_atom(parts[1], "exit"))
            return exception("exit", parts[2], none);
        if (arity == 4 && sn_slice_is_atom(parts[1], "error"))
            return exception("error", parts[2], parts[3]);
        if (arity == 3 && sn_slice_is_atom(parts[1], "error") &&
            sn_slice_tuple(parts[2], inner) == 2 && sn_slice_is_atom(inner[0], "erpc"))
            return exception("error", inner[1], none);
    }
    return (struct sn_outcome){.kind = SN_OUTCOME_SIGNAL, .word = "exit", .value = reason};
}
