#include "sp_check.h"

#include "core/base/sp_random.h"
#include "sp_age.h"
#include "sp_grant.h"
#include "sp_health.h"
#include "sp_retire.h"
#include "sp_shard.h"
#include "sp_table.h"

/* The part of the interval over which checks are spread. */
#define SPREAD_PARTS 5
/* All connections are looked at once in so many parts of the interval at most, */
#define ROUND_PARTS 50
/* or in this time. */
#define ROUND_NS (100 * SP_MS)
/* So many parts of the idle connections are checked at a time. */
#define CHECKED_PARTS 10
/* While somebody waits, or as many are checked as may be. */
#define PAUSE_NS (100 * SP_MS)
/* Who asks has a clock of its own, which is better. */
#define GRACE_NS (500 * SP_MS)
#define EARLY_MAX UINT16_MAX

void sp_check_begin(struct sp_pool *pool, uint64_t seed)
{
    pool->check.interval_ns = 0;
    pool->check.walking = pool->check.all = false;
    pool->check.rng = seed;
    atomic_store(&pool->check.alarm, false);
    atomic_store(&pool->check.alarm_ns, 0);
}

/* ---- when ---- */

static uint64_t spacing(uint64_t interval_ns)
{
    uint64_t part = interval_ns / ROUND_PARTS;

    return part < ROUND_NS ? part : ROUND_NS;
}

static uint64_t heard_ns(const struct sp_conn *conn)
{
    return conn->asked_ns > conn->idle_since_ns ? conn->asked_ns : conn->idle_since_ns;
}

/* So early that a round which comes late is still in time. */
static uint64_t due_ns(const struct sp_conn *conn, uint64_t interval_ns)
{
    uint64_t spread = interval_ns / SPREAD_PARTS - spacing(interval_ns);

    return heard_ns(conn) + interval_ns - spacing(interval_ns) - spread / EARLY_MAX * conn->early -
           spread % EARLY_MAX * conn->early / EARLY_MAX;
}

/* How many more may be checked now. */
static uint32_t room(struct sp_pool *pool)
{
    uint32_t under_way = atomic_load(&pool->check.under_way);
    uint32_t most = (under_way + sp_shard_idle(pool)) / CHECKED_PARTS;

    if (most < 1)
        most = 1;
    if (most > SP_CHECKS_MAX || pool->check.all)
        most = SP_CHECKS_MAX;
    return most > under_way ? most - under_way : 0;
}

struct look {
    struct sp_pool *pool;
    uint64_t now_ns, due_ns; /* of an idle one */
    bool has_room;
};

/* Under the lock of its shard. */
static bool is_due(struct sp_conn *conn, void *arg)
{
    struct look *look = arg;

    if (!conn->early)
        conn->early = (uint16_t)sp_random_between(&look->pool->check.rng, 1, EARLY_MAX);
    look->due_ns = look->pool->check.all && heard_ns(conn) <= look->pool->check.all_ns
                       ? look->now_ns
                       : due_ns(conn, look->pool->check.interval_ns);
    return look->has_room && look->due_ns <= look->now_ns;
}

/* ---- lent and given back ---- */

static void put_back(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    conn->asked_ns = call->now_ns;
    /* Whoever waits comes first; what is to be closed is closed there. */
    if (atomic_load(&pool->nwait) || atomic_load(&pool->shrinking) ||
        !sp_pool_is_current(pool, conn) || sp_conn_is_over(conn, call->now_ns) ||
        (!atomic_load(&pool->overflow_ttl_ns) &&
         atomic_load(&pool->total) > atomic_load(&pool->size))) {
        sp_pool_serve(pool, call, conn);
        return;
    }
    sp_take(call, SP_PIECES_WATCH);
    if (!pool->host->watch(call, conn, ++conn->watch)) {
        sp_pool_retire(pool, call, conn, SP_WHY_STOPPED);
        return;
    }
    sp_pool_put(pool, call, &pool->shards[atomic_load(&conn->shard)], conn, SP_IDLE_CHECKED);
    sp_pool_serve(pool, call, NULL);
}

static void count_end(struct sp_pool *pool)
{
    atomic_fetch_sub(&pool->check.under_way, 1);
}

/* Under way until it is idle: who counts those that are checked first sees it in one of the two places. */
static void gave_back(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    atomic_store(&conn->checked, false);
    put_back(pool, call, conn);
    count_end(pool);
    sp_pool_wake(pool, call); /* for the next */
}

/* Holder only. Those that are checked because another has failed raise no further alarm, nor those that were under way
 * then. */
static void fail(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    sp_count(sp_pool_home(pool, call), health_failed);
    if (!conn->follows && atomic_load(&conn->leased_ns) > atomic_load(&pool->check.alarm_ns)) {
        atomic_store(&pool->check.alarm_ns, call->now_ns);
        atomic_store(&pool->check.alarm, true);
    }
    sp_pool_retire(pool, call, conn, SP_WHY_HEALTH);
    sp_pool_wake(pool, call);
}

void sp_check_ended(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    atomic_store(&conn->checked, false);
    count_end(pool);
    if (sp_pool_phase(pool) == SP_PHASE_OPEN && sp_pool_is_current(pool, conn))
        fail(pool, call, conn);
    else
        sp_pool_retire(pool, call, conn, SP_WHY_STOPPED);
}

void sp_check_failed(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                     uint64_t lease)
{
    sp_conn_disarmed(conn, lease, call);
    if (sp_conn_unlease(conn, lease))
        sp_check_ended(pool, call, conn);
}

void sp_check_skipped(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                      uint64_t lease)
{
    if (!sp_conn_unlease(conn, lease))
        return;
    gave_back(pool, call, conn);
}

/* What the server's answer has left. */
static sp_status look_after(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    enum sp_clean clean;
    uint64_t timeout_ns = atomic_load(&pool->health_timeout_ns);

    /* Without one, checks were switched off meanwhile. */
    if (timeout_ns && call->now_ns > atomic_load(&conn->leased_ns) + timeout_ns)
        return SP_TIMEOUT;
    if (conn->tainted || conn->fault != SP_OK)
        return SP_CLOSED;
    if (sp_conn_has_unread(conn) ||
        (conn->unanswered && atomic_load_explicit(&pool->replies, memory_order_relaxed)))
        return SP_UNREAD;
    clean = conn->transport->validate(conn);
    sp_conn_settle(conn, call);
    if (clean != SP_CLEAN)
        return clean == SP_DIRTY ? SP_UNREAD : SP_CLOSED;
    return sp_conn_restore(conn) ? SP_OK : SP_CLOSED;
}

sp_status sp_check_passed(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                          uint64_t lease)
{
    sp_status status;

    sp_conn_disarmed(conn, lease, call);
    if (!sp_conn_unlease(conn, lease))
        return SP_CLOSED;
    status = look_after(pool, call, conn);
    if (status != SP_OK) {
        sp_check_ended(pool, call, conn);
        return status;
    }
    sp_count(sp_pool_home(pool, call), health_ok);
    sp_conn_forget(conn);
    sp_health_learn(pool, call, conn);
    gave_back(pool, call, conn);
    return SP_OK;
}

uint64_t sp_check_limit_ns(struct sp_pool *pool)
{
    uint64_t timeout_ns = atomic_load(&pool->health_timeout_ns);

    return timeout_ns ? timeout_ns + GRACE_NS : SP_NEVER;
}

/* Of a connection that was idle and is the caller's now. False: it is of no use, or not ours to ask on. */
static bool lend(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                 struct sp_check *check)
{
    enum sp_clean clean = conn->transport->validate(conn);

    sp_conn_settle(conn, call);
    if (clean == SP_DIRTY && !conn->used && atomic_load(&pool->validate_after_ns) == SP_NEVER) {
        put_back(pool, call, conn); /* the first user's */
        return false;
    }
    if (clean != SP_CLEAN || !sp_pool_is_current(pool, conn)) {
        sp_pool_retire_unusable(pool, call, conn, sp_retire_why(conn, clean));
        return false;
    }
    conn->early = 0; /* drawn anew */
    conn->follows = pool->check.all;
    atomic_store(&conn->checked, true);
    atomic_fetch_add(&pool->check.under_way, 1);
    check->conn = conn;
    check->lease = sp_conn_lease(conn, SP_OWNER_POOL, call->now_ns);
    return true;
}

/* ---- rounds ---- */

enum found { NOTHING, LENT, FULL };

static enum found look_at(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                          struct sp_check *check)
{
    struct look look = {pool, call->now_ns, SP_NEVER, room(pool) > 0};

    if (sp_shard_take_if(pool, conn, is_due, &look))
        return lend(pool, call, conn, check) ? LENT : NOTHING;
    if (look.due_ns <= call->now_ns)
        return FULL;
    if (look.due_ns < pool->check.next_ns)
        pool->check.next_ns = look.due_ns;
    return NOTHING;
}

static void begin_round(struct sp_pool *pool, const struct sp_call *call)
{
    uint64_t interval_ns = pool->check.interval_ns;

    pool->check.walking = true;
    pool->check.cursor = 0;
    /* One that is not idle now is not due before. */
    pool->check.next_ns = call->now_ns + interval_ns - interval_ns / SPREAD_PARTS;
}

static void end_round(struct sp_pool *pool, const struct sp_call *call)
{
    uint64_t soonest_ns = call->now_ns + spacing(pool->check.interval_ns);

    pool->check.walking = pool->check.all = false;
    if (pool->check.next_ns < soonest_ns)
        pool->check.next_ns = soonest_ns;
}

static void walk(struct sp_pool *pool, const struct sp_call *call, struct sp_check *checks,
                 size_t max, struct sp_check_plan *plan)
{
    struct sp_conn *conn;
    enum found found;

    while (pool->check.walking && !atomic_load(&pool->nwait)) {
        if (plan->count == max || sp_spent(call)) {
            plan->more = true;
            return;
        }
        conn = sp_table_next(pool, call, &pool->check.cursor);
        found = conn ? look_at(pool, call, conn, &checks[plan->count]) : NOTHING;
        if (found == FULL)
            pool->check.cursor = conn->slot;
        else if (pool->check.cursor == 0)
            end_round(pool, call);
        if (found == LENT)
            plan->count++;
        else if (conn)
            pool->host->conn_unref(conn);
        if (found == FULL)
            return;
    }
}

/* A change of the interval, or an alarm, begins a round anew. */
static void look_for_changes(struct sp_pool *pool, const struct sp_call *call)
{
    uint64_t interval_ns = atomic_load(&pool->health_interval_ns);
    bool alarm = atomic_exchange(&pool->check.alarm, false);

    if (alarm) {
        pool->check.all = true;
        pool->check.all_ns = call->now_ns;
    }
    if (alarm || interval_ns != pool->check.interval_ns) {
        pool->check.interval_ns = interval_ns;
        begin_round(pool, call);
    }
}

void sp_check_step(struct sp_pool *pool, const struct sp_call *call, struct sp_check *checks,
                   size_t max, struct sp_check_plan *plan)
{
    *plan = (struct sp_check_plan){.wait_ns = SP_NEVER};
    if (!atomic_load(&pool->health_interval_ns) || sp_pool_phase(pool) != SP_PHASE_OPEN)
        return;
    look_for_changes(pool, call);
    if (!pool->check.walking && call->now_ns >= pool->check.next_ns)
        begin_round(pool, call);
    walk(pool, call, checks, max, plan);
    if (pool->check.walking)
        plan->wait_ns = PAUSE_NS;
    else
        plan->wait_ns = pool->check.next_ns > call->now_ns ? pool->check.next_ns - call->now_ns : 0;
}
