/*
 * The benchmark's backend: sends back every byte that it receives.
 *
 *     echo_server PORT        listens on 127.0.0.1; 0 = any free port
 *     echo_server PATH        listens on a Unix socket (a PATH contains a '/')
 *
 * Prints the port (or the path) on a line of its own once it listens. Ends with status 0 when
 * stdin closes, so that it never outlives the VM that started it.
 */
#include "readiness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CHUNK_BYTES = 65536, BATCH = 256, BACKLOG = 65535 };

struct peer {
    int fd;
    char *unsent; /* what the socket did not take yet; NULL = nothing */
    size_t unsent_bytes;
    size_t sent_bytes;
};

/* Owners that are no connection. */
static char listener_mark;
static char stdin_mark;

static char chunk[CHUNK_BYTES];

static void fail(const char *what)
{
    fprintf(stderr, "echo_server: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int listen_tcp(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t length = sizeof address;
    int on = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        fail("socket");
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
        fail("SO_REUSEADDR");
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("bind");
    if (listen(fd, BACKLOG) != 0)
        fail("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        fail("getsockname");
    printf("%u\n", (unsigned)ntohs(address.sin_port));
    return fd;
}

static int listen_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        fail(path);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (unlink(path) != 0 && errno != ENOENT)
        fail(path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0)
        fail("socket");
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail(path);
    if (listen(fd, BACKLOG) != 0)
        fail("listen");
    printf("%s\n", path);
    return fd;
}

static int listen_on(const char *where)
{
    if (strchr(where, '/') != NULL)
        return listen_unix(where);
    char *end;
    unsigned long port = strtoul(where, &end, 10);
    if (end == where || *end != '\0' || port > 65535) {
        fprintf(stderr, "echo_server: %s is neither a port (0..65535) nor a path\n", where);
        exit(2);
    }
    return listen_tcp((unsigned)port);
}

static void drop(struct readiness *set, struct peer *peer)
{
    if (readiness_remove(set, peer->fd) != 0)
        fail("readiness_remove");
    close(peer->fd);
    free(peer->unsent);
    free(peer);
}

/* TCP_NODELAY fails on a Unix socket, which does not delay anyway. */
static void accept_one(struct readiness *set, int listener)
{
    int on = 1;
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) {
        if (would_block(errno) || errno == EINTR || errno == ECONNABORTED)
            return;
        fail("accept");
    }
    struct peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        fail("calloc");
    peer->fd = fd;
    if (descriptor_prepare(fd) != 0)
        fail("fcntl");
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (readiness_add(set, fd, WANT_READ, peer) != 0)
        fail("readiness_add");
}

static bool interrupted(int error)
{
    return would_block(error) || error == EINTR;
}

/* Keeps what the socket did not take and stops reading until it has gone. */
static void keep_unsent(struct readiness *set, struct peer *peer, const char *rest, size_t bytes)
{
    peer->unsent = malloc(bytes);
    if (peer->unsent == NULL)
        fail("malloc");
    memcpy(peer->unsent, rest, bytes);
    peer->unsent_bytes = bytes;
    peer->sent_bytes = 0;
    if (readiness_change(set, peer->fd, WANT_WRITE, peer) != 0)
        fail("readiness_change");
}

static void echo(struct readiness *set, struct peer *peer)
{
    ssize_t got = recv(peer->fd, chunk, sizeof chunk, 0);
    if (got < 0 && interrupted(errno))
        return;
    if (got <= 0) {
        drop(set, peer);
        return;
    }
    ssize_t sent = send(peer->fd, chunk, (size_t)got, 0);
    if (sent < 0) {
        if (!interrupted(errno)) {
            drop(set, peer);
            return;
        }
        sent = 0;
    }
    if (sent < got)
        keep_unsent(set, peer, chunk + sent, (size_t)(got - sent));
}

static void send_rest(struct readiness *set, struct peer *peer)
{
    ssize_t sent =
        send(peer->fd, peer->unsent + peer->sent_bytes, peer->unsent_bytes - peer->sent_bytes, 0);
    if (sent < 0) {
        if (!interrupted(errno))
            drop(set, peer);
        return;
    }
    peer->sent_bytes += (size_t)sent;
    if (peer->sent_bytes < peer->unsent_bytes)
        return;
    free(peer->unsent);
    peer->unsent = NULL;
    if (readiness_change(set, peer->fd, WANT_READ, peer) != 0)
        fail("readiness_change");
}

static bool stdin_closed(void)
{
    ssize_t got = read(STDIN_FILENO, chunk, sizeof chunk);
    return got == 0 || (got < 0 && !interrupted(errno));
}

static void serve(struct readiness *set, int listener)
{
    void *owners[BATCH];

    for (;;) {
        int count = readiness_wait(set, owners, BATCH, -1);
        if (count < 0)
            fail("readiness_wait");
        for (int i = 0; i < count; i++) {
            if (owners[i] == &listener_mark) {
                accept_one(set, listener);
            } else if (owners[i] == &stdin_mark) {
                if (stdin_closed())
                    return;
            } else {
                struct peer *peer = owners[i];
                if (peer->unsent != NULL)
                    send_rest(set, peer);
                else
                    echo(set, peer);
            }
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: echo_server PORT|PATH\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    descriptor_limit_raise();
    struct readiness *set = readiness_open();
    if (set == NULL)
        fail("readiness_open");
    int listener = listen_on(argv[1]);
    if (descriptor_prepare(listener) != 0)
        fail("fcntl");
    if (readiness_add(set, listener, WANT_READ, &listener_mark) != 0)
        fail("readiness_add");
    if (readiness_add(set, STDIN_FILENO, WANT_READ, &stdin_mark) != 0)
        fail("stdin must be a pipe or a terminal");
    if (fflush(stdout) != 0)
        fail("stdout");
    serve(set, listener);
    readiness_close(set);
    if (strchr(argv[1], '/') != NULL)
        unlink(argv[1]);
    return 0;
}
