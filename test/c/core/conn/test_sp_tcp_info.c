/* sp_tcp_info: what the system tells, and where it does not. */
#include "core/conn/sp_tcp_info.h"
#include "core/base/sp_sys.h"
#include "kit/lone_conn.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

static struct sp_tcp_info info;

/* A connection to ourselves, as the system's. */
static struct sp_conn connected(int *server)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    struct sp_conn conn = lone_conn(&sp_transport_tcp);
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    conn.sys = &sp_sys_posix;
    conn.fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert(bind(listener, (struct sockaddr *)&addr, len) == 0 && listen(listener, 1) == 0 &&
              getsockname(listener, (struct sockaddr *)&addr, &len) == 0 &&
              connect(conn.fd, (struct sockaddr *)&addr, len) == 0);
    *server = accept(listener, NULL, NULL);
    cr_assert_geq(*server, 0);
    close(listener);
    return conn;
}

#ifdef __linux__
Test(tcp_info, of_a_connection)
{
    int server;
    struct sp_conn conn = connected(&server);

    cr_assert(sp_tcp_info(&conn, &info));
    cr_assert(info.rtt > 0 && info.rtt < 1000000, "%llu us", (unsigned long long)info.rtt);
    cr_assert(info.cwnd > 0 && info.cwnd < 1000);
    cr_assert(info.retransmits == 0 && info.unacked == 0 && info.lost == 0);
    close(server);
    close(conn.fd);
}

Test(tcp_info, what_is_not_measured_is_not_known)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sp_conn conn = lone_conn(&sp_transport_tcp);

    conn.sys = &sp_sys_posix;
    conn.fd = listener;
    cr_assert(sp_tcp_info(&conn, &info));
    cr_assert_eq(info.min_rtt, SP_TCP_INFO_UNKNOWN);
    cr_assert_eq(info.delivery_rate, SP_TCP_INFO_UNKNOWN);
    close(listener);
}
#endif

Test(tcp_info, not_of_another_socket)
{
    struct sp_conn conn = lone_conn(&sp_transport_unix);

    conn.sys = &sp_sys_posix;
    conn.fd = socket(AF_UNIX, SOCK_STREAM, 0);
    cr_assert_not(sp_tcp_info(&conn, &info));
    close(conn.fd);
    conn.fd = -1;
    cr_assert_not(sp_tcp_info(&conn, &info));
}

Test(tcp_info, not_of_an_older_system)
{
    struct sp_conn conn;

    fake_sys_reset();
    conn = lone_conn(&sp_transport_tcp);
    conn.fd = fake_sys.socket(AF_INET);
    cr_assert_not(sp_tcp_info(&conn, &info));
#ifdef TCP_INFO
    fake_tcp_info(conn.fd, offsetof(struct tcp_info, tcpi_total_retrans), 0, 0);
    cr_assert_not(sp_tcp_info(&conn, &info));
    fake_tcp_info(conn.fd, sizeof(struct tcp_info), 5, 6);
    cr_assert(sp_tcp_info(&conn, &info));
    cr_assert(info.retransmits == 5 && info.unacked == 6);
#endif
}
