/* How long something took, in how many cases: of up to 1, 2, 5 us and so on to 50 s each, and above. */
#ifndef SP_HISTOGRAM_H
#define SP_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#define SP_HISTOGRAM_BOUNDS 24
#define SP_HISTOGRAM_BUCKETS (SP_HISTOGRAM_BOUNDS + 1)

/* The highest of each bucket but the last. */
extern const uint64_t sp_histogram_bounds_ns[SP_HISTOGRAM_BOUNDS];

/* In lines of memory of its own. Each counter with memory_order_relaxed. */
struct sp_histogram {
    _Alignas(64) _Atomic uint64_t buckets[SP_HISTOGRAM_BUCKETS];
    _Atomic uint64_t sum_ns;
};

/* As it was read. */
struct sp_distribution {
    uint64_t buckets[SP_HISTOGRAM_BUCKETS];
    uint64_t sum_ns;
};

unsigned sp_histogram_bucket(uint64_t ns);
/* The bucket is that of ns. */
static inline void sp_histogram_add(struct sp_histogram *histogram, unsigned bucket, uint64_t ns)
{
    atomic_fetch_add_explicit(&histogram->buckets[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum_ns, ns, memory_order_relaxed);
}

/* Adds what it has; NULL has nothing. */
void sp_histogram_read(struct sp_histogram *histogram, struct sp_distribution *to);
uint64_t sp_distribution_count(const struct sp_distribution *distribution);

#endif
