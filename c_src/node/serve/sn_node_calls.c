#include "sn_node_calls.h"

#include "sn_answer.h"
#include "sn_io.h"
#include "sn_channel.h"
#include "node/etf/sn_value.h"

#include <errno.h>

/* One of them: {_, Id, Target, ...} */
struct asked {
    struct sn_sessions *sessions;
    struct sn_pools *pools;
    struct sn_client *client;
    const struct sn_caller *caller;
    struct sn_slice id, target;
    struct sn_node_request node_request;
    uint64_t timeout_ns;
    struct sn_slice wrong; /* what is wrong with the node_request, and what it is called */
    const char *wrong_name;
};

static void answer_status(const struct asked *asked, sp_status status)
{
    sn_answer_status(asked->sessions->outbox, asked->client, asked->caller, status);
}

static void answer_bad_argument(const struct asked *asked, const char *name, struct sn_slice value)
{
    sn_answer_bad_argument(asked->sessions->outbox, asked->client, asked->caller, name, value);
}

static void refuse_transport(struct sn_outbox *outbox, struct sn_client *client,
                             const struct sn_caller *caller, const char *transport)
{
    struct sn_writer reply = sn_outbox_begin_reply(outbox, caller);

    sn_put_bad(&reply, "bad_option");
    sn_put_atom(&reply, "transport");
    sn_put_atom(&reply, transport);
    sn_answer_end(outbox, client, caller, &reply);
}

void sn_node_calls_refuse_stream(struct sn_outbox *outbox, struct sn_client *client,
                                 const struct sn_caller *caller)
{
    refuse_transport(outbox, client, caller, "node");
}

/* ---- the node_request ---- */

#define TIMEOUT_MAX_MS INT64_C(0xffffffff)

bool sn_node_calls_timeout(struct sn_slice term, uint64_t *ns)
{
    int64_t ms;

    if (sn_slice_is_atom(term, "infinity")) {
        *ns = SP_NEVER;
        return true;
    }
    if (!sn_value_integer(term, &ms) || ms < 0 || ms > TIMEOUT_MAX_MS)
        return false;
    *ns = (uint64_t)ms * SP_MS;
    return true;
}

static void note_wrong(struct asked *asked, const char *name, struct sn_slice value)
{
    if (!asked->wrong_name) {
        asked->wrong_name = name;
        asked->wrong = value;
    }
}

static void check_call(struct asked *asked, const struct sn_request *request)
{
    struct sn_slice timeout = request->parts[6];

    if (!sn_slice_is_any_atom(asked->node_request.module))
        note_wrong(asked, "module", asked->node_request.module);
    if (!sn_slice_is_any_atom(asked->node_request.function))
        note_wrong(asked, "function", asked->node_request.function);
    if (!sn_node_calls_timeout(timeout, &asked->timeout_ns))
        note_wrong(asked, "timeout", timeout);
    if (!sn_request_is_proper_list(request, 5))
        note_wrong(asked, "args", asked->node_request.args);
}

/* Whether it can be a process of the pool's node. {Name, Node} becomes its name. */
static bool get_destination(const struct sn_options *options, struct sn_slice *destination)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX];

    if (sn_slice_tuple(*destination, parts) == 2 && sn_slice_is_atom(parts[1], options->node))
        *destination = parts[0];
    else if (sn_slice_is_pid(*destination))
        return sn_slice_is_atom(sn_slice_pid_node(*destination), options->node);
    return sn_slice_is_any_atom(*destination);
}

static void check_destination(struct asked *asked, const struct sn_pool *pool)
{
    struct sn_slice given = asked->node_request.destination;

    if (!asked->node_request.is_call &&
        !get_destination(&pool->options, &asked->node_request.destination))
        note_wrong(asked, "destination", given);
}

static bool answer_wrong(const struct asked *asked)
{
    if (asked->wrong_name)
        answer_bad_argument(asked, asked->wrong_name, asked->wrong);
    return asked->wrong_name != NULL;
}

/* ---- targets ---- */

static void ask_lease(struct asked *asked, uint64_t number)
{
    struct sn_session *session = sn_session_by_number(asked->sessions, number);

    if (!session || !sn_session_has_connection(session)) {
        answer_status(asked, SP_CLOSED);
        return;
    }
    if (!session->channel) {
        answer_bad_argument(asked, "node_conn", asked->target);
        return;
    }
    check_destination(asked, session->pool);
    if (!answer_wrong(asked))
        sn_channel_take(session, asked->client, asked->caller, &asked->node_request,
                        asked->timeout_ns);
}

static void ask_pool(struct asked *asked, const char *name, size_t name_len)
{
    struct sn_pool *pool = sn_pools_find(asked->pools, name, name_len);

    if (answer_wrong(asked))
        return;
    if (!pool) {
        answer_status(asked, SP_NOT_FOUND);
    } else if (asked->pools->draining) {
        answer_status(asked, SP_DRAINING);
    } else if (!pool->options.node) {
        refuse_transport(asked->sessions->outbox, asked->client, asked->caller,
                         pool->options.config.transport->name);
    } else if (!sn_sessions_may_keep(asked->sessions, asked->client,
                                     sn_node_request_len(&asked->node_request))) {
        answer_status(asked, -ENOBUFS);
    } else {
        check_destination(asked, pool);
        if (!answer_wrong(asked))
            sn_io_node_request(asked->sessions, asked->client, asked->caller, pool, asked->id,
                               &asked->node_request,
                               asked->node_request.is_by_default ? pool->options.checkout_timeout_ns
                                                                 : asked->timeout_ns);
    }
}

static bool ask(struct asked *asked)
{
    char name[SN_ATOM_BYTES_MAX + 1];
    uint64_t number;
    size_t len;

    if (!sn_slice_is_reference(asked->id))
        return false;
    if (sn_lease_number(asked->sessions, asked->target, &number)) {
        ask_lease(asked, number);
        return true;
    }
    if (!sn_value_atom(asked->target, name, &len) || sn_session_by_id(asked->sessions, asked->id))
        return false;
    ask_pool(asked, name, len);
    return true;
}

static struct asked asked_of(struct sn_sessions *sessions, struct sn_pools *pools,
                             struct sn_client *client, const struct sn_caller *caller,
                             const struct sn_request *request)
{
    return (struct asked){.sessions = sessions,
                          .pools = pools,
                          .client = client,
                          .caller = caller,
                          .id = request->parts[1],
                          .target = request->parts[2]};
}

bool sn_node_calls_call(struct sn_sessions *sessions, struct sn_pools *pools,
                        struct sn_client *client, const struct sn_caller *caller,
                        const struct sn_request *request)
{
    const struct sn_slice *parts = request->parts;
    struct asked asked = asked_of(sessions, pools, client, caller, request);

    asked.node_request = (struct sn_node_request){
        .is_call = true, .module = parts[3], .function = parts[4], .args = parts[5]};
    check_call(&asked, request);
    return ask(&asked);
}

bool sn_node_calls_send(struct sn_sessions *sessions, struct sn_pools *pools,
                        struct sn_client *client, const struct sn_caller *caller,
                        const struct sn_request *request)
{
    const struct sn_slice *parts = request->parts;
    struct asked asked = asked_of(sessions, pools, client, caller, request);

    asked.node_request = (struct sn_node_request){.destination = parts[3], .message = parts[4]};
    asked.node_request.is_by_default = sn_slice_is_atom(parts[5], "default");
    asked.timeout_ns = SP_NEVER;
    if (!asked.node_request.is_by_default && !sn_node_calls_timeout(parts[5], &asked.timeout_ns))
        note_wrong(&asked, "timeout", parts[5]);
    return ask(&asked);
}
