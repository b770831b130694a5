/* Cuts what a node sends after its handshake into frames. No I/O: the owner reads into the space that it is
 * given. */
#ifndef SN_READER_H
#define SN_READER_H

#include "core/base/sp_status.h"

#include <stddef.h>
#include <stdint.h>

/* The buffer of a connection that has nothing to say. */
#define SN_READER_BYTES ((size_t)16 * 1024)
/* What is told of a frame that is too long, or frame_max where that is less: the most that may come before the request of a process, which are
 * 255 atoms, and its sender. */
#define SN_READER_HEAD_BYTES ((size_t)512 * 1024)

struct sn_reader {
    uint8_t *buf; /* what was read and not yet taken is buf[start..end) */
    size_t cap, start, end;
    size_t frame_max;
    uint64_t skipped; /* bytes that have to come of a frame that is too long */
};

/* Frames of up to frame_max bytes are kept whole. sn_reader_free() gives the memory back. */
void sn_reader_init(struct sn_reader *reader, size_t frame_max);
void sn_reader_free(struct sn_reader *reader);

/* Where to read to: *len is never 0. Memory grows with what has come, not with what is claimed: to
 * twice what is there at most. SP_OK or SP_NO_MEMORY. Ends the life of the last frame. */
SP_MUST_CHECK sp_status sn_reader_space(struct sn_reader *reader, uint8_t **space, size_t *len);

/* `len` bytes were put there. */
void sn_reader_filled(struct sn_reader *reader, size_t len);

/* The next frame without its length; a length of 0 is a tick. It lives until sn_reader_space().
 * SP_OK; SP_WANT_READ; SP_TOO_BIG: it is only the beginning of one that is too long, whose rest is dropped
 * as it comes. */
SP_MUST_CHECK sp_status sn_reader_next(struct sn_reader *reader, const uint8_t **frame,
                                       size_t *len);

#endif
