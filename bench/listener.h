/*
 * The loop of an echo server: where it listens, whom it accepts, and when it ends. Its command line
 * names a port or a path, it prints what it got, and it ends when stdin closes, so that it never
 * outlives the VM that started it.
 *
 * One thread only. What fails is said on stderr and ends the program, with status 2 for a wrong
 * argument and 1 otherwise.
 */
#ifndef SOCKPOOL_BENCH_LISTENER_H
#define SOCKPOOL_BENCH_LISTENER_H

#include "readiness.h"

struct service {
    /*
     * A new connection, which does not block and does not delay. The descriptor is the service's
     * now, and it adds it to the set with an owner of its own.
     */
    void (*accepted)(struct readiness *set, int fd, void *context);
    /* An owner's descriptor is ready. */
    void (*ready)(struct readiness *set, void *owner);
    /* Or NULL: does what time has come for, and tells in how many milliseconds to call it again at the latest; -1: none. */
    int (*due)(struct readiness *set, void *context);
    void *context;
};

/*
 * where: a port of 127.0.0.1 (0 = any free one) or the path of a Unix socket (it contains a '/').
 * Prints the port or the path on a line of its own, and serves until stdin closes. Raises the limit
 * of open descriptors and ignores SIGPIPE.
 */
void listener_serve(const char *where, const struct service *service);

#endif
