/* Connections that are processes.
 *
 * A connector starts the process and is its parent, as gen_server and others know it. The connector ends when the
 * worker is the pool's; that the worker has ended is told by a monitor of the connection, to whichever thread it
 * was that ended it. An end of the connection is for processes to carry out: who controls the pool, or who cleans up after
 * it, gets {sockpool_stop_worker, Starter, Worker, WithinMs | infinity}. Of one that is being started nothing is known
 * here: its connector is ended, or ends it. */
#include "sp_nif.h"

#include "core/pool/sp_lease.h"
#include "core/pool/sp_table.h"

#include <errno.h>

static sp_status worker_open(struct sp_conn *conn, const struct sp_addr *addr,
                             const struct sp_sockopts *opts)
{
    (void)conn;
    (void)addr;
    (void)opts;
    return SP_OK;
}

static sp_status worker_opened(struct sp_conn *conn)
{
    (void)conn;
    return SP_OK;
}

/* Dead to ERTS before anybody hears of it, and before the monitor's call. */
static enum sp_clean worker_validate(struct sp_conn *conn)
{
    return atomic_load_explicit(&conn->gone, memory_order_relaxed) ||
                   !enif_is_process_alive(NULL, &sp_nif_conn_of(conn)->worker)
               ? SP_DEAD
               : SP_CLEAN;
}

static void worker_shutdown(struct sp_conn *conn)
{
    (void)conn;
}

/* Refused before it comes to these, but for who has asked the pool for a stream just before it was stopped, and
 * started again with workers. */
static sp_status worker_send(struct sp_conn *conn, const struct iovec *iov, int count, size_t *sent)
{
    (void)conn;
    (void)iov;
    (void)count;
    *sent = 0;
    return SP_CLOSED;
}

static sp_status worker_recv(struct sp_conn *conn, void *buffer, size_t len, size_t *got)
{
    (void)conn;
    (void)buffer;
    (void)len;
    *got = 0;
    return SP_CLOSED;
}

static sp_status worker_set(struct sp_conn *conn, enum sp_option option, int value)
{
    (void)conn;
    (void)option;
    (void)value;
    return -ENOPROTOOPT;
}

const struct sp_transport sp_nif_transport_worker = {
    .name = "worker",
    .open = worker_open,
    .opened = worker_opened,
    .set = worker_set,
    .send = worker_send,
    .recv = worker_recv,
    .validate = worker_validate,
    .shutdown = worker_shutdown,
    .worker = true,
};

void sp_nif_worker_claim(struct sp_conn *conn, const ErlNifPid *connector)
{
    sp_nif_conn_of(conn)->starter = *connector;
}

/* Who has workers of this pool end. */
static bool get_keeper(struct sp_nif_pool *pool, ErlNifPid *keeper)
{
    if (sp_nif_get_controller(pool, keeper))
        return true;
    enif_mutex_lock(pool->lock);
    *keeper = pool->janitor;
    enif_mutex_unlock(pool->lock);
    return !enif_is_pid_undefined(keeper);
}

void sp_nif_worker_stop(const struct sp_call *call, struct sp_nif_conn *conn)
{
    struct sp_nif_pool *pool = SP_CONTAINER(conn->core.pool, struct sp_nif_pool, core);
    ErlNifEnv *env;
    ErlNifPid keeper;

    if (!conn->worker.pid || atomic_load(&conn->core.gone))
        return;
    env = enif_alloc_env();
    if (!get_keeper(pool, &keeper) ||
        !enif_send(call->env, &keeper, env,
                   enif_make_tuple4(env, enif_make_atom(env, "sockpool_stop_worker"),
                                    enif_make_pid(env, &conn->starter),
                                    enif_make_pid(env, &conn->worker),
                                    sp_nif_ms_term(env, atomic_load(&pool->worker_shutdown))))) {
        /* Nobody is left to do it: what a parent's end would come to for the worker. */
        enif_clear_env(env);
        (void)enif_send(call->env, &conn->worker, env,
                        enif_make_tuple3(env, enif_make_atom(env, "EXIT"),
                                         enif_make_pid(env, &conn->starter),
                                         enif_make_atom(env, "shutdown")));
    }
    enif_free_env(env);
}

void sp_nif_worker_down(ErlNifEnv *env, void *resource, ErlNifPid *pid, ErlNifMonitor *monitor)
{
    struct sp_nif_conn *conn = resource;
    struct sp_call call = sp_nif_call(env);

    (void)pid;
    (void)monitor;
    sp_pool_lost(conn->core.pool, &call, &conn->core);
}

/* True where the connection is the worker: its lease, whoever has it, ends as by its owner's check-in. */
static bool check_in(const struct sp_call *call, struct sp_conn *conn, const ErlNifPid *worker)
{
    uint64_t lease;

    /* In this order: what is ready has its pid, and its leases are of users. */
    if (sp_conn_unready(conn) || sp_nif_conn_of(conn)->worker.pid != worker->pid)
        return false;
    lease = atomic_load(&conn->lease);
    if (lease != SP_LEASE_NONE) {
        sp_status status = sp_pool_checkin(conn->pool, call, conn, lease, NULL);
        (void)status; /* its owner may have been the first */
    }
    return true;
}

/* return_worker(Pool, Pid, Cursor) -> ok: the worker is checked in, or not one that is checked out | Cursor: once more,
 * with that. At first 0. */
SP_NIF(sp_nif_return_worker)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);
    bool found = false;
    uint32_t cursor;
    ErlNifPid worker;

    (void)argc;
    if (!pool || !enif_get_local_pid(env, argv[1], &worker) ||
        !enif_get_uint(env, argv[2], &cursor))
        return enif_make_badarg(env);
    do {
        struct sp_conn *conn = sp_table_next(&pool->core, &call, &cursor);
        if (conn) {
            found = check_in(&call, conn, &worker);
            pool->core.host->conn_unref(conn);
        }
    } while (!found && cursor > 0 && !sp_spent(&call));
    sp_nif_charge(&call);
    return found || cursor == 0 ? sp_atoms.ok : enif_make_uint(env, cursor);
}
