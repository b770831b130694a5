/* The replies of a connection with many requests under way: received as many at a time as there are, and cut.
 *
 * Belongs to who holds the pipe's `io`. A message up to SP_INTAKE_BYTES lies in the intake's buffer; a longer one
 * comes into memory of the host's, in which it is handed over, so that it is copied at most to grow. */
#ifndef SP_INTAKE_H
#define SP_INTAKE_H

#include "sp_reply.h"
#include "core/conn/sp_recv.h"

#define SP_INTAKE_BYTES SP_FULL_RECV_BYTES

struct sp_intake {
    uint8_t *buf; /* of SP_INTAKE_BYTES: pos..len is not cut yet */
    size_t pos, len;
    struct sp_search search; /* of the message that begins there */
    struct sp_reply far;     /* one that is longer, as far as it has come */
    size_t far_len;
    size_t needed; /* of that: so many bytes must be there before there can be more to say */
    bool dry;      /* the last receive has taken all that was there */
};

/* A message: `near`, in the intake's buffer until the next fill, or `far`, the caller's. */
struct sp_cut {
    const uint8_t *near;
    size_t len;
    struct sp_reply far;
};

SP_MUST_CHECK bool sp_intake_init(struct sp_intake *intake);
void sp_intake_free(struct sp_intake *intake);
/* For the next connection: nothing is left of this one. */
void sp_intake_reset(struct sp_intake *intake, const struct sp_host *host);
bool sp_intake_is_empty(const struct sp_intake *intake);

/* The next message that is whole: SP_OK; SP_WANT_READ: fill first; SP_AGAIN: the call may do no more; SP_TOO_BIG,
 * SP_BAD_FRAME, SP_NO_MEMORY: the stream is of no use any more. */
SP_MUST_CHECK sp_status sp_intake_next(struct sp_intake *intake, struct sp_conn *conn,
                                       const struct sp_call *call, const struct sp_want *want,
                                       struct sp_cut *cut);
/* After SP_WANT_READ: one receive. As the transport's, and SP_NO_MEMORY. */
SP_MUST_CHECK sp_status sp_intake_fill(struct sp_intake *intake, struct sp_conn *conn,
                                       const struct sp_call *call);

#endif
