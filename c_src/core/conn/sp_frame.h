/* Packet framing as gen_tcp's `packet` option defines it: raw, 1, 2 or 4 bytes of big-endian
 * length before each message, or lines that end in \n. Pure: bytes in, result out. */
#ifndef SP_FRAME_H
#define SP_FRAME_H

#include "core/base/sp_status.h"

#include <stddef.h>
#include <stdint.h>

enum sp_packet {
    SP_PACKET_RAW = 0,
    SP_PACKET_1 = 1,
    SP_PACKET_2 = 2,
    SP_PACKET_4 = 4,
    SP_PACKET_LINE = 5
};

#define SP_FRAME_HEADER_MAX 4

/* The message is the `len` bytes at `offset`; `total` is what it takes from the stream with its
 * header. Where the answer is SP_WANT_READ, `total` is how many bytes must be there before
 * asking again can help. */
struct sp_frame {
    size_t offset, len, total;
};

/* Looks for one whole message at the start of buf[0..len). `searched` bytes at its start are
 * known to hold no \n (0 if unknown). SP_OK, SP_WANT_READ, or SP_TOO_BIG where the message would
 * exceed limit bytes. Not for SP_PACKET_RAW, which has no messages. */
SP_MUST_CHECK sp_status sp_frame_next(enum sp_packet packet, const uint8_t *buf, size_t len,
                                      size_t searched, size_t limit, struct sp_frame *frame);

/* Writes the header of a message of `len` bytes; *header_len is 0 for raw and line.
 * SP_TOO_BIG where the length does not fit the header. */
SP_MUST_CHECK sp_status sp_frame_header(enum sp_packet packet, size_t len,
                                        uint8_t header[SP_FRAME_HEADER_MAX], size_t *header_len);

#endif
