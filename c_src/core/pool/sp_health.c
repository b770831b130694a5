#include "sp_health.h"

void sp_health_begin(struct sp_pool *pool, const struct sp_config *config, uint64_t seed)
{
    pthread_mutex_lock(&pool->control.lock);
    pool->control.config = *config;
    sp_backoff_init(&pool->control.state, config->backoff_min_ns, config->backoff_max_ns, seed);
    pool->control.rng = ~seed;
    atomic_store(&pool->doubted, false);
    pthread_mutex_unlock(&pool->control.lock);
}

static void end_backoff(struct sp_pool *pool)
{
    pthread_mutex_lock(&pool->control.lock);
    sp_backoff_succeeded(&pool->control.state);
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
        sp_backoff_failed(&pool->control.state, conn->round, call->now_ns);
    pthread_mutex_unlock(&pool->control.lock);
}

void sp_health_lost_unused(struct sp_pool *pool, const struct sp_call *call)
{
    pthread_mutex_lock(&pool->control.lock);
    if (!sp_backoff_failing(&pool->control.state))
        sp_backoff_failed(&pool->control.state, 0, call->now_ns);
    pthread_mutex_unlock(&pool->control.lock);
}

static void refused(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    pool->host->refused(call, conn, conn->fault, true);
    pthread_mutex_lock(&pool->control.lock);
    atomic_store(&pool->doubted, true);
    sp_backoff_failed(&pool->control.state, conn->round, call->now_ns);
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
    bool failing;

    pthread_mutex_lock(&pool->control.lock);
    failing = sp_backoff_failing(&pool->control.state);
    pthread_mutex_unlock(&pool->control.lock);
    return failing;
}

bool sp_health_unavailable(struct sp_pool *pool)
{
    return sp_health_failing(pool) && atomic_load(&pool->total) <= atomic_load(&pool->connecting);
}
