#include "sp_grant.h"

#include "sp_age.h"
#include "sp_due.h"
#include "sp_queue.h"
#include "sp_retire.h"
#include "sp_shard.h"
#include "sp_spare.h"
#include "sp_times.h"

/* Whether the connection, idle or just checked in, may be handed out, or why not. */
static bool usable(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                   enum sp_why *why)
{
    uint64_t after_ns = atomic_load_explicit(&pool->validate_after_ns, memory_order_relaxed);

    *why = SP_WHY_STOPPED;
    if (!sp_pool_is_current(pool, conn))
        return false;
    /* What the server says before anybody asks is looked for until the first has it. */
    if (after_ns == SP_NEVER ||
        (after_ns && conn->used && call->now_ns < conn->idle_since_ns + after_ns))
        return true;
    enum sp_clean clean = conn->transport->validate(conn);
    sp_conn_settle(conn, call);
    if (clean != SP_CLEAN)
        *why = sp_retire_why(conn, clean);
    return clean == SP_CLEAN;
}

#define FIRST_USE UINT64_MAX

/* Holder only, before the lease begins: for how long it was idle. */
static uint64_t begin_use(const struct sp_call *call, struct sp_conn *conn)
{
    uint64_t idle_ns = FIRST_USE;

    if (conn->used)
        idle_ns = sp_since(call, conn->idle_since_ns);
    conn->used = true;
    conn->rested = false;
    sp_conn_used(conn, 1);
    return idle_ns;
}

static uint64_t lease_to(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                         uint64_t owner)
{
    return sp_conn_lease(conn, owner, sp_times_begin(pool, call, &sp_pool_home(pool, call)->use));
}

static void count_immediate(struct sp_pool *pool, const struct sp_call *call, uint64_t idle_ns)
{
    sp_count(sp_pool_home(pool, call), immediate);
    if (idle_ns != FIRST_USE)
        sp_times_idle(pool, call, idle_ns);
}

static void count_grant(struct sp_pool *pool, const struct sp_call *call,
                        const struct sp_waiter *waiter, uint64_t idle_ns)
{
    sp_times_waited(pool, call, waiter->queued_ns, false);
    if (idle_ns != FIRST_USE)
        sp_times_idle(pool, call, idle_ns);
}

/* Sends the request, where there is one, and tells the owner. Pinned by the caller. False where the
 * owner is dead. */
static bool announce(const struct sp_call *call, struct sp_waiter *waiter, struct sp_conn *conn)
{
    size_t sent = 0;

    if (waiter->iov_count > 0) {
        sp_conn_sends(conn);
        /* A send that fails here fails again in the owner's hands, who reports it. */
        (void)conn->transport->send(conn, waiter->iov, waiter->iov_count, &sent);
        sp_conn_settle(conn, call);
    }
    sp_take(call, SP_PIECES_TELL);
    return waiter->pool->host->waiter_notify(call, waiter, SP_OK, sent);
}

/* Takes over the queue's reference to the waiter. True where the connection is somebody else's
 * now; false: its receiver is gone, and the caller holds the connection, clean, as before. */
static bool deliver(struct sp_pool *pool, const struct sp_call *call, struct sp_waiter *waiter,
                    struct sp_conn *conn)
{
    bool request = waiter->iov_count > 0, told = false, late, delivered, ended;
    uint32_t open = SP_HANDOFF_OPEN;
    uint64_t lease, idle_ns;

    sp_take(call, SP_PIECES_LOOK);
    /* As the holder nothing is closing yet, so the pin cannot fail. */
    if (!pool->host->owner_alive(call, waiter->owner) || (request && !sp_conn_pin(conn))) {
        sp_waiter_unref(waiter);
        return false;
    }
    pool->host->conn_ref(conn); /* the handle's */
    pool->host->conn_ref(conn); /* our own: once leased, others may close and free it */
    if (conn->keepsake)
        pool->host->keepsake_drop(conn);
    idle_ns = begin_use(call, conn);
    lease = waiter->lease = lease_to(pool, call, conn, waiter->owner);
    waiter->conn = conn;
    /* Leased too late for a close to see, and nobody else knows the number yet, so it cannot move on:
     * the receiver is told of a lease that has ended. */
    late = !sp_pool_is_current(pool, conn) && sp_conn_unlease(conn, lease);
    if (late)
        sp_pool_retire(pool, call, conn, SP_WHY_STOPPED);
    delivered = atomic_compare_exchange_strong(&waiter->handoff, &open, SP_HANDOFF_DELIVERED);
    if (delivered) {
        count_grant(pool, call, waiter, idle_ns);
        told = announce(call, waiter, conn);
    } else {
        pool->host->conn_unref(conn);
    }
    /* Whoever else ended the lease already, a sweep or a close, has the connection. */
    ended = !told && !late && sp_conn_unlease(conn, lease);
    if (delivered && (late || ended))
        sp_count(sp_pool_home(pool, call), abandoned);
    else if (!delivered && !late && !ended) /* that one has counted the end */
        count_grant(pool, call, waiter, idle_ns);
    if (request)
        sp_conn_unpin(conn, call);
    /* Used for a dead receiver, which may still be in a call: not for the next one. */
    if (ended && (sp_conn_pinned(conn) || conn->touched)) {
        sp_pool_retire(pool, call, conn, SP_WHY_ABANDONED);
        ended = false;
    }
    pool->host->conn_unref(conn);
    sp_waiter_unref(waiter);
    return !ended;
}

/* The oldest waiter wants a place on a pipe: the pool lends the connection to itself. */
static void lend(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    uint64_t lease, idle_ns = begin_use(call, conn);

    pool->host->conn_ref(conn);
    if (conn->keepsake)
        pool->host->keepsake_drop(conn);
    lease = lease_to(pool, call, conn, SP_OWNER_POOL);
    /* As in sp_pool_checkout(). */
    if (!sp_pool_is_current(pool, conn) && sp_conn_unlease(conn, lease)) {
        sp_pool_retire(pool, call, conn, SP_WHY_STOPPED);
        pool->host->conn_unref(conn);
        return;
    }
    count_immediate(pool, call, idle_ns);
    pool->start_pipe(pool, call, conn, lease);
}

static void put_away(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                     bool over)
{
    if (over)
        sp_age_put(pool, call, conn);
    else
        sp_pool_put(pool, call, sp_pool_home(pool, call), conn, SP_IDLE_FRESH);
}

/* Without overflow_ttl, more than the size do not stay idle, but those that come for others which are too old. */
static bool is_extra(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                     bool over)
{
    uint32_t kept = atomic_load(&pool->size) + (over ? 0 : atomic_load(&pool->aged));

    return !atomic_load_explicit(&pool->overflow_ttl_ns, memory_order_relaxed) &&
           sp_pool_retire_above(pool, call, conn, sp_spare_above(pool, kept, 1), SP_WHY_OVERFLOW);
}

void sp_pool_serve(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    for (;;) {
        if (!conn) {
            if (!atomic_load(&pool->nwait))
                return;
            if (sp_spent(call))
                break;
            if (sp_pool_has_pipes(pool))
                pool->admit(pool, call);
            conn = sp_shard_pop_any(pool, call);
            if (!conn)
                return;
        }
        /* Before anybody who waits: or a pool under load would never have fewer. */
        if (atomic_load_explicit(&pool->shrinking, memory_order_relaxed) &&
            sp_pool_retire_above(pool, call, conn, atomic_load(&pool->limit), SP_WHY_RESIZE)) {
            conn = NULL;
            continue;
        }
        bool spent = sp_spent(call), wanted = !spent && atomic_load(&pool->nwait) > 0;
        enum sp_why why = SP_WHY_STOPPED;
        if (wanted ? !usable(pool, call, conn, &why) : !sp_pool_is_current(pool, conn)) {
            sp_pool_retire_unusable(pool, call, conn, why);
            conn = NULL;
            continue;
        }
        bool over = sp_conn_is_over(conn, call->now_ns);
        if (wanted && over && !sp_age_may_serve(pool, call, conn)) {
            conn = NULL;
            continue;
        }
        if (wanted && sp_pool_has_pipes(pool) && sp_queue_first_is_piped(pool)) {
            lend(pool, call, conn);
            conn = NULL;
            continue;
        }
        if (wanted) {
            struct sp_waiter *waiter = sp_queue_take(pool, call->now_ns);
            if (waiter) {
                if (waiter->state == SP_FAILED)
                    sp_queue_expire(pool, call, waiter);
                else if (deliver(pool, call, waiter, conn))
                    conn = NULL;
                continue;
            }
        }
        if (spent || !is_extra(pool, call, conn, over))
            put_away(pool, call, conn, over);
        conn = NULL; /* and once more: a waiter may have come between the look and the push */
    }
    /* Its step serves as well, and looks at everything that was changed before this. */
    sp_pool_wake(pool, call);
}

sp_status sp_pool_checkout(struct sp_pool *pool, const struct sp_call *call, uint64_t owner,
                           struct sp_conn **conn, uint64_t *lease, void **keepsake)
{
    enum sp_phase phase = sp_pool_phase(pool);
    enum sp_why why;

    if (phase != SP_PHASE_OPEN)
        return sp_pool_refuse(pool, sp_pool_phase_status(phase));
    while (!atomic_load(&pool->nwait) && (*conn = sp_shard_pop_any(pool, call))) {
        if (sp_conn_is_over(*conn, call->now_ns) && !sp_age_may_serve(pool, call, *conn)) {
            if (sp_spent(call))
                return SP_AGAIN;
            continue;
        }
        if (usable(pool, call, *conn, &why)) {
            uint64_t idle_ns = begin_use(call, *conn);
            pool->host->conn_ref(*conn);
            *keepsake = (*conn)->keepsake;
            (*conn)->keepsake = NULL;
            *lease = lease_to(pool, call, *conn, owner);
            sp_due_rouse(pool, call);
            /* A close that was too early to see this lease is seen here. */
            if (sp_pool_is_current(pool, *conn) || !sp_conn_unlease(*conn, *lease)) {
                count_immediate(pool, call, idle_ns);
                if (atomic_load_explicit(&pool->min_idle, memory_order_relaxed))
                    sp_spare_taken(pool, call);
                return SP_OK;
            }
            (*conn)->keepsake = *keepsake;
            pool->host->conn_unref(*conn);
            why = SP_WHY_STOPPED;
        }
        sp_pool_retire_unusable(pool, call, *conn, why);
        if (sp_spent(call))
            return SP_AGAIN;
    }
    if (!atomic_load(&pool->exhausted))
        atomic_store(&pool->exhausted, true);
    phase = sp_pool_phase(pool);
    return phase == SP_PHASE_OPEN ? SP_EMPTY : sp_pool_refuse(pool, sp_pool_phase_status(phase));
}
