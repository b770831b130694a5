#include "sp_settings.h"

#include "sp_age.h"
#include "sp_grant.h"
#include "sp_retire.h"
#include "sp_shard.h"
#include "sp_spare.h"

/* So many idle connections in a step: each is a system call, and others wait for the step. */
#define CLOSED_PER_STEP 64

void sp_settings_store(struct sp_pool *pool, const struct sp_config *config)
{
    atomic_store(&pool->size, config->size);
    atomic_store(&pool->limit, config->size + config->max_overflow);
    atomic_store(&pool->overflow_ttl_ns, config->overflow_ttl_ns);
    atomic_store(&pool->validate_after_ns, config->validate_after_ns);
    atomic_store(&pool->max_hold_ns, config->max_hold_ns);
    atomic_store(&pool->max_waiting, config->max_waiting);
    atomic_store(&pool->strategy, (uint32_t)config->strategy);
    atomic_store(&pool->min_idle, config->min_idle);
    atomic_store(&pool->reuse_abandoned, config->reuse_abandoned);
    atomic_store(&pool->fail_fast, config->fail_fast);
    atomic_store(&pool->replies, config->replies);
    atomic_store(&pool->health_timeout_ns, config->health_timeout_ns);
    atomic_store(&pool->health_interval_ns, config->health_interval_ns);
    atomic_store(&pool->pipeline_bytes, config->pipeline_bytes);
    atomic_store(&pool->pipeline_stall_ns, config->pipeline_stall_ns);
}

static struct sp_config changed(const struct sp_config *from, const struct sp_config *to)
{
    struct sp_config config = *to;

    config.transport = from->transport;
    config.framing = from->framing;
    config.recv_limit_bytes = from->recv_limit_bytes;
    config.pipeline = from->pipeline;
    config.sockopts.settings = from->sockopts.settings;
    config.sockopts.silence_s = from->sockopts.silence_s;
    return config;
}

void sp_settings_update(struct sp_pool *pool, const struct sp_config *config)
{
    struct sp_config next;
    uint32_t total;

    pthread_mutex_lock(&pool->control.lock);
    next = changed(&pool->control.config, config);
    if (next.size < pool->control.config.size)
        pool->control.surplus = true;
    sp_age_change(pool, &pool->control.config, &next);
    pool->control.config = next;
    pool->control.state.min_ns = next.backoff_min_ns;
    pool->control.state.max_ns = next.backoff_max_ns;
    pthread_mutex_unlock(&pool->control.lock);
    sp_settings_store(pool, &next);
    /* After the limit: whoever opens one more has seen the new limit, or is counted here. */
    total = atomic_load(&pool->total);
    atomic_store(&pool->shrinking, total > next.size + next.max_overflow);
}

/* The shard whose longest idle connection has been idle for the longest time. */
static struct sp_shard *with_oldest(struct sp_pool *pool)
{
    struct sp_shard *found = NULL;
    uint64_t oldest_ns = SP_NEVER;

    for (uint32_t i = 0; i < pool->shard_count; i++) {
        uint64_t idle_since_ns = sp_shard_idle_since(&pool->shards[i]);
        if (idle_since_ns < oldest_ns) {
            oldest_ns = idle_since_ns;
            found = &pool->shards[i];
        }
    }
    return found;
}

/* False where none is idle, or the pool has no more than `above`. */
static bool close_idle(struct sp_pool *pool, const struct sp_call *call, uint32_t above)
{
    struct sp_shard *shard;
    struct sp_conn *conn;

    if (atomic_load(&pool->total) <= above)
        return false;
    /* First those that are too old. */
    if (!(conn = sp_shard_pop_aged(pool, call)) &&
        (!(shard = with_oldest(pool)) ||
         !(conn = sp_shard_pop_idle_since(pool, shard, false, SP_NEVER))))
        return false;
    if (sp_pool_retire_above(pool, call, conn, above, SP_WHY_RESIZE))
        return true;
    sp_pool_serve(pool, call, conn);
    return false;
}

bool sp_settings_shrink(struct sp_pool *pool, const struct sp_call *call)
{
    bool shrinking = atomic_load(&pool->shrinking);
    uint32_t above;

    if (!shrinking && !pool->control.surplus)
        return false;
    above = pool->control.surplus ? sp_spare_above(pool, atomic_load(&pool->size), 0)
                                  : atomic_load(&pool->limit);
    for (int i = 0; close_idle(pool, call, above); i++)
        if (i + 1 == CLOSED_PER_STEP || sp_spent(call))
            return true;
    pool->control.surplus = false;
    if (atomic_load(&pool->total) <= atomic_load(&pool->limit))
        atomic_store(&pool->shrinking, false);
    return false;
}
