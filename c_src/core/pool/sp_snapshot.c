#include "sp_snapshot.h"

#include "sp_queue.h"
#include "sp_times.h"

/* So many connections at once, each of them in a line of memory of its own. */
#define COUNTED_AT_ONCE 64
#define PIECES_OF_THAT 6

static void count_state(const struct sp_conn *conn, struct sp_snapshot *snapshot)
{
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

static void count_some(struct sp_pool *pool, struct sp_snapshot *snapshot, uint32_t *cursor)
{
    pthread_mutex_lock(&pool->table.lock);
    for (int i = 0; i < COUNTED_AT_ONCE && *cursor < pool->table.count; i++, ++*cursor)
        if (pool->table.slots[*cursor])
            count_state(pool->table.slots[*cursor], snapshot);
    if (*cursor >= pool->table.count)
        *cursor = 0;
    pthread_mutex_unlock(&pool->table.lock);
}

static uint64_t copy(_Atomic uint64_t *from, uint64_t *to, int count)
{
    uint64_t sum = 0;

    for (int i = 0; i < count; i++) {
        to[i] = atomic_load_explicit(&from[i], memory_order_relaxed);
        sum += to[i];
    }
    return sum;
}

static void count_reasons(struct sp_pool *pool, const struct sp_call *call,
                          struct sp_snapshot *snapshot)
{
    struct sp_counts *counts = &pool->counts;

    snapshot->closed = copy(counts->closed, snapshot->closed_by, SP_WHYS);
    snapshot->connect_failures = copy(counts->failed, snapshot->failed_by, SP_FAILURES);
    (void)copy(counts->errors, snapshot->errors, SP_ERRORS);
    snapshot->oldest_wait = sp_queue_oldest_wait(pool, call->now_ns) / SP_MS;
    snapshot->exhausted = sp_queue_exhausted(pool, call->now_ns) / SP_MS;
}

static void count_shards(struct sp_pool *pool, struct sp_snapshot *snapshot)
{
#define SUM(name) uint64_t name = 0;
    SP_SHARD_COUNTER_MAP(SUM)
#undef SUM

    for (uint32_t i = 0; i < pool->shard_count; i++) {
        struct sp_stats *stats = &pool->shards[i].stats;
#define ADD(name) name += atomic_load_explicit(&stats->name, memory_order_relaxed);
        SP_SHARD_COUNTER_MAP(ADD)
#undef ADD
    }
    (void)warm; /* these two are in the histograms */
    (void)unmeasured;
    snapshot->checkouts = immediate + granted;
    snapshot->pipelined = placed + admitted;
    snapshot->checkins = sp_times_count(pool, SP_TIME_USE);
    snapshot->reused = sp_times_count(pool, SP_TIME_IDLE);
    snapshot->created = created;
    snapshot->abandoned = abandoned;
    snapshot->waited = waited;
    snapshot->timeouts = timeouts;
    snapshot->deferred = deferred;
    snapshot->connect_attempts = connect_attempts;
}

bool sp_pool_snapshot(struct sp_pool *pool, const struct sp_call *call,
                      struct sp_snapshot *snapshot, uint32_t *cursor)
{
    do {
        count_some(pool, snapshot, cursor);
        sp_take(call, PIECES_OF_THAT);
    } while (*cursor > 0 && !sp_spent(call));
    if (*cursor > 0)
        return true;
    snapshot->size = atomic_load(&pool->size);
    snapshot->max_overflow = atomic_load(&pool->limit) - snapshot->size;
    snapshot->total = atomic_load(&pool->total);
    snapshot->waiting = atomic_load(&pool->nwait);
    count_shards(pool, snapshot);
    count_reasons(pool, call, snapshot);
    return false;
}
