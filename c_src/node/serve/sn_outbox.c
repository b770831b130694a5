#include "sn_outbox.h"

#include "core/base/sp_bytes.h"

#include <string.h>

/* Of the one process that there is. */
#define PID_NUMBER 1
/* Buffers that have grown beyond this are given back. */
#define BUFFER_KEPT_BYTES 65536
/* Of a reference: the node's name, then the creation and the words. */
#define REFERENCE_WORDS_BYTES (4 + 4 * SN_REFERENCE_WORDS)

sp_status sn_outbox_init(struct sn_outbox *outbox, const struct sn_identity *us)
{
    struct sn_writer pid = {&outbox->pid, false};

    memset(outbox, 0, sizeof *outbox);
    outbox->us = us;
    if (ei_x_new(&outbox->pid) == 0 && ei_x_new(&outbox->control) == 0 &&
        ei_x_new(&outbox->payload) == 0) {
        sn_put_pid(&pid, us->name, PID_NUMBER, us->creation);
        if (!pid.failed)
            return SP_OK;
    }
    sn_outbox_free(outbox);
    return SP_NO_MEMORY;
}

void sn_outbox_free(struct sn_outbox *outbox)
{
    ei_x_free(&outbox->pid);
    ei_x_free(&outbox->control);
    ei_x_free(&outbox->payload);
    memset(outbox, 0, sizeof *outbox);
}

struct sn_slice sn_outbox_pid(const struct sn_outbox *outbox)
{
    return sn_written(&outbox->pid);
}

bool sn_outbox_is_to_us(const struct sn_outbox *outbox, struct sn_slice target)
{
    return sn_slice_is_atom(target, "sockpool") || sn_slice_is_atom(target, "net_kernel") ||
           sn_slice_is_this_pid(target, outbox->us->name, PID_NUMBER, outbox->us->creation);
}

static struct sn_writer begin_control(struct sn_outbox *outbox, long arity,
                                      enum sn_operation operation)
{
    struct sn_writer control = sn_write_to(&outbox->control);

    sn_put_tuple(&control, arity);
    sn_put_number(&control, operation);
    return control;
}

static void give_back(ei_x_buff *buf)
{
    ei_x_buff fresh;

    if (buf->buffsz <= BUFFER_KEPT_BYTES || ei_x_new(&fresh) != 0)
        return;
    ei_x_free(buf);
    *buf = fresh;
}

static void post(struct sn_outbox *outbox, struct sn_client *client,
                 const struct sn_writer *control, const struct sn_writer *payload,
                 struct sn_slice tail)
{
    struct sn_slice head = sn_written(control->buf), body = {NULL, 0};
    sp_status status = SP_NO_MEMORY;

    if (payload)
        body = sn_written(payload->buf);
    if (!control->failed && !(payload && payload->failed))
        status = client->atoms ? sn_atoms_out_frame(client->atoms, &client->out, head, body, tail)
                               : sn_queue_frame(&client->out, head, body, tail);
    give_back(&outbox->control);
    give_back(&outbox->payload);
    if (status == SP_OK)
        client->wake(client);
    else
        sn_client_fail(client, status);
}

static void post_control(struct sn_outbox *outbox, struct sn_client *client,
                         const struct sn_writer *control)
{
    post(outbox, client, control, NULL, (struct sn_slice){NULL, 0});
}

/* ---- those who watch us ---- */

void sn_outbox_down(struct sn_outbox *outbox, struct sn_client *client, struct sn_slice target,
                    struct sn_slice from, struct sn_slice reference, const char *reason)
{
    struct sn_writer control = begin_control(outbox, 5, SN_OP_MONITOR_EXIT);

    sn_put_slice(&control, target);
    sn_put_slice(&control, from);
    sn_put_slice(&control, reference);
    sn_put_atom(&control, reason);
    post_control(outbox, client, &control);
}

void sn_outbox_exit(struct sn_outbox *outbox, struct sn_client *client, struct sn_slice target,
                    struct sn_slice from, const char *reason)
{
    struct sn_writer control = begin_control(outbox, 4, SN_OP_EXIT);

    sn_put_slice(&control, target);
    sn_put_slice(&control, from);
    sn_put_atom(&control, reason);
    post_control(outbox, client, &control);
}

void sn_outbox_unlinked(struct sn_outbox *outbox, struct sn_client *client, struct sn_slice id,
                        struct sn_slice target, struct sn_slice from)
{
    struct sn_writer control = begin_control(outbox, 4, SN_OP_UNLINK_ID_ACK);

    sn_put_slice(&control, id);
    sn_put_slice(&control, target);
    sn_put_slice(&control, from);
    post_control(outbox, client, &control);
}

/* ---- those whom we watch ---- */

uint64_t sn_outbox_monitor_number(const struct sn_outbox *outbox, struct sn_slice reference)
{
    uint64_t number;
    size_t node_len;

    if (!sn_slice_reference_number(reference, &number))
        return 0;
    node_len = reference.len - 3 - REFERENCE_WORDS_BYTES;
    if (!sn_slice_is_atom((struct sn_slice){reference.data + 3, node_len}, outbox->us->name) ||
        sp_get(reference.data + 3 + node_len, 4) != outbox->us->creation)
        return 0;
    return number;
}

static void watch(struct sn_outbox *outbox, struct sn_client *client, enum sn_operation operation,
                  struct sn_slice pid, uint64_t number)
{
    struct sn_writer control = begin_control(outbox, 4, operation);

    sn_put_slice(&control, sn_outbox_pid(outbox));
    sn_put_slice(&control, pid);
    sn_put_reference(&control, outbox->us->name, number, outbox->us->creation);
    post_control(outbox, client, &control);
}

void sn_outbox_monitor(struct sn_outbox *outbox, struct sn_client *client, struct sn_slice pid,
                       uint64_t number)
{
    watch(outbox, client, SN_OP_MONITOR, pid, number);
}

void sn_outbox_demonitor(struct sn_outbox *outbox, struct sn_client *client, struct sn_slice pid,
                         uint64_t number)
{
    watch(outbox, client, SN_OP_DEMONITOR, pid, number);
}

/* ---- answers ---- */

struct sn_writer sn_outbox_begin_reply(struct sn_outbox *outbox, const struct sn_caller *caller)
{
    struct sn_writer reply = sn_write_to(&outbox->payload);

    sn_put_tuple(&reply, 2);
    sn_put_slice(&reply, caller->tag);
    return reply;
}

void sn_outbox_end_reply(struct sn_outbox *outbox, struct sn_client *client,
                         const struct sn_caller *caller, const struct sn_writer *reply,
                         struct sn_slice tail)
{
    struct sn_writer control;

    if (caller->alias.len) {
        control = begin_control(outbox, 3, SN_OP_ALIAS_SEND);
        sn_put_slice(&control, sn_outbox_pid(outbox));
        sn_put_slice(&control, caller->alias);
    } else {
        control = begin_control(outbox, 3, SN_OP_SEND);
        sn_put_atom(&control, "");
        sn_put_slice(&control, caller->pid);
    }
    post(outbox, client, &control, reply, tail);
}
