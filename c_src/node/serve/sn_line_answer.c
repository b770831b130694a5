#include "sn_line_answer.h"

#include "sn_answer.h"

static void put_exception(struct sn_writer *reply, const struct sn_outcome *outcome)
{
    sn_put_tuple(reply, 2);
    sn_put_atom(reply, "error");
    sn_put_tuple(reply, 4);
    sn_put_atom(reply, "exception");
    sn_put_atom(reply, outcome->word);
    if (outcome->kind == SN_OUTCOME_SIGNAL) {
        sn_put_tuple(reply, 2);
        sn_put_atom(reply, "signal");
    }
    sn_put_slice(reply, outcome->value);
    if (outcome->stack.data)
        sn_put_slice(reply, outcome->stack);
    else
        sn_put_nil(reply);
}

static void answer_outcome(struct sn_mail *mail, const struct sn_promise *promise,
                           const struct sn_outcome *outcome)
{
    struct sn_writer reply = sn_mail_begin_reply(mail, &promise->caller);
    struct sn_slice tail = {NULL, 0};

    if (outcome->kind == SN_OUTCOME_RETURNED) {
        sn_put_tuple(&reply, 2);
        sn_put_atom(&reply, "ok");
        tail = outcome->value;
    } else {
        put_exception(&reply, outcome);
    }
    sn_mail_end_reply(mail, promise->client, &promise->caller, &reply, tail);
}

void sn_line_answer(struct sn_mail *mail, const struct sn_promise *promise,
                    const struct sn_reply *reply)
{
    struct sn_outcome outcome;
    struct sn_writer answer;

    if (!promise || !promise->client)
        return;
    if (reply->term.data && reply->kind == SN_REPLY_ENDED) {
        outcome = sn_reply_outcome(reply->number, reply->term);
        answer_outcome(mail, promise, &outcome);
        return;
    }
    answer = sn_mail_begin_reply(mail, &promise->caller);
    sn_put_tuple(&answer, 2);
    sn_put_atom(&answer, "error");
    if (reply->term.data) {
        sn_put_tuple(&answer, 2);
        sn_put_atom(&answer, "spawn");
        sn_put_slice(&answer, reply->term);
    } else {
        sn_put_atom(&answer, "bad_reply");
    }
    sn_answer_end(mail, promise->client, &promise->caller, &answer);
}
