#include "sp_tcp_info.h"

#include "core/base/sp_sys.h"

#include <string.h>

#ifdef __has_include
#if __has_include(<linux/tcp.h>)
/* The libc's own struct ends before what newer kernels tell. */
#include <linux/tcp.h>
#include <netinet/in.h>
#endif
#endif

#ifdef TCP_INFO

/* The kernel fills as much as it has. */
#define HAS(raw_len, field)                                                                        \
    ((raw_len) >= offsetof(struct tcp_info, field) + sizeof((struct tcp_info){0}.field))

bool sp_tcp_info(const struct sp_conn *conn, struct sp_tcp_info *info)
{
    struct tcp_info raw;
    socklen_t len = sizeof raw;

    memset(&raw, 0, sizeof raw);
    if (conn->fd < 0 || conn->sys->getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, &raw, &len) < 0 ||
        !HAS(len, tcpi_total_retrans))
        return false;
    *info = (struct sp_tcp_info){
        .rtt = raw.tcpi_rtt,
        .rtt_var = raw.tcpi_rttvar,
        .min_rtt = SP_TCP_INFO_UNKNOWN,
        .retransmits = raw.tcpi_retransmits,
        .total_retrans = raw.tcpi_total_retrans,
        .unacked = raw.tcpi_unacked,
        .lost = raw.tcpi_lost,
        .cwnd = raw.tcpi_snd_cwnd,
        .last_recv_ms = raw.tcpi_last_data_recv,
        .delivery_rate = SP_TCP_INFO_UNKNOWN,
    };
    if (HAS(len, tcpi_min_rtt) && raw.tcpi_min_rtt != UINT32_MAX)
        info->min_rtt = raw.tcpi_min_rtt;
    if (HAS(len, tcpi_delivery_rate) && raw.tcpi_delivery_rate)
        info->delivery_rate = raw.tcpi_delivery_rate;
    return true;
}

#else

bool sp_tcp_info(const struct sp_conn *conn, struct sp_tcp_info *info)
{
    (void)conn;
    (void)info;
    return false;
}

#endif
