#include "sn_service.h"

#include <string.h>

/* Operations of control messages. */
enum {
    OP_LINK = 1,
    OP_SEND = 2,
    OP_EXIT = 3,
    OP_UNLINK = 4,
    OP_REG_SEND = 6,
    OP_SEND_TT = 12,
    OP_EXIT_TT = 13,
    OP_REG_SEND_TT = 16,
    OP_MONITOR = 19,
    OP_DEMONITOR = 20,
    OP_MONITOR_EXIT = 21,
    OP_ALIAS_SEND = 33,
    OP_UNLINK_ID = 35,
    OP_UNLINK_ID_ACK = 36
};

/* Of the one process that there is. */
#define PID_NUMBER 1

/* A term that is being written; one failure spoils it. */
struct writer {
    ei_x_buff *buf;
    bool failed;
};

static struct writer write_to(ei_x_buff *buf)
{
    buf->index = 0;
    return (struct writer){buf, ei_x_encode_version(buf) != 0};
}

static void put_tuple(struct writer *writer, long arity)
{
    writer->failed |= ei_x_encode_tuple_header(writer->buf, arity) != 0;
}

static void put_number(struct writer *writer, long number)
{
    writer->failed |= ei_x_encode_long(writer->buf, number) != 0;
}

static void put_atom(struct writer *writer, const char *text)
{
    writer->failed |= ei_x_encode_atom(writer->buf, text) != 0;
}

static void put_slice(struct writer *writer, struct sn_slice term)
{
    writer->failed |= ei_x_append_buf(writer->buf, (const char *)term.data, (int)term.len) != 0;
}

static struct sn_slice slice_of(const ei_x_buff *buf)
{
    return (struct sn_slice){(const uint8_t *)buf->buff, (size_t)buf->index};
}

static struct sn_slice our_pid(const struct sn_service *service)
{
    return slice_of(&service->pid);
}

static sp_status send_message(struct sn_client *client, const struct writer *control,
                              const struct writer *payload)
{
    struct sn_slice head = slice_of(control->buf), body = {NULL, 0};

    if (control->failed || (payload && payload->failed))
        return SP_NO_MEMORY;
    if (payload)
        body = slice_of(payload->buf);
    return sn_queue_frame(&client->out, head.data, head.len, body.data, body.len);
}

sp_status sn_service_init(struct sn_service *service, const struct sn_identity *us)
{
    erlang_pid pid = {.num = PID_NUMBER, .serial = 0, .creation = us->creation};

    memset(service, 0, sizeof *service);
    service->us = us;
    memcpy(pid.node, us->name, strlen(us->name) + 1);
    if (ei_x_new(&service->pid) != 0 || ei_x_new(&service->control) != 0 ||
        ei_x_new(&service->payload) != 0 || ei_x_encode_pid(&service->pid, &pid) != 0) {
        sn_service_free(service);
        return SP_NO_MEMORY;
    }
    return SP_OK;
}

void sn_service_free(struct sn_service *service)
{
    ei_x_free(&service->pid);
    ei_x_free(&service->control);
    ei_x_free(&service->payload);
    memset(service, 0, sizeof *service);
}

static bool is_ours(const struct sn_service *service, struct sn_slice target)
{
    return sn_slice_is_atom(target, "sockpool") || sn_slice_is_atom(target, "net_kernel") ||
           sn_slice_is_this_pid(target, service->us->name, PID_NUMBER, service->us->creation);
}

/* ---- monitors and links ---- */

static sp_status tell_down(struct sn_service *service, struct sn_client *client,
                           struct sn_slice target, struct sn_slice from, struct sn_slice reference,
                           const char *reason)
{
    struct writer control = write_to(&service->control);

    put_tuple(&control, 5);
    put_number(&control, OP_MONITOR_EXIT);
    put_slice(&control, target);
    put_slice(&control, from);
    put_slice(&control, reference);
    put_atom(&control, reason);
    return send_message(client, &control, NULL);
}

static sp_status tell_exit(struct sn_service *service, struct sn_client *client,
                           struct sn_slice target, struct sn_slice from, const char *reason)
{
    struct writer control = write_to(&service->control);

    put_tuple(&control, 4);
    put_number(&control, OP_EXIT);
    put_slice(&control, target);
    put_slice(&control, from);
    put_atom(&control, reason);
    return send_message(client, &control, NULL);
}

static sp_status take_monitor(struct sn_service *service, struct sn_client *client,
                              const struct sn_slice *parts)
{
    if (!sn_slice_is_pid(parts[1]) || !sn_slice_is_reference(parts[3]))
        return SP_BAD_DATA;
    if (is_ours(service, parts[2]))
        return sn_watches_add(&client->watches, SN_WATCH_MONITOR, parts[1], parts[3], parts[2]);
    return tell_down(service, client, parts[2], parts[1], parts[3], "noproc");
}

static sp_status take_link(struct sn_service *service, struct sn_client *client,
                           const struct sn_slice *parts)
{
    if (!sn_slice_is_pid(parts[1]) || !sn_slice_is_pid(parts[2]))
        return SP_BAD_DATA;
    if (is_ours(service, parts[2]))
        return sn_watches_add(&client->watches, SN_WATCH_LINK, parts[1], (struct sn_slice){NULL, 0},
                              parts[2]);
    return tell_exit(service, client, parts[2], parts[1], "noproc");
}

static sp_status take_unlink_id(struct sn_service *service, struct sn_client *client,
                                const struct sn_slice *parts)
{
    struct writer control = write_to(&service->control);

    sn_watches_drop(&client->watches, SN_WATCH_LINK, parts[2]);
    put_tuple(&control, 4);
    put_number(&control, OP_UNLINK_ID_ACK);
    put_slice(&control, parts[1]);
    put_slice(&control, parts[3]);
    put_slice(&control, parts[2]);
    return send_message(client, &control, NULL);
}

/* ---- calls ---- */

/* A caller: the tag is a reference, or [alias|Reference], which is echoed as it came. */
struct caller {
    struct sn_slice pid, tag, alias; /* alias.len is 0 where there is none */
};

static bool get_caller(const struct sn_client *client, struct sn_slice from, struct caller *caller)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX], head, tail;

    if (sn_slice_tuple(from, parts) != 2 || !sn_slice_is_pid(parts[0]))
        return false;
    *caller = (struct caller){.pid = parts[0], .tag = parts[1]};
    if ((client->flags & SP_DIST_FLAG_ALIAS) && sn_slice_cons(parts[1], &head, &tail) &&
        sn_slice_is_atom(head, "alias") && sn_slice_is_reference(tail))
        caller->alias = tail;
    return true;
}

static sp_status reply(struct sn_service *service, struct sn_client *client,
                       const struct caller *caller, const struct writer *payload)
{
    struct writer control = write_to(&service->control);

    put_tuple(&control, 3);
    if (caller->alias.len) {
        put_number(&control, OP_ALIAS_SEND);
        put_slice(&control, our_pid(service));
        put_slice(&control, caller->alias);
    } else {
        put_number(&control, OP_SEND);
        put_atom(&control, "");
        put_slice(&control, caller->pid);
    }
    return send_message(client, &control, payload);
}

static struct writer begin_reply(struct sn_service *service, const struct caller *caller)
{
    struct writer payload = write_to(&service->payload);

    put_tuple(&payload, 2);
    put_slice(&payload, caller->tag);
    return payload;
}

static void put_bad_request(struct writer *payload, struct sn_slice request)
{
    put_tuple(payload, 2);
    put_atom(payload, "error");
    put_tuple(payload, 2);
    put_atom(payload, "bad_request");
    put_slice(payload, request);
}

static sp_status call_sockpool(struct sn_service *service, struct sn_client *client,
                               const struct caller *caller, struct sn_slice request)
{
    struct writer payload = begin_reply(service, caller);

    if (sn_slice_is_atom(request, "which_pools"))
        payload.failed |= ei_x_encode_empty_list(payload.buf) != 0;
    else
        put_bad_request(&payload, request);
    return reply(service, client, caller, &payload);
}

/* {is_auth, Node}; whatever else net_kernel is asked gets no answer. */
static sp_status call_net_kernel(struct sn_service *service, struct sn_client *client,
                                 const struct caller *caller, struct sn_slice request)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX];
    struct writer payload;

    if (sn_slice_tuple(request, parts) != 2 || !sn_slice_is_atom(parts[0], "is_auth"))
        return SP_OK;
    payload = begin_reply(service, caller);
    put_atom(&payload, "yes");
    return reply(service, client, caller, &payload);
}

static sp_status take_send(struct sn_service *service, struct sn_client *client,
                           struct sn_slice target, const struct sn_message *message)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX], payload;
    struct caller caller;

    if (!message->payload || !is_ours(service, target))
        return SP_OK;
    payload = (struct sn_slice){message->payload + 1, message->payload_len - 1};
    if (sn_slice_tuple(payload, parts) != 3 || !sn_slice_is_atom(parts[0], "$gen_call") ||
        !get_caller(client, parts[1], &caller))
        return SP_OK;
    return sn_slice_is_atom(target, "net_kernel")
               ? call_net_kernel(service, client, &caller, parts[2])
               : call_sockpool(service, client, &caller, parts[2]);
}

/* ---- all ---- */

/* How many elements each operation has that is of interest here; 0 for the others. */
static int arity_of(int operation)
{
    switch (operation) {
    case OP_LINK:
    case OP_SEND:
    case OP_UNLINK:
        return 3;
    case OP_EXIT:
    case OP_REG_SEND:
    case OP_SEND_TT:
    case OP_MONITOR:
    case OP_DEMONITOR:
    case OP_UNLINK_ID:
        return 4;
    case OP_EXIT_TT:
    case OP_REG_SEND_TT:
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
    case OP_LINK:
        return take_link(service, client, parts);
    case OP_UNLINK:
    case OP_EXIT:
    case OP_EXIT_TT:
        sn_watches_drop(&client->watches, SN_WATCH_LINK, parts[1]);
        return SP_OK;
    case OP_UNLINK_ID:
        return take_unlink_id(service, client, parts);
    case OP_MONITOR:
        return take_monitor(service, client, parts);
    case OP_DEMONITOR:
        sn_watches_drop(&client->watches, SN_WATCH_MONITOR, parts[3]);
        return SP_OK;
    case OP_SEND:
    case OP_SEND_TT:
        return take_send(service, client, parts[2], message);
    default: /* OP_REG_SEND, OP_REG_SEND_TT */
        return take_send(service, client, parts[3], message);
    }
}

struct farewell {
    struct sn_service *service;
    struct sn_client *client;
    sp_status status;
};

static void say_farewell(const struct sn_watch *watch, void *arg)
{
    struct farewell *farewell = arg;

    if (farewell->status != SP_OK)
        return;
    farewell->status = watch->kind == SN_WATCH_MONITOR
                           ? tell_down(farewell->service, farewell->client, watch->target,
                                       watch->from, watch->reference, "shutdown")
                           : tell_exit(farewell->service, farewell->client, watch->target,
                                       watch->from, "shutdown");
}

sp_status sn_service_stop(struct sn_service *service, struct sn_client *client)
{
    struct farewell farewell = {service, client, SP_OK};

    sn_watches_each(&client->watches, say_farewell, &farewell);
    sn_watches_free(&client->watches);
    return farewell.status;
}
