/* Growth: how many connections are begun, and when.
 *
 * Thread rule: the control process. */
#ifndef SP_GROWTH_H
#define SP_GROWTH_H

#include "sp_pool.h"

/* A connection to be made, leased to nobody yet. */
struct sp_attempt {
    struct sp_conn *conn; /* with a reference */
    uint64_t lease;
};

/* The control process makes a step when it is woken, when the plan of the last one says so, and before each tick; it ticks
 * within SP_TICK_NS of a step, or when sp_due_next() says after a tick, if no step came in between. */
struct sp_plan {
    size_t attempts;  /* how many were written to the caller's array */
    bool more;        /* step again soon: something is left to do */
    uint64_t wait_ns; /* step again after this time; SP_NEVER: only when woken */
};

/* Begins those that the pool is to have now: its base size, those that replace others, spare ones, and those for who waits. The
 * plan is added to. */
void sp_growth_step(struct sp_pool *pool, const struct sp_call *call, struct sp_attempt *attempts,
                    size_t max, struct sp_plan *plan);

#endif
