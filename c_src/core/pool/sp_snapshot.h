/* What is in a pool at a moment, and what it has counted. */
#ifndef SP_SNAPSHOT_H
#define SP_SNAPSHOT_H

#include "sp_pool.h"

/* What there is at a moment: idle + leased + connecting = total where no call is under way. */
#define SP_GAUGE_MAP(X) X(size) X(max_overflow) X(total) X(idle) X(leased) X(connecting) X(waiting)

/* The sums of what is counted by reasons; and, in milliseconds, for how long the oldest has waited, and in how much of the
 * time somebody did. */
#define SP_SUM_MAP(X) X(closed) X(connect_failures) X(oldest_wait) X(exhausted)

#define SP_SNAPSHOT_MAP(X) SP_GAUGE_MAP(X) SP_COUNTER_MAP(X) SP_SUM_MAP(X)
#define SP_SNAPSHOT_FIELD(name) uint64_t name;
struct sp_snapshot {
    SP_SNAPSHOT_MAP(SP_SNAPSHOT_FIELD)
    uint64_t closed_by[SP_WHYS], failed_by[SP_FAILURES], errors[SP_ERRORS];
};
#undef SP_SNAPSHOT_FIELD

/* Gauges are counted over the connections themselves, not derived from each other. *snapshot is zeroed
 * and *cursor 0 at first; call again while it returns true, the call's allowance is used up then. */
bool sp_pool_snapshot(struct sp_pool *pool, const struct sp_call *call,
                      struct sp_snapshot *snapshot, uint32_t *cursor);

#endif
