#include "sp_stats.h"

#include "sp_pool.h"

static void count_states(struct sp_pool *pool, struct sp_snapshot *snapshot)
{
    pthread_mutex_lock(&pool->table.lock);
    for (uint32_t i = 0; i < pool->table.count; i++) {
        struct sp_conn *conn = pool->table.slots[i];
        if (!conn)
            continue;
        switch (sp_conn_state(conn)) {
        case SP_CONN_CONNECTING:
        case SP_CONN_INITIALISING:
            snapshot->connecting++;
            break;
        case SP_CONN_IDLE:
            snapshot->idle++;
            break;
        case SP_CONN_LEASED:
            snapshot->leased++;
            break;
        case SP_CONN_CLOSING:
        case SP_CONN_CLOSED:
            break;
        }
    }
    pthread_mutex_unlock(&pool->table.lock);
}

void sp_stats_snapshot(struct sp_pool *pool, struct sp_snapshot *snapshot)
{
    *snapshot = (struct sp_snapshot){0};
    snapshot->size = atomic_load(&pool->size);
    snapshot->max_overflow = atomic_load(&pool->limit) - snapshot->size;
    snapshot->total = atomic_load(&pool->total);
    snapshot->waiting = atomic_load(&pool->nwait);
    count_states(pool, snapshot);
    for (uint32_t i = 0; i < pool->shard_count; i++) {
        struct sp_stats *stats = &pool->shards[i].stats;
#define SP_COUNTER_ADD(name)                                                                       \
    snapshot->name += atomic_load_explicit(&stats->name, memory_order_relaxed);
        SP_COUNTER_MAP(SP_COUNTER_ADD)
#undef SP_COUNTER_ADD
    }
}
