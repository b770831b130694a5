#include "sp_health.h"

void sp_health_begin(struct sp_pool *pool, const struct sp_config *config, uint64_t seed)
{
    pthread_mutex_lock(&pool->control.lock);
    pool->control.config = *config;
    sp_backoff_init(&pool->control.state, config->backoff_min_ns, config->backoff_max_ns, seed);
    pool->control.rng = ~seed;
    atomic_store(&pool->doubted, false);
    atomic_store(&pool->retry_ns, 0);
    atomic_store(&pool->lost_all, false);
    pthread_mutex_unlock(&pool->control.lock);
}

/* Under control.lock. */
static void failed(struct sp_pool *pool, uint32_t round, uint64_t now_ns)
{
    sp_backoff_failed(&pool->control.state, round, now_ns);
    atomic_store(&pool->retry_ns, pool->control.state.until_ns);
    sp_health_lost(pool);
}

static void end_backoff(struct sp_pool *pool)
{
    pthread_mutex_lock(&pool->control.lock);
    sp_backoff_succeeded(&pool->control.state);
    atomic_store(&pool->retry_ns, 0);
    pthread_mutex_unlock(&pool->control.lock);
}

void sp_health_up(struct sp_pool *pool)
{
    if (!atomic_load(&pool->doubted))
        end_backoff(pool);
}

void sp_health_failed(struct sp_pool *pool, const struct sp_call *call, const struct sp_conn *conn)
{
    pthread_mutex_lock(&pool->control.lock);
    if (sp_pool_is_current(pool, conn))
        failed(pool, conn->round, call->now_ns);
    pthread_mutex_unlock(&pool->control.lock);
}

void sp_health_lost_unused(struct sp_pool *pool, const struct sp_call *call)
{
    pthread_mutex_lock(&pool->control.lock);
    if (!sp_backoff_failing(&pool->control.state))
        failed(pool, 0, call->now_ns);
    pthread_mutex_unlock(&pool->control.lock);
}

static void refused(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    pool->host->refused(call, conn, conn->fault, true);
    pthread_mutex_lock(&pool->control.lock);
    atomic_store(&pool->doubted, true);
    failed(pool, conn->round, call->now_ns);
    pthread_mutex_unlock(&pool->control.lock);
}

void sp_health_learn(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    const struct sp_transport *transport = conn->transport;

    if (!sp_pool_is_current(pool, conn))
        return;
    if (conn->heard && atomic_load(&pool->doubted) && atomic_exchange(&pool->doubted, false))
        end_backoff(pool);
    if (conn->shaken && !conn->heard && transport->is_refusal && transport->is_refusal(conn->fault))
        refused(pool, call, conn);
}

bool sp_health_failing(struct sp_pool *pool)
{
    return atomic_load(&pool->retry_ns) > 0;
}

uint32_t sp_health_ups(struct sp_pool *pool)
{
    uint32_t total = atomic_load(&pool->total), connecting = atomic_load(&pool->connecting);

    return total > connecting ? total - connecting : 0;
}

bool sp_health_unavailable(struct sp_pool *pool)
{
    return sp_health_failing(pool) && atomic_load(&pool->total) <= atomic_load(&pool->connecting);
}

void sp_health_hurry(struct sp_pool *pool)
{
    pthread_mutex_lock(&pool->control.lock);
    sp_backoff_hurry(&pool->control.state);
    atomic_store(&pool->retry_ns, pool->control.state.until_ns);
    pthread_mutex_unlock(&pool->control.lock);
}

void sp_health_lost(struct sp_pool *pool)
{
    if (atomic_load(&pool->retry_ns))
        atomic_store(&pool->lost_all, true);
}

bool sp_health_refuses(struct sp_pool *pool)
{
    return atomic_load_explicit(&pool->fail_fast, memory_order_relaxed) &&
           sp_health_unavailable(pool);
}

bool sp_health_refuses_to_wait(struct sp_pool *pool, uint64_t now_ns)
{
    return sp_health_refuses(pool) &&
           (atomic_load(&pool->connecting) > 0 || now_ns < atomic_load(&pool->retry_ns));
}

bool sp_health_has_lost_all(struct sp_pool *pool)
{
    return atomic_load(&pool->lost_all) && atomic_exchange(&pool->lost_all, false) &&
           sp_health_refuses(pool);
}
