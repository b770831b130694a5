#include "sp_backoff.h"

#include "sp_random.h"

void sp_backoff_init(struct sp_backoff *backoff, uint64_t min_ns, uint64_t max_ns, uint64_t seed)
{
    *backoff = (struct sp_backoff){.min_ns = min_ns, .max_ns = max_ns, .rng = seed};
}

void sp_backoff_failed(struct sp_backoff *backoff, uint32_t round, uint64_t now_ns)
{
    uint64_t bound = backoff->min_ns;

    if (round != backoff->failures)
        return;
    for (uint32_t i = 0; i < backoff->failures && bound < backoff->max_ns; i++)
        bound *= 2;
    if (bound > backoff->max_ns)
        bound = backoff->max_ns;
    backoff->failures++;
    backoff->until_ns = now_ns + sp_random(&backoff->rng) % (bound + 1);
    backoff->hurried_ns = now_ns + (bound / 4 > backoff->min_ns ? bound / 4 : backoff->min_ns);
}

void sp_backoff_hurry(struct sp_backoff *backoff)
{
    if (backoff->until_ns > backoff->hurried_ns)
        backoff->until_ns = backoff->hurried_ns;
}

void sp_backoff_succeeded(struct sp_backoff *backoff)
{
    backoff->failures = 0;
    backoff->until_ns = backoff->hurried_ns = 0;
}
