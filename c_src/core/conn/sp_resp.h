/* Where a value of Redis' protocol ends: RESP2 and RESP3, of any kind and nested.
 * https://github.com/redis/redis-specifications/blob/master/protocol/RESP3.md
 *
 * An attribute (|) belongs to the value that follows it, which counts as nested in it, and is given with it. Push
 * messages (>) are messages of their own. Strings and aggregates whose length is not said at first ($? and *?) are
 * values, too. Inline commands, which only clients send, are none. */
#ifndef SP_RESP_H
#define SP_RESP_H

#include "core/base/sp_status.h"
#include "sp_framing.h"

/* As sp_frame_next(). SP_TOO_BIG also where values are nested deeper than SP_RESP_DEPTH_MAX. */
SP_MUST_CHECK sp_status sp_resp_next(struct sp_search *search, const uint8_t *buf, size_t len,
                                     size_t limit, size_t *budget, struct sp_frame *frame);

#endif
