#include "sp_histogram.h"

#include <stddef.h>

#define US UINT64_C(1000)
#define DECADE(us) 1 * (us), 2 * (us), 5 * (us)

const uint64_t sp_histogram_bounds_ns[SP_HISTOGRAM_BOUNDS] = {
    DECADE(US),         DECADE(10 * US),     DECADE(100 * US),     DECADE(1000 * US),
    DECADE(10000 * US), DECADE(100000 * US), DECADE(1000000 * US), DECADE(10000000 * US)};

unsigned sp_histogram_bucket(uint64_t ns)
{
    unsigned first = 0, last = SP_HISTOGRAM_BOUNDS;

    while (first < last) {
        unsigned middle = (first + last) / 2;
        if (ns <= sp_histogram_bounds_ns[middle])
            last = middle;
        else
            first = middle + 1;
    }
    return first;
}

void sp_histogram_read(struct sp_histogram *histogram, struct sp_distribution *to)
{
    if (!histogram)
        return;
    for (int i = 0; i < SP_HISTOGRAM_BUCKETS; i++)
        to->buckets[i] += atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed);
    to->sum_ns += atomic_load_explicit(&histogram->sum_ns, memory_order_relaxed);
}

uint64_t sp_distribution_count(const struct sp_distribution *distribution)
{
    uint64_t count = 0;

    for (int i = 0; i < SP_HISTOGRAM_BUCKETS; i++)
        count += distribution->buckets[i];
    return count;
}
