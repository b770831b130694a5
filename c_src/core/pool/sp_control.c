#include "sp_control.h"

#include "core/conn/sp_recv.h"
#include "sp_age.h"
#include "sp_check.h"
#include "sp_close.h"
#include "sp_due.h"
#include "sp_forecast.h"
#include "sp_grant.h"
#include "sp_health.h"
#include "sp_leak.h"
#include "sp_lease.h"
#include "sp_piped.h"
#include "sp_retire.h"
#include "sp_settings.h"
#include "sp_shard.h"
#include "sp_stall.h"
#include "sp_table.h"
#include "sp_times.h"

#include <sched.h>

/* ---- opening and closing ---- */

void sp_control_open(struct sp_pool *pool, const struct sp_call *call,
                     const struct sp_config *config, uint64_t seed)
{
    sp_health_begin(pool, config, seed);
    sp_settings_store(pool, config);
    sp_age_begin(pool, call, config);
    sp_check_begin(pool, seed);
    sp_forecast_begin(pool, call);
    atomic_store(&pool->shrinking, false);
    pool->control.surplus = false;
    atomic_store(&pool->pipeline, pool->pipes ? config->pipeline : 1);
    atomic_store(&pool->eager, 0);
    atomic_store(&pool->woken, 0);
    atomic_store(&pool->asleep, false);
    pool->due_ns = SP_NEVER;
    atomic_fetch_add(&pool->epoch, 1);
    atomic_store(&pool->phase, SP_PHASE_OPEN);
    sp_pool_wake(pool, call);
}

void sp_control_shut_begin(struct sp_pool *pool, enum sp_phase phase)
{
    pool->control.shutting_to = phase;
    pool->control.cursor = 0;
    atomic_store(&pool->phase, phase == SP_PHASE_CLOSED ? SP_PHASE_DRAINING : phase);
    /* From here on no connection of this epoch is usable, wherever it is on its way to. */
    atomic_fetch_add(&pool->epoch, 1);
}

/* Revoked while its owner waited, who died before it could say that it no longer does. */
static void disarm_dead(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    /* In this order: an arm seen before the lease's end keeps the connection from another lease, so
     * the owner is still the arm's. */
    uint64_t armed = atomic_load(&conn->armed);
    uint64_t lease = atomic_load(&conn->lease), owner = atomic_load(&conn->owner);

    if (lease == SP_LEASE_NONE && armed != SP_LEASE_NONE && !pool->host->owner_alive(call, owner))
        sp_conn_disarmed(conn, armed, call);
}

static void revoke(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    uint64_t lease;

    /* Where it fails the lease has ended, or goes on under another number. */
    while ((lease = atomic_load(&conn->lease)) != SP_LEASE_NONE &&
           !sp_pool_revoke(pool, call, conn, lease))
        sched_yield();
    /* No sweep comes after a shut, and a handle may live on in a log event. */
    disarm_dead(pool, call, conn);
}

static bool shut_piece(struct sp_pool *pool, const struct sp_call *call, sp_status status)
{
    return sp_pool_fail_waiter(pool, call, status) || sp_pool_close_idle(pool, call) ||
           sp_close_one(pool, call);
}

bool sp_control_shut_slice(struct sp_pool *pool, const struct sp_call *call, sp_status status)
{
    struct sp_conn *conn;

    while (shut_piece(pool, call, status))
        if (sp_spent(call))
            return true;
    if (sp_piped_shut(pool, call))
        return true;
    do {
        conn = sp_table_next(pool, call, &pool->control.cursor);
        if (conn) {
            revoke(pool, call, conn);
            pool->host->conn_unref(conn);
        }
    } while (pool->control.cursor > 0 && !sp_spent(call));
    if (pool->control.cursor > 0 || sp_close_work(pool, call))
        return true;
    atomic_store(&pool->phase, pool->control.shutting_to);
    return false;
}

/* ---- steps ---- */

/* True where there are more to be told. Who comes meanwhile is refused, or waits for an attempt that comes after this. */
static bool tell_unavailable(struct sp_pool *pool, const struct sp_call *call)
{
    if (!sp_health_has_lost_all(pool))
        return false;
    while (sp_pool_fail_waiter(pool, call, SP_UNAVAILABLE))
        if (sp_spent(call)) {
            atomic_store(&pool->lost_all, true);
            return true;
        }
    return false;
}

void sp_control_step(struct sp_pool *pool, const struct sp_call *call, struct sp_attempt *attempts,
                     size_t max, struct sp_plan *plan)
{
    *plan = (struct sp_plan){.wait_ns = SP_NEVER};
    /* Cleared before anything is looked at: what changes after the look wakes again. */
    atomic_store(&pool->woken, 0);
    atomic_store(&pool->asleep, false); /* a tick comes */
    if (sp_pool_phase(pool) == SP_PHASE_OPEN) {
        plan->more = sp_piped_step(pool, call);
        if (sp_settings_shrink(pool, call))
            plan->more = true;
        sp_pool_serve(pool, call, NULL);
        if (tell_unavailable(pool, call))
            plan->more = true;
        sp_age_step(pool, call);
        sp_growth_step(pool, call, attempts, max, plan);
    }
    /* Last, since nobody waits for it; one at least, or it would never be done. */
    if (sp_close_work(pool, call))
        plan->more = true;
}

/* ---- connectors ---- */

sp_status sp_control_begin(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                           uint64_t *lease, uint64_t owner, const struct sp_addr *addr)
{
    struct sp_sockopts opts;
    sp_status status;

    /* Without a lease the caller is the holder, so nobody looks at fd while it changes. */
    if (!sp_conn_unlease(conn, *lease))
        return SP_CLOSED;
    sp_conn_cleanup(conn);
    if (conn->fd >= 0) {
        sp_take(call, SP_PIECES_CLOSE);
        pool->host->conn_stop(call, conn, conn->fd);
    }
    conn->fd = -1;
    conn->tainted = conn->opened = false;
    conn->idle_since_ns = sp_times_now(pool, call);
    pthread_mutex_lock(&pool->control.lock);
    opts = pool->control.config.sockopts;
    pthread_mutex_unlock(&pool->control.lock);
    sp_take(call, SP_PIECES_OPEN);
    status = conn->transport->open(conn, addr, &opts);
    *lease = sp_conn_lease(conn, owner, call->now_ns);
    return status;
}

/* By the connector, whose lease holds: what it has done is over, and the next begins. */
static void end_phase(struct sp_conn *conn, const struct sp_call *call, enum sp_time time)
{
    uint64_t now_ns = sp_times_now(conn->pool, call);

    sp_times_note(conn->pool, time,
                  now_ns > conn->idle_since_ns ? now_ns - conn->idle_since_ns : 0);
    conn->idle_since_ns = now_ns;
}

sp_status sp_control_opened(struct sp_conn *conn, uint64_t *lease, const struct sp_call *call)
{
    sp_status status;
    bool shaken;

    if (!sp_conn_enter(conn, *lease, call))
        return SP_CLOSED;
    shaken = conn->shaken || !conn->transport->handshake;
    /* Not after the handshake: whoever refuses then says why in the stream and resets the connection,
     * and this would take the reset for all there is. */
    status = conn->shaken ? SP_OK : conn->transport->opened(conn);
    sp_conn_settle(conn, call); /* with what a handshake cost, whose call is over */
    if (status == SP_OK && !conn->opened && !sp_is_worker(conn->transport))
        end_phase(conn, call, SP_TIME_TCP);
    conn->opened = conn->opened || status == SP_OK;
    if (status == SP_OK && conn->shaken)
        end_phase(conn, call, SP_TIME_TLS);
    sp_conn_leave(conn, call);
    if (status != SP_OK)
        return status;
    if (!shaken)
        return SP_HANDSHAKE;
    if (!sp_conn_unlease(conn, *lease))
        return SP_CLOSED;
    sp_conn_set_state(conn, SP_CONN_INITIALISING);
    *lease = sp_conn_lease(conn, atomic_load(&conn->owner), call->now_ns);
    return SP_OK;
}

sp_status sp_control_handshake(struct sp_conn *conn)
{
    sp_status status = conn->transport->handshake(conn);

    conn->shaken = status == SP_OK;
    return status;
}

/* Whether a connection that its connector calls ready is what a user may get. */
static sp_status check_new(struct sp_pool *pool, struct sp_conn *conn)
{
    enum sp_clean clean = SP_CLEAN;

    if (sp_conn_has_unread(conn))
        clean = SP_DIRTY;
    else if (conn->tainted)
        return SP_CLOSED;
    else if (conn->touched || atomic_load(&pool->validate_after_ns) != SP_NEVER)
        clean = conn->transport->validate(conn);
    /* What the init function set for good is how this connection is. */
    conn->buffers_changed = false;
    conn->drained = true; /* looked at */
    if (clean == SP_DEAD && conn->fault != SP_OK)
        return conn->fault;
    if (clean != SP_DIRTY)
        return clean == SP_CLEAN ? SP_OK : SP_CLOSED;
    (void)sp_recv_words(conn);
    return SP_UNREAD;
}

sp_status sp_control_ready(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                           uint64_t lease)
{
    uint64_t connect_ns;
    sp_status status;

    if (!sp_conn_unlease(conn, lease))
        return SP_CLOSED;
    status = check_new(pool, conn);
    sp_conn_settle(conn, call);
    if (status != SP_OK) {
        sp_pool_retire_failed(pool, call, conn,
                              status >= SP_STATUS_TRANSPORT ? SP_FAILURE_TLS : SP_FAILURE_OTHER);
        return status;
    }
    sp_health_up(pool);
    end_phase(conn, call, SP_TIME_INIT);
    connect_ns = conn->idle_since_ns > conn->born_ns ? conn->idle_since_ns - conn->born_ns : 0;
    sp_times_note(pool, SP_TIME_CONNECT, connect_ns);
    sp_forecast_connected(pool, connect_ns);
    sp_age_born(pool, call, conn);
    sp_count(sp_pool_home(pool, call), created);
    sp_conn_set_state(conn, SP_CONN_LEASED);
    atomic_fetch_sub(&pool->connecting, 1);
    sp_pool_accept(pool, call, conn);
    /* Others may have had to wait for the outcome, and it changed what a step would count. */
    sp_pool_wake(pool, call);
    return SP_OK;
}

/* ---- sweeps ---- */

/* One that is held for too long. */
static void take_back(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                      uint64_t lease, uint64_t owner, uint64_t leased_ns)
{
    bool is_check = atomic_load(&conn->checked);

    if (sp_pool_revoke(pool, call, conn, lease) && !is_check && pool->host->revoked)
        pool->host->revoked(call, conn, owner, call->now_ns - leased_ns);
}

static void sweep_lease(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    uint64_t lease = atomic_load(&conn->lease);
    uint64_t owner = atomic_load(&conn->owner), leased_ns = atomic_load(&conn->leased_ns);
    uint64_t max_hold_ns =
        atomic_load(&conn->checked) ? sp_check_limit_ns(pool) : atomic_load(&pool->max_hold_ns);

    if (atomic_load(&conn->gone)) {
        sp_pool_lost(pool, call, conn);
        return;
    }
    sp_leak_look_for_end(pool, call, conn);
    disarm_dead(pool, call, conn);
    /* The same number before and after: owner and time belong to it. */
    if (lease == SP_LEASE_NONE || owner == 0 || atomic_load(&conn->lease) != lease)
        return;
    if (!pool->host->owner_alive(call, owner))
        (void)sp_pool_abandon(pool, call, conn, lease);
    else if (max_hold_ns != SP_NEVER && call->now_ns > leased_ns + max_hold_ns &&
             sp_conn_state(conn) == SP_CONN_LEASED)
        take_back(pool, call, conn, lease, owner, leased_ns);
    else
        sp_leak_look(pool, call, conn, lease, owner, leased_ns);
}

static void watch_cold(struct sp_pool *pool, const struct sp_call *call, struct sp_shard *shard)
{
    struct sp_conn *conn;

    if (call->now_ns < SP_COLD_NS)
        return;
    while (!sp_spent(call) &&
           (conn = sp_shard_pop_idle_since(pool, shard, true, call->now_ns - SP_COLD_NS))) {
        sp_take(call, SP_PIECES_WATCH);
        if (pool->host->watch(call, conn, ++conn->watch))
            sp_pool_put(pool, call, shard, conn, SP_IDLE_COLD);
        else
            sp_pool_retire(pool, call, conn, SP_WHY_IO_ERROR);
    }
}

/* When the sweep is to look at it again. */
static uint64_t due_of(const struct sp_conn *conn)
{
    /* One that was closed may have a dead owner's arm. */
    return sp_conn_state(conn) == SP_CONN_IDLE
               ? atomic_load_explicit(&conn->ends_ns, memory_order_relaxed)
               : 0;
}

bool sp_control_tick(struct sp_pool *pool, const struct sp_call *call, uint32_t *cursor)
{
    struct sp_conn *conn;
    bool spent;

    if (sp_pool_expire(pool, call) || (*cursor == 0 && sp_piped_tick(pool, call)))
        return true;
    if (*cursor == 0) {
        sp_age_tick(pool, call);
        sp_stall_tick(pool);
        sp_forecast_tick(pool, call);
        for (uint32_t i = 0; i < pool->shard_count; i++)
            watch_cold(pool, call, &pool->shards[i]);
        spent = sp_spent(call);
        /* Each may have been out of its shard while a waiter looked there. */
        sp_pool_serve(pool, call, NULL);
        if (spent)
            return true;
    }
    do {
        conn = sp_table_next(pool, call, cursor);
        if (conn) {
            sweep_lease(pool, call, conn);
            sp_age_sweep(pool, call, conn);
            sp_stall_sweep(pool, call, conn);
            sp_due_at(pool, due_of(conn));
            pool->host->conn_unref(conn);
        }
    } while (*cursor > 0 && !sp_spent(call));
    return *cursor > 0;
}

/* The caller holds it. */
static void idle_event(struct sp_pool *pool, const struct sp_call *call, struct sp_shard *shard,
                       struct sp_conn *conn)
{
    enum sp_clean clean = conn->transport->validate(conn);

    sp_conn_settle(conn, call);
    if (clean == SP_CLEAN) {
        sp_pool_serve(pool, call, conn);
    } else if (clean == SP_DIRTY && !conn->used && !sp_is_node(conn->transport) &&
               atomic_load(&pool->validate_after_ns) == SP_NEVER) {
        /* The first user's, but for a node's, of which the look has taken a part. Not watched any more: there
         * is something to read all the time. */
        sp_pool_put(pool, call, shard, conn, SP_IDLE_COLD);
        sp_pool_serve(pool, call, NULL);
    } else {
        sp_pool_retire_unusable(pool, call, conn, sp_retire_why(conn, clean));
    }
}

void sp_control_idle_event(struct sp_pool *pool, const struct sp_call *call, uint32_t slot,
                           uint32_t generation)
{
    struct sp_conn *conn = sp_table_get(pool, slot);

    if (!conn)
        return;
    if (sp_shard_take(pool, conn, &generation)) {
        idle_event(pool, call, &pool->shards[atomic_load(&conn->shard)], conn);
        /* It may be idle again, and is to be watched. */
        sp_pool_wake(pool, call);
    }
    pool->host->conn_unref(conn);
}
