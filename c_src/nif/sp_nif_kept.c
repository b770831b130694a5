/* Terms that outlive their process: the pool's, and the state of a connection. */
#include "sp_nif.h"

struct sp_nif_kept {
    _Atomic unsigned refs;
    ErlNifEnv *env;
    ERL_NIF_TERM term;
    ErlNifTime at_ms; /* since 1970 */
};

void sp_nif_kept_unref(struct sp_nif_kept *kept)
{
    if (kept && atomic_fetch_sub(&kept->refs, 1) == 1) {
        enif_free_env(kept->env);
        enif_free(kept);
    }
}

bool sp_nif_keep(struct sp_nif_pool *pool, struct sp_nif_kept **place, ERL_NIF_TERM term)
{
    struct sp_nif_kept *kept = enif_alloc(sizeof *kept), *old;

    if (!kept)
        return false;
    kept->refs = 1;
    kept->env = enif_alloc_env();
    kept->term = enif_make_copy(kept->env, term);
    /* As erlang:system_time() does: what is rounded is the sum. */
    kept->at_ms = (enif_monotonic_time(ERL_NIF_NSEC) + enif_time_offset(ERL_NIF_NSEC)) / 1000000;
    enif_mutex_lock(pool->lock);
    old = *place;
    *place = kept;
    enif_mutex_unlock(pool->lock);
    sp_nif_kept_unref(old);
    return true;
}

bool sp_nif_kept_get(struct sp_nif_pool *pool, struct sp_nif_kept **place, ErlNifEnv *env,
                     ERL_NIF_TERM *term, ErlNifTime *at_ms)
{
    struct sp_nif_kept *kept;

    enif_mutex_lock(pool->lock);
    kept = *place;
    if (kept)
        atomic_fetch_add(&kept->refs, 1);
    enif_mutex_unlock(pool->lock);
    if (!kept)
        return false;
    *term = enif_make_copy(env, kept->term);
    *at_ms = kept->at_ms;
    sp_nif_kept_unref(kept);
    return true;
}

void sp_nif_state_drop(struct sp_nif_conn *conn)
{
    struct sp_nif_kept *state = conn->state;

    conn->state = NULL;
    sp_nif_kept_unref(state);
}

/* state(Lease) -> {ok, Term} | {error, Reason}: what was set last, or undefined. */
SP_NIF(sp_nif_state)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    struct sp_nif_pool *pool;
    const ERL_NIF_TERM *items;
    ERL_NIF_TERM error, kept, term = sp_atoms.undefined;
    ErlNifTime at_ms;
    unsigned bytes;
    int arity;

    (void)argc;
    if (!sp_nif_enter(&call, argv[0], &lease, &error))
        return error;
    pool = SP_CONTAINER(lease->conn->pool, struct sp_nif_pool, core);
    if (sp_nif_kept_get(pool, &sp_nif_conn_of(lease->conn)->state, env, &kept, &at_ms) &&
        enif_get_tuple(env, kept, &arity, &items) && enif_get_uint(env, items[0], &bytes)) {
        term = items[1];
        sp_take(&call, sp_pieces_of_bytes(bytes));
    }
    sp_conn_leave(lease->conn, &call);
    sp_nif_charge(&call);
    return enif_make_tuple2(env, sp_atoms.ok, term);
}

/* set_state(Lease, Term, Bytes) -> ok | {error, Reason}. The connection has it until the next one, or its end: Bytes is
 * what it costs to copy. Under the pool's lock, as a worker may be returned by others than its owner, who is in a call. */
SP_NIF(sp_nif_set_state)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    struct sp_nif_pool *pool;
    ERL_NIF_TERM error;
    unsigned bytes;
    bool kept;

    (void)argc;
    if (!enif_get_uint(env, argv[2], &bytes))
        return enif_make_badarg(env);
    if (!sp_nif_enter(&call, argv[0], &lease, &error))
        return error;
    pool = SP_CONTAINER(lease->conn->pool, struct sp_nif_pool, core);
    /* What its owner's death would leave is not known to be true of the connection. */
    lease->conn->touched = true;
    kept = sp_nif_keep(pool, &sp_nif_conn_of(lease->conn)->state,
                       enif_make_tuple2(env, argv[2], argv[1]));
    sp_take(&call, sp_pieces_of_bytes(bytes));
    sp_conn_leave(lease->conn, &call);
    sp_nif_charge(&call);
    return kept ? sp_atoms.ok : sp_nif_error_term(env, SP_NO_MEMORY);
}

/* cut(Lease) -> Function | undefined | {error, Reason}: the one that says where the connection's messages end. */
SP_NIF(sp_nif_cut)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    struct sp_nif_pool *pool;
    ERL_NIF_TERM error, cut = sp_atoms.undefined;
    ErlNifTime at_ms;

    (void)argc;
    if (!sp_nif_enter(&call, argv[0], &lease, &error))
        return error;
    pool = SP_CONTAINER(lease->conn->pool, struct sp_nif_pool, core);
    if (!sp_is_worker(lease->conn->transport) && lease->conn->framing.kind == SP_FRAMING_FUN)
        (void)sp_nif_kept_get(
            pool, lease->conn->framing.own ? &sp_nif_conn_of(lease->conn)->cut : &pool->cut, env,
            &cut, &at_ms);
    sp_conn_leave(lease->conn, &call);
    return cut;
}

/* set_cut(Lease, Function) -> ok | {error, Reason}: until the check-in. */
SP_NIF(sp_nif_set_cut)
{
    static const struct sp_framing OWN = {.kind = SP_FRAMING_FUN, .own = true};
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    struct sp_nif_pool *pool;
    ERL_NIF_TERM error;
    bool kept;

    (void)argc;
    if (!sp_nif_get_lease(env, argv[0], &lease, &error))
        return error;
    if (sp_is_worker(lease->conn->transport) || sp_is_node(lease->conn->transport))
        return enif_make_badarg(env);
    if (!sp_nif_enter(&call, argv[0], &lease, &error))
        return error;
    pool = SP_CONTAINER(lease->conn->pool, struct sp_nif_pool, core);
    kept = sp_nif_keep(pool, &sp_nif_conn_of(lease->conn)->cut, argv[1]);
    if (kept)
        sp_conn_set_framing(lease->conn, &OWN);
    sp_conn_leave(lease->conn, &call);
    return kept ? sp_atoms.ok : sp_nif_error_term(env, SP_NO_MEMORY);
}
