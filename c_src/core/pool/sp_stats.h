/* Counters since the pool was made, kept per shard so that threads do not share their lines. */
#ifndef SP_STATS_H
#define SP_STATS_H

#include <stdatomic.h>
#include <stdint.h>

#define SP_COUNTER_MAP(X)                                                                          \
    X(checkouts)        /* leases given by checkout or request */                                  \
    X(checkins)         /* leases ended by their owner */                                          \
    X(created)          /* connections that became usable */                                       \
    X(reused)           /* leases of a connection that had been leased before */                   \
    X(closed)           /* connections that were usable and left the pool */                       \
    X(abandoned)        /* leases whose owner died, lost the handle, or held for too long */       \
    X(leaked)           /* leases that were reported for being held so long */                     \
    X(timeouts)         /* waiters that gave up */                                                 \
    X(pipelined)        /* requests on a connection that others had as well, or could */           \
    X(connect_attempts) /* connects that were begun */                                             \
    X(connect_failures)

#define SP_COUNTER_FIELD(name) _Atomic uint64_t name;
struct sp_stats {
    SP_COUNTER_MAP(SP_COUNTER_FIELD)
};
#undef SP_COUNTER_FIELD

#define sp_count(shard, counter)                                                                   \
    atomic_fetch_add_explicit(&(shard)->stats.counter, 1, memory_order_relaxed)

#endif
