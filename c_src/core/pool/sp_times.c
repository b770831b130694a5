#include "sp_times.h"

#include <stdlib.h>
#include <string.h>

/* Differences of the coarse clock from here on are taken for what they are: twice its longest step. */
#define LONG_NS (20 * SP_MS)
/* A sample is its time, and its bucket in the lowest bits. */
#define BUCKET_BITS 5

/* NULL where memory is short. */
static struct sp_histogram *make(void)
{
    void *memory;

    if (posix_memalign(&memory, _Alignof(struct sp_histogram), sizeof(struct sp_histogram)) != 0)
        return NULL;
    return memset(memory, 0, sizeof(struct sp_histogram));
}

static struct sp_histogram *histogram_at(struct sp_histogram *_Atomic *place)
{
    struct sp_histogram *there = atomic_load_explicit(place, memory_order_acquire), *made;

    if (there)
        return there;
    made = make();
    if (made && atomic_compare_exchange_strong(place, &there, made))
        return made;
    free(made);
    return there;
}

static uint64_t elapsed(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? to_ns - from_ns : 0;
}

/* Its time and its bucket, as a sample has them. */
static uint64_t told(uint64_t ns)
{
    return ns << BUCKET_BITS | sp_histogram_bucket(ns);
}

static uint64_t measured(const struct sp_pool *pool, const struct sp_call *call,
                         struct sp_sampler *sampler, uint64_t begun_ns)
{
    uint64_t ns = elapsed(begun_ns, call->now_ns), sample;

    if (!pool->host->exact_ns || ns >= LONG_NS)
        return told(ns);
    if (!(begun_ns & 1))
        return atomic_load_explicit(&sampler->last, memory_order_relaxed);
    sample = told(elapsed(begun_ns & ~UINT64_C(1), pool->host->exact_ns()));
    atomic_store_explicit(&sampler->last, sample, memory_order_relaxed);
    return sample;
}

static void add(struct sp_histogram *histogram, uint64_t sample)
{
    sp_histogram_add(histogram, sample & ((1 << BUCKET_BITS) - 1), sample >> BUCKET_BITS);
}

void sp_times_used(struct sp_pool *pool, const struct sp_call *call, uint64_t begun_ns)
{
    struct sp_shard *home = sp_pool_home(pool, call);
    struct sp_histogram *used = SP_TIMED ? histogram_at(&home->used) : NULL;

    if (used)
        add(used, measured(pool, call, &home->use, begun_ns));
    else
        sp_count(home, unmeasured);
}

void sp_times_waited(struct sp_pool *pool, const struct sp_call *call, uint64_t begun_ns,
                     bool piped)
{
    if (piped)
        sp_count(sp_pool_home(pool, call), admitted);
    else
        sp_count(sp_pool_home(pool, call), granted);
    if (SP_TIMED)
        add(&pool->waited, measured(pool, call, &pool->wait, begun_ns));
}

void sp_times_note(struct sp_pool *pool, enum sp_time time, uint64_t ns)
{
    struct sp_histogram *histogram = SP_TIMED ? histogram_at(&pool->times[time]) : NULL;

    if (histogram)
        add(histogram, told(ns));
}

void sp_times_idle(struct sp_pool *pool, const struct sp_call *call, uint64_t ns)
{
    if (SP_TIMED && ns > SP_TIMES_IDLE_TOLD_NS && histogram_at(&pool->times[SP_TIME_IDLE]))
        sp_times_note(pool, SP_TIME_IDLE, ns);
    else
        sp_count(sp_pool_home(pool, call), warm);
}

/* ---- reading ---- */

static uint64_t relaxed(_Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static struct sp_histogram *there(struct sp_histogram *_Atomic *place)
{
    return atomic_load_explicit(place, memory_order_acquire);
}

void sp_times_read(struct sp_pool *pool, enum sp_time time, struct sp_distribution *to)
{
    unsigned warm = sp_histogram_bucket(SP_TIMES_IDLE_TOLD_NS);

    *to = (struct sp_distribution){.sum_ns = 0};
    if (time == SP_TIME_WAIT)
        sp_histogram_read(&pool->waited, to);
    else if (time != SP_TIME_USE)
        sp_histogram_read(there(&pool->times[time]), to);
    for (uint32_t i = 0; i < pool->shard_count; i++) {
        struct sp_shard *shard = &pool->shards[i];
        if (time == SP_TIME_USE) {
            sp_histogram_read(there(&shard->used), to);
            to->buckets[0] += relaxed(&shard->stats.unmeasured);
        } else if (time == SP_TIME_WAIT) {
            to->buckets[0] += relaxed(&shard->stats.immediate) + relaxed(&shard->stats.placed);
        } else if (time == SP_TIME_IDLE) {
            to->buckets[warm] += relaxed(&shard->stats.warm);
        }
    }
}

uint64_t sp_times_count(struct sp_pool *pool, enum sp_time time)
{
    struct sp_distribution times;

    sp_times_read(pool, time, &times);
    return sp_distribution_count(&times);
}
