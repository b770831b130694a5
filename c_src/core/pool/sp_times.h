/* How long things take in a pool, as histograms. Each is there from the first that is noted.
 *
 * The clock of a call may be a coarse one, since an exact one costs as much as a check-out may. What is long is told from
 * it. Of what is short, the first to begin in each shard after that clock has moved on is measured exactly, and those until the next
 * such one are noted as taking as long: so all are counted, and their spread is that of a sample which does not depend on how
 * long they took.
 *
 * Thread rule: from any thread at any time; all counters are relaxed, and order nothing. */
#ifndef SP_TIMES_H
#define SP_TIMES_H

#include "sp_pool.h"

/* An exact time; only the difference of two says something. */
static inline uint64_t sp_times_now(const struct sp_pool *pool, const struct sp_call *call)
{
    return pool->host->exact_ns ? pool->host->exact_ns() : call->now_ns;
}

/* Without histograms, to measure what they cost: make CFLAGS='-O2 -DSP_NO_TIMES'. All is counted as with them. */
#ifdef SP_NO_TIMES
enum { SP_TIMED = 0 };
#else
enum { SP_TIMED = 1 };
#endif

/* Something begins: when. Where it is to be measured, by the exact clock, which the lowest bit says. */
static inline uint64_t sp_times_begin(const struct sp_pool *pool, const struct sp_call *call,
                                      struct sp_sampler *sampler)
{
    if (!SP_TIMED || !pool->host->exact_ns)
        return call->now_ns;
    if (atomic_load_explicit(&sampler->at_ns, memory_order_relaxed) == call->now_ns)
        return call->now_ns & ~UINT64_C(1);
    atomic_store_explicit(&sampler->at_ns, call->now_ns, memory_order_relaxed);
    return pool->host->exact_ns() | 1;
}

/* A lease that began then, by sp_times_begin(), is ended by its owner. */
void sp_times_used(struct sp_pool *pool, const struct sp_call *call, uint64_t begun_ns);
/* Likewise somebody who waited gets what he waited for, a place on a pipe or a lease, which is counted. */
void sp_times_waited(struct sp_pool *pool, const struct sp_call *call, uint64_t begun_ns,
                     bool piped);
/* A connection that was in use before, and is again, was idle for so long. Shorter ones than that are not told apart, so that
 * they cost little. */
#define SP_TIMES_IDLE_TOLD_NS (10 * SP_MS)
void sp_times_idle(struct sp_pool *pool, const struct sp_call *call, uint64_t ns);
/* Nothing is noted where there is no memory for the histogram. */
void sp_times_note(struct sp_pool *pool, enum sp_time time, uint64_t ns);

/* What was noted until now. Those who did not have to wait have waited for no time. */
void sp_times_read(struct sp_pool *pool, enum sp_time time, struct sp_distribution *to);
uint64_t sp_times_count(struct sp_pool *pool, enum sp_time time);

/* What users are told is in microseconds. */
#define SP_TIMES_UNIT_NS UINT64_C(1000)
static inline bool sp_time_is_of_connects(enum sp_time time)
{
    return time >= SP_TIME_CONNECT && time <= SP_TIME_INIT;
}

#endif
