#include "sp_backoff.h"

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

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
    backoff->until_ns = now_ns + splitmix64(&backoff->rng) % (bound + 1);
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
