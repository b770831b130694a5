/* The core's host inside the VM: resources, messages, enif_select. */
#include "sp_nif.h"

#include "core/base/sp_sys.h"
#include "core/conn/sp_tcp_info.h"
#include "core/pool/sp_lease.h"
#include "core/pool/sp_piped.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A call that took fewer pieces costs its process nothing beside the call itself. */
#define UNCHARGED_PIECES 32

ErlNifResourceType *sp_nif_pool_type, *sp_nif_conn_type, *sp_nif_lease_type;

struct sp_nif_pool_resource {
    struct sp_nif_pool *pool;
};

/* ---- calls ---- */

/* The schedulers are counted for themselves: no other thread's number puts two of them into one shard while
 * one is left that is nobody's home. */
static unsigned thread_shard(void)
{
    static _Atomic unsigned schedulers, others;
    static __thread unsigned shard;

    if (!shard)
        shard = atomic_fetch_add(
                    enif_thread_type() == ERL_NIF_THR_NORMAL_SCHEDULER ? &schedulers : &others, 1) +
                1;
    return shard - 1;
}

struct sp_call sp_nif_call(ErlNifEnv *env)
{
    static __thread struct sp_allowance allowance;
    struct timespec now;

    sp_allowance_fill(&allowance);
#ifdef CLOCK_MONOTONIC_COARSE
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
#else
    clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return (struct sp_call){.now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
                            .shard = thread_shard(),
                            .env = env,
                            .allowance = &allowance};
}

static uint64_t exact_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void sp_nif_charge(const struct sp_call *call)
{
    int taken = SP_ALLOWANCE_PIECES - call->allowance->left;

    if (taken >= UNCHARGED_PIECES)
        enif_consume_timeslice(
            call->env, taken < SP_ALLOWANCE_PIECES ? 1 + taken * 99 / SP_ALLOWANCE_PIECES : 100);
}

struct sp_nif_pool *sp_nif_get_pool(ErlNifEnv *env, ERL_NIF_TERM term)
{
    void *resource;

    return enif_get_resource(env, term, sp_nif_pool_type, &resource)
               ? ((struct sp_nif_pool_resource *)resource)->pool
               : NULL;
}

bool sp_nif_get_controller(struct sp_nif_pool *pool, ErlNifPid *pid)
{
    bool controlled;

    enif_mutex_lock(pool->lock);
    controlled = pool->controlled;
    *pid = pool->controller;
    enif_mutex_unlock(pool->lock);
    return controlled;
}

static struct sp_nif_pool *nif_pool(struct sp_pool *pool)
{
    return SP_CONTAINER(pool, struct sp_nif_pool, core);
}

/* ---- connections ---- */

static struct sp_conn *conn_new(struct sp_pool *pool)
{
    /* The control process calls, and nobody else changes the configuration. */
    const struct sp_transport *transport = pool->control.config.transport;
    size_t bytes = sp_is_worker(transport)
                       ? offsetof(struct sp_nif_conn, core) + sp_conn_bytes(transport)
                       : sizeof(struct sp_nif_conn);
    struct sp_nif_conn *conn = enif_alloc_resource(sp_nif_conn_type, bytes);

    if (!conn)
        return NULL;
    memset(conn, 0, bytes);
    conn->core.pool = pool;
    enif_keep_resource(nif_pool(pool)->resource);
    return &conn->core;
}

static void conn_ref(struct sp_conn *conn)
{
    enif_keep_resource(sp_nif_conn_of(conn));
}

static void conn_unref(struct sp_conn *conn)
{
    enif_release_resource(sp_nif_conn_of(conn));
}

static void keepsake_drop(struct sp_conn *conn)
{
    enif_release_resource(conn->keepsake);
    conn->keepsake = NULL;
}

static void conn_stop(const struct sp_call *call, struct sp_conn *conn, int fd)
{
    /* Not only with the resource, which may be there as long as the handles in it. */
    sp_nif_state_drop(sp_nif_conn_of(conn));
    if (sp_is_worker(conn->transport)) {
        sp_nif_worker_stop(call, sp_nif_conn_of(conn));
        return;
    }
    /* A descriptor that ERTS knows is closed in the stop callback, nowhere else. */
    if (!atomic_exchange(&sp_nif_conn_of(conn)->selected, false) ||
        enif_select(call->env, fd, ERL_NIF_SELECT_STOP, sp_nif_conn_of(conn), NULL,
                    sp_atoms.undefined) < 0)
        (void)conn->sys->close(fd);
}

static void stopped(ErlNifEnv *env, void *resource, ErlNifEvent event, int is_direct_call)
{
    (void)env;
    (void)resource;
    (void)is_direct_call;
    close(event);
}

static void conn_dtor(ErlNifEnv *env, void *resource)
{
    struct sp_nif_conn *conn = resource;

    (void)env;
    sp_nif_state_drop(conn);
    if (conn->core.transport && !sp_is_worker(conn->core.transport)) {
        enif_free(conn->host);
        sp_nif_kept_unref(conn->cut);
        sp_nif_rbuf_free(&conn->core);
    }
    if (conn->core.keepsake)
        keepsake_drop(&conn->core);
    if (conn->core.pool)
        enif_release_resource(nif_pool(conn->core.pool)->resource);
}

/* ---- messages ---- */

static bool owner_alive(const struct sp_call *call, uint64_t owner)
{
    ErlNifPid pid = {.pid = (ERL_NIF_TERM)owner};

    return enif_is_process_alive(call->env, &pid);
}

static ERL_NIF_TERM message(ErlNifEnv *env, ERL_NIF_TERM ref, ERL_NIF_TERM what)
{
    return enif_make_tuple3(env, sp_atoms.dollar_sockpool, ref, what);
}

bool sp_nif_arm(const struct sp_call *call, struct sp_nif_lease *lease, bool write,
                const ErlNifPid *pid, ERL_NIF_TERM ref)
{
    struct sp_conn *conn = lease->conn;
    struct sp_nif_conn *self = sp_nif_conn_of(conn);
    ERL_NIF_TERM msg = message(call->env, ref, sp_atoms.ready);
    int result;

    if (!sp_conn_arming(conn, lease->lease))
        return false;
    lease->waits_to_write = write;
    atomic_store(&self->selected, true);
    result = write ? enif_select_write(call->env, conn->fd, self, pid, msg, NULL)
                   : enif_select_read(call->env, conn->fd, self, pid, msg, NULL);
    if (result >= 0)
        return true;
    sp_conn_disarmed(conn, lease->lease, call);
    return false;
}

/* The message is copied from the environment of the call: one of its own would be a heap fragment, allocated
 * here and freed by whichever scheduler the receiver runs on. Only the clock's thread has none. */
static bool waiter_notify(const struct sp_call *call, struct sp_waiter *core, sp_status status,
                          size_t sent)
{
    struct sp_nif_waiter *waiter = SP_CONTAINER(core, struct sp_nif_waiter, core);
    ErlNifPid pid = {.pid = (ERL_NIF_TERM)core->owner};
    ErlNifEnv *env = call->env ? call->env : enif_alloc_env();
    ERL_NIF_TERM ref = enif_make_copy(env, waiter->ref), what;
    bool sent_it;

    if (status != SP_OK)
        what = sp_nif_error_term(env, status);
    else if (core->iov_count == 0)
        what = sp_nif_granted(nif_pool(core->pool));
    else if (sent == waiter->len)
        what = sp_atoms.sent;
    else
        what = enif_make_uint64(env, sent);
    sent_it = enif_send(call->env, &pid, call->env ? NULL : env, message(env, ref, what));
    if (!call->env)
        enif_free_env(env);
    return sent_it;
}

static bool watch(const struct sp_call *call, struct sp_conn *conn, uint32_t generation)
{
    ErlNifEnv *env = call->env;
    struct sp_nif_pool *pool = nif_pool(conn->pool);
    ErlNifPid pid;
    ERL_NIF_TERM msg;

    if (sp_is_worker(conn->transport))
        return true; /* its monitor is a watch for all of its life */
    msg = enif_make_tuple3(env, sp_atoms.sockpool_idle, enif_make_uint(env, conn->slot),
                           enif_make_uint(env, generation));
    enif_mutex_lock(pool->lock);
    pid = pool->controller;
    enif_mutex_unlock(pool->lock);
    atomic_store(&sp_nif_conn_of(conn)->selected, true);
    return enif_select_read(env, conn->fd, sp_nif_conn_of(conn), &pid, msg, NULL) >= 0;
}

static void wake(const struct sp_call *call, struct sp_pool *core)
{
    struct sp_nif_pool *pool = nif_pool(core);
    ErlNifEnv *env;
    ErlNifPid pid;
    bool sent;

    if (!sp_nif_get_controller(pool, &pid))
        return;
    /* Only the clock's thread has no environment. */
    env = call->env ? NULL : enif_alloc_env();
    sent = enif_send(call->env, &pid, env, sp_atoms.sockpool_wake);
    if (env)
        enif_free_env(env);
    if (sent)
        return;
    /* From a dirty scheduler, whose process is being killed, nothing can be sent. */
    atomic_store(&core->woken, 0);
    atomic_store(&pool->unheard, true);
    sp_nif_clock_watch(pool);
}

/* ---- the server ---- */

/* Of an outage {sockpool_refused, Reason} to the control process. */
static void refused(const struct sp_call *call, const struct sp_conn *conn, sp_status why,
                    bool is_outage)
{
    struct sp_nif_pool *pool = nif_pool(conn->pool);
    ErlNifEnv *env = enif_alloc_env();
    ERL_NIF_TERM reason =
        why == SP_UNREAD ? sp_nif_words_term(env, conn) : sp_nif_reason_term(env, why);
    ErlNifPid pid;

    sp_nif_keep(pool, &pool->last_error, reason);
    if (is_outage && sp_nif_get_controller(pool, &pid))
        (void)enif_send(call->env, &pid, env,
                        enif_make_tuple2(env, enif_make_atom(env, "sockpool_refused"), reason));
    enif_free_env(env);
}

/* {sockpool_stalled, Peer, Owner | undefined, Unacked, Retransmits, HeldMs} to the control process, which calls. */
static void stalled(const struct sp_call *call, struct sp_conn *conn, uint64_t owner,
                    const struct sp_tcp_info *info, uint64_t held_ns)
{
    ErlNifEnv *env = call->env;
    ErlNifPid pid, holder = {.pid = (ERL_NIF_TERM)owner};

    if (sp_nif_get_controller(nif_pool(conn->pool), &pid))
        (void)enif_send(env, &pid, NULL,
                        enif_make_tuple6(env, enif_make_atom(env, "sockpool_stalled"),
                                         sp_nif_addr_term(env, &conn->peer),
                                         owner ? enif_make_pid(env, &holder) : sp_atoms.undefined,
                                         enif_make_uint64(env, info->unacked),
                                         enif_make_uint64(env, info->retransmits),
                                         enif_make_uint64(env, held_ns / SP_MS)));
}

/* {sockpool_leak, {Slot, Lease}, Owner | ended, HeldMs, Peer | undefined} to the control process, whose call it is. */
static void leak(const struct sp_call *call, struct sp_conn *conn, uint64_t owner, uint64_t held_ns)
{
    ErlNifEnv *env = call->env;
    ERL_NIF_TERM key =
        enif_make_tuple2(env, enif_make_uint(env, conn->slot), enif_make_uint64(env, conn->leaked));
    ERL_NIF_TERM who = owner == SP_OWNER_POOL ? enif_make_atom(env, "ended") : (ERL_NIF_TERM)owner;
    ErlNifPid pid;

    if (sp_nif_get_controller(nif_pool(conn->pool), &pid))
        (void)enif_send(env, &pid, NULL,
                        enif_make_tuple5(env, enif_make_atom(env, "sockpool_leak"), key, who,
                                         enif_make_uint64(env, held_ns / SP_MS),
                                         sp_nif_peer_term(env, conn)));
}

/* {sockpool_revoked, Owner, HeldMs, Peer | undefined} to the control process, whose call it is. */
static void revoked(const struct sp_call *call, struct sp_conn *conn, uint64_t owner,
                    uint64_t held_ns)
{
    ErlNifEnv *env = call->env;
    ErlNifPid pid;

    if (sp_nif_get_controller(nif_pool(conn->pool), &pid))
        (void)enif_send(
            env, &pid, NULL,
            enif_make_tuple4(env, enif_make_atom(env, "sockpool_revoked"), (ERL_NIF_TERM)owner,
                             enif_make_uint64(env, held_ns / SP_MS), sp_nif_peer_term(env, conn)));
}

const struct sp_host sp_nif_host = {
    .conn_new = conn_new,
    .conn_ref = conn_ref,
    .conn_unref = conn_unref,
    .conn_stop = conn_stop,
    .keepsake_drop = keepsake_drop,
    .rbuf_reserve = sp_nif_rbuf_reserve,
    .rbuf_free = sp_nif_rbuf_free,
    .exact_ns = exact_ns,
    .owner_alive = owner_alive,
    .waiter_notify = waiter_notify,
    .waiter_free = sp_nif_waiter_free,
    .watch = watch,
    .wake = wake,
    .refused = refused,
    .stalled = stalled,
    .leak = leak,
    .revoked = revoked,
    .closed = sp_nif_tell_closed,
    .reply_reserve = sp_nif_reply_reserve,
    .reply_free = sp_nif_reply_free,
    .reply_notify = sp_nif_reply_notify,
    .pipe_select = sp_nif_pipe_select,
    .pipe_unselect = sp_nif_pipe_unselect,
};

/* ---- the control process's calls ---- */

void sp_nif_shut_begin(ErlNifEnv *env, struct sp_nif_pool *pool, enum sp_phase phase,
                       sp_status status)
{
    sp_control_shut_begin(&pool->core, phase);
    sp_nif_tls_release(env, pool);
    pool->shutting = true;
    pool->shut_status = status;
}

bool sp_nif_shut_slice(const struct sp_call *call, struct sp_nif_pool *pool)
{
    if (pool->shutting)
        pool->shutting = sp_control_shut_slice(&pool->core, call, pool->shut_status);
    return pool->shutting;
}

/* {sockpool_shut, Pool} to the janitor. */
static bool call_janitor(ErlNifEnv *env, struct sp_nif_pool *pool, const ErlNifPid *janitor)
{
    ErlNifEnv *msg_env;
    bool sent;

    if (enif_is_pid_undefined(janitor))
        return false;
    msg_env = enif_alloc_env();
    sent = enif_send(env, janitor, msg_env,
                     enif_make_tuple2(msg_env, sp_atoms.sockpool_shut,
                                      enif_make_resource(msg_env, pool->resource)));
    enif_free_env(msg_env);
    return sent;
}

/* ---- resource types ---- */

static void pool_down(ErlNifEnv *env, void *resource, ErlNifPid *pid, ErlNifMonitor *monitor)
{
    struct sp_nif_pool *pool = ((struct sp_nif_pool_resource *)resource)->pool;
    struct sp_call call = sp_nif_call(env);
    ErlNifPid janitor;
    bool current;

    (void)pid;
    enif_mutex_lock(pool->transition);
    enif_mutex_lock(pool->lock);
    current = pool->controlled && enif_compare_monitors(monitor, &pool->monitor) == 0;
    if (current)
        pool->controlled = false;
    janitor = pool->janitor;
    enif_mutex_unlock(pool->lock);
    if (current) {
        /* A shut of the process's own may have been under way: then only its slices are left. */
        if (!pool->shutting)
            sp_nif_shut_begin(env, pool, SP_PHASE_DOWN, SP_CLOSED);
        if (!call_janitor(env, pool, &janitor))
            while (sp_nif_shut_slice(&call, pool))
                sp_allowance_fill(call.allowance);
    }
    enif_mutex_unlock(pool->transition);
}

static void pool_free(struct sp_nif_pool *pool)
{
    if (pool->lock)
        enif_mutex_destroy(pool->lock);
    if (pool->transition)
        enif_mutex_destroy(pool->transition);
    sp_nif_tls_free(pool);
    free(pool);
}

static void pool_dtor(ErlNifEnv *env, void *resource)
{
    struct sp_nif_pool *pool = ((struct sp_nif_pool_resource *)resource)->pool;

    (void)env;
    if (!pool)
        return;
    atomic_fetch_sub(&pool->roots->pools, 1);
    sp_piped_destroy(&pool->core);
    sp_pool_destroy(&pool->core);
    sp_nif_kept_unref(pool->last_error);
    sp_nif_kept_unref(pool->changes);
    sp_nif_kept_unref(pool->check);
    sp_nif_kept_unref(pool->cut);
    pool_free(pool);
}

static void lease_dtor(ErlNifEnv *env, void *resource)
{
    struct sp_nif_lease *lease = resource;
    struct sp_call call;

    if (!lease->waiter && !lease->conn)
        return;
    call = sp_nif_call(env);
    if (lease->waiter)
        sp_waiter_abandon(&lease->waiter->core, &call);
    if (lease->conn) {
        (void)sp_pool_abandon(lease->conn->pool, &call, lease->conn, lease->lease);
        conn_unref(lease->conn);
    }
}

/* A resource that nobody frees. What threads have put by, and the clock, are of this library. */
static void keep_library(struct sp_nif_clock *clock)
{
    /* Volatile, or nobody would write it, and valgrind not find it. */
    static struct sp_nif_pool_resource *volatile kept;

    if (sp_nif_clock_keep(clock) && (kept = enif_alloc_resource(sp_nif_pool_type, sizeof *kept)))
        kept->pool = NULL;
}

struct sp_nif_pool *sp_nif_pool_alloc(ErlNifEnv *env, uint32_t shard_count, ERL_NIF_TERM *term)
{
    struct sp_nif_pool_resource *resource = enif_alloc_resource(sp_nif_pool_type, sizeof *resource);
    void *memory = NULL;

    if (!resource)
        return NULL;
    resource->pool = NULL;
    if (posix_memalign(&memory, _Alignof(struct sp_nif_pool), sizeof(struct sp_nif_pool)) == 0) {
        struct sp_nif_pool *pool = memset(memory, 0, sizeof *pool);
        pool->lock = enif_mutex_create("sockpool_pool");
        pool->transition = enif_mutex_create("sockpool_transition");
        if (pool->lock && pool->transition && sp_nif_tls_init(env, pool) &&
            sp_pool_init(&pool->core, &sp_nif_host, &sp_sys_posix, shard_count) == SP_OK) {
            pool->resource = resource;
            resource->pool = pool;
            *term = enif_make_resource(env, resource);
            pool->roots = enif_priv_data(env);
            atomic_fetch_add(&pool->roots->pools, 1);
            keep_library(pool->roots->clock);
        } else {
            pool_free(pool);
        }
    }
    struct sp_nif_pool *made = resource->pool;
    enif_release_resource(resource);
    return made;
}

bool sp_nif_open_types(ErlNifEnv *env, ErlNifResourceFlags flags)
{
    ErlNifResourceTypeInit pool = {.dtor = pool_dtor, .down = pool_down};
    ErlNifResourceTypeInit conn = {.dtor = conn_dtor, .stop = stopped, .down = sp_nif_worker_down};
    ErlNifResourceTypeInit lease = {.dtor = lease_dtor};

    sp_nif_pool_type = enif_open_resource_type_x(env, "sockpool_pool", &pool, flags, NULL);
    sp_nif_conn_type = enif_open_resource_type_x(env, "sockpool_conn", &conn, flags, NULL);
    sp_nif_lease_type = enif_open_resource_type_x(env, "sockpool_lease", &lease, flags, NULL);
    return sp_nif_pool_type && sp_nif_conn_type && sp_nif_lease_type &&
           sp_nif_rbuf_open_type(env, flags) && sp_nif_tls_open_type(env, flags);
}
