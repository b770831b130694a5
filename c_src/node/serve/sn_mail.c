#include "sn_mail.h"

#include "core/base/sp_bytes.h"

#include <string.h>

/* Of the one process that there is. */
#define PID_NUMBER 1
/* Buffers that have grown beyond this are given back. */
#define BUFFER_KEPT_BYTES 65536
/* Of a reference: the node's name, then the creation and the words. */
#define REFERENCE_WORDS_BYTES (4 + 4 * SN_REFERENCE_WORDS)

sp_status sn_mail_init(struct sn_mail *mail, const struct sn_identity *us)
{
    struct sn_writer pid = {&mail->pid, false};

    memset(mail, 0, sizeof *mail);
    mail->us = us;
    if (ei_x_new(&mail->pid) == 0 && ei_x_new(&mail->control) == 0 &&
        ei_x_new(&mail->payload) == 0) {
        sn_put_pid(&pid, us->name, PID_NUMBER, us->creation);
        if (!pid.failed)
            return SP_OK;
    }
    sn_mail_free(mail);
    return SP_NO_MEMORY;
}

void sn_mail_free(struct sn_mail *mail)
{
    ei_x_free(&mail->pid);
    ei_x_free(&mail->control);
    ei_x_free(&mail->payload);
    memset(mail, 0, sizeof *mail);
}

struct sn_slice sn_mail_pid(const struct sn_mail *mail)
{
    return sn_written(&mail->pid);
}

bool sn_mail_is_to_us(const struct sn_mail *mail, struct sn_slice target)
{
    return sn_slice_is_atom(target, "sockpool") || sn_slice_is_atom(target, "net_kernel") ||
           sn_slice_is_this_pid(target, mail->us->name, PID_NUMBER, mail->us->creation);
}

static struct sn_writer begin_control(struct sn_mail *mail, long arity, enum sn_operation operation)
{
    struct sn_writer control = sn_write_to(&mail->control);

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

static void post(struct sn_mail *mail, struct sn_client *client, const struct sn_writer *control,
                 const struct sn_writer *payload, struct sn_slice tail)
{
    struct sn_slice head = sn_written(control->buf), body = {NULL, 0};
    sp_status status = SP_NO_MEMORY;

    if (payload)
        body = sn_written(payload->buf);
    if (!control->failed && !(payload && payload->failed))
        status = client->atoms ? sn_atoms_out_frame(client->atoms, &client->out, head, body, tail)
                               : sn_queue_frame(&client->out, head, body, tail);
    give_back(&mail->control);
    give_back(&mail->payload);
    if (status == SP_OK)
        client->stirred(client);
    else
        sn_client_fail(client, status);
}

static void post_control(struct sn_mail *mail, struct sn_client *client,
                         const struct sn_writer *control)
{
    post(mail, client, control, NULL, (struct sn_slice){NULL, 0});
}

/* ---- those who watch us ---- */

void sn_mail_down(struct sn_mail *mail, struct sn_client *client, struct sn_slice target,
                  struct sn_slice from, struct sn_slice reference, const char *reason)
{
    struct sn_writer control = begin_control(mail, 5, SN_OP_MONITOR_EXIT);

    sn_put_slice(&control, target);
    sn_put_slice(&control, from);
    sn_put_slice(&control, reference);
    sn_put_atom(&control, reason);
    post_control(mail, client, &control);
}

void sn_mail_exit(struct sn_mail *mail, struct sn_client *client, struct sn_slice target,
                  struct sn_slice from, const char *reason)
{
    struct sn_writer control = begin_control(mail, 4, SN_OP_EXIT);

    sn_put_slice(&control, target);
    sn_put_slice(&control, from);
    sn_put_atom(&control, reason);
    post_control(mail, client, &control);
}

void sn_mail_unlinked(struct sn_mail *mail, struct sn_client *client, struct sn_slice id,
                      struct sn_slice target, struct sn_slice from)
{
    struct sn_writer control = begin_control(mail, 4, SN_OP_UNLINK_ID_ACK);

    sn_put_slice(&control, id);
    sn_put_slice(&control, target);
    sn_put_slice(&control, from);
    post_control(mail, client, &control);
}

/* ---- those whom we watch ---- */

uint64_t sn_mail_monitor_number(const struct sn_mail *mail, struct sn_slice reference)
{
    uint64_t number;
    size_t node_len;

    if (!sn_slice_reference_number(reference, &number))
        return 0;
    node_len = reference.len - 3 - REFERENCE_WORDS_BYTES;
    if (!sn_slice_is_atom((struct sn_slice){reference.data + 3, node_len}, mail->us->name) ||
        sp_get(reference.data + 3 + node_len, 4) != mail->us->creation)
        return 0;
    return number;
}

static void watch(struct sn_mail *mail, struct sn_client *client, enum sn_operation operation,
                  struct sn_slice pid, uint64_t number)
{
    struct sn_writer control = begin_control(mail, 4, operation);

    sn_put_slice(&control, sn_mail_pid(mail));
    sn_put_slice(&control, pid);
    sn_put_reference(&control, mail->us->name, number, mail->us->creation);
    post_control(mail, client, &control);
}

void sn_mail_monitor(struct sn_mail *mail, struct sn_client *client, struct sn_slice pid,
                     uint64_t number)
{
    watch(mail, client, SN_OP_MONITOR, pid, number);
}

void sn_mail_demonitor(struct sn_mail *mail, struct sn_client *client, struct sn_slice pid,
                       uint64_t number)
{
    watch(mail, client, SN_OP_DEMONITOR, pid, number);
}

/* ---- answers ---- */

struct sn_writer sn_mail_begin_reply(struct sn_mail *mail, const struct sn_caller *caller)
{
    struct sn_writer reply = sn_write_to(&mail->payload);

    sn_put_tuple(&reply, 2);
    sn_put_slice(&reply, caller->tag);
    return reply;
}

void sn_mail_end_reply(struct sn_mail *mail, struct sn_client *client,
                       const struct sn_caller *caller, const struct sn_writer *reply,
                       struct sn_slice tail)
{
    struct sn_writer control;

    if (caller->alias.len) {
        control = begin_control(mail, 3, SN_OP_ALIAS_SEND);
        sn_put_slice(&control, sn_mail_pid(mail));
        sn_put_slice(&control, caller->alias);
    } else {
        control = begin_control(mail, 3, SN_OP_SEND);
        sn_put_atom(&control, "");
        sn_put_slice(&control, caller->pid);
    }
    post(mail, client, &control, reply, tail);
}
