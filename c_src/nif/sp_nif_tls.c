/* TLS in terms: the options of a pool, and reasons. */
#include "sp_nif.h"

#include "core/tls/sp_tls_ctx.h"
#include "core/tls/sp_tls_error.h"

#include <string.h>

ERL_NIF_TERM sp_nif_tls_reason_term(ErlNifEnv *env, sp_status status)
{
    bool alert;
    ERL_NIF_TERM reason = enif_make_atom(env, sp_tls_error_name(status, &alert));

    if (alert)
        reason = enif_make_tuple2(env, sp_atoms.alert, reason);
    return enif_make_tuple2(env, sp_atoms.tls, reason);
}

bool sp_nif_tls_roots_init(struct sp_nif_roots *roots)
{
    roots->tls = sp_tls_registry_new();
    return roots->tls != NULL;
}

void sp_nif_tls_roots_free(struct sp_nif_roots *roots)
{
    sp_tls_registry_unref(roots->tls);
}

/* With a reference of the pool's own: its dirty calls, and its connections, can outlive the roots. */
bool sp_nif_tls_init(ErlNifEnv *env, struct sp_nif_pool *pool)
{
    const struct sp_nif_roots *roots = enif_priv_data(env);

    pool->tls = enif_alloc(2 * sizeof *pool->tls);
    if (!pool->tls)
        return false;
    pool->upgrade = pool->tls + 1;
    sp_tls_slot_init(pool->tls);
    sp_tls_slot_init(pool->upgrade);
    sp_tls_registry_ref(roots->tls);
    pool->tls_registry = roots->tls;
    return true;
}

void sp_nif_tls_free(struct sp_nif_pool *pool)
{
    if (!pool->tls)
        return;
    sp_tls_slot_destroy(pool->tls);
    sp_tls_slot_destroy(pool->upgrade);
    enif_free(pool->tls);
    sp_tls_registry_unref(pool->tls_registry);
}

/* The turn comes from the counter that sockpool_tls:turn/0 uses. A configuration of this life took its
 * own earlier, in the control process, so it is refused where it comes later. One of the next life
 * takes its own after pool_open/4, which waits for the shut under `transition', so it is accepted. */
void sp_nif_tls_release(ErlNifEnv *env, struct sp_nif_pool *pool)
{
    ERL_NIF_TERM term =
        enif_make_unique_integer(env, ERL_NIF_UNIQUE_MONOTONIC | ERL_NIF_UNIQUE_POSITIVE);
    ErlNifSInt64 turn;

    if (!enif_get_int64(env, term, &turn))
        return;
    sp_tls_slot_set(pool->tls, NULL, turn);
    sp_tls_slot_set(pool->upgrade, NULL, turn);
}

/* ---- options ---- */

/* Each getter: false for a missing key or another type, which sockpool_tls.erl does not send. */
static bool get(ErlNifEnv *env, ERL_NIF_TERM map, const char *key, ERL_NIF_TERM *value)
{
    return enif_get_map_value(env, map, enif_make_atom(env, key), value);
}

static bool get_flag(ErlNifEnv *env, ERL_NIF_TERM map, const char *key, bool *flag)
{
    ERL_NIF_TERM value;

    return get(env, map, key, &value) && sp_nif_get_bool(value, flag);
}

static bool get_blob(ErlNifEnv *env, ERL_NIF_TERM map, const char *key, struct sp_tls_blob *blob)
{
    ERL_NIF_TERM value;
    ErlNifBinary bin;

    if (!get(env, map, key, &value))
        return false;
    *blob = (struct sp_tls_blob){0};
    if (enif_is_identical(value, sp_atoms.undefined))
        return true;
    if (!enif_inspect_binary(env, value, &bin))
        return false;
    *blob = (struct sp_tls_blob){.data = bin.data, .len = bin.size};
    return true;
}

/* A binary that ends in its only 0, so that C can read it where it is. */
static bool get_text(ErlNifEnv *env, ERL_NIF_TERM map, const char *key, const char **text)
{
    struct sp_tls_blob blob;

    if (!get_blob(env, map, key, &blob))
        return false;
    *text = blob.data;
    return !blob.data || (blob.len > 0 &&
                          memchr(blob.data, 0, blob.len) == (const char *)blob.data + blob.len - 1);
}

static bool get_version(ErlNifEnv *env, ERL_NIF_TERM map, const char *key, int *version)
{
    ERL_NIF_TERM value;
    char word[16];

    if (!get(env, map, key, &value) ||
        !enif_get_atom(env, value, word, sizeof word, ERL_NIF_LATIN1))
        return false;
    *version = strcmp(word, "tlsv1.3") == 0 ? TLS1_3_VERSION : TLS1_2_VERSION;
    return *version == TLS1_3_VERSION || strcmp(word, "tlsv1.2") == 0;
}

/* Into an array for the caller to free, also where it is false; NULL where there is no memory. */
static bool get_certs(ErlNifEnv *env, ERL_NIF_TERM map, struct sp_tls_blob **certs, size_t *count)
{
    ERL_NIF_TERM list, head;
    ErlNifBinary bin;
    unsigned len;

    *certs = NULL;
    *count = 0;
    if (!get(env, map, "cacerts", &list) || !enif_get_list_length(env, list, &len))
        return false;
    *certs = enif_alloc((len + 1) * sizeof **certs);
    while (*certs && enif_get_list_cell(env, list, &head, &list)) {
        if (!enif_inspect_binary(env, head, &bin))
            return false;
        (*certs)[(*count)++] = (struct sp_tls_blob){.data = bin.data, .len = bin.size};
    }
    return true;
}

static bool get_options(ErlNifEnv *env, ERL_NIF_TERM map, struct sp_tls_options *options)
{
    return get_flag(env, map, "verify", &options->verify_peer) &&
           get_flag(env, map, "session_reuse", &options->session_reuse) &&
           get_flag(env, map, "ktls", &options->ktls) &&
           get_version(env, map, "min_version", &options->min_version) &&
           get_version(env, map, "max_version", &options->max_version) &&
           get_text(env, map, "server_name", &options->server_name) &&
           get_text(env, map, "ciphers", &options->ciphers) &&
           get_text(env, map, "ciphersuites", &options->ciphersuites) &&
           get_text(env, map, "groups", &options->groups) &&
           get_text(env, map, "cacertfile", &options->cacertfile) &&
           get_text(env, map, "certfile", &options->certfile) &&
           get_text(env, map, "keyfile", &options->keyfile) &&
           get_text(env, map, "keylog", &options->keylog) &&
           get_blob(env, map, "alpn", &options->alpn) &&
           get_blob(env, map, "password", &options->password);
}

/* The context of a map as sockpool_tls:native/2 makes it, with a reference, and its turn. NULL with what to return. */
static struct sp_tls_ctx *get_context(ErlNifEnv *env, ERL_NIF_TERM pool_term, ERL_NIF_TERM map,
                                      struct sp_nif_pool **pool, ErlNifSInt64 *turn,
                                      ERL_NIF_TERM *error)
{
    struct sp_tls_options options = {0};
    struct sp_tls_refusal refusal;
    struct sp_tls_blob *certs = NULL;
    struct sp_tls_ctx *ctx = NULL;
    ERL_NIF_TERM term;
    bool valid;

    *pool = sp_nif_get_pool(env, pool_term);
    valid = *pool && enif_is_map(env, map) && get_certs(env, map, &certs, &options.cacert_count) &&
            get_options(env, map, &options) &&
            enif_get_map_value(env, map, enif_make_atom(env, "turn"), &term) &&
            enif_get_int64(env, term, turn);
    options.cacerts = certs;
    if (valid && !certs)
        refusal = (struct sp_tls_refusal){"cacerts", "enomem"};
    else if (valid)
        ctx = sp_tls_ctx_get((*pool)->tls_registry, &options, &refusal);
    if (certs)
        enif_free(certs);
    if (!valid)
        *error = enif_make_badarg(env);
    else if (!ctx)
        *error = enif_make_tuple2(env, sp_atoms.error,
                                  enif_make_tuple2(env, enif_make_atom(env, refusal.option),
                                                   enif_make_atom(env, refusal.why)));
    return ctx;
}

/* tls_configure(Pool, Options) -> ok | {error, {Option, Why}}. Connections made from now on use these
 * options, and the files as they are now, unless some of a later turn were set already. */
SP_NIF(sp_nif_tls_configure)
{
    struct sp_nif_pool *pool;
    struct sp_tls_ctx *ctx;
    ErlNifSInt64 turn;
    ERL_NIF_TERM error;

    (void)argc;
    ctx = get_context(env, argv[0], argv[1], &pool, &turn, &error);
    if (!ctx)
        return error;
    sp_tls_slot_set(pool->tls, ctx, turn);
    return sp_atoms.ok;
}

/* ---- for one connection ---- */

/* A resource, since it is made in another process than the one that uses it. */
struct context {
    struct sp_tls_ctx *_Atomic ctx; /* one reference, until it is taken */
};

static ErlNifResourceType *context_type;

static void context_dtor(ErlNifEnv *env, void *resource)
{
    struct context *context = resource;

    (void)env;
    sp_tls_ctx_unref(atomic_exchange(&context->ctx, NULL));
}

bool sp_nif_tls_open_type(ErlNifEnv *env, ErlNifResourceFlags flags)
{
    ErlNifResourceTypeInit context = {.dtor = context_dtor};

    context_type = enif_open_resource_type_x(env, "sockpool_context", &context, flags, NULL);
    return context_type != NULL;
}

struct sp_tls_ctx *sp_nif_context_take(ErlNifEnv *env, ERL_NIF_TERM term)
{
    void *resource;

    if (!enif_get_resource(env, term, context_type, &resource))
        return NULL;
    return atomic_exchange(&((struct context *)resource)->ctx, NULL);
}

/* tls_context(Pool, Options) -> {ok, Context} | {error, {Option, Why}}: for starttls/2. The pool keeps the one of the
 * last turn while it is open: with its files read, and with its tickets, for the next connection that is to have it. */
SP_NIF(sp_nif_tls_context)
{
    struct sp_nif_pool *pool;
    struct context *context;
    struct sp_tls_ctx *ctx;
    ErlNifSInt64 turn;
    ERL_NIF_TERM result;

    (void)argc;
    ctx = get_context(env, argv[0], argv[1], &pool, &turn, &result);
    if (!ctx)
        return result;
    sp_tls_ctx_ref(ctx);
    sp_tls_slot_set(pool->upgrade, ctx, turn);
    context = enif_alloc_resource(context_type, sizeof *context);
    atomic_init(&context->ctx, ctx);
    result = enif_make_resource(env, context);
    enif_release_resource(context);
    return enif_make_tuple2(env, sp_atoms.ok, result);
}
