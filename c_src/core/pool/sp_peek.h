/* What may be told of a connection to somebody who does not hold it.
 *
 * Thread rule: any thread at any time, with a reference. Nothing that is the holder's is read while somebody holds
 * it: atomics are, what is constant since it is usable is, after `state` was read; and of an idle one what its
 * shard's lock guards, under that. */
#ifndef SP_PEEK_H
#define SP_PEEK_H

#include "sp_pool.h"

enum sp_peek_state { SP_PEEK_CONNECTING, SP_PEEK_IDLE, SP_PEEK_CHECKED, SP_PEEK_LEASED };

struct sp_peek {
    enum sp_peek_state state;
    uint64_t age_ns;  /* since it is usable; of one that is not, since it is tried */
    uint64_t idle_ns; /* where it is idle */
    uint64_t held_ns; /* where it is leased or checked; 0 where that has just changed */
    uint64_t
        leases; /* so far, with those of checks and the one under way, and without its connector's */
    uint64_t owner; /* as in sp_conn; SP_OWNER_POOL where that has just changed, too */
};

/* False where it is being closed. Where it is not connecting, its addresses may be read, or who the worker is. */
SP_MUST_CHECK bool sp_peek(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                           struct sp_peek *peek);

#endif
