/* Counters since the pool was made. Those of the fast path are kept per shard so that threads do not share their lines;
 * the others are the pool's. */
#ifndef SP_STATS_H
#define SP_STATS_H

#include "core/conn/sp_why.h"

#include <stdatomic.h>
#include <stdint.h>

/* Those that users see. */
#define SP_COUNTER_MAP(X)                                                                          \
    X(checkouts)        /* leases given by checkout or request */                                  \
    X(checkins)         /* leases ended by their owner */                                          \
    X(created)          /* connections that became usable */                                       \
    X(reused)           /* leases of a connection that had been leased before */                   \
    X(abandoned)        /* leases whose owner died, lost the handle, or held for too long */       \
    X(waited)           /* those who had to wait in the queue */                                   \
    X(timeouts)         /* waiters that gave up */                                                 \
    X(pipelined)        /* requests on a connection that others had as well, or could */           \
    X(deferred)         /* connections that outlived their end, since attempts failed */           \
    X(connect_attempts) /* connects that were begun */

/* Those that there are. What is counted by a histogram, too, is counted by that alone: see sp_times.h. */
#define SP_SHARD_COUNTER_MAP(X)                                                                    \
    X(immediate)  /* checkouts of who did not wait; */                                             \
    X(granted)    /* of who did */                                                                 \
    X(placed)     /* requests on a pipe, likewise; */                                              \
    X(admitted)   /* of who waited for a place */                                                  \
    X(warm)       /* checkouts of a connection that was idle for a short time */                   \
    X(unmeasured) /* leases ended by their owner, where there was no memory for a histogram */     \
    X(created)                                                                                     \
    X(abandoned)                                                                                   \
    X(waited)                                                                                      \
    X(timeouts)                                                                                    \
    X(deferred)                                                                                    \
    X(connect_attempts)

#define SP_COUNTER_FIELD(name) _Atomic uint64_t name;
struct sp_stats {
    SP_SHARD_COUNTER_MAP(SP_COUNTER_FIELD)
};
#undef SP_COUNTER_FIELD

#define sp_count(shard, counter)                                                                   \
    atomic_fetch_add_explicit(&(shard)->stats.counter, 1, memory_order_relaxed)

/* What histograms there are; of those from CONNECT on one of the pool, once something was noted. Users see the words. */
#define SP_TIME_MAP(X)                                                                             \
    X(USE, use)         /* a lease, from its begin to its end by its owner */                      \
    X(WAIT, wait)       /* for a connection, of those who got one, or a place on one */            \
    X(CONNECT, total)   /* an attempt that worked, all of it; of that: */                          \
    X(RESOLVE, resolve) /* the name, */                                                            \
    X(TCP, tcp)         /* the connect, */                                                         \
    X(TLS, tls)         /* the handshake, */                                                       \
    X(INIT, init)       /* the init function */                                                    \
    X(IDLE, idle)       /* a connection before it was used again */                                \
    X(AGE, age)         /* a connection when it was closed */

#define SP_TIME_ENUM(name, word) SP_TIME_##name,
enum sp_time { SP_TIME_MAP(SP_TIME_ENUM) SP_TIMES };
#undef SP_TIME_ENUM

/* Of what is measured now and then. */
struct sp_sampler {
    _Atomic uint64_t at_ns; /* when the last measured one began, by the coarse clock */
    _Atomic uint64_t last;  /* how long it took; sp_times.c's */
};

/* Why an attempt to connect has failed. Users see the words. */
#define SP_FAILURE_MAP(X)                                                                          \
    X(OTHER, other)                                                                                \
    X(REFUSED, refused) /* nobody listens there */                                                 \
    X(TIMEOUT, timeout)                                                                            \
    X(DNS, dns) /* no address for the name */                                                      \
    X(TLS, tls)                                                                                    \
    X(INIT, init) /* connected, and not made usable */

/* Why somebody who wanted a connection, or a place on one, got none. */
#define SP_ERROR_MAP(X)                                                                            \
    X(TIMEOUT, timeout)                                                                            \
    X(FULL, full)                                                                                  \
    X(UNAVAILABLE, unavailable)                                                                    \
    X(CLOSED, closed)                                                                              \
    X(DRAINING, draining)

#define SP_FAILURE_ENUM(name, word) SP_FAILURE_##name,
enum sp_failure { SP_FAILURE_MAP(SP_FAILURE_ENUM) SP_FAILURES };
#undef SP_FAILURE_ENUM
#define SP_ERROR_ENUM(name, word) SP_ERROR_##name,
enum sp_error { SP_ERROR_MAP(SP_ERROR_ENUM) SP_ERRORS };
#undef SP_ERROR_ENUM

/* Each with memory_order_relaxed: they order nothing. */
struct sp_counts {
    _Atomic uint64_t closed[SP_WHYS];     /* connections that were usable and left the pool */
    _Atomic uint64_t failed[SP_FAILURES]; /* attempts */
    _Atomic uint64_t errors[SP_ERRORS];
};

#define sp_count_one(counter) atomic_fetch_add_explicit(&(counter), 1, memory_order_relaxed)

#endif
