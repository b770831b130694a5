/* Linked with the NIF's objects for scripts/long_schedule.sh: how long each call was on the processor, which other
 * programs on the machine do not make longer, and how many pieces it counted. The NIF itself knows nothing of
 * this: ERTS is given functions that call its own. */
#include "nif/sp_nif.h"

#include <string.h>
#include <time.h>

#define FUNCTIONS_MAX 50
enum callback { POOL_DTOR = FUNCTIONS_MAX, POOL_DOWN, CONN_DTOR, CONN_STOP, LEASE_DTOR, CALLS };

static struct timed {
    const char *name;
    _Atomic unsigned long count, ns, longest_ns, pieces, of_1_ms, of_2_ms;
} calls[CALLS] = {[POOL_DTOR] = {.name = "pool's destructor"},
                  [POOL_DOWN] = {.name = "pool's down"},
                  [CONN_DTOR] = {.name = "connection's destructor"},
                  [CONN_STOP] = {.name = "connection's stop"},
                  [LEASE_DTOR] = {.name = "lease's destructor"}};
static ErlNifFunc originals[FUNCTIONS_MAX], functions[FUNCTIONS_MAX];
static ErlNifResourceTypeInit pool_type, conn_type, lease_type;
static __thread int charged_pieces;

static unsigned long on_processor_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (unsigned long)now.tv_sec * 1000000000u + (unsigned long)now.tv_nsec;
}

static unsigned long begun(void)
{
    charged_pieces = 0;
    return on_processor_ns();
}

static void ended(struct timed *call, unsigned long begun_ns)
{
    unsigned long ns = on_processor_ns() - begun_ns, longest_ns = atomic_load(&call->longest_ns);

    atomic_fetch_add(&call->count, 1);
    atomic_fetch_add(&call->ns, ns);
    atomic_fetch_add(&call->of_1_ms, ns >= 1000000);
    atomic_fetch_add(&call->of_2_ms, ns >= 2000000);
    while (ns > longest_ns)
        if (atomic_compare_exchange_weak(&call->longest_ns, &longest_ns, ns))
            atomic_store(&call->pieces, (unsigned long)charged_pieces);
}

/* [{Name, Calls, MeanNs, LongestNs, ItsPieces, {CallsOf1MsOrMore, Of2Ms}}]; the next one is of what comes after. */
static ERL_NIF_TERM report(ErlNifEnv *env)
{
    ERL_NIF_TERM list = enif_make_list(env, 0);

    for (struct timed *call = calls; call < calls + CALLS; call++) {
        ERL_NIF_TERM name = enif_make_string(env, call->name ? call->name : "", ERL_NIF_LATIN1);
        unsigned long count = atomic_exchange(&call->count, 0);
        if (count > 0)
            list = enif_make_list_cell(
                env,
                enif_make_tuple6(
                    env, name, enif_make_ulong(env, count),
                    enif_make_ulong(env, atomic_exchange(&call->ns, 0) / count),
                    enif_make_ulong(env, atomic_exchange(&call->longest_ns, 0)),
                    enif_make_ulong(env, atomic_load(&call->pieces)),
                    enif_make_tuple2(env, enif_make_ulong(env, atomic_exchange(&call->of_1_ms, 0)),
                                     enif_make_ulong(env, atomic_exchange(&call->of_2_ms, 0)))),
                list);
    }
    return list;
}

static ERL_NIF_TERM call(int i, ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    unsigned long begun_ns = begun();
    ERL_NIF_TERM result;

    /* info(timed): for want of a function of its own, which sockpool_nif.erl would have to declare. */
    if (originals[i].fptr == sp_nif_info &&
        enif_is_identical(argv[0], enif_make_atom(env, "timed")))
        return report(env);
    result = originals[i].fptr(env, argc, argv);
    ended(&calls[i], begun_ns);
    return result;
}

/* clang-format off */
#define TEN(X, tens) X(tens##0) X(tens##1) X(tens##2) X(tens##3) X(tens##4) X(tens##5) X(tens##6) X(tens##7) \
    X(tens##8) X(tens##9)
/* clang-format on */
#define FIFTY(X) TEN(X, ) TEN(X, 1) TEN(X, 2) TEN(X, 3) TEN(X, 4)
#define FUNCTION(i)                                                                                \
    static ERL_NIF_TERM call_##i(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])              \
    {                                                                                              \
        return call(i, env, argc, argv);                                                           \
    }
#define FUNCTION_NAME(i) call_##i,
FIFTY(FUNCTION)
static ERL_NIF_TERM (*const by_number[])(ErlNifEnv *, int,
                                         const ERL_NIF_TERM[]) = {FIFTY(FUNCTION_NAME)};

/* ---- in place of what the objects call, or ERTS looks up ---- */

ErlNifEntry *sockpool_nif_init(void);

ERL_NIF_INIT_DECL(timed)
{
    ErlNifEntry *entry = sockpool_nif_init();

    if (entry->num_of_funcs > FUNCTIONS_MAX)
        return NULL;
    for (int i = 0; i < entry->num_of_funcs; i++) {
        originals[i] = functions[i] = entry->funcs[i];
        functions[i].fptr = by_number[i];
        calls[i].name = entry->funcs[i].name;
    }
    entry->funcs = functions;
    return entry;
}

void __real_sp_nif_charge(const struct sp_call *);
void __wrap_sp_nif_charge(const struct sp_call *);
void __wrap_sp_nif_charge(const struct sp_call *sp_call)
{
    charged_pieces = SP_ALLOWANCE_PIECES - sp_call->allowance->left;
    __real_sp_nif_charge(sp_call);
}

#define TIMED(what, original)                                                                      \
    do {                                                                                           \
        unsigned long begun_ns = begun();                                                          \
        original;                                                                                  \
        ended(&calls[what], begun_ns);                                                             \
    } while (0)

static void pool_dtor(ErlNifEnv *env, void *pool)
{
    TIMED(POOL_DTOR, pool_type.dtor(env, pool));
}

static void pool_down(ErlNifEnv *env, void *pool, ErlNifPid *pid, ErlNifMonitor *monitor)
{
    TIMED(POOL_DOWN, pool_type.down(env, pool, pid, monitor));
}

static void conn_dtor(ErlNifEnv *env, void *conn)
{
    TIMED(CONN_DTOR, conn_type.dtor(env, conn));
}

static void conn_stop(ErlNifEnv *env, void *conn, ErlNifEvent event, int is_direct_call)
{
    TIMED(CONN_STOP, conn_type.stop(env, conn, event, is_direct_call));
}

static void lease_dtor(ErlNifEnv *env, void *lease)
{
    TIMED(LEASE_DTOR, lease_type.dtor(env, lease));
}

typedef ErlNifResourceType *open_type(ErlNifEnv *, const char *, const ErlNifResourceTypeInit *,
                                      ErlNifResourceFlags, ErlNifResourceFlags *);
open_type __real_enif_open_resource_type_x, __wrap_enif_open_resource_type_x;
ErlNifResourceType *__wrap_enif_open_resource_type_x(ErlNifEnv *env, const char *name,
                                                     const ErlNifResourceTypeInit *init,
                                                     ErlNifResourceFlags flags,
                                                     ErlNifResourceFlags *tried)
{
    ErlNifResourceTypeInit pool = {.dtor = pool_dtor, .down = pool_down};
    ErlNifResourceTypeInit conn = {.dtor = conn_dtor, .stop = conn_stop};
    ErlNifResourceTypeInit lease = {.dtor = lease_dtor};

    if (init->down) {
        pool_type = *init;
        init = &pool;
    } else if (init->stop) {
        conn_type = *init;
        init = &conn;
    } else {
        lease_type = *init;
        init = &lease;
    }
    return __real_enif_open_resource_type_x(env, name, init, flags, tried);
}
