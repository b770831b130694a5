/* sp_sys: the real system calls, on the loopback interface and on Unix sockets. */
#include "core/base/sp_sys.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

static const struct sp_sys *sys = &sp_sys_posix;
static int listener, client, server;
static struct sockaddr_in addr;

static void await(int fd, short events)
{
    struct pollfd poller = {.fd = fd, .events = events};

    cr_assert_eq(poll(&poller, 1, 10000), 1, "nothing happens for 10 s");
}

/* A connected pair over TCP; `client` was made by the table. */
static void connected(void)
{
    socklen_t len = sizeof addr;

    listener = socket(AF_INET, SOCK_STREAM, 0);
    addr = (struct sockaddr_in){.sin_family = AF_INET};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(bind(listener, (struct sockaddr *)&addr, sizeof addr), 0);
    cr_assert_eq(listen(listener, 4), 0);
    cr_assert_eq(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
    client = sys->socket(AF_INET);
    cr_assert_geq(client, 0);
    if (sys->connect(client, (struct sockaddr *)&addr, sizeof addr) < 0)
        cr_assert_eq(errno, EINPROGRESS);
    await(client, POLLOUT);
    server = accept(listener, NULL, NULL);
    cr_assert_geq(server, 0);
}

Test(sys, sockets_are_nonblocking_and_close_on_exec)
{
    static const int FAMILIES[] = {AF_INET, AF_INET6, AF_UNIX};

    for (size_t i = 0; i < 3; i++) {
        int fd = sys->socket(FAMILIES[i]), type = 0;
        socklen_t len = sizeof type;
        cr_assert_geq(fd, 0);
        cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
        cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        cr_assert_eq(sys->getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len), 0);
        cr_assert_eq(type, SOCK_STREAM);
        cr_assert_eq(sys->close(fd), 0);
    }
}

Test(sys, an_unknown_family_is_an_error)
{
    cr_assert_eq(sys->socket(-1), -1);
    cr_assert_eq(errno, EAFNOSUPPORT);
}

Test(sys, bytes_go_and_come, .init = connected)
{
    char part_1[] = "hello, ", part_2[] = "world", buf[32];
    struct iovec iov[] = {{part_1, 7}, {part_2, 5}};

    cr_assert_eq(sys->recv(client, buf, sizeof buf, 0), -1);
    cr_assert_eq(errno, EAGAIN);
    cr_assert_eq(sys->sendv(client, iov, 2), 12);
    cr_assert_eq(sys->sendv(client, iov, 1), 7);
    cr_assert_eq(recv(server, buf, 19, MSG_WAITALL), 19);
    cr_assert_eq(memcmp(buf, "hello, worldhello, ", 19), 0);
    cr_assert_eq(send(server, "reply", 5, 0), 5);
    await(client, POLLIN);
    cr_assert_eq(sys->recv(client, buf, 1, MSG_PEEK), 1);
    cr_assert_eq(sys->recv(client, buf, sizeof buf, 0), 5);
    cr_assert_eq(memcmp(buf, "reply", 5), 0);
}

Test(sys, a_full_socket_would_block, .init = connected)
{
    static char bytes[1 << 16];
    struct iovec iov[] = {{bytes, sizeof bytes}, {bytes, sizeof bytes}};
    ssize_t sent;

    while ((sent = sys->sendv(client, iov, 2)) > 0)
        ;
    cr_assert_eq(sent, -1);
    cr_assert_eq(errno, EAGAIN);
}

/* To the last byte, also of the call that the socket had no more room for. */
Test(sys, what_is_sent_is_counted, .init = connected)
{
    static char bytes[(1 << 16) + 1];
    struct iovec iov = {bytes, sizeof bytes};
    ssize_t len;
    size_t sent = 0, got = 0;

    while ((len = sys->sendv(client, &iov, 1)) > 0)
        sent += (size_t)len;
    cr_assert_eq(errno, EAGAIN);
    cr_assert_eq(sys->close(client), 0);
    while ((len = recv(server, bytes, sizeof bytes, 0)) > 0)
        got += (size_t)len;
    cr_assert_eq(got, sent);
}

static _Atomic int signalled;

static void on_signal(int number)
{
    (void)number;
    signalled = 1;
}

Test(sys, sending_to_a_closed_peer_raises_no_signal, .init = connected)
{
    char bytes[] = "x";
    struct iovec iov[] = {{bytes, 1}, {bytes, 1}};
    struct linger reset = {.l_onoff = 1, .l_linger = 0};

    signal(SIGPIPE, on_signal);
    cr_assert_eq(setsockopt(server, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    close(server);
    await(client, POLLIN);
    cr_assert_eq(sys->sendv(client, iov, 2), -1);
    cr_assert_eq(errno, ECONNRESET);
    cr_assert_eq(sys->sendv(client, iov, 2), -1);
    cr_assert_eq(errno, EPIPE);
    cr_assert_eq(sys->sendv(client, iov, 1), -1);
    cr_assert_eq(errno, EPIPE);
    cr_assert_eq(signalled, 0);
}

struct nag {
    pthread_t whom;
    _Atomic bool enough;
};

static void *nag(void *arg)
{
    struct nag *nag = arg;

    while (!nag->enough) {
        pthread_kill(nag->whom, SIGUSR1);
        sched_yield();
    }
    return NULL;
}

/* A descriptor of somebody else's may block. */
Test(sys, a_signal_interrupts)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct nag nagging = {.whom = pthread_self()};
    pthread_t thread;
    int pair[2];
    char byte;

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    cr_assert_eq(sigaction(SIGUSR1, &action, NULL), 0);
    cr_assert_eq(pthread_create(&thread, NULL, nag, &nagging), 0);
    cr_assert_eq(sys->recv(pair[0], &byte, 1, 0), -1);
    cr_assert_eq(errno, EINTR);
    nagging.enough = true;
    pthread_join(thread, NULL);
    cr_assert_eq(signalled, 1);
}

Test(sys, shutdown_ends_both_ways, .init = connected)
{
    char byte;

    cr_assert_eq(sys->shutdown(client), 0);
    cr_assert_eq(sys->recv(client, &byte, 1, 0), 0);
    cr_assert_eq(recv(server, &byte, 1, 0), 0);
}

Test(sys, options_and_names, .init = connected)
{
    struct sockaddr_in name = {0};
    socklen_t len = sizeof name;
    int on = 1, value = 0;

    cr_assert_eq(sys->getpeername(client, (struct sockaddr *)&name, &len), 0);
    cr_assert_eq(name.sin_port, addr.sin_port);
    len = sizeof name;
    cr_assert_eq(sys->getsockname(client, (struct sockaddr *)&name, &len), 0);
    cr_assert_neq(name.sin_port, addr.sin_port);
    cr_assert_eq(sys->setsockopt(client, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on), 0);
    len = sizeof value;
    cr_assert_eq(sys->getsockopt(client, SOL_SOCKET, SO_KEEPALIVE, &value, &len), 0);
    cr_assert_eq(value, 1);
}

Test(sys, bind_gives_the_local_address, .init = connected)
{
    struct sockaddr_in local = {.sin_family = AF_INET}, name;
    socklen_t len = sizeof name;
    int fd = sys->socket(AF_INET);

    local.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
    cr_assert_eq(sys->bind(fd, (struct sockaddr *)&local, sizeof local), 0);
    cr_assert_eq(sys->getsockname(fd, (struct sockaddr *)&name, &len), 0);
    cr_assert_eq(name.sin_addr.s_addr, local.sin_addr.s_addr);
    cr_assert_eq(sys->close(fd), 0);
}

Test(sys, close_closes, .init = connected)
{
    char byte;

    cr_assert_eq(sys->close(client), 0);
    cr_assert_eq(fcntl(client, F_GETFD), -1);
    cr_assert_eq(recv(server, &byte, 1, 0), 0);
}
