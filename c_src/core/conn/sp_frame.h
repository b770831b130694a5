/* Messages in a stream of bytes: finds them, and makes their headers. Pure: bytes in, result out. */
#ifndef SP_FRAME_H
#define SP_FRAME_H

#include "core/base/sp_status.h"
#include "sp_framing.h"

#define SP_FRAME_HEADER_MAX 8

/* Looks for one whole message at the start of buf[0..len), through about *budget bytes at most, of which it takes what
 * it has looked through. SP_OK, SP_WANT_READ, SP_AGAIN (the budget is spent: ask again with the same bytes, or more),
 * SP_TOO_BIG where the message, of LENGTH without its header, would exceed limit bytes, or SP_BAD_FRAME where these can
 * be the begin of none. Not for SP_FRAMING_RAW and SP_FRAMING_FUN, which know of no messages. */
SP_MUST_CHECK sp_status sp_frame_next(const struct sp_framing *framing, struct sp_search *search,
                                      const uint8_t *buf, size_t len, size_t limit, size_t *budget,
                                      struct sp_frame *frame);

/* Writes the header of a message of `len` bytes; *header_len is 0 where none is added.
 * SP_TOO_BIG where the length does not fit the header. */
SP_MUST_CHECK sp_status sp_frame_header(const struct sp_framing *framing, size_t len,
                                        uint8_t header[SP_FRAME_HEADER_MAX], size_t *header_len);

#endif
