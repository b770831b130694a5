#include "sp_pool.h"

#include "sp_control.h"
#include "core/conn/sp_recv.h"
#include "sp_shard.h"

#include <assert.h>
#include <stdlib.h>

sp_status sp_pool_init(struct sp_pool *pool, const struct sp_host *host, const struct sp_sys *sys,
                       uint32_t shard_count)
{
    void *shards = NULL;

    if (shard_count > SP_SHARDS_MAX)
        shard_count = SP_SHARDS_MAX;
    if (posix_memalign(&shards, _Alignof(struct sp_shard), shard_count * sizeof(struct sp_shard)))
        return SP_NO_MEMORY;
    pool->host = host;
    pool->sys = sys;
    pool->shard_count = shard_count;
    pool->shards = shards;
    for (uint32_t i = 0; i < shard_count; i++) {
        pool->shards[i] = (struct sp_shard){.top = 0};
        pthread_mutex_init(&pool->shards[i].lock, NULL);
        sp_list_init(&pool->shards[i].fresh);
        sp_list_init(&pool->shards[i].cold);
    }
    pthread_mutex_init(&pool->queue.lock, NULL);
    sp_list_init(&pool->queue.list);
    sp_expiry_init(&pool->queue.expiry);
    pthread_mutex_init(&pool->table.lock, NULL);
    pthread_mutex_init(&pool->closing.lock, NULL);
    sp_list_init(&pool->closing.list);
    pthread_mutex_init(&pool->control.lock, NULL);
    return SP_OK;
}

void sp_pool_destroy(struct sp_pool *pool)
{
    assert(sp_list_empty(&pool->queue.list) && sp_list_empty(&pool->closing.list));
    for (uint32_t i = 0; i < pool->shard_count; i++)
        pthread_mutex_destroy(&pool->shards[i].lock);
    pthread_mutex_destroy(&pool->queue.lock);
    pthread_mutex_destroy(&pool->table.lock);
    pthread_mutex_destroy(&pool->closing.lock);
    pthread_mutex_destroy(&pool->control.lock);
    free(pool->shards);
    free(pool->table.slots);
}

static sp_status phase_status(enum sp_phase phase)
{
    switch (phase) {
    case SP_PHASE_OPEN:
        return SP_OK;
    case SP_PHASE_DRAINING:
        return SP_DRAINING;
    case SP_PHASE_DOWN:
        return SP_CLOSED;
    case SP_PHASE_CLOSED:
        break;
    }
    return SP_NOT_FOUND;
}

void sp_pool_wake(struct sp_pool *pool, const struct sp_call *call)
{
    /* Read first: a burst of wake-ups then shares the line instead of fighting for it. */
    if (!atomic_load(&pool->woken) && !atomic_exchange(&pool->woken, 1))
        pool->host->wake(call, pool);
}

/* Whether the pool has not been closed since the connection was made. */
static bool current(struct sp_pool *pool, const struct sp_conn *conn)
{
    return conn->epoch == atomic_load(&pool->epoch);
}

/* Whether the connection, idle or just checked in, may be handed out. */
static bool usable(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    uint64_t after_ns = atomic_load_explicit(&pool->validate_after_ns, memory_order_relaxed);

    if (!current(pool, conn))
        return false;
    /* What the server says before anybody asks is looked for until the first has it. */
    if (after_ns == SP_NEVER ||
        (after_ns && conn->used && call->now_ns < conn->idle_since_ns + after_ns))
        return true;
    enum sp_clean clean = conn->transport->validate(conn);
    sp_conn_settle(conn, call);
    return clean == SP_CLEAN;
}

/* ---- leaving the pool ---- */

static void leave(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    if (sp_conn_state(conn) == SP_CONN_LEASED)
        sp_count(sp_pool_home(pool, call), closed);
    else
        atomic_fetch_sub(&pool->connecting, 1);
    sp_conn_set_state(conn, SP_CONN_CLOSING);
    sp_take(call, SP_PIECES_RETIRE);
    sp_conn_begin_close(conn, call);
}

void sp_pool_retire(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    bool attempt = sp_conn_unready(conn);

    /* An attempt leaves `total` before `connecting`, or it would pass for a connection, see
     * sp_control_unavailable(). A connection leaves it last: what its end tells of the server is
     * known by then, see sp_close_queue(). */
    if (attempt)
        atomic_fetch_sub(&pool->total, 1);
    leave(pool, call, conn);
    if (!attempt)
        atomic_fetch_sub(&pool->total, 1);
    /* Whether somebody needs the place is for the control step. */
    sp_pool_wake(pool, call);
}

bool sp_pool_retire_surplus(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    uint32_t total = atomic_load(&pool->total);

    do {
        if (total <= atomic_load(&pool->size))
            return false;
    } while (!atomic_compare_exchange_weak(&pool->total, &total, total - 1));
    leave(pool, call, conn);
    sp_pool_wake(pool, call);
    return true;
}

void sp_pool_retire_unusable(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    if (!conn->used && current(pool, conn)) {
        bool words = sp_recv_words(conn);
        pool->host->refused(call, conn,
                            words                  ? SP_UNREAD
                            : conn->fault != SP_OK ? conn->fault
                                                   : SP_CLOSED,
                            words);
        sp_control_lost_unused(pool, call);
    }
    sp_pool_retire(pool, call, conn);
}

/* ---- granting ---- */

/* Under queue.lock. */
static void unqueue(struct sp_waiter *waiter, enum sp_waiter_state state)
{
    struct sp_pool *pool = waiter->pool;

    sp_list_remove(&waiter->node);
    sp_expiry_remove(&pool->queue.expiry, &waiter->deadline);
    atomic_fetch_sub(&pool->nwait, 1);
    waiter->state = state;
}

/* The oldest waiter, out of the queue, with the queue's reference. In the given state, or FAILED
 * where its time was over. */
static struct sp_waiter *take(struct sp_pool *pool, enum sp_waiter_state state, uint64_t now_ns)
{
    struct sp_node *node;
    struct sp_waiter *waiter = NULL;

    pthread_mutex_lock(&pool->queue.lock);
    node = sp_list_oldest(&pool->queue.list);
    if (node) {
        waiter = SP_CONTAINER(node, struct sp_waiter, node);
        unqueue(waiter, waiter->expires_ns && waiter->expires_ns <= now_ns ? SP_FAILED : state);
    }
    pthread_mutex_unlock(&pool->queue.lock);
    return waiter;
}

/* Takes over the queue's reference. */
static void fail(const struct sp_call *call, struct sp_waiter *waiter, sp_status status)
{
    sp_take(call, SP_PIECES_TELL);
    (void)waiter->pool->host->waiter_notify(call, waiter, status, 0);
    sp_waiter_unref(waiter);
}

static void expire(struct sp_pool *pool, const struct sp_call *call, struct sp_waiter *waiter)
{
    sp_count(sp_pool_home(pool, call), timeouts);
    fail(call, waiter, SP_TIMEOUT);
}

/* Holder only, before the lease begins. */
static bool used_before(struct sp_conn *conn)
{
    bool used = conn->used;

    conn->used = true;
    return used;
}

static void count_checkout(struct sp_shard *home, bool reused)
{
    sp_count(home, checkouts);
    if (reused)
        sp_count(home, reused);
}

/* Sends the request, where there is one, and tells the owner. Pinned by the caller. False where the
 * owner is dead. */
static bool announce(const struct sp_call *call, struct sp_waiter *waiter, struct sp_conn *conn)
{
    size_t sent = 0;

    if (waiter->iov_count > 0) {
        conn->touched = true;
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
    bool request = waiter->iov_count > 0, told = false, reused, late, delivered, ended;
    uint32_t open = SP_HANDOFF_OPEN;
    uint64_t lease;

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
    reused = used_before(conn);
    lease = waiter->lease = sp_conn_lease(conn, waiter->owner, call->now_ns);
    waiter->conn = conn;
    /* Leased too late for a close to see, and nobody else knows the number yet, so it cannot move on:
     * the receiver is told of a lease that has ended. */
    late = !current(pool, conn) && sp_conn_unlease(conn, lease);
    if (late)
        sp_pool_retire(pool, call, conn);
    delivered = atomic_compare_exchange_strong(&waiter->handoff, &open, SP_HANDOFF_DELIVERED);
    if (delivered) {
        count_checkout(sp_pool_home(pool, call), reused);
        told = announce(call, waiter, conn);
    } else {
        pool->host->conn_unref(conn);
    }
    /* Whoever else ended the lease already, a sweep or a close, has the connection. */
    ended = !told && !late && sp_conn_unlease(conn, lease);
    if (delivered && (late || ended))
        sp_count(sp_pool_home(pool, call), abandoned);
    else if (!delivered && !late && !ended) /* that one has counted the end */
        count_checkout(sp_pool_home(pool, call), reused);
    if (request)
        sp_conn_unpin(conn, call);
    /* Used for a dead receiver, which may still be in a call: not for the next one. */
    if (ended && (sp_conn_pinned(conn) || conn->touched)) {
        sp_pool_retire(pool, call, conn);
        ended = false;
    }
    pool->host->conn_unref(conn);
    sp_waiter_unref(waiter);
    return !ended;
}

void sp_pool_serve(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    for (;;) {
        if (!conn) {
            if (!atomic_load(&pool->nwait))
                return;
            if (sp_spent(call))
                break;
            conn = sp_shard_pop_any(pool, call);
            if (!conn)
                return;
        }
        bool spent = sp_spent(call), wanted = !spent && atomic_load(&pool->nwait) > 0;
        if (wanted ? !usable(pool, call, conn) : !current(pool, conn)) {
            sp_pool_retire_unusable(pool, call, conn);
            conn = NULL;
            continue;
        }
        if (wanted) {
            struct sp_waiter *waiter = take(pool, SP_GRANTED, call->now_ns);
            if (waiter) {
                if (waiter->state == SP_FAILED)
                    expire(pool, call, waiter);
                else if (deliver(pool, call, waiter, conn))
                    conn = NULL;
                continue;
            }
        }
        if (spent || atomic_load_explicit(&pool->overflow_ttl_ns, memory_order_relaxed) ||
            !sp_pool_retire_surplus(pool, call, conn))
            sp_pool_put(pool, call, sp_pool_home(pool, call), conn, false);
        conn = NULL; /* and once more: a waiter may have come between the look and the push */
    }
    /* Its step serves as well, and looks at everything that was changed before this. */
    sp_pool_wake(pool, call);
}

/* ---- check-out, waiting ---- */

sp_status sp_pool_checkout(struct sp_pool *pool, const struct sp_call *call, uint64_t owner,
                           struct sp_conn **conn, uint64_t *lease, void **keepsake)
{
    enum sp_phase phase = sp_pool_phase(pool);

    if (phase != SP_PHASE_OPEN)
        return phase_status(phase);
    while (!atomic_load(&pool->nwait) && (*conn = sp_shard_pop_any(pool, call))) {
        if (usable(pool, call, *conn)) {
            bool reused = used_before(*conn);
            pool->host->conn_ref(*conn);
            *keepsake = (*conn)->keepsake;
            (*conn)->keepsake = NULL;
            *lease = sp_conn_lease(*conn, owner, call->now_ns);
            /* A close that was too early to see this lease is seen here. */
            if (current(pool, *conn) || !sp_conn_unlease(*conn, *lease)) {
                count_checkout(sp_pool_home(pool, call), reused);
                return SP_OK;
            }
            (*conn)->keepsake = *keepsake;
            pool->host->conn_unref(*conn);
        }
        sp_pool_retire_unusable(pool, call, *conn);
        if (sp_spent(call))
            return SP_AGAIN;
    }
    phase = sp_pool_phase(pool);
    return phase == SP_PHASE_OPEN ? SP_EMPTY : phase_status(phase);
}

bool sp_pool_crowded(struct sp_pool *pool)
{
    uint32_t limit = atomic_load(&pool->limit);

    return atomic_load(&pool->total) >= limit && atomic_load(&pool->nwait) < limit;
}

void sp_pool_want(struct sp_pool *pool, const struct sp_call *call)
{
    if (atomic_load(&pool->total) >= atomic_load(&pool->limit))
        return;
    atomic_store(&pool->eager, 1);
    sp_pool_wake(pool, call);
}

sp_status sp_pool_enqueue(struct sp_pool *pool, const struct sp_call *call,
                          struct sp_waiter *waiter)
{
    sp_status status;

    atomic_store(&waiter->refs, 2);
    waiter->state = SP_WAITING;
    pthread_mutex_lock(&pool->queue.lock);
    status = phase_status(sp_pool_phase(pool));
    if (status == SP_OK && atomic_load(&pool->nwait) >= atomic_load(&pool->max_waiting))
        status = SP_FULL;
    if (status == SP_OK) {
        sp_list_push_newest(&pool->queue.list, &waiter->node);
        if (waiter->expires_ns)
            sp_expiry_add(&pool->queue.expiry, &waiter->deadline, waiter->expires_ns, call->now_ns);
        atomic_fetch_add(&pool->nwait, 1);
    }
    pthread_mutex_unlock(&pool->queue.lock);
    if (status == SP_FULL)
        sp_pool_want(pool, call);
    if (status != SP_OK)
        return status;
    sp_pool_serve(pool, call, NULL);
    if (atomic_load(&pool->total) < atomic_load(&pool->limit) &&
        atomic_load(&pool->connecting) < atomic_load(&pool->nwait))
        sp_pool_wake(pool, call);
    return SP_OK;
}

static enum sp_waiter_state leave_queue(struct sp_waiter *waiter)
{
    struct sp_pool *pool = waiter->pool;
    enum sp_waiter_state state;

    pthread_mutex_lock(&pool->queue.lock);
    state = waiter->state;
    if (state == SP_WAITING)
        unqueue(waiter, SP_CANCELLED);
    pthread_mutex_unlock(&pool->queue.lock);
    if (state != SP_WAITING)
        return state;
    sp_waiter_unref(waiter);
    return SP_CANCELLED;
}

enum sp_waiter_state sp_waiter_cancel(struct sp_waiter *waiter, const struct sp_call *call)
{
    enum sp_waiter_state state = leave_queue(waiter);
    uint32_t open = SP_HANDOFF_OPEN;

    /* A granted request answers when its peer does: better to take it back before it is sent. */
    if (state == SP_GRANTED && waiter->iov_count > 0 &&
        atomic_compare_exchange_strong(&waiter->handoff, &open, SP_HANDOFF_ABANDONED))
        state = SP_CANCELLED;
    if (state == SP_CANCELLED)
        sp_count(sp_pool_home(waiter->pool, call), timeouts);
    return state;
}

void sp_waiter_abandon(struct sp_waiter *waiter, const struct sp_call *call)
{
    (void)leave_queue(waiter);
    if (atomic_exchange(&waiter->handoff, SP_HANDOFF_ABANDONED) == SP_HANDOFF_DELIVERED) {
        (void)sp_pool_abandon(waiter->pool, call, waiter->conn, waiter->lease);
        waiter->pool->host->conn_unref(waiter->conn);
    }
    sp_waiter_unref(waiter);
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

void sp_waiter_unref(struct sp_waiter *waiter)
{
    if (atomic_fetch_sub(&waiter->refs, 1) == 1)
        waiter->pool->host->waiter_free(waiter);
}

/* A waiter whose time is over, as take() gives it. */
static struct sp_waiter *take_expired(struct sp_pool *pool, const struct sp_call *call, bool *more)
{
    struct sp_deadline *deadline;
    struct sp_waiter *waiter = NULL;

    sp_take(call, SP_PIECES_LOOK);
    pthread_mutex_lock(&pool->queue.lock);
    deadline = sp_expiry_next(&pool->queue.expiry, call->now_ns, more);
    if (deadline) {
        waiter = SP_CONTAINER(deadline, struct sp_waiter, deadline);
        unqueue(waiter, SP_FAILED);
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
            expire(pool, call, waiter);
    } while (more && !sp_spent(call));
    return more;
}

bool sp_pool_fail_waiter(struct sp_pool *pool, const struct sp_call *call, sp_status status)
{
    struct sp_waiter *waiter = take(pool, SP_FAILED, call->now_ns);

    if (!waiter)
        return false;
    fail(call, waiter, status);
    return true;
}

bool sp_pool_close_idle(struct sp_pool *pool, const struct sp_call *call)
{
    struct sp_conn *conn = sp_shard_pop_any(pool, call);

    if (conn)
        sp_pool_retire(pool, call, conn);
    return conn != NULL;
}

/* ---- ending a lease ---- */

/* Whether nothing is there that is the last lease's. Who looks before each check-out looks then: later,
 * so that it sees more. */
static bool nothing_left(struct sp_pool *pool, struct sp_conn *conn)
{
    if (conn->rbuf.len > conn->rbuf.pos)
        return false;
    if (!conn->touched || conn->drained ||
        !atomic_load_explicit(&pool->validate_after_ns, memory_order_relaxed))
        return true;
    return conn->transport->validate(conn) == SP_CLEAN;
}

void sp_pool_accept(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    if (conn->tainted || conn->fault != SP_OK || !nothing_left(pool, conn) ||
        !sp_conn_restore(conn)) {
        sp_pool_retire(pool, call, conn);
        return;
    }
    if (conn->rbuf.base)
        pool->host->rbuf_free(conn);
    sp_control_learn(pool, call, conn);
    conn->idle_since_ns = call->now_ns;
    sp_pool_serve(pool, call, conn);
}

static sp_status check_in(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                          uint64_t lease, void *keepsake, bool looked)
{
    if (sp_conn_armed(conn, lease))
        return SP_BUSY;
    if (!sp_conn_unlease(conn, lease))
        return SP_CLOSED;
    conn->keepsake = keepsake;
    /* Since its last receive the server may have said more. */
    conn->drained = conn->drained && looked;
    sp_count(sp_pool_home(pool, call), checkins);
    sp_pool_accept(pool, call, conn);
    return SP_OK;
}

sp_status sp_pool_checkin(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                          uint64_t lease, void *keepsake)
{
    return check_in(pool, call, conn, lease, keepsake, false);
}

sp_status sp_pool_finish(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                         uint64_t lease)
{
    return check_in(pool, call, conn, lease, NULL, true);
}

sp_status sp_pool_discard(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                          uint64_t lease)
{
    if (!sp_conn_unlease(conn, lease))
        return SP_CLOSED;
    sp_count(sp_pool_home(pool, call), checkins);
    sp_pool_retire(pool, call, conn);
    return SP_OK;
}

bool sp_pool_revoke(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                    uint64_t lease)
{
    if (!sp_conn_unlease(conn, lease))
        return false;
    if (sp_conn_unready(conn)) {
        sp_control_attempt_failed(pool, call, conn);
        return true;
    }
    sp_count(sp_pool_home(pool, call), abandoned);
    /* The pins are read first: without one, no call that sets `touched` is under way. A pin means
     * that a call of the old owner is, in a dirty scheduler, or that it waits. */
    if (sp_conn_pinned(conn) || conn->touched) {
        sp_pool_retire(pool, call, conn);
    } else {
        conn->idle_since_ns = call->now_ns;
        sp_pool_serve(pool, call, conn);
    }
    return true;
}

bool sp_pool_abandon(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                     uint64_t lease)
{
    sp_conn_disarmed(conn, lease, call);
    return sp_pool_revoke(pool, call, conn, lease);
}
