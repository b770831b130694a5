/* What the holder of a pipe's `io` does for all: writes, receives, tells, keeps a select pending. */
#ifndef SP_PIPE_IO_H
#define SP_PIPE_IO_H

#include "sp_pipe.h"

/* True: the caller holds `io` and goes on with sp_pipe_round() until sp_pipe_release() is true. False: the holder
 * carries the wishes out. */
SP_MUST_CHECK static inline bool sp_pipe_hold(struct sp_pipe *pipe, uint32_t wishes)
{
    return !(atomic_fetch_or(&pipe->io, SP_PIPE_HELD | wishes) & SP_PIPE_HELD);
}

/* False where somebody has left wishes meanwhile: one more round. */
SP_MUST_CHECK static inline bool sp_pipe_release(struct sp_pipe *pipe)
{
    uint32_t held = SP_PIPE_HELD;

    return atomic_compare_exchange_strong(&pipe->io, &held, 0);
}

enum sp_pipe_end {
    SP_PIPE_ON,     /* has its connection still, or has none */
    SP_PIPE_IDLE,   /* nothing is under way: it is to be checked in */
    SP_PIPE_BROKEN, /* it is to be closed */
    SP_PIPE_LOST    /* its lease has been ended by somebody else */
};

/* The connection that a pipe has lost in a round, with the reference, and its lease. */
struct sp_pipe_ended {
    struct sp_conn *conn;
    uint64_t lease;
    enum sp_why why; /* of one that is broken */
};

/* Holder only: carries out what is wished for. Where the call may do no more, what is left is in pipe->due, for the
 * control process, which the caller is to wake (*due). */
enum sp_pipe_end sp_pipe_round(struct sp_pipe *pipe, const struct sp_call *call,
                               struct sp_pipe_ended *ended, bool *due);

#endif
