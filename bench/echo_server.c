/*
 * The benchmark's backend: sends back every byte that it receives.
 *
 *     echo_server PORT        listens on 127.0.0.1; 0 = any free port
 *     echo_server PATH        listens on a Unix socket (a PATH contains a '/')
 *
 * Prints the port (or the path) on a line of its own once it listens. Ends with status 0 when
 * stdin closes, so that it never outlives the VM that started it.
 */
#include "listener.h"
#include "readiness.h"

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK_BYTES = 65536 };

struct peer {
    int fd;
    char *unsent; /* what the socket did not take yet; NULL = nothing */
    size_t unsent_bytes;
    size_t sent_bytes;
};

static char chunk[CHUNK_BYTES];

static void drop(struct readiness *set, struct peer *peer)
{
    if (readiness_remove(set, peer->fd) != 0)
        err(1, "readiness_remove");
    close(peer->fd);
    free(peer->unsent);
    free(peer);
}

static void accepted(struct readiness *set, int fd, void *context)
{
    (void)context;
    struct peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        err(1, "calloc");
    peer->fd = fd;
    if (readiness_add(set, fd, WANT_READ, peer) != 0)
        err(1, "readiness_add");
}

/* Keeps what the socket did not take and stops reading until it has gone. */
static void keep_unsent(struct readiness *set, struct peer *peer, const char *rest, size_t bytes)
{
    peer->unsent = malloc(bytes);
    if (peer->unsent == NULL)
        err(1, "malloc");
    memcpy(peer->unsent, rest, bytes);
    peer->unsent_bytes = bytes;
    peer->sent_bytes = 0;
    if (readiness_change(set, peer->fd, WANT_WRITE, peer) != 0)
        err(1, "readiness_change");
}

static void echo(struct readiness *set, struct peer *peer)
{
    ssize_t got = recv(peer->fd, chunk, sizeof chunk, 0);
    if (got < 0 && not_now(errno))
        return;
    if (got <= 0) {
        drop(set, peer);
        return;
    }
    ssize_t sent = send(peer->fd, chunk, (size_t)got, 0);
    if (sent < 0) {
        if (!not_now(errno)) {
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
        if (!not_now(errno))
            drop(set, peer);
        return;
    }
    peer->sent_bytes += (size_t)sent;
    if (peer->sent_bytes < peer->unsent_bytes)
        return;
    free(peer->unsent);
    peer->unsent = NULL;
    if (readiness_change(set, peer->fd, WANT_READ, peer) != 0)
        err(1, "readiness_change");
}

static void ready(struct readiness *set, void *owner)
{
    struct peer *peer = owner;
    if (peer->unsent != NULL)
        send_rest(set, peer);
    else
        echo(set, peer);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: echo_server PORT|PATH\n");
        return 2;
    }
    listener_serve(argv[1], &(struct service){.accepted = accepted, .ready = ready});
    return 0;
}
