/*
 * Where an echo server listens, and when it ends: its command line names a port or a path, it
 * prints what it got, and it ends when stdin closes, so that it never outlives the VM that
 * started it.
 *
 * One thread only. A function that fails says why on stderr and ends the program, with status 2
 * for a wrong argument and 1 otherwise.
 */
#ifndef SOCKPOOL_BENCH_LISTENER_H
#define SOCKPOOL_BENCH_LISTENER_H

#include <stdbool.h>

/*
 * where: a port of 127.0.0.1 (0 = any free one) or the path of a Unix socket (it contains a '/').
 * Prints the port or the path on a line of its own. The descriptor does not block and is the
 * caller's until listener_close.
 */
int listener_open(const char *where);

/* Closes it and removes the path. */
void listener_close(int listener, const char *where);

/* The descriptor of a new connection, which does not block and does not delay; -1 = none now. */
int listener_accept(int listener);

/* Call it when stdin is ready; what was written to it is thrown away. */
bool listener_stdin_closed(void);

#endif
