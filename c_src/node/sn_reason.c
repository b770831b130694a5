#include "sn_reason.h"

#include "sp_dist_connect.h"
#include "sp_tls_error.h"

#include <string.h>

struct sn_reason sn_reason_of(sp_status status)
{
    struct sn_reason reason = {NULL, NULL, false};

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

const char *sn_reason_kind(struct sn_reason reason)
{
    return !reason.kind                       ? ""
           : strcmp(reason.kind, "tls") == 0  ? "tls "
           : strcmp(reason.kind, "node") == 0 ? "node "
                                              : "no_such_node ";
}

void sn_put_reason(struct sn_writer *writer, struct sn_reason reason)
{
    if (reason.kind) {
        sn_put_tuple(writer, 2);
        sn_put_atom(writer, reason.kind);
    }
    if (reason.is_alert) {
        sn_put_tuple(writer, 2);
        sn_put_atom(writer, "alert");
    }
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
