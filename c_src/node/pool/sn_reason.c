#include "sn_reason.h"

#include "core/dist/sp_dist_connect.h"
#include "core/tls/sp_tls_error.h"

#include <stdio.h>
#include <string.h>

struct sn_reason sn_reason_of(sp_status status)
{
    struct sn_reason reason = {0};

    if (status >= SP_NODE_BASE) {
        reason.kind = "node";
        reason.word = sp_node_error_name(status);
    } else if (status >= SP_STATUS_TRANSPORT) {
        reason.kind = "tls";
        reason.word = sp_tls_error_name(status, &reason.is_alert);
    } else {
        reason.word = sp_status_name(status);
    }
    return reason;
}

struct sn_reason sn_reason_of_conn(const struct sp_conn *conn, sp_status status)
{
    struct sn_reason reason = sn_reason_of(status);

    if (status == SP_UNREAD) {
        reason.kind = reason.word;
        reason.words = conn->words;
    }
    return reason;
}

/* A text of the server's, not a word of ours. */
static bool has_words(const struct sn_reason *reason)
{
    return reason->kind && reason->kind == reason->word;
}

struct sn_reason sn_reason_of_tls(const struct sp_tls_refusal *refusal)
{
    return (struct sn_reason){.kind = "tls", .option = refusal->option, .word = refusal->why};
}

const char *sn_reason_text(struct sn_reason reason, char text[SN_REASON_TEXT_MAX])
{
    snprintf(text, SN_REASON_TEXT_MAX, "%s%s%s%s%s", reason.kind ? reason.kind : "",
             reason.kind ? " " : "", reason.option ? reason.option : "", reason.option ? " " : "",
             has_words(&reason) ? reason.words.text : reason.word);
    return text;
}

void sn_put_reason(struct sn_writer *writer, struct sn_reason reason)
{
    if (reason.kind) {
        sn_put_tuple(writer, 2);
        sn_put_atom(writer, reason.kind);
    }
    if (reason.is_alert || reason.option) {
        sn_put_tuple(writer, 2);
        sn_put_atom(writer, reason.option ? reason.option : "alert");
    }
    if (has_words(&reason))
        sn_put_binary(writer, reason.words.text, strlen(reason.words.text));
    else
        sn_put_atom(writer, reason.word);
}

void sn_put_error(struct sn_writer *writer, struct sn_reason reason)
{
    sn_put_tuple(writer, 2);
    sn_put_atom(writer, "error");
    sn_put_reason(writer, reason);
}

void sn_put_bad(struct sn_writer *writer, const char *word)
{
    sn_put_tuple(writer, 2);
    sn_put_atom(writer, "error");
    sn_put_tuple(writer, 3);
    sn_put_atom(writer, word);
}
