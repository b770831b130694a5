/*
 * Which descriptors are ready: epoll on Linux, poll() elsewhere (or with -DBENCH_USE_POLL).
 *
 * Level-triggered. One thread only. The owner pointer given with a descriptor comes back when it
 * is ready; it stays the caller's. Every function returns -1 and sets errno on failure.
 */
#ifndef SOCKPOOL_BENCH_READINESS_H
#define SOCKPOOL_BENCH_READINESS_H

#include <stdbool.h>

struct readiness;

enum interest { WANT_READ, WANT_WRITE };

/* NULL with errno set when there is no memory or no descriptor left. */
struct readiness *readiness_open(void);
void readiness_close(struct readiness *set);

int readiness_add(struct readiness *set, int fd, enum interest want, void *owner);
int readiness_change(struct readiness *set, int fd, enum interest want, void *owner);

/* Call it before close(fd). */
int readiness_remove(struct readiness *set, int fd);

/*
 * Waits at most timeout_ms (-1 = for ever) and writes up to max owners of ready descriptors.
 * Errors and hang-ups count as ready: the following read or write reports them.
 * Returns how many were written; 0 after the time-out or a signal.
 */
int readiness_wait(struct readiness *set, void **owners, int max, int timeout_ms);

/* Non-blocking and close-on-exec. */
int descriptor_prepare(int fd);

/* Lifts the soft limit of open descriptors to the hard one. */
void descriptor_limit_raise(void);

/* true for the errno values with which a non-blocking call asks to be repeated, when ready or after a signal. */
bool not_now(int error);

#endif
