#include "sn_answer.h"

#include "node/pool/sn_pool_term.h"

void sn_answer_end(struct sn_outbox *outbox, struct sn_client *client,
                   const struct sn_caller *caller, const struct sn_writer *reply)
{
    sn_outbox_end_reply(outbox, client, caller, reply, (struct sn_slice){NULL, 0});
}

void sn_answer_ok(struct sn_outbox *outbox, struct sn_client *client,
                  const struct sn_caller *caller)
{
    struct sn_writer reply = sn_outbox_begin_reply(outbox, caller);

    sn_put_atom(&reply, "ok");
    sn_answer_end(outbox, client, caller, &reply);
}

void sn_answer_status(struct sn_outbox *outbox, struct sn_client *client,
                      const struct sn_caller *caller, sp_status status)
{
    struct sn_writer reply;

    if (status == SP_OK) {
        sn_answer_ok(outbox, client, caller);
        return;
    }
    reply = sn_outbox_begin_reply(outbox, caller);
    sn_put_error(&reply, sn_reason_of(status));
    sn_answer_end(outbox, client, caller, &reply);
}

void sn_answer_refusal(struct sn_outbox *outbox, struct sn_client *client,
                       const struct sn_caller *caller, struct sn_pool *pool, sp_status status)
{
    struct sn_writer reply = sn_outbox_begin_reply(outbox, caller);

    sn_pool_put_refusal(&reply, pool, status);
    sn_answer_end(outbox, client, caller, &reply);
}

void sn_answer_bytes(struct sn_outbox *outbox, struct sn_client *client,
                     const struct sn_caller *caller, const void *data, size_t len)
{
    struct sn_writer reply = sn_outbox_begin_reply(outbox, caller);

    sn_put_tuple(&reply, 2);
    sn_put_atom(&reply, "ok");
    sn_put_binary_head(&reply, len);
    sn_outbox_end_reply(outbox, client, caller, &reply, (struct sn_slice){data, len});
}

void sn_answer_bad_argument(struct sn_outbox *outbox, struct sn_client *client,
                            const struct sn_caller *caller, const char *name, struct sn_slice value)
{
    struct sn_writer reply = sn_outbox_begin_reply(outbox, caller);

    sn_put_bad(&reply, "bad_argument");
    sn_put_atom(&reply, name);
    sn_put_slice(&reply, value);
    sn_answer_end(outbox, client, caller, &reply);
}

void sn_answer_error_with(struct sn_outbox *outbox, struct sn_client *client,
                          const struct sn_caller *caller, const char *word, struct sn_slice value)
{
    struct sn_writer reply = sn_outbox_begin_reply(outbox, caller);

    sn_put_tuple(&reply, 2);
    sn_put_atom(&reply, "error");
    sn_put_tuple(&reply, 2);
    sn_put_atom(&reply, word);
    sn_put_slice(&reply, value);
    sn_answer_end(outbox, client, caller, &reply);
}

/* ---- of a node ---- */

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

static void answer_outcome(struct sn_outbox *outbox, const struct sn_promise *promise,
                           const struct sn_outcome *outcome)
{
    struct sn_writer reply = sn_outbox_begin_reply(outbox, &promise->caller);
    struct sn_slice tail = {NULL, 0};

    if (outcome->kind == SN_OUTCOME_RETURNED) {
        sn_put_tuple(&reply, 2);
        sn_put_atom(&reply, "ok");
        tail = outcome->value;
    } else {
        put_exception(&reply, outcome);
    }
    sn_outbox_end_reply(outbox, promise->client, &promise->caller, &reply, tail);
}

void sn_answer_reply(struct sn_outbox *outbox, const struct sn_promise *promise,
                     const struct sn_reply *reply)
{
    struct sn_outcome outcome;
    struct sn_writer answer;

    if (!promise || !promise->client)
        return;
    if (reply->term.data && reply->kind == SN_REPLY_ENDED) {
        outcome = sn_reply_outcome(reply->number, reply->term);
        answer_outcome(outbox, promise, &outcome);
        return;
    }
    answer = sn_outbox_begin_reply(outbox, &promise->caller);
    sn_put_tuple(&answer, 2);
    sn_put_atom(&answer, "error");
    if (reply->term.data) {
        sn_put_tuple(&answer, 2);
        sn_put_atom(&answer, "spawn");
        sn_put_slice(&answer, reply->term);
    } else {
        sn_put_atom(&answer, "bad_reply");
    }
    sn_answer_end(outbox, promise->client, &promise->caller, &answer);
}

void sn_answer_bad_option(struct sn_outbox *outbox, struct sn_client *client,
                          const struct sn_caller *caller, const struct sn_bad_option *bad)
{
    struct sn_writer reply = sn_outbox_begin_reply(outbox, caller);

    sn_put_bad(&reply, "bad_option");
    if (bad->is_tls) {
        sn_put_tuple(&reply, 2);
        sn_put_atom(&reply, "tls");
    }
    sn_put_slice(&reply, bad->key);
    sn_put_slice(&reply, bad->value);
    sn_answer_end(outbox, client, caller, &reply);
}
