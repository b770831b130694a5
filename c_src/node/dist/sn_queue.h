/* The frames that wait to be written to a node, bounded. No I/O.
 *
 * Back-pressure: from SN_QUEUE_HIGH bytes on the queue is congested, and its owner reads nothing
 * more from that node, until fewer than SN_QUEUE_LOW wait. What comes of events and not of the
 * node's own requests (a DOWN, a grant) is still taken, while less than SN_QUEUE_MAX wait: one frame may go
 * beyond that, however long it is. */
#ifndef SN_QUEUE_H
#define SN_QUEUE_H

#include "node/etf/sn_slice.h"
#include "core/base/sp_status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define SN_QUEUE_LOW ((size_t)256 * 1024)
#define SN_QUEUE_HIGH ((size_t)1024 * 1024)
#define SN_QUEUE_MAX ((size_t)64 * 1024 * 1024)

struct sn_queue {
    struct sn_chunk *first, *last;
    size_t written; /* of the first chunk */
    size_t bytes;   /* that wait */
    bool congested;
};

void sn_queue_init(struct sn_queue *queue);
void sn_queue_free(struct sn_queue *queue);

/* Copies bytes as they are: the handshake. SP_OK, SP_FULL where SN_QUEUE_MAX or more wait, or
 * SP_NO_MEMORY; then nothing is queued, and the connection cannot go on. */
SP_MUST_CHECK sp_status sn_queue_bytes(struct sn_queue *queue, const void *data, size_t len);

/* Copies a frame: its length, and the parts, each of which may be empty. As above, or SP_TOO_BIG where the
 * length does not fit its 4 bytes. */
SP_MUST_CHECK sp_status sn_queue_parts(struct sn_queue *queue, const struct sn_slice *parts,
                                       int count);

/* The same for a frame without atom cache: 112, the control message and the payload, each with its version
 * byte. The payload is in two parts. */
SP_MUST_CHECK sp_status sn_queue_frame(struct sn_queue *queue, struct sn_slice control,
                                       struct sn_slice payload, struct sn_slice tail);

/* A frame without anything in it. */
SP_MUST_CHECK sp_status sn_queue_tick(struct sn_queue *queue);

/* The oldest bytes, in up to `count` pieces; returns how many. They stay where they are until
 * sn_queue_written(). */
int sn_queue_front(const struct sn_queue *queue, struct iovec *pieces, int count);

/* The oldest `len` bytes are out. */
void sn_queue_written(struct sn_queue *queue, size_t len);

#endif
