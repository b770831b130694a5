/* sp_tcp: opening, with every call that can fail, and its options. */
#include "kit/lone_conn.h"
#include "core/base/sp_sys.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

static struct sp_conn conn;
static struct sp_addr addr = {.storage.ss_family = AF_INET6, .len = 28};
static struct sp_sockopts opts;

static void unopened(void)
{
    fake_sys_reset();
    conn = lone_conn(&sp_transport_tcp);
    opts = (struct sp_sockopts){.nodelay = true};
}

static sp_status open_it(void)
{
    return sp_transport_tcp.open(&conn, &addr, &opts);
}

static bool was_set(int level, int name, int value)
{
    for (unsigned back = 0; back < fake_calls(FAKE_SETSOCKOPT); back++) {
        const struct fake_call *call = fake_last(FAKE_SETSOCKOPT, back);
        if (call->a == level && call->b == name)
            return call->value == value;
    }
    return false;
}

TestSuite(tcp, .init = unopened);

Test(tcp, opens_with_its_options)
{
    cr_assert_str_eq(sp_transport_tcp.name, "tcp");
    cr_assert_eq(open_it(), SP_WANT_WRITE);
    cr_assert(fake_fd_open(conn.fd));
    cr_assert_eq(fake_last(FAKE_SOCKET, 0)->a, AF_INET6, "the address's family");
    cr_assert_eq(fake_last(FAKE_CONNECT, 0)->a, AF_INET6);
    cr_assert_eq(fake_last(FAKE_CONNECT, 0)->b, 28);
    cr_assert(was_set(IPPROTO_TCP, TCP_NODELAY, 1));
    cr_assert(was_set(SOL_SOCKET, SO_KEEPALIVE, 0));
    cr_assert_eq(fake_calls(FAKE_SETSOCKOPT), 2);
    cr_assert_eq(fake_calls(FAKE_BIND), 0);
}

Test(tcp, opens_with_every_option)
{
    opts = (struct sp_sockopts){.keepalive = true, .sndbuf_bytes = 1000, .recbuf_bytes = 2000};
    opts.bind = (struct sp_addr){.storage.ss_family = AF_INET, .len = 16};
    fake_connect_at_once(true);
    cr_assert_eq(open_it(), SP_OK);
    cr_assert(was_set(IPPROTO_TCP, TCP_NODELAY, 0));
    cr_assert(was_set(SOL_SOCKET, SO_KEEPALIVE, 1));
    cr_assert(was_set(SOL_SOCKET, SO_SNDBUF, 1000));
    cr_assert(was_set(SOL_SOCKET, SO_RCVBUF, 2000));
    cr_assert_eq(fake_last(FAKE_BIND, 0)->a, AF_INET);
    cr_assert_eq(fake_last(FAKE_BIND, 0)->b, 16);
#ifdef IP_BIND_ADDRESS_NO_PORT
    cr_assert(was_set(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1));
#endif
}

/* Also where keepalive is not asked for. */
Test(tcp, silence)
{
    opts = (struct sp_sockopts){.silence_s = 60};
    cr_assert_eq(open_it(), SP_WANT_WRITE);
    cr_assert(was_set(SOL_SOCKET, SO_KEEPALIVE, 1));
#ifdef TCP_USER_TIMEOUT
    cr_assert(was_set(IPPROTO_TCP, TCP_KEEPIDLE, 15));
    cr_assert(was_set(IPPROTO_TCP, TCP_KEEPINTVL, 15));
    cr_assert(was_set(IPPROTO_TCP, TCP_KEEPCNT, 3));
    cr_assert(was_set(IPPROTO_TCP, TCP_USER_TIMEOUT, 60000));
#endif
}

#ifdef TCP_KEEPINTVL
/* Those of the times that are given, and no others. */
Test(tcp, times)
{
    opts = (struct sp_sockopts){.keepalive = true, .times = {.idle_s = 7, .count = 2}};
    cr_assert_eq(open_it(), SP_WANT_WRITE);
    cr_assert(was_set(SOL_SOCKET, SO_KEEPALIVE, 1));
    cr_assert(was_set(IPPROTO_TCP, TCP_KEEPIDLE, 7));
    cr_assert(was_set(IPPROTO_TCP, TCP_KEEPCNT, 2));
    cr_assert_eq(fake_calls(FAKE_SETSOCKOPT), 4);
    fake_sys_reset();
    opts.times = (struct sp_keepalive){.interval_s = 3};
    cr_assert_eq(open_it(), SP_WANT_WRITE);
    cr_assert(was_set(IPPROTO_TCP, TCP_KEEPINTVL, 3));
    cr_assert_eq(fake_calls(FAKE_SETSOCKOPT), 3);
}
#endif

#ifdef TCP_USER_TIMEOUT
Test(tcp, user_timeout)
{
    opts = (struct sp_sockopts){.user_timeout_ms = 1234};
    cr_assert_eq(open_it(), SP_WANT_WRITE);
    cr_assert(was_set(SOL_SOCKET, SO_KEEPALIVE, 0));
    cr_assert(was_set(IPPROTO_TCP, TCP_USER_TIMEOUT, 1234));
    cr_assert_eq(fake_calls(FAKE_SETSOCKOPT), 3);
}

/* What is given, and the rest as for the silence. */
Test(tcp, silence_with_times)
{
    opts =
        (struct sp_sockopts){.silence_s = 60, .times = {.interval_s = 4}, .user_timeout_ms = 1234};
    cr_assert_eq(open_it(), SP_WANT_WRITE);
    cr_assert(was_set(SOL_SOCKET, SO_KEEPALIVE, 1));
    cr_assert(was_set(IPPROTO_TCP, TCP_KEEPIDLE, 15));
    cr_assert(was_set(IPPROTO_TCP, TCP_KEEPINTVL, 4));
    cr_assert(was_set(IPPROTO_TCP, TCP_KEEPCNT, 3));
    cr_assert(was_set(IPPROTO_TCP, TCP_USER_TIMEOUT, 1234));
}
#endif

Test(tcp, without_a_socket)
{
    fake_fail(FAKE_SOCKET, EMFILE);
    cr_assert_eq(open_it(), -EMFILE);
    cr_assert_eq(conn.fd, -1);
}

Test(tcp, each_option_that_fails_ends_the_opening)
{
    unsigned all;

    opts = (struct sp_sockopts){.sndbuf_bytes = 1000, .recbuf_bytes = 2000};
    cr_assert_eq(open_it(), SP_WANT_WRITE);
    all = fake_calls(FAKE_SETSOCKOPT);
    cr_assert_eq(all, 4);
    for (unsigned nth = 0; nth < all; nth++) {
        fake_sys_reset();
        for (unsigned i = 0; i < nth; i++)
            fake_fail(FAKE_SETSOCKOPT, 0);
        fake_fail(FAKE_SETSOCKOPT, ENOMEM);
        cr_expect_eq(open_it(), -ENOMEM, "option %u", nth);
        cr_expect(fake_fd_open(conn.fd), "the caller closes it");
        cr_expect_eq(fake_calls(FAKE_CONNECT), 0);
    }
}

#ifdef IP_BIND_ADDRESS_NO_PORT
Test(tcp, does_without_the_late_choice_of_a_port)
{
    opts.bind = (struct sp_addr){.storage.ss_family = AF_INET, .len = 16};
    fake_fail(FAKE_SETSOCKOPT, 0);
    fake_fail(FAKE_SETSOCKOPT, 0);
    fake_fail(FAKE_SETSOCKOPT, ENOPROTOOPT);
    cr_assert_eq(open_it(), SP_WANT_WRITE);
    cr_assert_eq(fake_last(FAKE_SETSOCKOPT, 0)->error, ENOPROTOOPT);
    cr_assert_eq(fake_calls(FAKE_BIND), 1);
}
#endif

Test(tcp, bind_and_connect_that_fail)
{
    opts.bind = (struct sp_addr){.storage.ss_family = AF_INET, .len = 16};
    fake_fail(FAKE_BIND, EADDRNOTAVAIL);
    cr_assert_eq(open_it(), -EADDRNOTAVAIL);
    cr_assert_eq(fake_calls(FAKE_CONNECT), 0);
    fake_fail(FAKE_CONNECT, ENETUNREACH);
    cr_assert_eq(open_it(), -ENETUNREACH);
}

Test(tcp, sets_each_option)
{
    cr_assert_eq(open_it(), SP_WANT_WRITE);
    cr_assert_eq(sp_transport_tcp.set(&conn, SP_OPT_NODELAY, 0), SP_OK);
    cr_assert(was_set(IPPROTO_TCP, TCP_NODELAY, 0));
    cr_assert_eq(sp_transport_tcp.set(&conn, SP_OPT_KEEPALIVE, 1), SP_OK);
    cr_assert(was_set(SOL_SOCKET, SO_KEEPALIVE, 1));
    cr_assert_eq(sp_transport_tcp.set(&conn, SP_OPT_SNDBUF, 5), SP_OK);
    cr_assert(was_set(SOL_SOCKET, SO_SNDBUF, 5));
    fake_fail(FAKE_SETSOCKOPT, EBADF);
    cr_assert_eq(sp_transport_tcp.set(&conn, SP_OPT_NODELAY, 0), -EBADF);
}

Test(tcp, tells_that_its_own_address_cannot_be_had)
{
    fake_fail(FAKE_GETSOCKNAME, ENOBUFS);
    cr_assert_eq(open_it(), -ENOBUFS);
}

Test(tcp, is_refused_by_itself)
{
    struct sockaddr_in *in = (void *)&addr.storage;

    *in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = fake_own_port()};
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    addr.len = sizeof *in;
    cr_assert_eq(open_it(), -ECONNREFUSED);
    cr_assert_eq(fake_last(FAKE_CONNECT, 0)->a, AF_UNSPEC, "given up by a reset");
    in->sin_port = fake_own_port() + 1;
    cr_assert_eq(open_it(), SP_WANT_WRITE);
    in->sin_port = fake_own_port();
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
    cr_assert_eq(open_it(), SP_WANT_WRITE, "another host, or another address of this one");
}

/* ---- on real sockets ---- */

/* As the system does it, where it chooses the port that nobody listens on. The address of the peer may
 * be the unspecified one. */
static void to_itself(int family, const void *own, const void *peer, socklen_t len)
{
    struct sp_addr bound = {.len = len};
    int holder = socket(family, SOCK_STREAM, 0);

    memcpy(&bound.storage, own, len);
    cr_assert_eq(bind(holder, (struct sockaddr *)&bound.storage, len), 0);
    cr_assert_eq(getsockname(holder, (struct sockaddr *)&bound.storage, &bound.len), 0);
    close(holder);
    opts.bind = bound;
    memcpy(&addr.storage, peer, len);
    addr.len = len;
    /* Both families have it at the same place. */
    ((struct sockaddr_in *)&addr.storage)->sin_port = ((struct sockaddr_in *)&bound)->sin_port;
    conn.sys = &sp_sys_posix;
    cr_assert_eq(open_it(), -ECONNREFUSED);
    sp_stream_shutdown(&conn);
    close(conn.fd);
    holder = socket(family, SOCK_STREAM, 0);
    cr_assert_eq(bind(holder, (struct sockaddr *)&bound.storage, bound.len), 0,
                 "the server may start, also without SO_REUSEADDR");
    close(holder);
}

Test(tcp, does_not_connect_to_itself)
{
    struct sockaddr_in own = {.sin_family = AF_INET}, any = own;
    struct sockaddr_in6 own6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in6 any6 = {.sin6_family = AF_INET6};

    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to_itself(AF_INET, &own, &own, sizeof own);
    to_itself(AF_INET, &own, &any, sizeof own);
    to_itself(AF_INET6, &own6, &own6, sizeof own6);
    to_itself(AF_INET6, &own6, &any6, sizeof own6);
}

static void on_loopback(int family, const void *any, socklen_t len)
{
    struct sp_addr bound = {.len = sizeof bound.storage};
    int listener = socket(family, SOCK_STREAM, 0);
    struct pollfd poller;
    sp_status status;

    memcpy(&addr.storage, any, len);
    addr.len = len;
    cr_assert_eq(bind(listener, (struct sockaddr *)&addr.storage, len), 0);
    cr_assert_eq(listen(listener, 1), 0);
    opts.bind = addr;
    cr_assert_eq(getsockname(listener, (struct sockaddr *)&addr.storage, &addr.len), 0);
    conn.sys = &sp_sys_posix;
    status = open_it();
    if (status == SP_WANT_WRITE) {
        poller = (struct pollfd){.fd = conn.fd, .events = POLLOUT};
        cr_assert_eq(poll(&poller, 1, 10000), 1);
        status = sp_stream_opened(&conn);
    }
    cr_assert_eq(status, SP_OK, "%s", sp_status_name(status));
    cr_assert_eq(conn.sys->getsockname(conn.fd, (struct sockaddr *)&bound.storage, &bound.len), 0);
    cr_assert_eq(bound.storage.ss_family, family);
    close(conn.fd);
    close(listener);
}

Test(tcp, connects_from_a_bound_ipv4_address)
{
    struct sockaddr_in any = {.sin_family = AF_INET};

    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    on_loopback(AF_INET, &any, sizeof any);
}

Test(tcp, connects_from_a_bound_ipv6_address)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};

    on_loopback(AF_INET6, &any, sizeof any);
}

Test(tcp, a_port_without_a_listener_refuses)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    socklen_t len = sizeof any;
    int holder = socket(AF_INET, SOCK_STREAM, 0);
    struct pollfd poller;
    sp_status status;

    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(bind(holder, (struct sockaddr *)&any, sizeof any), 0);
    cr_assert_eq(getsockname(holder, (struct sockaddr *)&any, &len), 0);
    memcpy(&addr.storage, &any, sizeof any);
    addr.len = sizeof any;
    conn.sys = &sp_sys_posix;
    status = open_it();
    if (status == SP_WANT_WRITE) {
        poller = (struct pollfd){.fd = conn.fd, .events = POLLOUT};
        cr_assert_eq(poll(&poller, 1, 10000), 1);
        status = sp_stream_opened(&conn);
    }
    cr_assert_eq(status, -ECONNREFUSED);
    close(conn.fd);
    close(holder);
}
