/* For fuzz_framing and fuzz_resp: a stream of bytes given to sp_frame_next() in pieces, and what it comes to. */
#ifndef FEED_H
#define FEED_H

#include "core/conn/sp_frame.h"

/* Of longer ones the begin: each is split everywhere. */
#define FEED_MAX 320

/* The whole messages, each where the one before ends; and what is said where no further one is. */
struct story {
    size_t count;
    struct sp_frame messages[FEED_MAX];
    sp_status status;
};

struct feed {
    const struct sp_framing *framing;
    size_t limit;
    size_t first,
        piece; /* bytes that come at first, and each time more are needed; 0: as many as are asked for */
    size_t budget; /* of each look */
};

/* Aborts where a frame is no part of the stream, more is asked for than the message takes, or it gets no
 * further. A look at bytes that have not come is seen by AddressSanitizer. */
void feed_run(const struct feed *feed, const uint8_t *bytes, size_t len, struct story *story);
/* The same stream at once; by each split in two; by pieces and budgets of those sizes. Aborts where
 * they come to different stories; gives it. */
void feed_every_way(const struct sp_framing *framing, size_t limit, size_t piece, size_t budget,
                    const uint8_t *bytes, size_t len, struct story *story);
/* Writes what `data` stands for: a part of RESP for each byte below 128, a character for others. */
size_t feed_resp(const uint8_t *data, size_t len, uint8_t bytes[FEED_MAX]);

#endif
