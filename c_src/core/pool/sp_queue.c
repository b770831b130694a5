#include "sp_queue.h"

#include "sp_health.h"

void sp_waiter_ref(struct sp_waiter *waiter)
{
    atomic_fetch_add(&waiter->refs, 1);
}

void sp_waiter_unref(struct sp_waiter *waiter)
{
    if (atomic_fetch_sub(&waiter->refs, 1) == 1)
        waiter->pool->host->waiter_free(waiter);
}

static uint64_t since(uint64_t then_ns, uint64_t now_ns)
{
    return now_ns > then_ns ? now_ns - then_ns : 0;
}

/* Under queue.lock. Changes how many wait. */
static void count(struct sp_pool *pool, const struct sp_waiter *waiter, uint64_t by,
                  uint64_t now_ns)
{
    uint64_t before = atomic_fetch_add(&pool->nwait, by);

    if (waiter->piped)
        atomic_fetch_add(&pool->nwait_piped, by);
    if (waiter->growing_only)
        atomic_fetch_add(&pool->nwait_growing, by);
    if (before == 0)
        pool->queue.exhausted_since_ns = now_ns;
    else if (before + by == 0)
        pool->queue.exhausted_ns += since(pool->queue.exhausted_since_ns, now_ns);
}

void sp_queue_push(struct sp_pool *pool, struct sp_waiter *waiter, uint64_t now_ns)
{
    sp_list_push_newest(&pool->queue.list, &waiter->node);
    count(pool, waiter, 1, now_ns);
}

uint64_t sp_queue_demand(struct sp_pool *pool)
{
    uint64_t piped = atomic_load(&pool->nwait_piped), all = atomic_load(&pool->nwait);
    uint64_t many = atomic_load(&pool->pipeline);

    if (many <= 1 || piped > all)
        return all;
    return all - piped + (piped + many - 1) / many;
}

uint64_t sp_queue_late(struct sp_pool *pool, const struct sp_call *call, uint64_t skip,
                       uint64_t most, uint64_t before_ns, uint64_t *next_ns)
{
    uint64_t place = 0, late = 0;

    *next_ns = SP_NEVER;
    pthread_mutex_lock(&pool->queue.lock);
    for (struct sp_list_node *node = sp_list_oldest(&pool->queue.list);
         node && late < most && *next_ns == SP_NEVER;
         node = sp_list_newer(&pool->queue.list, node), place++) {
        const struct sp_waiter *waiter = SP_CONTAINER(node, struct sp_waiter, node);
        if (place >= skip && waiter->since_ns > before_ns)
            *next_ns = waiter->since_ns;
        else if (place >= skip)
            late++;
    }
    pthread_mutex_unlock(&pool->queue.lock);
    sp_take(call, (int)(place / SP_LOOKS_PER_PIECE));
    return late;
}

/* Under queue.lock. */
static void unqueue(struct sp_waiter *waiter, enum sp_waiter_state state, uint64_t now_ns)
{
    struct sp_pool *pool = waiter->pool;

    sp_list_remove(&waiter->node);
    sp_expiry_remove(&pool->queue.expiry, &waiter->deadline);
    count(pool, waiter, UINT64_MAX, now_ns);
    waiter->state = state;
}

/* Under queue.lock. */
static struct sp_waiter *oldest(struct sp_pool *pool)
{
    struct sp_list_node *node = sp_list_oldest(&pool->queue.list);

    return node ? SP_CONTAINER(node, struct sp_waiter, node) : NULL;
}

enum kind { ANY, PIPED, LEASED };

/* NULL where the oldest is of another kind, too. */
static struct sp_waiter *take(struct sp_pool *pool, enum sp_waiter_state state, enum kind kind,
                              uint64_t now_ns)
{
    struct sp_waiter *waiter;

    pthread_mutex_lock(&pool->queue.lock);
    waiter = oldest(pool);
    if (waiter && kind != ANY && waiter->piped != (kind == PIPED))
        waiter = NULL;
    if (waiter)
        unqueue(waiter, waiter->expires_ns && waiter->expires_ns <= now_ns ? SP_FAILED : state,
                now_ns);
    pthread_mutex_unlock(&pool->queue.lock);
    return waiter;
}

struct sp_waiter *sp_queue_take(struct sp_pool *pool, uint64_t now_ns)
{
    return take(pool, SP_GRANTED, LEASED, now_ns);
}

struct sp_waiter *sp_queue_take_piped(struct sp_pool *pool, uint64_t now_ns)
{
    return take(pool, SP_GRANTED, PIPED, now_ns);
}

bool sp_queue_first_is_piped(struct sp_pool *pool)
{
    struct sp_waiter *waiter;
    bool piped;

    pthread_mutex_lock(&pool->queue.lock);
    waiter = oldest(pool);
    piped = waiter && waiter->piped;
    pthread_mutex_unlock(&pool->queue.lock);
    return piped;
}

bool sp_queue_put_back(struct sp_pool *pool, const struct sp_call *call, struct sp_waiter *waiter)
{
    bool open;

    pthread_mutex_lock(&pool->queue.lock);
    open = sp_pool_phase(pool) == SP_PHASE_OPEN && atomic_load(&waiter->handoff) == SP_HANDOFF_OPEN;
    if (open) {
        waiter->state = SP_WAITING;
        sp_list_push_oldest(&pool->queue.list, &waiter->node);
        count(pool, waiter, 1, call->now_ns);
    }
    pthread_mutex_unlock(&pool->queue.lock);
    return open;
}

void sp_queue_fail(const struct sp_call *call, struct sp_waiter *waiter, sp_status status)
{
    sp_take(call, SP_PIECES_TELL);
    (void)waiter->pool->host->waiter_notify(call, waiter, status, 0);
    sp_waiter_unref(waiter);
}

void sp_queue_refuse(const struct sp_call *call, struct sp_waiter *waiter, sp_status status)
{
    uint32_t open = SP_HANDOFF_OPEN;

    if (atomic_compare_exchange_strong(&waiter->handoff, &open, SP_HANDOFF_ABANDONED))
        sp_queue_fail(call, waiter, sp_pool_refuse(waiter->pool, status));
    else
        sp_waiter_unref(waiter);
}

/* What it is told while attempts fail and nothing is up is not that the pool is too small. */
static void count_timeout(struct sp_pool *pool, const struct sp_call *call)
{
    sp_count(sp_pool_home(pool, call), timeouts);
    (void)sp_pool_refuse(pool, sp_health_unavailable(pool) ? SP_UNAVAILABLE : SP_TIMEOUT);
}

void sp_queue_expire(struct sp_pool *pool, const struct sp_call *call, struct sp_waiter *waiter)
{
    count_timeout(pool, call);
    sp_queue_fail(call, waiter, SP_TIMEOUT);
}

enum sp_waiter_state sp_queue_leave(struct sp_waiter *waiter, const struct sp_call *call)
{
    struct sp_pool *pool = waiter->pool;
    enum sp_waiter_state state;

    pthread_mutex_lock(&pool->queue.lock);
    state = waiter->state;
    if (state == SP_WAITING)
        unqueue(waiter, SP_CANCELLED, call->now_ns);
    pthread_mutex_unlock(&pool->queue.lock);
    if (state != SP_WAITING)
        return state;
    sp_waiter_unref(waiter);
    return SP_CANCELLED;
}

enum sp_waiter_state sp_waiter_cancel(struct sp_waiter *waiter, const struct sp_call *call)
{
    enum sp_waiter_state state = sp_queue_leave(waiter, call);
    uint32_t open = SP_HANDOFF_OPEN;

    /* A granted request answers when its peer does: better to take it back before it is sent. */
    if (state == SP_GRANTED && waiter->iov_count > 0 &&
        atomic_compare_exchange_strong(&waiter->handoff, &open, SP_HANDOFF_ABANDONED)) {
        (void)sp_queue_leave(waiter, call); /* it may have been put back */
        state = SP_CANCELLED;
    }
    if (state == SP_CANCELLED)
        count_timeout(waiter->pool, call);
    return state;
}

bool sp_waiter_adopt(struct sp_waiter *waiter, struct sp_conn **conn, uint64_t *lease)
{
    if (atomic_load(&waiter->handoff) != SP_HANDOFF_DELIVERED)
        return false;
    *conn = waiter->conn;
    *lease = waiter->lease;
    sp_waiter_unref(waiter);
    return true;
}

/* A waiter whose time is over, as sp_queue_take() gives it. */
static struct sp_waiter *take_expired(struct sp_pool *pool, const struct sp_call *call, bool *more)
{
    struct sp_deadline *deadline;
    struct sp_waiter *waiter = NULL;

    sp_take(call, SP_PIECES_LOOK);
    pthread_mutex_lock(&pool->queue.lock);
    deadline = sp_expiry_next(&pool->queue.expiry, call->now_ns, more);
    if (deadline) {
        waiter = SP_CONTAINER(deadline, struct sp_waiter, deadline);
        unqueue(waiter, SP_FAILED, call->now_ns);
    }
    pthread_mutex_unlock(&pool->queue.lock);
    return waiter;
}

bool sp_pool_expire(struct sp_pool *pool, const struct sp_call *call)
{
    bool more;

    do {
        struct sp_waiter *waiter = take_expired(pool, call, &more);

        if (waiter)
            sp_queue_expire(pool, call, waiter);
    } while (more && !sp_spent(call));
    return more;
}

bool sp_pool_fail_waiter(struct sp_pool *pool, const struct sp_call *call, sp_status status)
{
    struct sp_waiter *waiter = take(pool, SP_FAILED, ANY, call->now_ns);

    if (!waiter)
        return false;
    sp_queue_fail(call, waiter, sp_pool_refuse(pool, status));
    return true;
}

uint64_t sp_queue_oldest_wait(struct sp_pool *pool, uint64_t now_ns)
{
    struct sp_waiter *waiter;
    uint64_t wait_ns;

    if (!atomic_load(&pool->nwait))
        return 0;
    pthread_mutex_lock(&pool->queue.lock);
    waiter = oldest(pool);
    wait_ns = waiter ? since(waiter->queued_ns, now_ns) : 0;
    pthread_mutex_unlock(&pool->queue.lock);
    return wait_ns;
}

uint64_t sp_queue_exhausted(struct sp_pool *pool, uint64_t now_ns)
{
    uint64_t exhausted_ns;

    pthread_mutex_lock(&pool->queue.lock);
    exhausted_ns = pool->queue.exhausted_ns;
    if (atomic_load(&pool->nwait))
        exhausted_ns += since(pool->queue.exhausted_since_ns, now_ns);
    pthread_mutex_unlock(&pool->queue.lock);
    return exhausted_ns;
}
