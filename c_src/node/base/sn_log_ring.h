/* Lines on their way to a descriptor whose reader may be slow or stuck: a thread writes them, and whoever has
 * something to say never waits. What does not fit is dropped; how many lines that were is said where they would
 * have been. */
#ifndef SN_LOG_RING_H
#define SN_LOG_RING_H

#include <stddef.h>

#define SN_LOG_RING_BYTES ((size_t)64 * 1024)

/* What the last lines may take at the end. */
#define SN_LOG_LAST_MS 1000

/* Begins with the thread. Before that, and where there can be none, lines are written by sn_log_ring_put(). */
void sn_log_ring_start(int fd);
/* A line with its newline. One thread calls. */
void sn_log_ring_put(const char *line, size_t len);
/* Waits until all is written, for so many milliseconds at most. The last call. */
void sn_log_ring_stop(unsigned ms);

#endif
