/* When the control process of a pool has to look again. A tick goes over the pool, and whoever finds something that will be
 * due says when: that is gathered here, and decided when the tick is over. A pool at rest, of which all connections are
 * idle and watched, sleeps until the first of these times, or, where there is none, until somebody wants something of it.
 *
 * Protocol (docs/protocol.md): the control process sets `asleep`, and then looks whether somebody has a connection or
 * waits; who takes a connection, or begins to wait, does that first, and then looks at `asleep`. All of these are
 * sequentially consistent: so one of the two sees the other.
 *
 * Thread rule: sp_due_rouse() from any thread; the others are the control process's. */
#ifndef SP_DUE_H
#define SP_DUE_H

#include "sp_pool.h"

/* From tick to tick while somebody has a connection, waits, or was there a moment ago. */
#define SP_TICK_NS (100 * SP_MS)

/* Within a tick, by who finds it: that something is to be done then. A time that has passed, or 0: in the next tick. */
static inline void sp_due_at(struct sp_pool *pool, uint64_t at_ns)
{
    if (at_ns < pool->due_ns)
        pool->due_ns = at_ns;
}

/* The tick is over: when the next one is to begin, at least SP_TICK_NS from now, or SP_NEVER. Before that, if the control
 * process makes a step, SP_TICK_NS after it at the latest. */
SP_MUST_CHECK uint64_t sp_due_next(struct sp_pool *pool, const struct sp_call *call);

/* Somebody has taken a connection, or waits, and anybody can see that: the control process is to look after it. */
static inline void sp_due_rouse(struct sp_pool *pool, const struct sp_call *call)
{
    if (atomic_load(&pool->asleep) && atomic_exchange(&pool->asleep, false))
        sp_pool_wake(pool, call);
}

#endif
