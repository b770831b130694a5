#include "sp_growth.h"

#include "sp_age.h"
#include "sp_close.h"
#include "sp_forecast.h"
#include "sp_health.h"
#include "sp_queue.h"
#include "sp_spare.h"
#include "sp_table.h"
#include "sp_times.h"

/* Attempts at once, where the configuration does not say it; and where each has a handshake: that is work for the processor, and
 * takes buffers meanwhile. */
#define PARALLEL 64
#define PARALLEL_SHAKING 16

static bool reserve(struct sp_pool *pool)
{
    uint32_t total = atomic_load(&pool->total);

    do {
        if (total >= atomic_load(&pool->limit))
            return false;
    } while (!atomic_compare_exchange_weak(&pool->total, &total, total + 1));
    atomic_fetch_add(&pool->connecting, 1);
    return true;
}

/* How many connections should be begun now, without regard to the limit. */
static uint64_t wanted(struct sp_pool *pool, uint64_t called_for)
{
    uint64_t base = atomic_load(&pool->base), total = atomic_load(&pool->total);
    uint64_t missing = base > total ? base - total : 0, replaced = sp_age_wanted(pool);
    uint64_t spare = sp_spare_missing(pool);

    if (missing < replaced)
        missing = replaced;
    if (missing < spare)
        missing = spare;
    return missing > called_for ? missing : called_for;
}

static uint64_t attempts_allowed(struct sp_pool *pool, uint64_t now_ns, uint32_t *round,
                                 uint64_t *wait_ns)
{
    uint32_t connecting = atomic_load(&pool->connecting), max;
    struct sp_backoff state;

    pthread_mutex_lock(&pool->control.lock);
    state = pool->control.state;
    max = pool->control.config.connect_parallelism;
    pthread_mutex_unlock(&pool->control.lock);
    if (max == 0)
        max = pool->control.config.transport->handshake ? PARALLEL_SHAKING : PARALLEL;
    *round = state.failures;
    if (!sp_backoff_failing(&state))
        return connecting < max ? max - connecting : 0;
    if (connecting > 0)
        return 0;
    if (now_ns < state.until_ns) {
        *wait_ns = state.until_ns - now_ns;
        return 0;
    }
    return 1;
}

static bool attempt(struct sp_pool *pool, const struct sp_call *call, uint32_t round,
                    struct sp_attempt *attempt)
{
    const struct sp_config *config = &pool->control.config; /* only this process changes it */
    struct sp_conn *conn = pool->host->conn_new(pool);

    if (!conn)
        return false;
    conn->pool = pool;
    conn->host = pool->host;
    conn->unpinned = sp_close_queue;
    conn->transport = config->transport;
    conn->worker = sp_is_worker(conn->transport);
    if (!conn->worker) {
        conn->sys = pool->sys;
        conn->framing = conn->pool_framing = config->framing;
        conn->recv_limit_bytes = config->recv_limit_bytes;
    }
    conn->nodelay = config->sockopts.nodelay;
    conn->keepalive = config->sockopts.keepalive || config->sockopts.silence_s > 0;
    conn->epoch = atomic_load(&pool->epoch);
    conn->round = round;
    conn->born_ns = conn->idle_since_ns = sp_times_now(pool, call);
    atomic_store_explicit(&conn->ends_ns, SP_NEVER, memory_order_relaxed);
    conn->fd = -1;
    pool->host->conn_ref(conn);
    attempt->conn = conn;
    attempt->lease = sp_conn_lease(conn, 0, call->now_ns);
    if (!sp_table_add(pool, conn)) {
        pool->host->conn_unref(conn);
        pool->host->conn_unref(conn);
        return false;
    }
    sp_count(sp_pool_home(pool, call), connect_attempts);
    sp_take(call, SP_PIECES_ATTEMPT);
    return true;
}

static void wait_at_most(struct sp_plan *plan, uint64_t ns)
{
    if (ns < plan->wait_ns)
        plan->wait_ns = ns;
}

void sp_growth_step(struct sp_pool *pool, const struct sp_call *call, struct sp_attempt *attempts,
                    size_t max, struct sp_plan *plan)
{
    uint32_t eager = atomic_exchange(&pool->eager, 0), round;
    uint64_t due_ns, pause_ns = SP_NEVER, allowed;
    uint64_t called = sp_forecast_needed(pool, call, eager > 0, &due_ns);
    uint64_t want = wanted(pool, called);

    if (due_ns != SP_NEVER)
        wait_at_most(plan, due_ns - call->now_ns);
    if (want == 0)
        return;
    if ((eager || atomic_load(&pool->nwait)) && atomic_load(&pool->retry_ns))
        sp_health_hurry(pool);
    allowed = attempts_allowed(pool, call->now_ns, &round, &pause_ns);
    wait_at_most(plan, pause_ns);
    if (eager && allowed == 0 && pause_ns != SP_NEVER)
        atomic_store(&pool->eager, 1); /* until then nobody need say so again */
    while (plan->attempts < max && plan->attempts < want && plan->attempts < allowed &&
           reserve(pool)) {
        if (!attempt(pool, call, round, &attempts[plan->attempts])) {
            atomic_fetch_sub(&pool->connecting, 1);
            atomic_fetch_sub(&pool->total, 1);
            wait_at_most(plan, 100 * SP_MS);
            break;
        }
        plan->attempts++;
    }
    sp_age_attempts(pool, plan->attempts, called > 0);
    if (plan->attempts == max)
        plan->more = true;
}
