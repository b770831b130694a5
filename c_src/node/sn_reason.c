#include "sn_reason.h"

#include "sp_tls_error.h"

struct sn_reason sn_reason_of(sp_status status)
{
    struct sn_reason reason = {.is_tls = status >= SP_STATUS_TRANSPORT};

    if (reason.is_tls)
        reason.word = sp_tls_error_name(status, &reason.is_alert);
    else
        reason.word = sp_status_name(status);
    return reason;
}

void sn_put_reason(struct sn_writer *writer, struct sn_reason reason)
{
    if (reason.is_tls) {
        sn_put_tuple(writer, 2);
        sn_put_atom(writer, "tls");
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

void sn_put_bad_argument(struct sn_writer *writer, const char *name, struct sn_slice value)
{
    sn_put_tuple(writer, 2);
    sn_put_atom(writer, "error");
    sn_put_tuple(writer, 3);
    sn_put_atom(writer, "bad_argument");
    sn_put_atom(writer, name);
    sn_put_slice(writer, value);
}
