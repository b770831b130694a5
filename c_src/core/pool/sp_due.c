#include "sp_due.h"

static bool has_fresh(struct sp_shard *shard)
{
    bool any;

    if (!atomic_load(&shard->top))
        return false;
    pthread_mutex_lock(&shard->lock);
    any = !sp_list_empty(&shard->fresh);
    pthread_mutex_unlock(&shard->lock);
    return any;
}

/* Who has left the queue with a connection had that before: so the queue comes first. A connection that goes from shard to
 * shard may be counted twice, but who takes it out rouses, since the pool is asleep. */
static bool is_at_rest(struct sp_pool *pool)
{
    uint32_t idle = 0;

    if (atomic_load(&pool->nwait) || atomic_load(&pool->connecting) || atomic_load(&pool->aged))
        return false;
    for (uint32_t i = 0; i < pool->shard_count; i++) {
        idle += atomic_load(&pool->shards[i].top);
        if (has_fresh(&pool->shards[i]))
            return false;
    }
    return idle >= atomic_load(&pool->total);
}

uint64_t sp_due_next(struct sp_pool *pool, const struct sp_call *call)
{
    uint64_t soon_ns = call->now_ns + SP_TICK_NS, due_ns;

    atomic_store(&pool->asleep, true);
    due_ns = is_at_rest(pool) ? pool->due_ns : soon_ns;
    pool->due_ns = SP_NEVER;
    if (due_ns > soon_ns)
        return due_ns;
    atomic_store(&pool->asleep, false);
    return soon_ns;
}
