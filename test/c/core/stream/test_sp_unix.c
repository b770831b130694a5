/* sp_unix: opening, with every call that can fail. */
#include "kit/lone_conn.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static struct sp_conn conn;
static struct sp_addr addr;
static struct sp_sockopts opts;

static void unopened(void)
{
    fake_sys_reset();
    conn = lone_conn(&sp_transport_unix);
    addr = (struct sp_addr){.storage.ss_family = AF_UNIX, .len = 20};
}

static sp_status open_it(void)
{
    return sp_transport_unix.open(&conn, &addr, &opts);
}

TestSuite(unix_, .init = unopened);

Test(unix_, opens_without_tcp_options)
{
    cr_assert_str_eq(sp_transport_unix.name, "unix");
    opts = (struct sp_sockopts){.nodelay = true, .keepalive = true};
    fake_connect_at_once(true);
    cr_assert_eq(open_it(), SP_OK);
    cr_assert_eq(fake_last(FAKE_SOCKET, 0)->a, AF_UNIX);
    cr_assert_eq(fake_last(FAKE_CONNECT, 0)->b, 20);
    cr_assert_eq(fake_calls(FAKE_SETSOCKOPT), 0);
}

Test(unix_, opens_with_buffer_sizes)
{
    opts = (struct sp_sockopts){.sndbuf_bytes = 1000, .recbuf_bytes = 2000};
    cr_assert_eq(open_it(), SP_WANT_WRITE);
    cr_assert_eq(fake_last(FAKE_SETSOCKOPT, 1)->value, 1000);
    cr_assert_eq(fake_last(FAKE_SETSOCKOPT, 0)->value, 2000);
}

Test(unix_, each_failing_call_ends_the_opening)
{
    opts = (struct sp_sockopts){.sndbuf_bytes = 1000};
    fake_fail(FAKE_SOCKET, ENFILE);
    cr_assert_eq(open_it(), -ENFILE);
    cr_assert_eq(conn.fd, -1);
    fake_fail(FAKE_SETSOCKOPT, EINVAL);
    cr_assert_eq(open_it(), -EINVAL);
    cr_assert_eq(fake_calls(FAKE_CONNECT), 0);
    fake_fail(FAKE_CONNECT, ENOENT);
    cr_assert_eq(open_it(), -ENOENT);
    fake_fail(FAKE_CONNECT, EAGAIN);
    cr_assert_eq(open_it(), -EAGAIN, "the backlog is full");
}

Test(unix_, has_no_nodelay_and_no_keepalive)
{
    opts = (struct sp_sockopts){.nodelay = false};
    cr_assert_eq(open_it(), SP_WANT_WRITE);
    cr_assert_eq(sp_transport_unix.set(&conn, SP_OPT_NODELAY, 1), -ENOPROTOOPT);
    cr_assert_eq(sp_transport_unix.set(&conn, SP_OPT_KEEPALIVE, 1), -ENOPROTOOPT);
    cr_assert_eq(sp_transport_unix.set(&conn, SP_OPT_SNDBUF, 1), SP_OK);
}

Test(unix_, on_a_real_socket)
{
    char dir[] = "/tmp/sockpool_unix_XXXXXX";
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), server;
    struct iovec iov = {dir, 4};
    size_t sent;
    char buf[4];

    cr_assert_not_null(mkdtemp(dir));
    snprintf(name.sun_path, sizeof name.sun_path, "%s/s", dir);
    cr_assert_eq(bind(listener, (struct sockaddr *)&name, sizeof name), 0);
    cr_assert_eq(listen(listener, 1), 0);
    memcpy(&addr.storage, &name, sizeof name);
    addr.len = sizeof name;
    conn.sys = &sp_sys_posix;
    cr_assert_eq(open_it(), SP_OK);
    cr_assert_eq(sp_stream_opened(&conn), SP_OK);
    server = accept(listener, NULL, NULL);
    cr_assert_eq(sp_stream_validate(&conn), SP_CLEAN);
    cr_assert_eq(sp_stream_send(&conn, &iov, 1, &sent), SP_OK);
    cr_assert_eq(recv(server, buf, 4, MSG_WAITALL), 4);
    close(server);
    cr_assert_eq(sp_stream_validate(&conn), SP_DEAD);
    close(conn.fd);
    close(listener);
    unlink(name.sun_path);
    rmdir(dir);
}
