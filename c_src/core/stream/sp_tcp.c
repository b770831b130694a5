#include "core/conn/sp_conn.h"
#include "sp_stream.h"
#include "core/base/sp_sys.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#define PROBES 3

static sp_status tcp_set(struct sp_conn *conn, enum sp_option option, int value)
{
    if (option == SP_OPT_NODELAY)
        return sp_stream_setsockopt(conn, IPPROTO_TCP, TCP_NODELAY, value);
    if (option == SP_OPT_KEEPALIVE)
        return sp_stream_setsockopt(conn, SOL_SOCKET, SO_KEEPALIVE, value);
    return sp_stream_set(conn, option, value);
}

/* The system asks a peer that says nothing, and waits for it to confirm what it gets; both sides are heard
 * of, whoever speaks. Where it cannot be told how often, it has its own times. */
static sp_status watch_peer(struct sp_conn *conn, unsigned silence_s)
{
    int period_s = silence_s < PROBES + 1 ? 1 : (int)(silence_s / (PROBES + 1));
    sp_status status = tcp_set(conn, SP_OPT_KEEPALIVE, 1);

#ifdef TCP_KEEPIDLE
    if (status == SP_OK)
        status = sp_stream_setsockopt(conn, IPPROTO_TCP, TCP_KEEPIDLE, period_s);
#endif
#ifdef TCP_KEEPINTVL
    if (status == SP_OK)
        status = sp_stream_setsockopt(conn, IPPROTO_TCP, TCP_KEEPINTVL, period_s);
    if (status == SP_OK)
        status = sp_stream_setsockopt(conn, IPPROTO_TCP, TCP_KEEPCNT, PROBES);
#endif
#ifdef TCP_USER_TIMEOUT
    if (status == SP_OK)
        status = sp_stream_setsockopt(conn, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)silence_s * 1000);
#endif
    (void)period_s;
    return status;
}

static sp_status set_all(struct sp_conn *conn, const struct sp_sockopts *opts)
{
    sp_status status = tcp_set(conn, SP_OPT_NODELAY, opts->nodelay);

    if (status == SP_OK && opts->silence_s > 0)
        status = watch_peer(conn, opts->silence_s);
    else if (status == SP_OK)
        status = tcp_set(conn, SP_OPT_KEEPALIVE, opts->keepalive);
    return status == SP_OK ? sp_stream_buffers(conn, opts) : status;
}

/* An unspecified address stands for this host, from which the connect then comes. */
static bool is_itself(const struct sockaddr_storage *own, const struct sockaddr_storage *peer)
{
    const struct sockaddr_in *in = (const void *)peer, *own_in = (const void *)own;
    const struct sockaddr_in6 *in6 = (const void *)peer, *own_in6 = (const void *)own;

    if (own->ss_family != peer->ss_family)
        return false;
    if (peer->ss_family == AF_INET)
        return in->sin_port == own_in->sin_port &&
               (in->sin_addr.s_addr == own_in->sin_addr.s_addr ||
                in->sin_addr.s_addr == htonl(INADDR_ANY));
    return in6->sin6_port == own_in6->sin6_port &&
           (memcmp(&in6->sin6_addr, &own_in6->sin6_addr, sizeof in6->sin6_addr) == 0 ||
            IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr));
}

/* Where nobody listens on a port that the system may also choose for us, it chooses it sooner or later,
 * and TCP connects the socket to itself: it would echo, and keep the server from its port. */
static sp_status connect_elsewhere(struct sp_conn *conn, const struct sp_addr *addr)
{
    static const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    struct sp_addr own = {.len = sizeof own.storage};
    sp_status status = sp_stream_connect(conn, addr);

    if (status != SP_OK && status != SP_WANT_WRITE)
        return status;
    if (conn->sys->getsockname(conn->fd, (struct sockaddr *)&own.storage, &own.len) < 0)
        return -errno;
    if (!is_itself(&own.storage, &addr->storage))
        return status;
    /* A reset: a shutdown would leave the port in TIME_WAIT. No harm where a system has none. */
    (void)conn->sys->connect(conn->fd, &nowhere, sizeof nowhere);
    return -ECONNREFUSED;
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
    return connect_elsewhere(conn, addr);
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
    .upgradable = true,
};
