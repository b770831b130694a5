#include "core/conn/sp_conn.h"
#include "sp_stream.h"
#include "core/base/sp_sys.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#define PROBES 3

/* macOS has another name for it. */
#if !defined(TCP_KEEPIDLE) && defined(TCP_KEEPALIVE)
#define TCP_KEEPIDLE TCP_KEEPALIVE
#endif

static sp_status tcp_set(struct sp_conn *conn, enum sp_option option, int value)
{
    if (option == SP_OPT_NODELAY)
        return sp_stream_setsockopt(conn, IPPROTO_TCP, TCP_NODELAY, value);
    if (option == SP_OPT_KEEPALIVE)
        return sp_stream_setsockopt(conn, SOL_SOCKET, SO_KEEPALIVE, value);
    return sp_stream_set(conn, option, value);
}

/* As told, or the system's; where there is no such option that is all there is. */
static sp_status set_time(struct sp_conn *conn, int name, unsigned value)
{
    return value ? sp_stream_setsockopt(conn, IPPROTO_TCP, name, (int)value) : SP_OK;
}

static sp_status set_times(struct sp_conn *conn, const struct sp_keepalive *times,
                           unsigned user_timeout_ms)
{
    sp_status status = SP_OK;

#ifdef TCP_KEEPIDLE
    status = set_time(conn, TCP_KEEPIDLE, times->idle_s);
#endif
#ifdef TCP_KEEPINTVL
    if (status == SP_OK)
        status = set_time(conn, TCP_KEEPINTVL, times->interval_s);
    if (status == SP_OK)
        status = set_time(conn, TCP_KEEPCNT, times->count);
#endif
#ifdef TCP_USER_TIMEOUT
    if (status == SP_OK)
        status = set_time(conn, TCP_USER_TIMEOUT, user_timeout_ms);
#endif
    (void)times;
    (void)user_timeout_ms;
    return status;
}

/* The system asks a peer that says nothing, and waits for it to confirm what it gets; both sides are heard
 * of, whoever speaks. */
static sp_status watch_peer(struct sp_conn *conn, const struct sp_sockopts *opts)
{
    struct sp_keepalive times = opts->times;
    unsigned user_timeout_ms = opts->user_timeout_ms;
    sp_status status = tcp_set(conn, SP_OPT_KEEPALIVE, opts->keepalive || opts->silence_s > 0);

    if (opts->silence_s > 0) {
        unsigned period_s = opts->silence_s < PROBES + 1 ? 1 : opts->silence_s / (PROBES + 1);
        times.idle_s = times.idle_s ? times.idle_s : period_s;
        times.interval_s = times.interval_s ? times.interval_s : period_s;
        times.count = times.count ? times.count : PROBES;
        user_timeout_ms = user_timeout_ms ? user_timeout_ms : opts->silence_s * 1000;
    }
    return status == SP_OK ? set_times(conn, &times, user_timeout_ms) : status;
}

static sp_status set_all(struct sp_conn *conn, const struct sp_sockopts *opts)
{
    sp_status status = tcp_set(conn, SP_OPT_NODELAY, opts->nodelay);

    if (status == SP_OK)
        status = watch_peer(conn, opts);
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
