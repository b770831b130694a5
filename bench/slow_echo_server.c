/*
 * An echo server that is slow now and then: it sends back messages of one size, of all connections every so many
 * late. What is behind the late one on its connection waits for it, as the replies of a server that answers in order do.
 *
 *     slow_echo_server PORT|PATH BYTES EVERY LATE_MS
 *
 * Otherwise as echo_server: it prints the port or the path, and ends when stdin closes.
 */
#include "listener.h"
#include "readiness.h"

#include <err.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK_BYTES = 65536, NS_PER_MS = 1000000 };

struct peer {
    int fd;
    size_t got;     /* bytes in the chunk; 0: it is waited for more */
    size_t sent;    /* of these */
    size_t allowed; /* how many may be sent before the late message, or all */
    size_t
        begins; /* where the next message begins that is not counted yet; may lie behind what was got */
    uint64_t due_ns;
    struct peer *next_held;
    char chunk[CHUNK_BYTES];
};

static size_t message_bytes;
static uint64_t every, late_ns;
static uint64_t messages;
/* Of those whose message is late; they are in no set meanwhile. */
static struct peer *held;

static uint64_t now_ns(void)
{
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
        err(1, "clock_gettime");
    return (uint64_t)now.tv_sec * 1000 * NS_PER_MS + (uint64_t)now.tv_nsec;
}

static void drop(struct readiness *set, struct peer *peer)
{
    if (readiness_remove(set, peer->fd) != 0)
        err(1, "readiness_remove");
    close(peer->fd);
    free(peer);
}

static void want(struct readiness *set, struct peer *peer, enum interest interest)
{
    if (readiness_change(set, peer->fd, interest, peer) != 0)
        err(1, "readiness_change");
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

/* Allows all up to the next message that is late. */
static void allow(struct peer *peer)
{
    while (peer->begins < peer->got) {
        size_t at = peer->begins;
        peer->begins += message_bytes;
        if (++messages % every == 0) {
            peer->allowed = at;
            return;
        }
    }
    peer->allowed = peer->got;
}

static void hold(struct readiness *set, struct peer *peer)
{
    if (readiness_remove(set, peer->fd) != 0)
        err(1, "readiness_remove");
    peer->due_ns = now_ns() + late_ns;
    peer->next_held = held;
    held = peer;
}

/* Sends what it may. false: the socket takes no more now, or the peer is gone. */
static bool send_allowed(struct readiness *set, struct peer *peer)
{
    while (peer->sent < peer->allowed) {
        ssize_t sent = send(peer->fd, peer->chunk + peer->sent, peer->allowed - peer->sent, 0);
        if (sent < 0) {
            if (not_now(errno))
                want(set, peer, WANT_WRITE);
            else
                drop(set, peer);
            return false;
        }
        peer->sent += (size_t)sent;
    }
    return true;
}

static void go_on(struct readiness *set, struct peer *peer)
{
    if (!send_allowed(set, peer))
        return;
    if (peer->allowed < peer->got) {
        hold(set, peer);
        return;
    }
    peer->begins -= peer->got;
    peer->got = 0;
    want(set, peer, WANT_READ);
}

static void ready(struct readiness *set, void *owner)
{
    struct peer *peer = owner;
    if (peer->got == 0) {
        ssize_t got = recv(peer->fd, peer->chunk, sizeof peer->chunk, 0);
        if (got < 0 && not_now(errno))
            return;
        if (got <= 0) {
            drop(set, peer);
            return;
        }
        peer->got = (size_t)got;
        peer->sent = 0;
        allow(peer);
    }
    go_on(set, peer);
}

/* Lets go those whose time has come, and tells in how many milliseconds the next one's does; -1: there is none. */
static int release(struct readiness *set, void *context)
{
    (void)context;
    uint64_t now = now_ns();
    uint64_t next_ns = UINT64_MAX;
    struct peer **link = &held;

    while (*link != NULL) {
        struct peer *peer = *link;
        if (peer->due_ns > now) {
            next_ns = peer->due_ns < next_ns ? peer->due_ns : next_ns;
            link = &peer->next_held;
            continue;
        }
        *link = peer->next_held;
        if (readiness_add(set, peer->fd, WANT_WRITE, peer) != 0)
            err(1, "readiness_add");
        allow(peer);
    }
    return next_ns == UINT64_MAX ? -1 : (int)((next_ns - now + NS_PER_MS - 1) / NS_PER_MS);
}

static uint64_t number(const char *text)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (end == text || *end != '\0' || value == 0 || value > 1000000)
        errx(2, "%s is not a number of 1 to 1000000", text);
    return value;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: slow_echo_server PORT|PATH BYTES EVERY LATE_MS\n");
        return 2;
    }
    message_bytes = number(argv[2]);
    every = number(argv[3]);
    late_ns = number(argv[4]) * NS_PER_MS;
    listener_serve(argv[1],
                   &(struct service){.accepted = accepted, .ready = ready, .due = release});
    return 0;
}
