/* What events of a pool say of it. */
#include "sp_nif.h"

#include "core/pool/sp_health.h"

/* pool_look(Pool) -> {Name | Pool, Up, Waiting, SlowMs | infinity}: how many connections are up, how many processes wait, and
 * from which time on that is slow. */
SP_NIF(sp_nif_pool_look)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);

    (void)argc;
    if (!pool)
        return enif_make_badarg(env);
    return enif_make_tuple4(env, sp_nif_name_term(env, pool),
                            enif_make_uint(env, sp_health_ups(&pool->core)),
                            enif_make_uint64(env, atomic_load(&pool->core.nwait)),
                            sp_nif_ms_term(env, atomic_load(&pool->slow_checkout)));
}

/* pool_listen(Pool, boolean()) -> ok. Whether the control process is told of each connection that is closed. */
SP_NIF(sp_nif_pool_listen)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    bool listened;

    (void)argc;
    if (!pool || !sp_nif_get_bool(argv[1], &listened))
        return enif_make_badarg(env);
    atomic_store_explicit(&pool->core.listened, listened, memory_order_relaxed);
    return sp_atoms.ok;
}

ERL_NIF_TERM sp_nif_peer_term(ErlNifEnv *env, const struct sp_conn *conn)
{
    return conn->worker ? sp_atoms.undefined : sp_nif_addr_term(env, &conn->peer);
}

/* {sockpool_closed, Slot, Why, {AgeNs, IdleNs, Uses}, Peer | undefined} to the control process, where there is one. */
void sp_nif_tell_closed(const struct sp_call *call, const struct sp_conn *conn, uint64_t age_ns,
                        uint64_t idle_ns)
{
#define SP_WHY_WORD(name, word) #word,
    static const char *const WORDS[] = {SP_WHY_MAP(SP_WHY_WORD)};
#undef SP_WHY_WORD
    ErlNifEnv *env = call->env;
    ErlNifPid pid;

    /* Only the clock's thread has none, and it closes nothing. */
    if (!env || !sp_nif_get_controller(SP_CONTAINER(conn->pool, struct sp_nif_pool, core), &pid))
        return;
    (void)enif_send(env, &pid, NULL,
                    enif_make_tuple5(env, enif_make_atom(env, "sockpool_closed"),
                                     enif_make_uint(env, conn->slot),
                                     enif_make_atom(env, WORDS[conn->ended]),
                                     enif_make_tuple3(env, enif_make_uint64(env, age_ns),
                                                      enif_make_uint64(env, idle_ns),
                                                      enif_make_uint(env, conn->uses)),
                                     sp_nif_peer_term(env, conn)));
}
