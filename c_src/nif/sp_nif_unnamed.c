/* Pools that no name leads to: their references go where names go. */
#include "sp_nif.h"

/* pool_kind(Term) -> piped | exclusive | undefined: of a pool whose requests share connections, of one whose do not, or it is
 * no pool. */
SP_NIF(sp_nif_pool_kind)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);

    (void)argc;
    if (!pool)
        return sp_atoms.undefined;
    return sp_pool_has_pipes(&pool->core) ? sp_atoms.piped : sp_atoms.exclusive;
}

/* pool_count() -> how many there are, also of those that were stopped. */
SP_NIF(sp_nif_pool_count)
{
    (void)argc;
    (void)argv;
    return enif_make_uint64(env, atomic_load(&((struct sp_nif_roots *)enif_priv_data(env))->pools));
}

ERL_NIF_TERM sp_nif_name_term(ErlNifEnv *env, const struct sp_nif_pool *pool)
{
    return enif_is_identical(pool->name, sp_atoms.undefined)
               ? enif_make_resource(env, pool->resource)
               : pool->name;
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
