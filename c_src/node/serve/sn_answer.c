#include "sn_answer.h"

void sn_answer_end(struct sn_mail *mail, struct sn_client *client, const struct sn_caller *caller,
                   const struct sn_writer *reply)
{
    sn_mail_end_reply(mail, client, caller, reply, (struct sn_slice){NULL, 0});
}

void sn_answer_ok(struct sn_mail *mail, struct sn_client *client, const struct sn_caller *caller)
{
    struct sn_writer reply = sn_mail_begin_reply(mail, caller);

    sn_put_atom(&reply, "ok");
    sn_answer_end(mail, client, caller, &reply);
}

void sn_answer_status(struct sn_mail *mail, struct sn_client *client,
                      const struct sn_caller *caller, sp_status status)
{
    struct sn_writer reply;

    if (status == SP_OK) {
        sn_answer_ok(mail, client, caller);
        return;
    }
    reply = sn_mail_begin_reply(mail, caller);
    sn_put_error(&reply, sn_reason_of(status));
    sn_answer_end(mail, client, caller, &reply);
}

void sn_answer_bytes(struct sn_mail *mail, struct sn_client *client, const struct sn_caller *caller,
                     const void *data, size_t len)
{
    struct sn_writer reply = sn_mail_begin_reply(mail, caller);

    sn_put_tuple(&reply, 2);
    sn_put_atom(&reply, "ok");
    sn_put_binary_head(&reply, len);
    sn_mail_end_reply(mail, client, caller, &reply, (struct sn_slice){data, len});
}

void sn_answer_bad_argument(struct sn_mail *mail, struct sn_client *client,
                            const struct sn_caller *caller, const char *name, struct sn_slice value)
{
    struct sn_writer reply = sn_mail_begin_reply(mail, caller);

    sn_put_bad(&reply, "bad_argument");
    sn_put_atom(&reply, name);
    sn_put_slice(&reply, value);
    sn_answer_end(mail, client, caller, &reply);
}

void sn_answer_error_with(struct sn_mail *mail, struct sn_client *client,
                          const struct sn_caller *caller, const char *word, struct sn_slice value)
{
    struct sn_writer reply = sn_mail_begin_reply(mail, caller);

    sn_put_tuple(&reply, 2);
    sn_put_atom(&reply, "error");
    sn_put_tuple(&reply, 2);
    sn_put_atom(&reply, word);
    sn_put_slice(&reply, value);
    sn_answer_end(mail, client, caller, &reply);
}
