/* NIFs of a pool's control process. */
#include "sp_nif.h"

#include "core/pool/sp_piped.h"
#include "core/pool/sp_due.h"
#include "core/pool/sp_health.h"
#include "core/pool/sp_lease.h"
#include "core/pool/sp_settings.h"
#include "core/pool/sp_snapshot.h"

#define ATTEMPTS_PER_STEP 32

static ERL_NIF_TERM not_a_pool(ErlNifEnv *env)
{
    return enif_make_badarg(env);
}

/* pool_new(Name | undefined, Shards) -> Pool */
SP_NIF(sp_nif_pool_new)
{
    struct sp_nif_pool *pool;
    ERL_NIF_TERM term;
    unsigned shards;

    (void)argc;
    if (!enif_is_atom(env, argv[0]) || !enif_get_uint(env, argv[1], &shards) || shards == 0)
        return enif_make_badarg(env);
    pool = sp_nif_pool_alloc(env, shards, &term);
    if (!pool)
        return enif_raise_exception(env, enif_make_atom(env, "enomem"));
    pool->name = argv[0];
    /* Who comes before it is open is told that, and not what its options would say. */
    atomic_store(&pool->recv_limit_bytes, UINT64_MAX);
    atomic_store(&pool->header,
                 sp_framing_pack(&(struct sp_framing){.kind = SP_FRAMING_DELIMITER}));
    return term;
}

static enum sp_nif_grant grants(const struct sp_transport *transport, ERL_NIF_TERM check)
{
    if (sp_is_node(transport))
        return SP_NIF_NODE;
    if (!sp_is_worker(transport))
        return SP_NIF_STREAM;
    return enif_is_identical(check, sp_atoms.undefined) ? SP_NIF_WORKER : SP_NIF_CHECK;
}

/* Makes the caller the control process. Called under `transition`. SP_BUSY where another one lives
 * (then *other), SP_AGAIN where one has died and its pool is still to be shut. */
static sp_status take_control(ErlNifEnv *env, struct sp_nif_pool *pool, ErlNifPid *other)
{
    ErlNifMonitor monitor;
    ErlNifPid self;
    bool was_controlled, taken;

    enif_self(env, &self);
    if (enif_monitor_process(env, pool->resource, &self, &monitor) != 0)
        return SP_CLOSED;
    enif_mutex_lock(pool->lock);
    was_controlled = pool->controlled;
    *other = pool->controller;
    taken = !was_controlled;
    if (taken) {
        pool->controlled = true;
        pool->controller = self;
        pool->monitor = monitor;
    }
    enif_mutex_unlock(pool->lock);
    if (taken)
        return SP_OK;
    enif_demonitor_process(env, pool->resource, &monitor);
    /* Dead: the monitor's call is under way, and shuts the pool. */
    return enif_is_process_alive(env, other) ? SP_BUSY : SP_AGAIN;
}

static void give_up_control(struct sp_nif_pool *pool)
{
    enif_mutex_lock(pool->lock);
    pool->controlled = false;
    enif_mutex_unlock(pool->lock);
}

/* pool_open(Pool, Config, Seed, Janitor | undefined) -> ok | again | gone | {already_started, Pid}. The
 * caller becomes the control process; again: call again, the pool's last life is still being
 * cleaned up. The janitor gets {sockpool_shut, Pool} when the caller crashes, and calls
 * pool_clean_up/1. */
SP_NIF(sp_nif_pool_open)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);
    struct sp_config config;
    ERL_NIF_TERM check, cut;
    enum sp_nif_grant granted;
    struct sp_nif_limits limits;
    ErlNifUInt64 seed;
    ErlNifPid janitor, other;
    sp_status status = SP_AGAIN;

    (void)argc;
    if (!enif_get_local_pid(env, argv[3], &janitor))
        enif_set_pid_undefined(&janitor);
    if (!pool || !enif_get_uint64(env, argv[2], &seed) ||
        !sp_nif_get_config(env, argv[1], &config) || !sp_nif_get_limits(env, argv[1], &limits) ||
        !enif_get_map_value(env, argv[1], enif_make_atom(env, "check"), &check) ||
        !enif_get_map_value(env, argv[1], enif_make_atom(env, "cut"), &cut))
        return enif_make_badarg(env);
    granted = grants(config.transport, check);
    /* Not to wait for the janitor, who goes from slice to slice. */
    if (enif_mutex_trylock(pool->transition) != 0)
        return sp_atoms.again;
    if (pool->retired) {
        enif_mutex_unlock(pool->transition);
        return enif_make_atom(env, "gone");
    }
    if (!sp_nif_shut_slice(&call, pool))
        status = take_control(env, pool, &other);
    if (status == SP_OK &&
        ((granted == SP_NIF_CHECK && !sp_nif_keep(pool, &pool->check, check)) ||
         (config.framing.kind == SP_FRAMING_FUN && !sp_nif_keep(pool, &pool->cut, cut)))) {
        give_up_control(pool);
        status = SP_NO_MEMORY;
    }
    if (status == SP_OK && config.pipeline > 1 && sp_piped_open(&pool->core) != SP_OK) {
        give_up_control(pool);
        status = SP_NO_MEMORY;
    }
    if (status == SP_OK) {
        enif_mutex_lock(pool->lock);
        pool->janitor = janitor;
        enif_mutex_unlock(pool->lock);
        sp_nif_store_limits(pool, &limits);
        atomic_store(&pool->header, sp_framing_pack(&config.framing));
        atomic_store(&pool->raw, config.framing.kind == SP_FRAMING_RAW ||
                                     config.framing.kind == SP_FRAMING_FUN);
        atomic_store(&pool->recv_limit_bytes, config.recv_limit_bytes);
        atomic_store(&pool->grants, (uint32_t)granted);
        config.sockopts.settings = pool->tls;
        sp_control_open(&pool->core, &call, &config, seed);
    }
    enif_mutex_unlock(pool->transition);
    sp_nif_charge(&call);
    if (status == SP_NO_MEMORY)
        return enif_raise_exception(env, enif_make_atom(env, "enomem"));
    if (status == SP_BUSY)
        return enif_make_tuple2(env, sp_atoms.already_started, enif_make_pid(env, &other));
    return status == SP_OK ? sp_atoms.ok : sp_atoms.again;
}

struct sp_nif_pool *sp_nif_controlled_pool(ErlNifEnv *env, ERL_NIF_TERM term)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, term);
    ErlNifPid self, controller;

    if (!pool || !sp_nif_get_controller(pool, &controller))
        return NULL;
    enif_self(env, &self);
    return enif_is_identical(self.pid, controller.pid) ? pool : NULL;
}

/* pool_update(Pool, Config, Changes) -> ok. What may change while it is open does, see sp_settings.h; Changes is
 * kept for pool_changes/1. The caller steps at once. */
SP_NIF(sp_nif_pool_update)
{
    struct sp_nif_pool *pool = sp_nif_controlled_pool(env, argv[0]);
    struct sp_config config;
    struct sp_nif_limits limits;

    (void)argc;
    if (!pool || !sp_nif_get_config(env, argv[1], &config) ||
        !sp_nif_get_limits(env, argv[1], &limits))
        return enif_make_badarg(env);
    if (!sp_nif_keep(pool, &pool->changes, argv[2]))
        return enif_raise_exception(env, enif_make_atom(env, "enomem"));
    sp_nif_store_limits(pool, &limits);
    sp_settings_update(&pool->core, &config);
    return sp_atoms.ok;
}

/* pool_changes(Pool) -> Changes | undefined: those of the last pool_update/3. */
SP_NIF(sp_nif_pool_changes)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    ERL_NIF_TERM changes = sp_atoms.undefined;
    ErlNifTime at_ms;

    (void)argc;
    if (!pool)
        return not_a_pool(env);
    (void)sp_nif_kept_get(pool, &pool->changes, env, &changes, &at_ms);
    return changes;
}

/* pool_shut(Pool) -> ok | again. An orderly stop by the control process; again: call again. */
SP_NIF(sp_nif_pool_shut)
{
    struct sp_nif_pool *pool = sp_nif_controlled_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);
    bool more;

    (void)argc;
    if (!pool)
        return not_a_pool(env);
    enif_mutex_lock(pool->transition);
    if (!pool->shutting)
        sp_nif_shut_begin(env, pool, SP_PHASE_CLOSED, SP_DRAINING);
    more = sp_nif_shut_slice(&call, pool);
    if (!more)
        give_up_control(pool);
    enif_mutex_unlock(pool->transition);
    sp_nif_charge(&call);
    return more ? sp_atoms.again : sp_atoms.ok;
}

/* pool_clean_up(Pool) -> ok | again. What a crashed control process has left, if it has; again: call
 * again. The caller is the pool's janitor from now on. */
SP_NIF(sp_nif_pool_clean_up)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);
    ErlNifPid self;
    bool more;

    (void)argc;
    if (!pool)
        return not_a_pool(env);
    enif_self(env, &self);
    enif_mutex_lock(pool->lock);
    pool->janitor = self;
    enif_mutex_unlock(pool->lock);
    if (enif_mutex_trylock(pool->transition) != 0)
        return sp_atoms.again;
    more = sp_nif_shut_slice(&call, pool);
    enif_mutex_unlock(pool->transition);
    sp_nif_charge(&call);
    return more ? sp_atoms.again : sp_atoms.ok;
}

static ERL_NIF_TERM attempt_term(ErlNifEnv *env, const struct sp_attempt *attempt)
{
    struct sp_nif_lease *lease = sp_nif_lease_new();

    lease->conn = attempt->conn;
    lease->lease = attempt->lease;
    return sp_nif_lease_handle(env, lease);
}

/* pool_step(Pool) -> {[Attempt], More :: boolean(), WaitMs | infinity} */
SP_NIF(sp_nif_pool_step)
{
    struct sp_nif_pool *pool = sp_nif_controlled_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);
    struct sp_attempt attempts[ATTEMPTS_PER_STEP];
    struct sp_plan plan;
    ERL_NIF_TERM list = enif_make_list(env, 0);

    (void)argc;
    if (!pool)
        return not_a_pool(env);
    sp_control_step(&pool->core, &call, attempts, ATTEMPTS_PER_STEP, &plan);
    for (size_t i = plan.attempts; i-- > 0;)
        list = enif_make_list_cell(env, attempt_term(env, &attempts[i]), list);
    sp_nif_charge(&call);
    return enif_make_tuple3(env, list, plan.more ? sp_atoms.true_ : sp_atoms.false_,
                            sp_nif_wait_term(env, plan.wait_ns));
}

/* pool_tick(Pool, Cursor) -> NextCursor | {due, Ms | infinity}, when the round is done: when the next one is to begin,
 * if there is no step before. The first cursor is 0. */
SP_NIF(sp_nif_pool_tick)
{
    struct sp_nif_pool *pool = sp_nif_controlled_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);
    uint32_t cursor;
    uint64_t due_ns = SP_NEVER;
    bool more;

    (void)argc;
    if (!pool || !enif_get_uint(env, argv[1], &cursor))
        return not_a_pool(env);
    more = sp_control_tick(&pool->core, &call, &cursor);
    if (!more)
        due_ns = sp_due_next(&pool->core, &call);
    sp_nif_charge(&call);
    if (more)
        return enif_make_uint(env, cursor);
    return enif_make_tuple2(
        env, enif_make_atom(env, "due"),
        sp_nif_wait_term(env, due_ns == SP_NEVER ? SP_NEVER : due_ns - call.now_ns));
}

/* pool_idle_event(Pool, Slot, Generation) -> ok */
SP_NIF(sp_nif_pool_idle_event)
{
    struct sp_nif_pool *pool = sp_nif_controlled_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);
    unsigned slot, generation;

    (void)argc;
    if (!pool || !enif_get_uint(env, argv[1], &slot) || !enif_get_uint(env, argv[2], &generation))
        return not_a_pool(env);
    sp_control_idle_event(&pool->core, &call, slot, generation);
    sp_nif_charge(&call);
    return sp_atoms.ok;
}

/* {Cursor, Idle, Leased, Connecting}: what was counted of a pool so far. */
static bool get_counted(ErlNifEnv *env, ERL_NIF_TERM term, struct sp_snapshot *snapshot,
                        uint32_t *cursor)
{
    const ERL_NIF_TERM *items;
    ErlNifUInt64 counts[3];
    int arity;

    if (!enif_get_tuple(env, term, &arity, &items) || arity != 4 ||
        !enif_get_uint(env, items[0], cursor))
        return false;
    for (int i = 0; i < 3; i++)
        if (!enif_get_uint64(env, items[i + 1], &counts[i]))
            return false;
    *snapshot =
        (struct sp_snapshot){.idle = counts[0], .leased = counts[1], .connecting = counts[2]};
    return true;
}

static ERL_NIF_TERM counts_term(ErlNifEnv *env, const char *const *words, const uint64_t *counts,
                                int count)
{
    ERL_NIF_TERM map = enif_make_new_map(env);

    for (int i = 0; i < count; i++)
        enif_make_map_put(env, map, enif_make_atom(env, words[i]), enif_make_uint64(env, counts[i]),
                          &map);
    return map;
}

static void put_reasons(ErlNifEnv *env, const struct sp_snapshot *snapshot, ERL_NIF_TERM *map)
{
#define WORD(name, word) #word,
    static const char *const WHYS[] = {SP_WHY_MAP(WORD)},
                             *const FAILURES[] = {SP_FAILURE_MAP(WORD)},
                             *const ERRORS[] = {SP_ERROR_MAP(WORD)};
#undef WORD

    enif_make_map_put(env, *map, enif_make_atom(env, "closed_by"),
                      counts_term(env, WHYS, snapshot->closed_by, SP_WHYS), map);
    enif_make_map_put(env, *map, enif_make_atom(env, "connect_failed_by"),
                      counts_term(env, FAILURES, snapshot->failed_by, SP_FAILURES), map);
    enif_make_map_put(env, *map, enif_make_atom(env, "errors"),
                      counts_term(env, ERRORS, snapshot->errors, SP_ERRORS), map);
}

/* pool_stats(Pool, Counted) -> #{name => Name, size => Size, ...} | Counted | not_found. At first
 * {0, 0, 0, 0}; what is returned of that form, for the next call. */
SP_NIF(sp_nif_pool_stats)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);
    struct sp_snapshot snapshot;
    ERL_NIF_TERM map = enif_make_new_map(env), error = sp_atoms.undefined, at = sp_atoms.undefined;
    ErlNifTime at_ms;
    ErlNifPid pid;
    uint32_t cursor;
    bool more;

    (void)argc;
    if (!pool || !get_counted(env, argv[1], &snapshot, &cursor))
        return not_a_pool(env);
    if (!sp_nif_get_controller(pool, &pid))
        return enif_make_atom(env, "not_found");
    more = sp_pool_snapshot(&pool->core, &call, &snapshot, &cursor);
    sp_take(&call, more ? 0 : SP_PIECES_COUNTERS);
    sp_nif_charge(&call);
    if (more)
        return enif_make_tuple4(
            env, enif_make_uint(env, cursor), enif_make_uint64(env, snapshot.idle),
            enif_make_uint64(env, snapshot.leased), enif_make_uint64(env, snapshot.connecting));
    enif_make_map_put(env, map, sp_atoms.name, sp_nif_name_term(env, pool), &map);
    if (sp_nif_kept_get(pool, &pool->last_error, env, &error, &at_ms))
        at = enif_make_int64(env, at_ms);
    enif_make_map_put(env, map, enif_make_atom(env, "last_error"), error, &map);
    enif_make_map_put(env, map, enif_make_atom(env, "last_error_at"), at, &map);
#define PUT(field)                                                                                 \
    enif_make_map_put(env, map, enif_make_atom(env, #field),                                       \
                      enif_make_uint64(env, snapshot.field), &map);
    SP_SNAPSHOT_MAP(PUT)
#undef PUT
    put_reasons(env, &snapshot, &map);
    return map;
}

/* pool_controller(Pool) -> Pid | undefined */
SP_NIF(sp_nif_pool_controller)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    ErlNifPid pid;

    (void)argc;
    if (!pool)
        return not_a_pool(env);
    return sp_nif_get_controller(pool, &pid) ? enif_make_pid(env, &pid) : sp_atoms.undefined;
}

/* pool_check(Pool) -> Function | undefined: the one that says whether a worker is fit. */
SP_NIF(sp_nif_pool_check)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    ERL_NIF_TERM check = sp_atoms.undefined;
    ErlNifTime at_ms;

    (void)argc;
    if (!pool)
        return not_a_pool(env);
    (void)sp_nif_kept_get(pool, &pool->check, env, &check, &at_ms);
    return check;
}

/* pool_want(Pool) -> {error, full | unavailable}. Somebody who does not wait would have liked a connection. */
SP_NIF(sp_nif_pool_want)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);

    (void)argc;
    if (!pool)
        return not_a_pool(env);
    return sp_nif_error_term(env, sp_pool_want(&pool->core, &call));
}

/* pool_note_error(Pool, Reason) -> ok. What waiters are told while the pool is unavailable. */
SP_NIF(sp_nif_pool_note_error)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);

    (void)argc;
    if (!pool)
        return not_a_pool(env);
    (void)sp_nif_keep(pool, &pool->last_error, argv[1]);
    return sp_atoms.ok;
}

/* {error, {unavailable, Reason}} */
static bool unavailable_term(ErlNifEnv *env, struct sp_nif_pool *pool, ERL_NIF_TERM *term)
{
    ERL_NIF_TERM reason;
    ErlNifTime at_ms;

    if (!sp_nif_kept_get(pool, &pool->last_error, env, &reason, &at_ms))
        return false;
    *term =
        enif_make_tuple2(env, sp_atoms.error, enif_make_tuple2(env, sp_atoms.unavailable, reason));
    return true;
}

/* pool_give_up(Pool) -> {error, timeout} | {error, {unavailable, Reason}}, for a waiter whose time
 * is over. */
SP_NIF(sp_nif_pool_give_up)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    ERL_NIF_TERM error;

    (void)argc;
    if (!pool)
        return not_a_pool(env);
    if (sp_health_unavailable(&pool->core) && unavailable_term(env, pool, &error))
        return error;
    return enif_make_tuple2(env, sp_atoms.error, sp_atoms.timeout);
}

/* pool_unavailable(Pool) -> {error, {unavailable, Reason}}, for who is told so instead of waiting. */
SP_NIF(sp_nif_pool_unavailable)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    ERL_NIF_TERM error;

    (void)argc;
    if (!pool)
        return not_a_pool(env);
    if (unavailable_term(env, pool, &error))
        return error;
    /* There was no memory to keep the reason. */
    return enif_make_tuple2(
        env, sp_atoms.error,
        enif_make_tuple2(env, sp_atoms.unavailable, sp_nif_reason_term(env, SP_NO_MEMORY)));
}

/* pool_ready(Pool, Count) -> ok | {error, timeout} | {error, {unavailable, Reason}}: whether so many are up; if not, for
 * who has waited for it. */
SP_NIF(sp_nif_pool_ready)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    ERL_NIF_TERM error;
    ErlNifUInt64 count;

    (void)argc;
    if (!pool || !enif_get_uint64(env, argv[1], &count))
        return not_a_pool(env);
    if (sp_health_ups(&pool->core) >= count)
        return sp_atoms.ok;
    if (sp_health_failing(&pool->core) && unavailable_term(env, pool, &error))
        return error;
    return enif_make_tuple2(env, sp_atoms.error, sp_atoms.timeout);
}

/* pool_checkout_timeout(Pool) -> Ms | infinity */
SP_NIF(sp_nif_pool_checkout_timeout)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);

    (void)argc;
    if (!pool)
        return not_a_pool(env);
    return sp_nif_ms_term(env, atomic_load(&pool->checkout_timeout));
}

/* pool_send_timeout(Pool) -> Ms | infinity */
SP_NIF(sp_nif_pool_send_timeout)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);

    (void)argc;
    if (!pool)
        return not_a_pool(env);
    return sp_nif_ms_term(env, atomic_load(&pool->send_timeout));
}
