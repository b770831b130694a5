/* What events of a pool say of it. */
#include "sp_nif.h"

#include "core/pool/sp_health.h"

/* pool_look(Pool) -> {Name | Pool, Up, Waiting}: how many connections are up, and how many processes wait. */
SP_NIF(sp_nif_pool_look)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);

    (void)argc;
    if (!pool)
        return enif_make_badarg(env);
    return enif_make_tuple3(env, sp_nif_name_term(env, pool),
                            enif_make_uint(env, sp_health_ups(&pool->core)),
                            enif_make_uint64(env, atomic_load(&pool->core.nwait)));
}
