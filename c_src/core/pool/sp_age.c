#include "sp_age.h"

#include "core/base/sp_random.h"
#include "sp_due.h"
#include "sp_health.h"
#include "sp_retire.h"
#include "sp_shard.h"
#include "sp_spare.h"

/* What is over may serve those who wait for this part of its life more. */
#define GRACE_PARTS 20
/* So many parts of the pool's connections are being replaced at a time. */
#define REPLACED_PARTS 10
/* With fewer uses than this the last of them are not spread. */
#define SPREAD_USES 10

void sp_age_begin(struct sp_pool *pool, const struct sp_call *call, const struct sp_config *config)
{
    atomic_store(&pool->base, config->size);
    atomic_store(&pool->max_uses, config->max_uses);
    atomic_store(&pool->exhausted, false);
    sp_peak_begin(&pool->leased_extra, config->overflow_ttl_ns, call->now_ns);
    sp_peak_begin(&pool->leased_base, config->idle_timeout_ns, call->now_ns);
    pool->owed = 0;
}

void sp_age_born(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    const struct sp_config *config = &pool->control.config;
    uint64_t ends_ns = SP_NEVER, uses = 0;

    pthread_mutex_lock(&pool->control.lock);
    if (config->lifetime_max_ns != SP_NEVER)
        ends_ns = call->now_ns + sp_random_between(&pool->control.rng, config->lifetime_min_ns,
                                                   config->lifetime_max_ns);
    if (config->max_uses != SP_NEVER)
        uses = config->max_uses < SPREAD_USES
                   ? config->max_uses
                   : sp_random_between(&pool->control.rng,
                                       config->max_uses - config->max_uses / SPREAD_USES,
                                       config->max_uses);
    pthread_mutex_unlock(&pool->control.lock);
    conn->born_ns = call->now_ns;
    conn->born_leases = conn->lease_seq < UINT8_MAX ? (uint8_t)conn->lease_seq : UINT8_MAX;
    conn->uses_end = (uint32_t)uses;
    atomic_store_explicit(&conn->ends_ns, ends_ns, memory_order_relaxed);
}

void sp_age_change(struct sp_pool *pool, const struct sp_config *from, const struct sp_config *to)
{
    if (from->size != to->size || from->min_size != to->min_size ||
        from->idle_timeout_ns != to->idle_timeout_ns)
        atomic_store(&pool->base, to->size);
    if (from->overflow_ttl_ns != to->overflow_ttl_ns)
        sp_peak_begin(&pool->leased_extra, to->overflow_ttl_ns, pool->leased_extra.since_ns);
    if (from->idle_timeout_ns != to->idle_timeout_ns)
        sp_peak_begin(&pool->leased_base, to->idle_timeout_ns, pool->leased_base.since_ns);
    atomic_store(&pool->max_uses, to->max_uses);
}

static uint64_t within(uint64_t uses, uint64_t limit)
{
    return uses < limit ? limit - uses : 0;
}

uint64_t sp_age_uses_left(struct sp_pool *pool, const struct sp_conn *conn)
{
    uint64_t left;

    if (!conn->uses_end)
        return SP_NEVER;
    left = within(conn->uses, conn->uses_end);
    return 1 + (left ? left : within(conn->uses, atomic_load(&pool->max_uses)));
}

/* ---- replacing ---- */

static uint32_t replaced_at_once(struct sp_pool *pool)
{
    uint32_t tenth = atomic_load(&pool->total) / REPLACED_PARTS;

    return tenth > 0 ? tenth : 1;
}

/* How many the pool would have if none were too old: those of its base, those above it that were in use lately, and the spare ones. */
static uint32_t kept(struct sp_pool *pool)
{
    uint32_t base = atomic_load(&pool->base), limit = atomic_load(&pool->limit);
    uint32_t peak = sp_peak_get(&pool->leased_extra);

    if (peak > limit)
        peak = limit;
    return sp_spare_above(pool, peak > base ? peak : base, 0);
}

static uint32_t ups(struct sp_pool *pool)
{
    uint32_t total = atomic_load(&pool->total), connecting = atomic_load(&pool->connecting);

    return total > connecting ? total - connecting : 0;
}

/* Too old by uses. */
static bool is_worn(const struct sp_conn *conn)
{
    return atomic_load_explicit(&conn->ends_ns, memory_order_relaxed) == 0;
}

static enum sp_why why_over(const struct sp_conn *conn)
{
    return is_worn(conn) ? SP_WHY_MAX_USES : SP_WHY_MAX_LIFETIME;
}

/* By time a twentieth of its life; by uses what is between its own end and the highest. */
static bool in_grace(struct sp_pool *pool, const struct sp_call *call, const struct sp_conn *conn)
{
    uint64_t ends_ns = atomic_load_explicit(&conn->ends_ns, memory_order_relaxed);

    if (is_worn(conn))
        return conn->uses < atomic_load(&pool->max_uses);
    return call->now_ns - ends_ns <= (ends_ns - conn->born_ns) / GRACE_PARTS;
}

void sp_age_put(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    sp_pool_put(pool, call, sp_pool_home(pool, call), conn, SP_IDLE_AGED);
    /* It is to be replaced; and somebody may have looked while it was out. */
    sp_pool_wake(pool, call);
}

bool sp_age_may_serve(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    sp_take(call, SP_PIECES_LOOK);
    if (sp_shard_idle(pool) > atomic_load(&pool->aged)) {
        sp_age_put(pool, call, conn);
        return false;
    }
    if (in_grace(pool, call, conn) || sp_health_failing(pool) ||
        (!is_worn(conn) && atomic_load(&pool->connecting) >= replaced_at_once(pool)))
        return true;
    sp_pool_retire(pool, call, conn, why_over(conn));
    return false;
}

/* Whether one that is too old and idle may be closed now. */
static bool may_close(struct sp_pool *pool)
{
    if (ups(pool) > kept(pool))
        return true;
    return atomic_load(&pool->total) >= atomic_load(&pool->limit) && !atomic_load(&pool->nwait) &&
           atomic_load(&pool->connecting) < replaced_at_once(pool);
}

void sp_age_step(struct sp_pool *pool, const struct sp_call *call)
{
    struct sp_conn *conn;

    if (!atomic_load(&pool->aged) || sp_health_failing(pool))
        return;
    while (!sp_spent(call) && may_close(pool)) {
        /* Before it is out of its shard, where it would pass for a leased one. */
        bool first = ups(pool) <= kept(pool);
        if (!(conn = sp_shard_pop_aged(pool, call)))
            return;
        if (first && atomic_load(&pool->total) > atomic_load(&pool->base))
            pool->owed++;
        sp_pool_retire(pool, call, conn, why_over(conn));
    }
}

uint64_t sp_age_wanted(struct sp_pool *pool)
{
    uint32_t aged = atomic_load(&pool->aged), most = replaced_at_once(pool), others, missing;
    uint32_t total = atomic_load(&pool->total);

    if (aged > most)
        aged = most;
    others = total > aged ? total - aged : 0;
    missing = kept(pool) > others ? kept(pool) - others : 0;
    if (missing > aged)
        missing = aged;
    return missing > pool->owed ? missing : pool->owed;
}

void sp_age_attempts(struct sp_pool *pool, uint64_t count, bool called_for)
{
    uint32_t size = atomic_load(&pool->size), total = atomic_load(&pool->total);

    pool->owed -= count < pool->owed ? (uint32_t)count : pool->owed;
    if (total >= atomic_load(&pool->limit))
        pool->owed = 0;
    if (count == 0 || !called_for)
        return;
    if (total > size)
        total = size;
    if (total > atomic_load(&pool->base))
        atomic_store(&pool->base, total);
}

/* ---- shrinking ---- */

static void note_leased(struct sp_pool *pool, const struct sp_call *call)
{
    uint32_t up = ups(pool), leased = atomic_load(&pool->check.under_way);

    leased += sp_shard_idle(pool);
    leased = up > leased ? up - leased : 0;
    if (atomic_exchange(&pool->exhausted, false))
        leased = up;
    sp_peak_note(&pool->leased_extra, leased, call->now_ns);
    sp_peak_note(&pool->leased_base, leased, call->now_ns);
}

/* Of the pool's connections above `floor`, as long as they are not more than `top`: those that are idle since before then. */
static void close_idle(struct sp_pool *pool, const struct sp_call *call, uint32_t floor,
                       uint32_t top, uint64_t before_ns, enum sp_why why)
{
    for (uint32_t i = 0; i < pool->shard_count; i++) {
        struct sp_shard *shard = &pool->shards[i];
        struct sp_conn *conn;
        while (!sp_spent(call) && atomic_load(&pool->total) > floor &&
               atomic_load(&pool->total) <= top) {
            sp_take(call, SP_PIECES_LOOK);
            if (!(conn = sp_shard_pop_idle_since(pool, shard, false, before_ns)))
                break;
            if (!sp_pool_retire_above(pool, call, conn, floor, why)) {
                sp_pool_put(pool, call, shard, conn, SP_IDLE_FRESH);
                return;
            }
        }
    }
}

/* Each that was idle for so long, but for those that come for others which are too old. In a fifo each is in use from time to time: there as many as were idle all that time,
 * whichever they are. */
static void shrink(struct sp_pool *pool, const struct sp_call *call, uint64_t ttl_ns,
                   const struct sp_peak *leased, uint32_t floor, uint32_t top, enum sp_why why)
{
    uint32_t peak = sp_peak_get(leased), aged = atomic_load(&pool->aged);

    if (ttl_ns == SP_NEVER || call->now_ns < ttl_ns)
        return;
    floor = sp_spare_above(pool, floor, 0);
    close_idle(pool, call, floor + aged, top, call->now_ns - ttl_ns, why);
    if (atomic_load(&pool->strategy) == SP_FIFO && sp_peak_is_known(leased, call->now_ns))
        close_idle(pool, call, (peak > floor ? peak : floor) + aged, top, SP_NEVER, why);
}

/* When shrink() has something to close next. */
static void note_shrink(struct sp_pool *pool, uint64_t ttl_ns, const struct sp_peak *leased,
                        uint32_t floor, uint32_t top)
{
    uint32_t total = atomic_load(&pool->total);
    uint64_t since_ns = SP_NEVER;

    if (ttl_ns == SP_NEVER || total <= sp_spare_above(pool, floor, 0) || total > top)
        return;
    for (uint32_t i = 0; i < pool->shard_count; i++) {
        uint64_t idle_since_ns = sp_shard_idle_since(&pool->shards[i]);
        if (idle_since_ns < since_ns)
            since_ns = idle_since_ns;
    }
    sp_due_at(pool, since_ns == SP_NEVER ? 0 : since_ns + ttl_ns + 1);
    if (atomic_load(&pool->strategy) == SP_FIFO)
        sp_due_at(pool, sp_peak_changes_ns(leased) + 1);
}

void sp_age_tick(struct sp_pool *pool, const struct sp_call *call)
{
    const struct sp_config *config = &pool->control.config;
    uint32_t size = atomic_load(&pool->size), total;
    uint32_t min_size = config->min_size < size ? config->min_size : size;

    note_leased(pool, call);
    shrink(pool, call, config->overflow_ttl_ns, &pool->leased_extra, size, UINT32_MAX,
           SP_WHY_OVERFLOW);
    note_shrink(pool, config->overflow_ttl_ns, &pool->leased_extra, size, UINT32_MAX);
    if (config->idle_timeout_ns == SP_NEVER || sp_health_failing(pool))
        return;
    total = atomic_load(&pool->total);
    shrink(pool, call, config->idle_timeout_ns, &pool->leased_base, min_size, size,
           SP_WHY_IDLE_TIMEOUT);
    if (atomic_load(&pool->total) < total) {
        total = atomic_load(&pool->total);
        atomic_store(&pool->base, total > min_size ? total : min_size);
    }
    note_shrink(pool, config->idle_timeout_ns, &pool->leased_base, min_size, size);
}

void sp_age_sweep(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    enum sp_conn_state state = sp_conn_state(conn);

    if (!sp_conn_is_over(conn, call->now_ns) || (state != SP_CONN_IDLE && state != SP_CONN_LEASED))
        return;
    if (!conn->outlived && sp_health_failing(pool)) {
        conn->outlived = true;
        sp_count(sp_pool_home(pool, call), deferred);
    }
    if (state == SP_CONN_IDLE && sp_shard_age(pool, conn))
        sp_pool_wake(pool, call);
}
