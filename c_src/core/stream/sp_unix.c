#include "core/conn/sp_conn.h"
#include "sp_stream.h"
#include "core/base/sp_sys.h"

#include <errno.h>

static sp_status unix_open(struct sp_conn *conn, const struct sp_addr *addr,
                           const struct sp_sockopts *opts)
{
    sp_status status;

    conn->fd = conn->sys->socket(AF_UNIX);
    if (conn->fd < 0)
        return -errno;
    status = sp_stream_buffers(conn, opts);
    return status == SP_OK ? sp_stream_connect(conn, addr) : status;
}

const struct sp_transport sp_transport_unix = {
    .name = "unix",
    .open = unix_open,
    .opened = sp_stream_opened,
    .set = sp_stream_set,
    .send = sp_stream_send,
    .recv = sp_stream_recv,
    .validate = sp_stream_validate,
    .shutdown = sp_stream_shutdown,
};
