/* NIFs that begin, move and end a lease. */
#include "sp_nif.h"

#include <string.h>

ERL_NIF_TERM sp_nif_make_lease(ErlNifEnv *env, struct sp_nif_lease **lease)
{
    struct sp_nif_lease *made = enif_alloc_resource(sp_nif_lease_type, sizeof *made);
    ERL_NIF_TERM term;

    /* ERTS aborts the VM itself where memory for a resource is short: made is never NULL. */
    memset(made, 0, sizeof *made);
    term = enif_make_resource(env, made);
    enif_release_resource(made);
    *lease = made;
    return term;
}

void sp_nif_drop_conn(struct sp_nif_lease *lease, const struct sp_call *call)
{
    struct sp_conn *conn = lease->conn;

    if (!conn)
        return;
    sp_conn_disarmed(conn, lease->lease, call);
    lease->conn = NULL;
    conn->pool->host->conn_unref(conn);
}

static bool is_owner(ErlNifEnv *env, struct sp_nif_lease *lease)
{
    ErlNifPid self;

    enif_self(env, &self);
    return atomic_load(&lease->owner) == self.pid;
}

static bool adopt(struct sp_nif_lease *lease)
{
    if (lease->waiter && sp_waiter_adopt(&lease->waiter->core, &lease->conn, &lease->lease))
        lease->waiter = NULL;
    return lease->conn != NULL;
}

bool sp_nif_get_lease(ErlNifEnv *env, ERL_NIF_TERM term, struct sp_nif_lease **lease,
                      ERL_NIF_TERM *error)
{
    void *resource;

    if (!enif_get_resource(env, term, sp_nif_lease_type, &resource)) {
        *error = sp_atoms.not_a_conn;
        return false;
    }
    *lease = resource;
    if (!is_owner(env, *lease))
        *error = sp_nif_error_term(env, SP_NOT_OWNER);
    else if (!adopt(*lease))
        *error = sp_nif_error_term(env, SP_CLOSED);
    else
        return true;
    return false;
}

/* checkout(Pool) -> {ok, Lease} | empty | {error, Reason} */
SP_NIF(sp_nif_checkout)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    struct sp_conn *conn;
    uint64_t number;
    ErlNifPid self;
    ERL_NIF_TERM term;
    sp_status status;

    (void)argc;
    if (!pool)
        return enif_make_badarg(env);
    enif_self(env, &self);
    status = sp_pool_checkout(&pool->core, &call, self.pid, &conn, &number);
    if (status == SP_EMPTY)
        return sp_atoms.empty;
    if (status != SP_OK)
        return sp_nif_error_term(env, status);
    term = sp_nif_make_lease(env, &lease);
    lease->conn = conn;
    lease->lease = number;
    atomic_store_explicit(&lease->owner, self.pid, memory_order_relaxed);
    return enif_make_tuple2(env, sp_atoms.ok, term);
}

/* enqueue(Pool, Ref) -> {wait, Lease} | {error, Reason}. Then {'$sockpool', Ref, granted |
 * {error, Reason}} comes, unless cancel/1 says otherwise. */
SP_NIF(sp_nif_enqueue)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);

    (void)argc;
    if (!pool || !enif_is_ref(env, argv[1]))
        return enif_make_badarg(env);
    return sp_nif_enqueue_waiter(env, pool, argv[1], NULL);
}

ERL_NIF_TERM sp_nif_enqueue_waiter(ErlNifEnv *env, struct sp_nif_pool *pool, ERL_NIF_TERM ref,
                                   ErlNifIOVec *iov)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_waiter *waiter = sp_nif_waiter_new(pool, ref);
    struct sp_nif_lease *lease;
    ERL_NIF_TERM term;
    ErlNifPid self;
    sp_status status;

    if (!waiter) {
        if (iov)
            enif_free_iovec(iov);
        return sp_nif_error_term(env, SP_NO_MEMORY);
    }
    enif_self(env, &self);
    waiter->core.owner = self.pid;
    waiter->iov = iov;
    if (iov) {
        waiter->core.iov = (const struct iovec *)iov->iov;
        waiter->core.iov_count = iov->iovcnt;
    }
    term = sp_nif_make_lease(env, &lease);
    atomic_store(&lease->owner, self.pid);
    status = sp_pool_enqueue(&pool->core, &call, &waiter->core);
    if (status != SP_OK) {
        pool->core.host->waiter_free(&waiter->core);
        return sp_nif_error_term(env, status);
    }
    lease->waiter = waiter;
    return enif_make_tuple2(env, sp_atoms.wait, term);
}

/* cancel(Lease) -> cancelled: nothing comes any more | told: the message is there or under way.
 * A request that was sent already is given up, its connection closed. */
SP_NIF(sp_nif_cancel)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    void *resource;
    bool request = true;

    (void)argc;
    if (!enif_get_resource(env, argv[0], sp_nif_lease_type, &resource))
        return enif_make_badarg(env);
    lease = resource;
    if (!is_owner(env, lease))
        return sp_nif_error_term(env, SP_NOT_OWNER);
    if (lease->waiter) {
        request = lease->waiter->core.iov_count > 0;
        if (sp_waiter_cancel(&lease->waiter->core, &call) == SP_CANCELLED)
            return sp_atoms.cancelled;
    }
    if (request && adopt(lease))
        (void)sp_pool_discard(lease->conn->pool, &call, lease->conn, lease->lease);
    return sp_atoms.told;
}

static ERL_NIF_TERM end_lease(ErlNifEnv *env, ERL_NIF_TERM term, bool keep)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    ERL_NIF_TERM error;
    sp_status status;

    if (!sp_nif_get_lease(env, term, &lease, &error))
        return error;
    if (sp_conn_armed(lease->conn, lease->lease) || sp_conn_unready(lease->conn))
        return sp_nif_error_term(env, SP_BUSY);
    status = keep && sp_nif_restore_options(lease, &call)
                 ? sp_pool_checkin(lease->conn->pool, &call, lease->conn, lease->lease)
                 : sp_pool_discard(lease->conn->pool, &call, lease->conn, lease->lease);
    sp_nif_drop_conn(lease, &call);
    return status == SP_OK ? sp_atoms.ok : sp_nif_error_term(env, status);
}

/* checkin(Lease) -> ok | {error, Reason} */
SP_NIF(sp_nif_checkin)
{
    (void)argc;
    return end_lease(env, argv[0], true);
}

/* discard(Lease) -> ok | {error, Reason} */
SP_NIF(sp_nif_discard)
{
    (void)argc;
    return end_lease(env, argv[0], false);
}

/* give_away(Lease, Pid) -> ok | {error, Reason} */
SP_NIF(sp_nif_give_away)
{
    struct sp_nif_lease *lease;
    ERL_NIF_TERM error;
    ErlNifPid to;
    uint64_t number;

    (void)argc;
    if (!enif_get_local_pid(env, argv[1], &to))
        return enif_make_badarg(env);
    if (!sp_nif_get_lease(env, argv[0], &lease, &error))
        return error;
    if (sp_conn_armed(lease->conn, lease->lease) || sp_conn_unready(lease->conn))
        return sp_nif_error_term(env, SP_BUSY);
    if (!enif_is_process_alive(env, &to))
        return enif_make_tuple2(env, sp_atoms.error, enif_make_atom(env, "noproc"));
    number = sp_conn_give_away(lease->conn, lease->lease, to.pid);
    if (number == SP_LEASE_NONE)
        return sp_nif_error_term(env, SP_CLOSED);
    lease->lease = number;
    /* Last: from here on the new owner may be using the handle. */
    atomic_store(&lease->owner, to.pid);
    return sp_atoms.ok;
}
