#include "sn_service.h"

#include "sn_answer.h"
#include "sn_io.h"
#include "sn_leak.h"
#include "sn_session_end.h"
#include "node/base/sn_log.h"
#include "node/option/sn_option.h"

#include <string.h>

sp_status sn_service_init(struct sn_service *service, const struct sn_identity *us,
                          const struct sn_here *here, struct sn_loop *loop)
{
    sp_status status = sn_outbox_init(&service->outbox, us);

    if (status == SP_OK)
        status = sn_pools_init(&service->pools, loop, here, sn_io_ended_leases);
    service->pools.leaked = sn_leak_tell;
    if (status == SP_OK)
        status = sn_calls_init(&service->calls, loop, &service->outbox, &service->pools);
    return status;
}

void sn_service_free(struct sn_service *service)
{
    sn_calls_free(&service->calls);
    sn_pools_free(&service->pools);
    sn_outbox_free(&service->outbox);
}

/* ---- monitors and links ---- */

/* For a node that has more of them than it may: those beyond end at once. */
static const char *why_not(struct sn_client *client, sp_status status)
{
    unsigned count;

    if (status == SP_NOT_FOUND)
        return "noproc";
    count = sn_log_allowed(&client->refusals, uv_hrtime());
    if (count)
        sn_log(SN_LOG_WARNING, "watch_refused",
               "node=%s reason=\"too many monitors and links\" count=%u", client->name, count);
    return "system_limit";
}

static sp_status take_monitor(struct sn_service *service, struct sn_client *client,
                              const struct sn_slice *parts)
{
    sp_status status = SP_NOT_FOUND;

    if (!sn_slice_is_pid(parts[1]) || !sn_slice_is_reference(parts[3]))
        return SP_BAD_DATA;
    if (sn_outbox_is_to_us(&service->outbox, parts[2]))
        status = sn_watches_add(&client->watches, SN_WATCH_MONITOR, parts[1], parts[3], parts[2]);
    if (status == SP_NOT_FOUND || status == SP_FULL)
        sn_outbox_down(&service->outbox, client, parts[2], parts[1], parts[3],
                       why_not(client, status));
    return status == SP_NO_MEMORY ? status : SP_OK;
}

static sp_status take_link(struct sn_service *service, struct sn_client *client,
                           const struct sn_slice *parts)
{
    sp_status status = SP_NOT_FOUND;

    if (!sn_slice_is_pid(parts[1]) || !sn_slice_is_pid(parts[2]))
        return SP_BAD_DATA;
    if (sn_outbox_is_to_us(&service->outbox, parts[2]))
        status = sn_watches_add(&client->watches, SN_WATCH_LINK, parts[1],
                                (struct sn_slice){NULL, 0}, parts[2]);
    if (status == SP_NOT_FOUND || status == SP_FULL)
        sn_outbox_exit(&service->outbox, client, parts[2], parts[1], why_not(client, status));
    return status == SP_NO_MEMORY ? status : SP_OK;
}

/* A process that we watch has died. */
static sp_status take_monitor_exit(struct sn_service *service, const struct sn_slice *parts)
{
    if (!sn_slice_is_reference(parts[3]))
        return SP_BAD_DATA;
    sn_sessions_process_down(&service->calls.sessions, parts[1],
                             sn_outbox_monitor_number(&service->outbox, parts[3]));
    return SP_OK;
}

/* ---- calls ---- */

/* Who is to be answered, and over which connection: that of the process's node, which is another one
 * where the message was passed on; where that is not connected, the one that it came by. */
static bool get_caller(struct sn_calls *calls, struct sn_slice from, struct sn_client **client,
                       struct sn_caller *caller)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX], head, tail, node;
    struct sn_client *other;

    if (sn_slice_tuple(from, parts) != 2 || !sn_slice_is_pid(parts[0]))
        return false;
    node = sn_slice_pid_node(parts[0]);
    if (!sn_slice_is_atom(node, (*client)->name) && (other = sn_calls_client(calls, node)))
        *client = other;
    *caller = (struct sn_caller){.pid = parts[0], .tag = parts[1]};
    if (((*client)->flags & SP_DIST_FLAG_ALIAS) && sn_slice_cons(parts[1], &head, &tail) &&
        sn_slice_is_atom(head, "alias") && sn_slice_is_reference(tail))
        caller->alias = tail;
    return true;
}

/* {is_auth, Node}; whatever else net_kernel is asked gets no answer. */
static void call_net_kernel(struct sn_service *service, struct sn_client *client,
                            const struct sn_caller *caller, const struct sn_request *request)
{
    struct sn_writer reply;

    if (request->arity != 2 || !sn_slice_is_atom(request->parts[0], "is_auth"))
        return;
    reply = sn_outbox_begin_reply(&service->outbox, caller);
    sn_put_atom(&reply, "yes");
    sn_outbox_end_reply(&service->outbox, client, caller, &reply, (struct sn_slice){NULL, 0});
}

/* A request that no node sends, or that is longer than a frame may be. */
static void refuse(struct sn_service *service, struct sn_client *client,
                   const struct sn_caller *caller, enum sn_term_result result)
{
    static const struct sn_atom undefined = SN_ATOM("undefined");

    if (result == SN_TERM_LONG || result == SN_TERM_DEEP)
        sn_answer_status(&service->outbox, client, caller, SP_TOO_BIG);
    else
        sn_answer_error_with(&service->outbox, client, caller, "bad_request",
                             sn_atom_slice(&undefined));
}

static void take_call(struct sn_service *service, struct sn_client *client,
                      const struct sn_message *message)
{
    struct sn_caller caller;

    if (!message->from.data || !get_caller(&service->calls, message->from, &client, &caller))
        return;
    if (message->result != SN_TERM_OK)
        refuse(service, client, &caller, message->result);
    else if (sn_slice_is_atom(message->target, "net_kernel"))
        call_net_kernel(service, client, &caller, &message->request);
    else
        sn_calls_take(&service->calls, client, &caller, &message->request);
}

/* ---- all ---- */

static sp_status take_control(struct sn_service *service, struct sn_client *client,
                              const struct sn_message *message)
{
    const struct sn_slice *parts = message->control;

    switch (message->operation) {
    case SN_OP_LINK:
        return take_link(service, client, parts);
    case SN_OP_UNLINK:
    case SN_OP_EXIT:
    case SN_OP_EXIT_TT:
        sn_watches_drop(&client->watches, SN_WATCH_LINK, parts[1]);
        return SP_OK;
    case SN_OP_UNLINK_ID:
        sn_watches_drop(&client->watches, SN_WATCH_LINK, parts[2]);
        sn_outbox_unlinked(&service->outbox, client, parts[1], parts[3], parts[2]);
        return SP_OK;
    case SN_OP_MONITOR:
        return take_monitor(service, client, parts);
    case SN_OP_DEMONITOR:
        sn_watches_drop(&client->watches, SN_WATCH_MONITOR, parts[3]);
        return SP_OK;
    default: /* SN_OP_MONITOR_EXIT */
        return take_monitor_exit(service, parts);
    }
}

sp_status sn_service_take(struct sn_service *service, struct sn_client *client,
                          const struct sn_message *message)
{
    if (message->kind == SN_MESSAGE_CONTROL)
        return take_control(service, client, message);
    if (message->kind == SN_MESSAGE_OTHER || !sn_outbox_is_to_us(&service->outbox, message->target))
        return SP_OK;
    if (message->kind == SN_MESSAGE_CALL)
        take_call(service, client, message);
    else if (message->result == SN_TERM_OK)
        sn_calls_take_cast(&service->calls, &message->request);
    return SP_OK;
}

struct farewell {
    struct sn_outbox *outbox;
    struct sn_client *client;
};

static void say_farewell(const struct sn_watch *watch, void *arg)
{
    struct farewell *farewell = arg;

    if (watch->kind == SN_WATCH_MONITOR)
        sn_outbox_down(farewell->outbox, farewell->client, watch->target, watch->from,
                       watch->reference, "shutdown");
    else
        sn_outbox_exit(farewell->outbox, farewell->client, watch->target, watch->from, "shutdown");
}

void sn_service_stop(struct sn_service *service, struct sn_client *client)
{
    struct farewell farewell = {&service->outbox, client};

    sn_watches_each(&client->watches, say_farewell, &farewell);
    sn_watches_free(&client->watches);
}
