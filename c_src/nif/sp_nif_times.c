/* NIFs of how long things take. */
#include "sp_nif.h"

#include "core/pool/sp_times.h"

static ERL_NIF_TERM numbers_term(ErlNifEnv *env, const uint64_t *numbers, int count, uint64_t unit)
{
    ERL_NIF_TERM list = enif_make_list(env, 0);

    while (count-- > 0)
        list = enif_make_list_cell(env, enif_make_uint64(env, numbers[count] / unit), list);
    return list;
}

static void put(ErlNifEnv *env, ERL_NIF_TERM *map, const char *key, ERL_NIF_TERM value)
{
    enif_make_map_put(env, *map, enif_make_atom(env, key), value, map);
}

static ERL_NIF_TERM histogram_term(ErlNifEnv *env, struct sp_pool *pool, enum sp_time time)
{
    ERL_NIF_TERM map = enif_make_new_map(env);
    struct sp_distribution times;

    sp_times_read(pool, time, &times);
    put(env, &map, "count", enif_make_uint64(env, sp_distribution_count(&times)));
    put(env, &map, "sum", enif_make_uint64(env, times.sum_ns / SP_TIMES_UNIT_NS));
    put(env, &map, "buckets", numbers_term(env, times.buckets, SP_HISTOGRAM_BUCKETS, 1));
    return map;
}

/* pool_histograms(Pool) -> #{bounds, use, wait, idle, age, connect => #{total, resolve, tcp, tls, init}} */
SP_NIF(sp_nif_pool_histograms)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);
    ERL_NIF_TERM map = enif_make_new_map(env), connect = enif_make_new_map(env);
#define SP_TIME_WORD(name, word) #word,
    static const char *const WORDS[] = {SP_TIME_MAP(SP_TIME_WORD)};
#undef SP_TIME_WORD

    (void)argc;
    if (!pool)
        return enif_make_badarg(env);
    for (int i = 0; i < SP_TIMES; i++)
        put(env, sp_time_is_of_connects((enum sp_time)i) ? &connect : &map, WORDS[i],
            histogram_term(env, &pool->core, (enum sp_time)i));
    put(env, &map, "connect", connect);
    put(env, &map, "bounds",
        numbers_term(env, sp_histogram_bounds_ns, SP_HISTOGRAM_BOUNDS, SP_TIMES_UNIT_NS));
    sp_take(&call, SP_PIECES_COUNTERS);
    sp_nif_charge(&call);
    return map;
}

/* attempt_resolved(Attempt, Microseconds) -> ok: so long it took to look a name up. */
SP_NIF(sp_nif_attempt_resolved)
{
    struct sp_nif_lease *lease;
    ErlNifUInt64 us;
    ERL_NIF_TERM error;

    (void)argc;
    if (!enif_get_uint64(env, argv[1], &us) || us > UINT64_MAX / SP_TIMES_UNIT_NS)
        return enif_make_badarg(env);
    if (!sp_nif_get_lease(env, argv[0], &lease, &error))
        return error;
    sp_times_note(lease->conn->pool, SP_TIME_RESOLVE, us * SP_TIMES_UNIT_NS);
    return sp_atoms.ok;
}
