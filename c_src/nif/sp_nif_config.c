/* The options of a pool, as sockpool_pool:config/1 makes them. */
#include "sp_nif.h"

#include "core/dist/sp_node.h"
#include "core/pool/sp_piped.h"
#include "core/tls/sp_tls.h"

#include <limits.h>
#include <string.h>

static bool get_value(ErlNifEnv *env, ERL_NIF_TERM map, const char *key, ERL_NIF_TERM *value)
{
    return enif_get_map_value(env, map, enif_make_atom(env, key), value);
}

/* A whole number; the atoms infinity and never give SP_NEVER, and undefined and always 0. */
static bool get_number(ErlNifEnv *env, ERL_NIF_TERM map, const char *key, uint64_t *number)
{
    ERL_NIF_TERM value;
    ErlNifUInt64 given;
    char word[16];

    if (!get_value(env, map, key, &value))
        return false;
    if (enif_get_uint64(env, value, &given)) {
        *number = given;
        return true;
    }
    if (!enif_get_atom(env, value, word, sizeof word, ERL_NIF_LATIN1))
        return false;
    if (strcmp(word, "infinity") == 0 || strcmp(word, "never") == 0)
        *number = SP_NEVER;
    else if (strcmp(word, "undefined") == 0 || strcmp(word, "always") == 0)
        *number = 0;
    else
        return false;
    return true;
}

static bool get_ms(ErlNifEnv *env, ERL_NIF_TERM map, const char *key, uint64_t *ns)
{
    if (!get_number(env, map, key, ns))
        return false;
    *ns = *ns == SP_NEVER ? SP_NEVER : *ns * SP_MS;
    return true;
}

/* {Idle, Interval, Count} */
static bool get_times(ErlNifEnv *env, ERL_NIF_TERM map, struct sp_keepalive *times)
{
    const ERL_NIF_TERM *items;
    ERL_NIF_TERM value;
    int arity;

    return get_value(env, map, "keepalive_times", &value) &&
           enif_get_tuple(env, value, &arity, &items) && arity == 3 &&
           enif_get_uint(env, items[0], &times->idle_s) &&
           enif_get_uint(env, items[1], &times->interval_s) &&
           enif_get_uint(env, items[2], &times->count) && times->idle_s <= INT_MAX &&
           times->interval_s <= INT_MAX && times->count <= INT_MAX;
}

static bool get_sockopts(ErlNifEnv *env, ERL_NIF_TERM map, struct sp_sockopts *opts)
{
    ERL_NIF_TERM value;
    uint64_t sndbuf, recbuf, user_timeout;
    bool ok = get_value(env, map, "nodelay", &value) && sp_nif_get_bool(value, &opts->nodelay) &&
              get_value(env, map, "keepalive", &value) &&
              sp_nif_get_bool(value, &opts->keepalive) && get_times(env, map, &opts->times) &&
              get_number(env, map, "user_timeout", &user_timeout) && user_timeout <= INT_MAX &&
              get_number(env, map, "sndbuf", &sndbuf) && get_number(env, map, "recbuf", &recbuf) &&
              sndbuf <= INT_MAX && recbuf <= INT_MAX && get_value(env, map, "bind", &value);

    if (!ok)
        return false;
    opts->user_timeout_ms = (unsigned)user_timeout;
    opts->sndbuf_bytes = (int)sndbuf;
    opts->recbuf_bytes = (int)recbuf;
    return enif_is_identical(value, sp_atoms.undefined) ||
           sp_nif_get_addr(env, value, enif_make_uint(env, 0), &opts->bind);
}

static const struct sp_transport *get_transport(ERL_NIF_TERM name, ERL_NIF_TERM tls)
{
    if (enif_is_identical(name, sp_atoms.unix_))
        return &sp_transport_unix;
    if (enif_is_identical(name, sp_atoms.tls))
        return &sp_transport_tls;
    if (enif_is_identical(name, sp_atoms.worker))
        return &sp_nif_transport_worker;
    if (enif_is_identical(name, sp_atoms.node))
        return enif_is_identical(tls, sp_atoms.undefined) ? &sp_transport_node
                                                          : &sp_transport_node_tls;
    return &sp_transport_tcp;
}

bool sp_nif_get_config(ErlNifEnv *env, ERL_NIF_TERM map, struct sp_config *config)
{
    ERL_NIF_TERM transport, strategy, packet, tls, abandoned, fail_fast, replies, growth;
    uint64_t size, max_overflow, min_size, min_idle, connect_parallelism, silence_s, pipeline;

    memset(config, 0, sizeof *config);
    if (!get_value(env, map, "transport", &transport) || !get_value(env, map, "tls", &tls) ||
        !get_value(env, map, "abandoned", &abandoned) ||
        !get_value(env, map, "replies", &replies) || !get_value(env, map, "growth", &growth) ||
        !get_value(env, map, "fail_fast", &fail_fast) ||
        !sp_nif_get_bool(fail_fast, &config->fail_fast) ||
        !get_number(env, map, "connect_parallelism", &connect_parallelism) ||
        !get_value(env, map, "strategy", &strategy) || !get_value(env, map, "packet", &packet) ||
        !get_number(env, map, "size", &size) ||
        !get_number(env, map, "max_overflow", &max_overflow) || size + max_overflow > INT_MAX ||
        !get_ms(env, map, "overflow_ttl", &config->overflow_ttl_ns) ||
        !get_number(env, map, "min_size", &min_size) ||
        !get_number(env, map, "min_idle", &min_idle) || min_idle > INT_MAX ||
        !get_ms(env, map, "idle_timeout", &config->idle_timeout_ns) ||
        !get_ms(env, map, "lifetime_min", &config->lifetime_min_ns) ||
        !get_ms(env, map, "lifetime_max", &config->lifetime_max_ns) ||
        config->lifetime_min_ns > config->lifetime_max_ns ||
        !get_number(env, map, "max_uses", &config->max_uses) || config->max_uses < 1 ||
        (config->max_uses > UINT32_MAX && config->max_uses != SP_NEVER) ||
        !get_ms(env, map, "validate", &config->validate_after_ns) ||
        !get_ms(env, map, "max_hold", &config->max_hold_ns) ||
        !get_ms(env, map, "health_interval", &config->health_interval_ns) ||
        !get_ms(env, map, "health_timeout", &config->health_timeout_ns) ||
        !get_ms(env, map, "leak_threshold", &config->leak_threshold_ns) ||
        !get_number(env, map, "max_waiting", &config->max_waiting) ||
        !get_ms(env, map, "backoff_min", &config->backoff_min_ns) ||
        !get_ms(env, map, "backoff_max", &config->backoff_max_ns) ||
        !get_number(env, map, "recv_limit", &config->recv_limit_bytes) ||
        !get_number(env, map, "pipeline", &pipeline) || pipeline > SP_PIPELINE_MAX ||
        !get_number(env, map, "pipeline_bytes", &config->pipeline_bytes) ||
        !get_ms(env, map, "pipeline_stall", &config->pipeline_stall_ns) ||
        !sp_nif_get_framing(env, packet, &config->framing) ||
        !get_sockopts(env, map, &config->sockopts))
        return false;
    config->transport = get_transport(transport, tls);
    if (sp_is_node(config->transport) && get_number(env, map, "silence", &silence_s))
        config->sockopts.silence_s = (unsigned)silence_s;
    config->strategy = enif_is_identical(strategy, sp_atoms.fifo) ? SP_FIFO : SP_LIFO;
    config->growth = enif_is_identical(growth, enif_make_atom(env, "eager")) ? SP_GROWTH_EAGER
                                                                             : SP_GROWTH_EXPECTED;
    config->pipeline = (uint32_t)pipeline;
    config->connect_parallelism =
        connect_parallelism < UINT32_MAX ? (uint32_t)connect_parallelism : UINT32_MAX;
    config->replies = enif_is_identical(replies, sp_atoms.true_);
    config->reuse_abandoned = enif_is_identical(abandoned, enif_make_atom(env, "reuse"));
    config->size = (uint32_t)size;
    config->max_overflow = (uint32_t)max_overflow;
    config->min_idle = (uint32_t)min_idle;
    config->min_size = min_size < UINT32_MAX ? (uint32_t)min_size : UINT32_MAX;
    return true;
}

bool sp_nif_get_limits(ErlNifEnv *env, ERL_NIF_TERM map, struct sp_nif_limits *limits)
{
    return get_number(env, map, "checkout_timeout", &limits->checkout_timeout) &&
           get_number(env, map, "send_timeout", &limits->send_timeout) &&
           get_number(env, map, "slow_checkout", &limits->slow_checkout) &&
           get_number(env, map, "max_inflight", &limits->max_inflight) &&
           get_number(env, map, "worker_shutdown", &limits->worker_shutdown);
}

void sp_nif_store_limits(struct sp_nif_pool *pool, const struct sp_nif_limits *limits)
{
    atomic_store(&pool->checkout_timeout, limits->checkout_timeout);
    atomic_store(&pool->send_timeout, limits->send_timeout);
    atomic_store(&pool->slow_checkout, limits->slow_checkout);
    atomic_store(&pool->max_inflight, limits->max_inflight);
    atomic_store(&pool->worker_shutdown, limits->worker_shutdown);
}
