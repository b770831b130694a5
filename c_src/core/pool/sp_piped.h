/* Requests of many callers on the connections of a pool (core/pipe): which pipe a request goes on, who has
 * a pipe's `io` now, and what becomes of connections and waiters then.
 *
 * A pipe's connection is one that the pool has leased to itself while something is under way on it. Each shard has its
 * pipe; where that has no room, an idle connection becomes another one, or a pipe that others use has room, or the
 * request waits in the pool's queue with all others. While somebody waits, no newcomer is put on a pipe before it.
 *
 * Thread rule: all but sp_piped_open(), and the control process's sp_piped_step() and sp_piped_tick(), from any thread
 * at any time. */
#ifndef SP_PIPED_H
#define SP_PIPED_H

#include "core/pipe/sp_pipe.h"
#include "sp_queue.h"

#define SP_PIPELINE_MAX 4096
/* So many connections may have requests of several callers; more than a pool of them has. */
#define SP_PIPES_MAX 65536

/* Where a request is: its pipe, and its number there, which does not reach 48 bits in a few years of all that a
 * processor can do. */
static inline uint64_t sp_piped_at(uint32_t pipe, uint64_t number)
{
    return number << 16 | pipe;
}

/* When a pool opens with a pipeline above 1. SP_NO_MEMORY or SP_OK. */
SP_MUST_CHECK sp_status sp_piped_open(struct sp_pool *pool);
/* With the pool, which has no connections any more. */
void sp_piped_destroy(struct sp_pool *pool);

/* Puts a request on a pipe: SP_OK, and *at is where. SP_EMPTY: nowhere is room, or others wait: queue it; SP_AGAIN: so
 * many connections were found closed that the call has to end: call again, or queue; by the phase as
 * sp_pool_checkout(). */
SP_MUST_CHECK sp_status sp_piped_request(struct sp_pool *pool, const struct sp_call *call,
                                         const struct sp_ask *ask, uint64_t *at);
/* For a host whose callers all sleep: the same with what the waiter carries, which is told of the reply as if it had waited
 * in the queue for its place. With SP_OK the core has one of its two references then. The bytes go out in the next step of
 * the control plane, with those of all requests that come before it: *may_linger says that more are likely to come at once,
 * so that the host may let others run before it makes one; otherwise it is woken for that. */
SP_MUST_CHECK sp_status sp_piped_request_asleep(struct sp_pool *pool, const struct sp_call *call,
                                                struct sp_waiter *waiter, bool *may_linger);
/* Whether such a request is to go on a connection of its own, as it does in a pool without pipes. */
static inline bool sp_piped_is_too_long(struct sp_pool *pool, size_t len)
{
    return len > atomic_load_explicit(&pool->pipeline_bytes, memory_order_relaxed);
}

/* As sp_pipe_look(), sp_pipe_arm() and sp_pipe_give_up(), after doing for all what there is to do. */
SP_MUST_CHECK sp_status sp_piped_look(struct sp_pool *pool, const struct sp_call *call, uint64_t at,
                                      uint64_t owner, bool fired, struct sp_reply *reply);
bool sp_piped_is_patient(struct sp_pool *pool, uint64_t at, uint32_t looks);
SP_MUST_CHECK sp_status sp_piped_arm(struct sp_pool *pool, const struct sp_call *call, uint64_t at,
                                     uint64_t owner, struct sp_waiter *waiter,
                                     struct sp_reply *reply, uint64_t *placed_ns);
SP_MUST_CHECK sp_status sp_piped_give_up(struct sp_pool *pool, const struct sp_call *call,
                                         uint64_t at, uint64_t owner, bool sleeps,
                                         struct sp_reply *reply);
/* The control process was told of a descriptor. */
void sp_piped_event(struct sp_pool *pool, const struct sp_call *call, uint32_t pipe,
                    uint32_t generation, bool write);

/* Goes on with what calls had no time for; true where there is more. */
SP_MUST_CHECK bool sp_piped_step(struct sp_pool *pool, const struct sp_call *call);
/* Looks after all pipes: one that stalls is closed; where all that are on it sleep or have died, its replies are received.
 * True where there are more to look at. */
SP_MUST_CHECK bool sp_piped_tick(struct sp_pool *pool, const struct sp_call *call);
/* After the phase has left OPEN: ends them all; true where there are more. */
SP_MUST_CHECK bool sp_piped_shut(struct sp_pool *pool, const struct sp_call *call);

#endif
