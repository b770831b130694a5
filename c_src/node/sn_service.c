#include "sn_service.h"

#include "sn_io.h"

#include <string.h>

sp_status sn_service_init(struct sn_service *service, const struct sn_identity *us,
                          const struct sn_here *here, struct sn_loop *loop)
{
    sp_status status = sn_mail_init(&service->mail, us);

    if (status == SP_OK)
        status = sn_pools_init(&service->pools, loop, here, sn_io_ended_leases);
    if (status == SP_OK)
        status = sn_calls_init(&service->calls, loop, &service->mail, &service->pools);
    return status;
}

void sn_service_free(struct sn_service *service)
{
    sn_calls_free(&service->calls);
    sn_pools_free(&service->pools);
    sn_mail_free(&service->mail);
}

/* ---- monitors and links ---- */

static sp_status take_monitor(struct sn_service *service, struct sn_client *client,
                              const struct sn_slice *parts)
{
    if (!sn_slice_is_pid(parts[1]) || !sn_slice_is_reference(parts[3]))
        return SP_BAD_DATA;
    if (sn_mail_is_to_us(&service->mail, parts[2]))
        return sn_watches_add(&client->watches, SN_WATCH_MONITOR, parts[1], parts[3], parts[2]);
    sn_mail_down(&service->mail, client, parts[2], parts[1], parts[3], "noproc");
    return SP_OK;
}

static sp_status take_link(struct sn_service *service, struct sn_client *client,
                           const struct sn_slice *parts)
{
    if (!sn_slice_is_pid(parts[1]) || !sn_slice_is_pid(parts[2]))
        return SP_BAD_DATA;
    if (sn_mail_is_to_us(&service->mail, parts[2]))
        return sn_watches_add(&client->watches, SN_WATCH_LINK, parts[1], (struct sn_slice){NULL, 0},
                              parts[2]);
    sn_mail_exit(&service->mail, client, parts[2], parts[1], "noproc");
    return SP_OK;
}

/* A process that we watch has died. */
static sp_status take_monitor_exit(struct sn_service *service, const struct sn_slice *parts)
{
    if (!sn_slice_is_reference(parts[3]))
        return SP_BAD_DATA;
    sn_jobs_process_down(&service->calls.jobs, parts[1],
                         sn_mail_monitor_number(&service->mail, parts[3]));
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
                            const struct sn_caller *caller, struct sn_slice request)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX];
    struct sn_writer reply;

    if (sn_slice_tuple(request, parts) != 2 || !sn_slice_is_atom(parts[0], "is_auth"))
        return;
    reply = sn_mail_begin_reply(&service->mail, caller);
    sn_put_atom(&reply, "yes");
    sn_mail_end_reply(&service->mail, client, caller, &reply, (struct sn_slice){NULL, 0});
}

static void take_send(struct sn_service *service, struct sn_client *client, struct sn_slice target,
                      const struct sn_message *message)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX], payload;
    struct sn_caller caller;
    int arity;

    if (!message->payload || !sn_mail_is_to_us(&service->mail, target))
        return;
    payload = (struct sn_slice){message->payload + 1, message->payload_len - 1};
    arity = sn_slice_tuple(payload, parts);
    if (arity == 2 && sn_slice_is_atom(parts[0], "$gen_cast"))
        sn_calls_take_cast(&service->calls, parts[1]);
    if (arity != 3 || !sn_slice_is_atom(parts[0], "$gen_call") ||
        !get_caller(&service->calls, parts[1], &client, &caller))
        return;
    if (sn_slice_is_atom(target, "net_kernel"))
        call_net_kernel(service, client, &caller, parts[2]);
    else
        sn_calls_take(&service->calls, client, &caller, parts[2]);
}

/* ---- all ---- */

/* How many elements each operation has that is of interest here; 0 for the others. */
static int arity_of(int operation)
{
    switch (operation) {
    case SN_OP_LINK:
    case SN_OP_SEND:
    case SN_OP_UNLINK:
        return 3;
    case SN_OP_EXIT:
    case SN_OP_REG_SEND:
    case SN_OP_SEND_TT:
    case SN_OP_MONITOR:
    case SN_OP_DEMONITOR:
    case SN_OP_UNLINK_ID:
        return 4;
    case SN_OP_EXIT_TT:
    case SN_OP_REG_SEND_TT:
    case SN_OP_MONITOR_EXIT:
        return 5;
    }
    return 0;
}

sp_status sn_service_take(struct sn_service *service, struct sn_client *client,
                          const struct sn_message *message)
{
    struct sn_slice control = {message->control + 1, message->control_len - 1};
    struct sn_slice parts[SN_SLICE_PARTS_MAX];
    int arity = sn_slice_tuple(control, parts), operation;

    if (arity < 1)
        return SP_BAD_DATA;
    operation = sn_slice_byte(parts[0]);
    if (arity_of(operation) == 0)
        return SP_OK;
    if (arity != arity_of(operation))
        return SP_BAD_DATA;
    switch (operation) {
    case SN_OP_LINK:
        return take_link(service, client, parts);
    case SN_OP_UNLINK:
    case SN_OP_EXIT:
    case SN_OP_EXIT_TT:
        sn_watches_drop(&client->watches, SN_WATCH_LINK, parts[1]);
        return SP_OK;
    case SN_OP_UNLINK_ID:
        sn_watches_drop(&client->watches, SN_WATCH_LINK, parts[2]);
        sn_mail_unlinked(&service->mail, client, parts[1], parts[3], parts[2]);
        return SP_OK;
    case SN_OP_MONITOR:
        return take_monitor(service, client, parts);
    case SN_OP_DEMONITOR:
        sn_watches_drop(&client->watches, SN_WATCH_MONITOR, parts[3]);
        return SP_OK;
    case SN_OP_MONITOR_EXIT:
        return take_monitor_exit(service, parts);
    case SN_OP_SEND:
    case SN_OP_SEND_TT:
        take_send(service, client, parts[2], message);
        return SP_OK;
    default: /* SN_OP_REG_SEND, SN_OP_REG_SEND_TT */
        take_send(service, client, parts[3], message);
        return SP_OK;
    }
}

struct farewell {
    struct sn_mail *mail;
    struct sn_client *client;
};

static void say_farewell(const struct sn_watch *watch, void *arg)
{
    struct farewell *farewell = arg;

    if (watch->kind == SN_WATCH_MONITOR)
        sn_mail_down(farewell->mail, farewell->client, watch->target, watch->from, watch->reference,
                     "shutdown");
    else
        sn_mail_exit(farewell->mail, farewell->client, watch->target, watch->from, "shutdown");
}

void sn_service_stop(struct sn_service *service, struct sn_client *client)
{
    struct farewell farewell = {&service->mail, client};

    sn_watches_each(&client->watches, say_farewell, &farewell);
    sn_watches_free(&client->watches);
}
