#include "listener.h"

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 65535, BATCH = 256 };

/* Owners that are no connection. */
static char listener_mark;
static char stdin_mark;

static bool is_path(const char *where)
{
    return strchr(where, '/') != NULL;
}

static int listen_tcp(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t length = sizeof address;
    int on = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        err(1, "socket");
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
        err(1, "SO_REUSEADDR");
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        err(1, "bind");
    if (listen(fd, BACKLOG) != 0)
        err(1, "listen");
    if (getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        err(1, "getsockname");
    printf("%u\n", (unsigned)ntohs(address.sin_port));
    return fd;
}

static int listen_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        err(1, "%s", path);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (unlink(path) != 0 && errno != ENOENT)
        err(1, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0)
        err(1, "socket");
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        err(1, "%s", path);
    if (listen(fd, BACKLOG) != 0)
        err(1, "listen");
    printf("%s\n", path);
    return fd;
}

static unsigned port_of(const char *where)
{
    char *end;
    unsigned long port = strtoul(where, &end, 10);
    if (end == where || *end != '\0' || port > 65535)
        errx(2, "%s is neither a port (0..65535) nor a path", where);
    return (unsigned)port;
}

static int start(const char *where)
{
    int fd = is_path(where) ? listen_unix(where) : listen_tcp(port_of(where));
    if (descriptor_prepare(fd) != 0)
        err(1, "fcntl");
    if (fflush(stdout) != 0)
        err(1, "stdout");
    return fd;
}

static void stop(int listener, const char *where)
{
    close(listener);
    if (is_path(where))
        unlink(where);
}

/* -1: none now. TCP_NODELAY fails on a Unix socket, which does not delay anyway. */
static int accept_one(int listener)
{
    int on = 1;
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) {
        if (not_now(errno) || errno == ECONNABORTED)
            return -1;
        err(1, "accept");
    }
    if (descriptor_prepare(fd) != 0)
        err(1, "fcntl");
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

/* What was written to it is thrown away. */
static bool stdin_closed(void)
{
    char unused[256];
    ssize_t got = read(STDIN_FILENO, unused, sizeof unused);
    return got == 0 || (got < 0 && !not_now(errno));
}

static void serve(struct readiness *set, int listener, const struct service *service)
{
    void *owners[BATCH];

    for (;;) {
        int timeout_ms = service->due == NULL ? -1 : service->due(set, service->context);
        int count = readiness_wait(set, owners, BATCH, timeout_ms);
        if (count < 0)
            err(1, "readiness_wait");
        for (int i = 0; i < count; i++) {
            if (owners[i] == &listener_mark) {
                int fd = accept_one(listener);
                if (fd >= 0)
                    service->accepted(set, fd, service->context);
            } else if (owners[i] == &stdin_mark) {
                if (stdin_closed())
                    return;
            } else {
                service->ready(set, owners[i]);
            }
        }
    }
}

void listener_serve(const char *where, const struct service *service)
{
    signal(SIGPIPE, SIG_IGN);
    descriptor_limit_raise();
    struct readiness *set = readiness_open();
    if (set == NULL)
        err(1, "readiness_open");
    int listener = start(where);
    if (readiness_add(set, listener, WANT_READ, &listener_mark) != 0)
        err(1, "readiness_add");
    if (readiness_add(set, STDIN_FILENO, WANT_READ, &stdin_mark) != 0)
        err(1, "stdin must be a pipe or a terminal");
    serve(set, listener, service);
    stop(listener, where);
    readiness_close(set);
}
