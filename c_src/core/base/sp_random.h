/* A seedable generator: splitmix64 (G. Steele et al., "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
 * Not thread-safe: its user's lock guards it. */
#ifndef SP_RANDOM_H
#define SP_RANDOM_H

#include <stdint.h>

static inline uint64_t sp_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* From min to max, both included; max - min is below UINT64_MAX. */
static inline uint64_t sp_random_between(uint64_t *state, uint64_t min, uint64_t max)
{
    return min + sp_random(state) % (max - min + 1);
}

#endif
