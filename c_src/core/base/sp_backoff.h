/* Reconnect delays: exponential backoff with full jitter, delay = random(0, min(max, min * 2^n))
 * (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015), the randomness
 * from a seedable generator (sp_random.h). Not thread-safe: its user's lock guards it. */
#ifndef SP_BACKOFF_H
#define SP_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

struct sp_backoff {
    uint64_t min_ns, max_ns; /* the first delay's upper bound, and every delay's */
    uint64_t until_ns;       /* no attempt before this time; 0 while healthy */
    uint64_t hurried_ns;     /* nor before this one, where somebody waits */
    uint64_t rng;
    uint32_t failures; /* rounds of attempts that failed since the last success */
};

void sp_backoff_init(struct sp_backoff *backoff, uint64_t min_ns, uint64_t max_ns, uint64_t seed);

/* `round` is the value of `failures` when the attempt began: several attempts of one round that
 * fail together lengthen the delay once. */
void sp_backoff_failed(struct sp_backoff *backoff, uint32_t round, uint64_t now_ns);
void sp_backoff_succeeded(struct sp_backoff *backoff);
/* Somebody waits: until the next failure the delay is at most a quarter of its bound, and no shorter than the first
 * one's bound on account of that, however many wait. */
void sp_backoff_hurry(struct sp_backoff *backoff);

static inline bool sp_backoff_failing(const struct sp_backoff *backoff)
{
    return backoff->failures > 0;
}

#endif
