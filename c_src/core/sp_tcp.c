#include "sp_conn.h"
#include "sp_stream.h"
#include "sp_sys.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

static sp_status tcp_set(struct sp_conn *conn, enum sp_option option, int value)
{
    if (option == SP_OPT_NODELAY)
        return sp_stream_setsockopt(conn, IPPROTO_TCP, TCP_NODELAY, value);
    if (option == SP_OPT_KEEPALIVE)
        return sp_stream_setsockopt(conn, SOL_SOCKET, SO_KEEPALIVE, value);
    return sp_stream_set(conn, option, value);
}

static sp_status set_all(struct sp_conn *conn, const struct sp_sockopts *opts)
{
    sp_status status = tcp_set(conn, SP_OPT_NODELAY, opts->nodelay);

    if (status == SP_OK)
        status = tcp_set(conn, SP_OPT_KEEPALIVE, opts->keepalive);
    return status == SP_OK ? sp_stream_buffers(conn, opts) : status;
}

static sp_status tcp_open(struct sp_conn *conn, const struct sp_addr *addr,
                          const struct sp_sockopts *opts)
{
    sp_status status;

    conn->fd = conn->sys->socket(addr->storage.ss_family);
    if (conn->fd < 0)
        return -errno;
    status = set_all(conn, opts);
    if (status != SP_OK)
        return status;
    if (opts->bind.len) {
#ifdef IP_BIND_ADDRESS_NO_PORT
        /* Choose the port at connect, where the destination is known: more of them fit. Without it
         * the connect works as well. */
        status = sp_stream_setsockopt(conn, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        (void)status;
#endif
        if (conn->sys->bind(conn->fd, (const struct sockaddr *)&opts->bind.storage,
                            opts->bind.len) < 0)
            return -errno;
    }
    return sp_stream_connect(conn, addr);
}

const struct sp_transport sp_transport_tcp = {
    .name = "tcp",
    .open = tcp_open,
    .opened = sp_stream_opened,
    .set = tcp_set,
    .send = sp_stream_send,
    .recv = sp_stream_recv,
    .validate = sp_stream_validate,
    .shutdown = sp_stream_shutdown,
    .short_is_all = true,
};
