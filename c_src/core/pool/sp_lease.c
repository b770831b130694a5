#include "sp_lease.h"

#include "sp_check.h"
#include "sp_due.h"
#include "sp_grant.h"
#include "sp_health.h"
#include "sp_retire.h"
#include "sp_shard.h"
#include "sp_times.h"

bool sp_pool_crowded(struct sp_pool *pool)
{
    uint32_t limit = atomic_load(&pool->limit);

    return atomic_load(&pool->total) >= limit && atomic_load(&pool->nwait) < limit;
}

/* Somebody would have liked a connection who does not wait for it. */
static void note_wish(struct sp_pool *pool, const struct sp_call *call)
{
    atomic_fetch_add_explicit(&sp_pool_home(pool, call)->refused, 1, memory_order_relaxed);
    if (atomic_load(&pool->total) < atomic_load(&pool->limit) && !atomic_exchange(&pool->eager, 1))
        sp_pool_wake(pool, call);
}

sp_status sp_pool_want(struct sp_pool *pool, const struct sp_call *call)
{
    sp_status status = sp_health_refuses(pool) ? SP_UNAVAILABLE : SP_FULL;

    note_wish(pool, call);
    return sp_pool_refuse(pool, status);
}

/* Under the queue's lock: whether more connections come, or may be begun, than there are who wait. A connection that
 * is begun just now may be missing, so that it is for the caller to ask again. */
static bool grows(struct sp_pool *pool)
{
    uint64_t total = atomic_load(&pool->total), connecting = atomic_load(&pool->connecting);

    return total + atomic_load(&pool->nwait) < atomic_load(&pool->limit) + connecting;
}

sp_status sp_pool_enqueue(struct sp_pool *pool, const struct sp_call *call,
                          struct sp_waiter *waiter)
{
    sp_status status;

    atomic_store(&waiter->refs, 2);
    waiter->state = SP_WAITING;
    waiter->since_ns = call->now_ns;
    waiter->queued_ns = sp_times_begin(pool, call, &pool->wait);
    pthread_mutex_lock(&pool->queue.lock);
    status = sp_pool_phase_status(sp_pool_phase(pool));
    /* Opened anew since its owner looked. */
    if (status == SP_OK && waiter->piped && !sp_pool_has_pipes(pool))
        status = SP_CLOSED;
    if (status == SP_OK && sp_health_refuses_to_wait(pool, call->now_ns))
        status = SP_UNAVAILABLE;
    if (status == SP_OK && (atomic_load(&pool->nwait) >= atomic_load(&pool->max_waiting) ||
                            (waiter->growing_only && !grows(pool))))
        status = SP_FULL;
    if (status == SP_OK) {
        if (waiter->expires_ns)
            sp_expiry_add(&pool->queue.expiry, &waiter->deadline, waiter->expires_ns, call->now_ns);
        sp_queue_push(pool, waiter, call->now_ns);
    }
    pthread_mutex_unlock(&pool->queue.lock);
    if (status == SP_FULL || status == SP_UNAVAILABLE)
        note_wish(pool, call);
    if (status != SP_OK)
        return sp_pool_refuse(pool, status);
    sp_count(sp_pool_home(pool, call), waited);
    sp_due_rouse(pool, call);
    sp_pool_serve(pool, call, NULL);
    if (atomic_load(&pool->total) < atomic_load(&pool->limit) &&
        atomic_load(&pool->connecting) < sp_queue_demand(pool))
        sp_pool_wake(pool, call);
    return SP_OK;
}

/* ---- ending a lease ---- */

/* Whether nothing is there that is the last lease's. Who looks before each check-out looks then: later,
 * so that it sees more. */
static bool nothing_left(struct sp_pool *pool, struct sp_conn *conn, enum sp_why *why)
{
    enum sp_clean clean;

    *why = SP_WHY_UNREAD;
    if (sp_conn_has_unread(conn))
        return false;
    if (!conn->touched || conn->drained ||
        !atomic_load_explicit(&pool->validate_after_ns, memory_order_relaxed))
        return true;
    clean = conn->transport->validate(conn);
    if (clean != SP_CLEAN)
        *why = sp_retire_why(conn, clean);
    return clean == SP_CLEAN;
}

/* Whether the next may have it, or why not. */
static bool is_clean(struct sp_pool *pool, struct sp_conn *conn, enum sp_why *why)
{
    if (conn->tainted) {
        *why = (enum sp_why)conn->why;
        return false;
    }
    if (conn->fault != SP_OK) {
        *why = sp_why_of(conn->fault);
        return false;
    }
    if (!nothing_left(pool, conn, why))
        return false;
    *why = SP_WHY_OPTIONS;
    return sp_conn_restore(conn);
}

void sp_pool_accept(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    enum sp_why why;

    if (!is_clean(pool, conn, &why)) {
        sp_pool_retire(pool, call, conn, why);
        return;
    }
    sp_conn_forget(conn);
    sp_health_learn(pool, call, conn);
    conn->idle_since_ns = call->now_ns;
    sp_pool_serve(pool, call, conn);
}

/* Whether the server may still answer what the lease has sent: that would be taken for the next one's reply. */
static bool is_owed(struct sp_pool *pool, const struct sp_conn *conn)
{
    return conn->unanswered && atomic_load_explicit(&pool->replies, memory_order_relaxed);
}

/* Holder only, of a lease that its owner has ended just now. */
static void count_checkin(struct sp_pool *pool, const struct sp_call *call,
                          const struct sp_conn *conn)
{
    sp_times_used(pool, call, atomic_load_explicit(&conn->leased_ns, memory_order_relaxed));
}

enum { LOOKED = 1, CLEAN = 2 };

static sp_status check_in(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                          uint64_t lease, void *keepsake, unsigned known)
{
    if (sp_conn_armed(conn, lease) || sp_conn_is_checked_by(conn, lease))
        return SP_BUSY;
    if (!sp_conn_unlease(conn, lease))
        return SP_CLOSED;
    conn->keepsake = keepsake;
    /* Since its last receive the server may have said more. */
    conn->drained = conn->drained && (known & LOOKED);
    count_checkin(pool, call, conn);
    if (is_owed(pool, conn) && !(known & CLEAN))
        sp_pool_retire(pool, call, conn,
                       conn->tainted ? (enum sp_why)conn->why : SP_WHY_UNANSWERED);
    else
        sp_pool_accept(pool, call, conn);
    return SP_OK;
}

sp_status sp_pool_checkin(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                          uint64_t lease, void *keepsake)
{
    return check_in(pool, call, conn, lease, keepsake, 0);
}

sp_status sp_pool_checkin_clean(struct sp_pool *pool, const struct sp_call *call,
                                struct sp_conn *conn, uint64_t lease, void *keepsake)
{
    return check_in(pool, call, conn, lease, keepsake, CLEAN);
}

sp_status sp_pool_finish(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                         uint64_t lease)
{
    return check_in(pool, call, conn, lease, NULL, LOOKED);
}

sp_status sp_pool_discard(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                          uint64_t lease, enum sp_why why)
{
    if (sp_conn_is_checked_by(conn, lease))
        return SP_BUSY;
    if (!sp_conn_unlease(conn, lease))
        return SP_CLOSED;
    count_checkin(pool, call, conn);
    sp_pool_retire(pool, call, conn, why);
    return SP_OK;
}

bool sp_pool_fail_attempt(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                          uint64_t lease, enum sp_failure why)
{
    sp_conn_disarmed(conn, lease, call);
    if (!sp_conn_unlease(conn, lease))
        return false;
    sp_pool_retire_failed(pool, call, conn, why);
    return true;
}

/* `unused`: whatever the connection is, its owner has not had it. `why`: what it is closed for in a pool that goes on. */
static bool end_lease(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                      uint64_t lease, bool unused, enum sp_why why)
{
    if (!sp_conn_unlease(conn, lease))
        return false;
    if (sp_conn_unready(conn)) {
        sp_pool_retire_failed(pool, call, conn,
                              sp_conn_state(conn) == SP_CONN_INITIALISING ? SP_FAILURE_INIT
                                                                          : SP_FAILURE_OTHER);
        return true;
    }
    if (atomic_load(&conn->checked)) {
        sp_check_ended(pool, call, conn);
        return true;
    }
    sp_count(sp_pool_home(pool, call), abandoned);
    /* The pins are read first: without one, no call that sets `touched` is under way. A pin means
     * that a call of the old owner is, in a dirty scheduler, or that it waits. */
    if (sp_conn_pinned(conn) || conn->touched || (sp_is_worker(conn->transport) && !unused)) {
        sp_pool_retire(pool, call, conn, sp_pool_is_current(pool, conn) ? why : SP_WHY_STOPPED);
    } else {
        conn->idle_since_ns = call->now_ns;
        sp_pool_serve(pool, call, conn);
    }
    return true;
}

bool sp_pool_revoke(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                    uint64_t lease)
{
    return end_lease(pool, call, conn, lease, false, SP_WHY_MAX_HOLD);
}

bool sp_pool_abandon(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                     uint64_t lease)
{
    /* Who has lost the handle may still use the worker. */
    bool reuse = atomic_load(&pool->reuse_abandoned) &&
                 !pool->host->owner_alive(call, atomic_load(&conn->owner));

    sp_conn_disarmed(conn, lease, call);
    return end_lease(pool, call, conn, lease, reuse, SP_WHY_ABANDONED);
}

void sp_pool_lost(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    atomic_store(&conn->gone, true);
    if (sp_shard_take(pool, conn, NULL)) {
        if (!conn->used && sp_pool_is_current(pool, conn))
            sp_health_lost_unused(pool, call);
        sp_pool_retire(pool, call, conn, SP_WHY_PEER_CLOSED);
    } else if (!sp_conn_unready(conn) && sp_conn_unlease(conn, atomic_load(&conn->lease))) {
        if (atomic_load(&conn->checked)) {
            sp_check_ended(pool, call, conn);
            return;
        }
        sp_count(sp_pool_home(pool, call), abandoned);
        sp_pool_retire(pool, call, conn, SP_WHY_PEER_CLOSED);
    }
}

void sp_waiter_abandon(struct sp_waiter *waiter, const struct sp_call *call)
{
    enum sp_waiter_state state = sp_queue_leave(waiter, call);
    uint32_t before = atomic_exchange(&waiter->handoff, SP_HANDOFF_ABANDONED);

    if (before == SP_HANDOFF_OPEN && state == SP_GRANTED)
        (void)sp_queue_leave(waiter, call); /* it may have been put back */
    if (before == SP_HANDOFF_DELIVERED && waiter->conn) {
        (void)end_lease(waiter->pool, call, waiter->conn, waiter->lease, true, SP_WHY_ABANDONED);
        waiter->pool->host->conn_unref(waiter->conn);
    }
    sp_waiter_unref(waiter);
}
