/* Reasons of errors, as terms: the same as those of an Erlang node. */
#ifndef SN_REASON_H
#define SN_REASON_H

#include "sn_writer.h"
#include "sp_status.h"

/* A word, static or of a pool's options, alone or in {Kind, Word} or {tls, {alert, Word}}. NULL: there is
 * none. */
struct sn_reason {
    const char *word;
    const char *kind; /* static: "tls", "node", "no_such_node"; NULL: none */
    bool is_alert;
};

/* The kind with a space after it, or nothing, for a log. */
const char *sn_reason_kind(struct sn_reason reason);

struct sn_reason sn_reason_of(sp_status status);
void sn_put_reason(struct sn_writer *writer, struct sn_reason reason);
/* {error, Reason} */
void sn_put_error(struct sn_writer *writer, struct sn_reason reason);
/* {error, {Word, Key, Value}}, but for key and value, which are to follow. */
void sn_put_bad(struct sn_writer *writer, const char *word);

#endif
