/* Counters since the pool was made, kept per shard so that threads do not share their lines. */
#ifndef SP_STATS_H
#define SP_STATS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct sp_call;
struct sp_pool;

/* What there is at a moment: idle + leased + connecting = total where no call is under way. */
#define SP_GAUGE_MAP(X) X(size) X(max_overflow) X(total) X(idle) X(leased) X(connecting) X(waiting)

#define SP_COUNTER_MAP(X)                                                                          \
    X(checkouts)        /* leases given by checkout or request */                                  \
    X(checkins)         /* leases ended by their owner */                                          \
    X(created)          /* connections that became usable */                                       \
    X(reused)           /* leases of a connection that had been leased before */                   \
    X(closed)           /* connections that were usable and left the pool */                       \
    X(abandoned)        /* leases whose owner died, lost the handle, or held for too long */       \
    X(timeouts)         /* waiters that gave up */                                                 \
    X(connect_attempts) /* connects that were begun */                                             \
    X(connect_failures)

#define SP_COUNTER_FIELD(name) _Atomic uint64_t name;
struct sp_stats {
    SP_COUNTER_MAP(SP_COUNTER_FIELD)
};
#undef SP_COUNTER_FIELD

#define sp_count(shard, counter)                                                                   \
    atomic_fetch_add_explicit(&(shard)->stats.counter, 1, memory_order_relaxed)

#define SP_SNAPSHOT_MAP(X) SP_GAUGE_MAP(X) SP_COUNTER_MAP(X)
#define SP_SNAPSHOT_FIELD(name) uint64_t name;
struct sp_snapshot {
    SP_SNAPSHOT_MAP(SP_SNAPSHOT_FIELD)
};
#undef SP_SNAPSHOT_FIELD

/* Gauges are counted over the connections themselves, not derived from each other. *snapshot is zeroed
 * and *cursor 0 at first; call again while it returns true, the call's allowance is used up then. */
bool sp_stats_snapshot(struct sp_pool *pool, const struct sp_call *call,
                       struct sp_snapshot *snapshot, uint32_t *cursor);

#endif
