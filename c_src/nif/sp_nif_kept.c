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
