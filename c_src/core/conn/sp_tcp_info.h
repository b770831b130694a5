/* What the system knows of a TCP connection, whatever is over it. */
#ifndef SP_TCP_INFO_H
#define SP_TCP_INFO_H

#include "sp_conn.h"

/* Times in microseconds, but for those in ms; the rate in bytes a second. */
#define SP_TCP_INFO_MAP(X)                                                                         \
    X(rtt)                                                                                         \
    X(rtt_var)                                                                                     \
    X(min_rtt)                                                                                     \
    X(retransmits)                                                                                 \
    X(total_retrans)                                                                               \
    X(unacked)                                                                                     \
    X(lost)                                                                                        \
    X(cwnd)                                                                                        \
    X(last_recv_ms)                                                                                \
    X(delivery_rate)

#define SP_TCP_INFO_UNKNOWN UINT64_MAX

#define SP_TCP_INFO_FIELD(name) uint64_t name; /* or SP_TCP_INFO_UNKNOWN */
struct sp_tcp_info {
    SP_TCP_INFO_MAP(SP_TCP_INFO_FIELD)
};
#undef SP_TCP_INFO_FIELD

/* One system call, which the caller takes from its call; pinned, by any thread. False: it is no TCP connection, or the system does not tell. */
SP_MUST_CHECK bool sp_tcp_info(const struct sp_conn *conn, struct sp_tcp_info *info);

#endif
