#include "sp_spare.h"

#include "sp_shard.h"

static uint32_t min_idle(struct sp_pool *pool)
{
    return atomic_load_explicit(&pool->min_idle, memory_order_relaxed);
}

/* Those that are being checked, too, and those that are being made. */
static uint32_t spare(struct sp_pool *pool)
{
    /* These first, see sp_check.c. */
    uint32_t checked = atomic_load(&pool->check.under_way);

    return checked + sp_shard_idle(pool) + atomic_load(&pool->connecting);
}

uint32_t sp_spare_missing(struct sp_pool *pool)
{
    uint32_t wanted = min_idle(pool), there;

    if (wanted == 0)
        return 0;
    there = spare(pool);
    return wanted > there ? wanted - there : 0;
}

void sp_spare_taken(struct sp_pool *pool, const struct sp_call *call)
{
    if (sp_spare_missing(pool) > 0 && atomic_load(&pool->total) < atomic_load(&pool->limit))
        sp_pool_wake(pool, call);
}

uint32_t sp_spare_above(struct sp_pool *pool, uint32_t count, uint32_t held)
{
    uint32_t wanted = min_idle(pool), idle, total, limit;

    if (wanted == 0)
        return count;
    total = atomic_load(&pool->total);
    idle = spare(pool) + held;
    limit = atomic_load(&pool->limit);
    total = (total > idle ? total - idle : 0) + wanted;
    total = total < limit ? total : limit;
    return total > count ? total : count;
}
