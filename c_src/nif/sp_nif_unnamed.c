/* Names of pools: those that have none, whose references go where names go, and names that are free again. */
#include "sp_nif.h"

/* pool_kind(Pool) -> piped | exclusive: whether its requests share connections. */
SP_NIF(sp_nif_pool_kind)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);

    (void)argc;
    if (!pool)
        return enif_make_badarg(env);
    return sp_pool_has_pipes(&pool->core) ? sp_atoms.piped : sp_atoms.exclusive;
}

/* count(pools) -> how many there are, also of those that were stopped. */
SP_NIF(sp_nif_count)
{
    (void)argc;
    if (!enif_is_identical(argv[0], enif_make_atom(env, "pools")))
        return enif_make_badarg(env);
    return enif_make_uint64(env, atomic_load(&((struct sp_nif_roots *)enif_priv_data(env))->pools));
}

ERL_NIF_TERM sp_nif_name_term(ErlNifEnv *env, const struct sp_nif_pool *pool)
{
    return enif_is_identical(pool->name, sp_atoms.undefined)
               ? enif_make_resource(env, pool->resource)
               : pool->name;
}

/* pool_retire(Pool) -> boolean(). True: it is stopped, and pool_open/4 will say `gone' of it. False: somebody has opened it
 * again, or is about to. */
SP_NIF(sp_nif_pool_retire)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    ErlNifPid controller;
    bool retired;

    (void)argc;
    if (!pool)
        return enif_make_badarg(env);
    if (enif_mutex_trylock(pool->transition) != 0)
        return sp_atoms.false_;
    retired = !pool->shutting && sp_pool_phase(&pool->core) == SP_PHASE_CLOSED &&
              !sp_nif_get_controller(pool, &controller);
    pool->retired = pool->retired || retired;
    enif_mutex_unlock(pool->transition);
    return retired ? sp_atoms.true_ : sp_atoms.false_;
}

/* pool_parent(Pool) -> Hash. What pool_set_parent/2 has set last, of whose child the pool is; 0: nobody's. */
SP_NIF(sp_nif_pool_parent)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);

    (void)argc;
    return pool ? enif_make_uint64(env, atomic_load(&pool->parent)) : enif_make_badarg(env);
}

/* pool_set_parent(Pool, Hash) -> ok */
SP_NIF(sp_nif_pool_set_parent)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    ErlNifUInt64 parent;

    (void)argc;
    if (!pool || !enif_get_uint64(env, argv[1], &parent))
        return enif_make_badarg(env);
    atomic_store(&pool->parent, parent);
    return sp_atoms.ok;
}
