/* Cuts what a node sends after its handshake into frames, and a frame into its terms. No I/O: the
 * owner reads into the space that it is given. */
#ifndef SN_READER_H
#define SN_READER_H

#include "sn_term.h"
#include "sp_status.h"

#include <stddef.h>
#include <stdint.h>

/* The buffer of a connection that has nothing to say. */
#define SN_READER_BYTES ((size_t)16 * 1024)

struct sn_reader {
    uint8_t *buf; /* what was read and not yet taken is buf[start..end) */
    size_t cap, start, end;
    size_t frame_max;
};

/* Frames have frame_max bytes at most. sn_reader_free() gives the memory back. */
void sn_reader_init(struct sn_reader *reader, size_t frame_max);
void sn_reader_free(struct sn_reader *reader);

/* Where to read to: *len is never 0. Memory grows with what has come, not with what is claimed: to
 * twice what is there at most. SP_OK or SP_NO_MEMORY. Ends the life of the last frame. */
SP_MUST_CHECK sp_status sn_reader_space(struct sn_reader *reader, uint8_t **space, size_t *len);

/* `len` bytes were put there. */
void sn_reader_filled(struct sn_reader *reader, size_t len);

/* The next frame without its length; a length of 0 is a tick. It lives until sn_reader_space().
 * SP_OK, SP_WANT_READ, or SP_TOO_BIG, after which the stream is lost. */
SP_MUST_CHECK sp_status sn_reader_next(struct sn_reader *reader, const uint8_t **frame,
                                       size_t *len);

/* A frame's terms, with their version bytes, ready for libei. */
struct sn_message {
    const uint8_t *control,
        *payload; /* payload is NULL where there is none, or none that is good */
    size_t control_len, payload_len;
    enum sn_term_result payload_result; /* SN_TERM_OK also where there is none */
};

/* Opens a frame that is no tick. SN_TERM_OK, or what is wrong with its head or control message: then
 * the stream cannot be trusted. A payload that is not one good term is in payload_result. */
enum sn_term_result sn_message_open(const uint8_t *frame, size_t len,
                                    const struct sn_term_limits *limits,
                                    struct sn_message *message);

#endif
