/* Reasons of errors, as terms: the same as those of an Erlang node. */
#ifndef SN_REASON_H
#define SN_REASON_H

#include "node/etf/sn_writer.h"
#include "core/conn/sp_conn.h"
#include "core/tls/sp_tls_ctx.h"

/* A word, static or of a pool's options, alone or in {Kind, Word}, {tls, {alert, Word}} or {tls, {Option, Word}}.
 * NULL: there is none. */
struct sn_reason {
    const char *word;
    const char *kind; /* static: "tls", "node", "no_such_node"; NULL: none */
    bool is_alert;
    const char *option;    /* static: that cannot be used; NULL: none */
    struct sp_words words; /* of {unread_bytes, Text}, whose word this is */
};

/* "tls certfile enoent", for a log. */
#define SN_REASON_TEXT_MAX 320
const char *sn_reason_text(struct sn_reason reason, char text[SN_REASON_TEXT_MAX]);

struct sn_reason sn_reason_of(sp_status status);
/* Of a connection that is refused. */
struct sn_reason sn_reason_of_conn(const struct sp_conn *conn, sp_status status);
struct sn_reason sn_reason_of_tls(const struct sp_tls_refusal *refusal);
void sn_put_reason(struct sn_writer *writer, struct sn_reason reason);
/* {error, Reason} */
void sn_put_error(struct sn_writer *writer, struct sn_reason reason);
/* {error, {Word, Key, Value}}, but for key and value, which are to follow. */
void sn_put_bad(struct sn_writer *writer, const char *word);

#endif
