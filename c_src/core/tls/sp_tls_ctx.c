#include "sp_tls_ctx.h"

#include "sp_tls_exit.h"
#include "sp_tls_file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct files {
    struct sp_tls_file cacerts, cert, key;
};

/* ---- identity ---- */

static void add(EVP_MD_CTX *sum, const void *data, size_t len)
{
    uint64_t prefix = len;

    EVP_DigestUpdate(sum, &prefix, sizeof prefix);
    if (len > 0)
        EVP_DigestUpdate(sum, data, len);
}

static void add_text(EVP_MD_CTX *sum, const char *text)
{
    add(sum, text, text ? strlen(text) + 1 : 0);
}

/* The system's store is too large to be read: that it has changed must do. */
static void add_stamp(EVP_MD_CTX *sum, const char *variable, const char *path)
{
    const char *other = getenv(variable);
    struct stat info = {0};
    int64_t stamp[3];

    if (stat(other ? other : path, &info) < 0)
        info = (struct stat){0};
    stamp[0] = (int64_t)info.st_mtime;
    stamp[1] = (int64_t)info.st_ctime;
    stamp[2] = (int64_t)info.st_size;
    add(sum, stamp, sizeof stamp);
}

static bool trusts_system(const struct sp_tls_options *options)
{
    return options->verify_peer && !options->cacertfile && options->cacert_count == 0;
}

static bool identify(const struct sp_tls_options *options, const struct files *files,
                     unsigned char identity[32])
{
    EVP_MD_CTX *sum = EVP_MD_CTX_new();
    int64_t numbers[] = {options->verify_peer, options->session_reuse, options->ktls,
                         options->min_version, options->max_version,
                         /* an empty file is not the same as none */
                         options->cacertfile != NULL, options->certfile != NULL,
                         options->keyfile != NULL, (int64_t)options->cacert_count};
    bool ok = sum && EVP_DigestInit_ex(sum, EVP_sha256(), NULL) == 1;

    if (ok) {
        add(sum, numbers, sizeof numbers);
        add_text(sum, options->server_name);
        add_text(sum, options->ciphers);
        add_text(sum, options->ciphersuites);
        add_text(sum, options->groups);
        add_text(sum, options->keylog);
        add(sum, options->alpn.data, options->alpn.len);
        /* Whoever does not know the password must not get the key of somebody who does. */
        add(sum, options->password.data, options->password.len);
        add(sum, files->cacerts.data, files->cacerts.len);
        add(sum, files->cert.data, files->cert.len);
        add(sum, files->key.data, files->key.len);
        for (size_t i = 0; i < options->cacert_count; i++)
            add(sum, options->cacerts[i].data, options->cacerts[i].len);
        if (trusts_system(options)) {
            add_stamp(sum, X509_get_default_cert_file_env(), X509_get_default_cert_file());
            add_stamp(sum, X509_get_default_cert_dir_env(), X509_get_default_cert_dir());
        }
        ok = EVP_DigestFinal_ex(sum, identity, NULL) == 1;
    }
    EVP_MD_CTX_free(sum);
    return ok;
}

/* ---- making ---- */

static bool refuse(struct sp_tls_refusal *refusal, const char *option, const char *why)
{
    *refusal = (struct sp_tls_refusal){option, why};
    ERR_clear_error();
    return false;
}

static bool use_trust(SSL_CTX *ssl_ctx, const struct sp_tls_options *options,
                      const struct files *files, struct sp_tls_refusal *refusal)
{
    const char *why = NULL;

    SSL_CTX_set_verify(ssl_ctx, options->verify_peer ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    /* Whoever names a certificate as trusted means it, be it a root or not. */
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ssl_ctx), X509_V_FLAG_PARTIAL_CHAIN);
    if (trusts_system(options) && SSL_CTX_set_default_verify_paths(ssl_ctx) != 1)
        return refuse(refusal, "cacertfile", "no_system_store");
    if (options->cacertfile && (why = sp_tls_use_cacerts(ssl_ctx, &files->cacerts)))
        return refuse(refusal, "cacertfile", why);
    if ((why = sp_tls_use_der_cacerts(ssl_ctx, options->cacerts, options->cacert_count)))
        return refuse(refusal, "cacerts", why);
    return true;
}

static bool use_identity(SSL_CTX *ssl_ctx, const struct sp_tls_options *options,
                         const struct files *files, struct sp_tls_refusal *refusal)
{
    const char *why;

    if (!options->certfile)
        return true;
    /* A server may ask for it later, such as for some paths of a web server. */
    SSL_CTX_set_post_handshake_auth(ssl_ctx, 1);
    if ((why = sp_tls_use_chain(ssl_ctx, &files->cert)))
        return refuse(refusal, "certfile", why);
    /* Often both are in one file. */
    why =
        sp_tls_use_key(ssl_ctx, options->keyfile ? &files->key : &files->cert, &options->password);
    return why ? refuse(refusal, strstr(why, "password") ? "password" : "keyfile", why) : true;
}

static bool use_protocol(SSL_CTX *ssl_ctx, const struct sp_tls_options *options,
                         struct sp_tls_refusal *refusal)
{
    if (SSL_CTX_set_min_proto_version(ssl_ctx, options->min_version) != 1 ||
        SSL_CTX_set_max_proto_version(ssl_ctx, options->max_version) != 1)
        return refuse(refusal, "versions", "unsupported");
    if (options->ciphers && SSL_CTX_set_cipher_list(ssl_ctx, options->ciphers) != 1)
        return refuse(refusal, "ciphers", "unknown");
    if (options->ciphersuites && SSL_CTX_set_ciphersuites(ssl_ctx, options->ciphersuites) != 1)
        return refuse(refusal, "ciphersuites", "unknown");
    if (options->groups && SSL_CTX_set1_groups_list(ssl_ctx, options->groups) != 1)
        return refuse(refusal, "groups", "unknown");
    /* This one returns 0 for success. */
    if (options->alpn.len &&
        SSL_CTX_set_alpn_protos(ssl_ctx, options->alpn.data, (unsigned)options->alpn.len) != 0)
        return refuse(refusal, "alpn", "unusable");
    return true;
}

static void write_keys(const SSL *ssl, const char *line)
{
    struct sp_tls_ctx *ctx = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    size_t len = strlen(line);
    char *whole = malloc(len + 1);
    ssize_t written;

    if (!whole)
        return;
    memcpy(whole, line, len);
    whole[len] = '\n';
    /* In one call, so that lines of several threads do not mix. */
    written = write(ctx->keylog_fd, whole, len + 1);
    (void)written;
    OPENSSL_cleanse(whole, len + 1);
    free(whole);
}

static bool use_keylog(struct sp_tls_ctx *ctx, const char *path, struct sp_tls_refusal *refusal)
{
    if (!path)
        return true;
    ctx->keylog_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
    if (ctx->keylog_fd < 0)
        return refuse(refusal, "keylog", sp_status_name(-errno));
    SSL_CTX_set_keylog_callback(ctx->ssl_ctx, write_keys);
    return true;
}

/* When the first certificate ends of those that were verified; 0 where none were. */
static int64_t chain_until_s(const SSL *ssl, int64_t now_s)
{
    const STACK_OF(X509) *chain = SSL_get0_verified_chain(ssl);
    int64_t until_s = sk_X509_num(chain) > 0 ? INT64_MAX : 0;

    for (int i = 0; i < sk_X509_num(chain); i++) {
        const ASN1_TIME *end = X509_get0_notAfter(sk_X509_value(chain, i));
        int days, seconds;
        if (ASN1_TIME_diff(&days, &seconds, NULL, end) != 1)
            return 0;
        int64_t end_s = now_s + (int64_t)days * 86400 + seconds;
        if (end_s < until_s)
            until_s = end_s;
    }
    return until_s;
}

/* Within a call of the transport: the server gave a ticket. */
static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    struct sp_tls_ctx *ctx = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    const struct sp_tls_destination *destination = SSL_get_app_data(ssl);
    int64_t now_s = (int64_t)time(NULL), until_s = INT64_MAX;

    /* In a resumption no certificate is looked at, so a chain of them would go on for ever. */
    if (ctx->verify_peer)
        until_s =
            SSL_session_reused(ssl) ? destination->resumed_until_s : chain_until_s(ssl, now_s);
    sp_tls_sessions_put(&ctx->sessions, destination->bytes, destination->len, session, until_s,
                        now_s);
    return 0; /* no reference was kept */
}

static void set_modes(SSL_CTX *ssl_ctx, const struct sp_tls_options *options)
{
    SSL_CTX_set_mode(ssl_ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(ssl_ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* A record's header and body in one system call. Where the kernel decrypts it gives records. */
    SSL_CTX_set_read_ahead(ssl_ctx, !options->ktls);
#ifdef SSL_OP_ENABLE_KTLS
    if (options->ktls)
        SSL_CTX_set_options(ssl_ctx, SSL_OP_ENABLE_KTLS);
#endif
    SSL_CTX_set_session_cache_mode(ssl_ctx, SSL_SESS_CACHE_OFF);
    if (options->session_reuse) {
        SSL_CTX_set_session_cache_mode(ssl_ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(ssl_ctx, keep_session);
    } else {
        SSL_CTX_set_options(ssl_ctx, SSL_OP_NO_TICKET);
    }
}

static bool copy_name(struct sp_tls_ctx *ctx, const char *name)
{
    if (!name)
        return true;
    ctx->server_name = strdup(name);
    return ctx->server_name != NULL;
}

static void ctx_free(struct sp_tls_ctx *ctx)
{
    SSL_CTX_free(ctx->ssl_ctx);
    sp_tls_sessions_destroy(&ctx->sessions);
    if (ctx->keylog_fd >= 0)
        close(ctx->keylog_fd);
    free(ctx->server_name);
    free(ctx);
}

static struct sp_tls_ctx *make(const struct sp_tls_options *options, const struct files *files,
                               struct sp_tls_refusal *refusal)
{
    struct sp_tls_ctx *ctx = calloc(1, sizeof *ctx);

    *refusal = (struct sp_tls_refusal){"tls", sp_status_name(SP_NO_MEMORY)};
    if (!ctx)
        return NULL;
    ctx->keylog_fd = -1;
    ctx->refs = 1;
    ctx->verify_peer = options->verify_peer;
    ctx->session_reuse = options->session_reuse;
    ctx->ktls = options->ktls;
    sp_tls_sessions_init(&ctx->sessions);
    ctx->ssl_ctx = SSL_CTX_new(TLS_client_method());
    if (ctx->ssl_ctx && copy_name(ctx, options->server_name)) {
        SSL_CTX_set_app_data(ctx->ssl_ctx, ctx);
        set_modes(ctx->ssl_ctx, options);
        if (use_protocol(ctx->ssl_ctx, options, refusal) &&
            use_trust(ctx->ssl_ctx, options, files, refusal) &&
            use_identity(ctx->ssl_ctx, options, files, refusal) &&
            use_keylog(ctx, options->keylog, refusal))
            return ctx;
    }
    ERR_clear_error();
    ctx_free(ctx);
    return NULL;
}

/* ---- sharing ---- */

struct sp_tls_registry *sp_tls_registry_new(void)
{
    struct sp_tls_registry *registry = malloc(sizeof *registry);

    if (!registry)
        return NULL;
    atomic_init(&registry->refs, 1);
    pthread_mutex_init(&registry->lock, NULL);
    sp_list_init(&registry->list);
    registry->count = 0;
    return registry;
}

void sp_tls_registry_ref(struct sp_tls_registry *registry)
{
    atomic_fetch_add(&registry->refs, 1);
}

void sp_tls_registry_unref(struct sp_tls_registry *registry)
{
    if (!registry || atomic_fetch_sub(&registry->refs, 1) > 1)
        return;
    pthread_mutex_destroy(&registry->lock);
    free(registry);
}

/* False where its last reference is gone, and it is about to be. */
static bool ref_living(struct sp_tls_ctx *ctx)
{
    unsigned refs = atomic_load(&ctx->refs);

    do {
        if (refs == 0)
            return false;
    } while (!atomic_compare_exchange_weak(&ctx->refs, &refs, refs + 1));
    return true;
}

/* The registered context of this identity with a reference, or NULL. `made` is registered first
 * where there is none; it may be NULL. */
static struct sp_tls_ctx *share(struct sp_tls_registry *registry, const unsigned char identity[32],
                                struct sp_tls_ctx *made)
{
    struct sp_tls_ctx *found = NULL;

    pthread_mutex_lock(&registry->lock);
    for (struct sp_list_node *node = registry->list.head.next;
         node != &registry->list.head && !found; node = node->next) {
        struct sp_tls_ctx *ctx = SP_CONTAINER(node, struct sp_tls_ctx, node);
        if (memcmp(ctx->identity, identity, sizeof ctx->identity) == 0 && ref_living(ctx))
            found = ctx;
    }
    if (!found && made) {
        memcpy(made->identity, identity, sizeof made->identity);
        made->registry = registry;
        sp_tls_registry_ref(registry);
        sp_list_push_newest(&registry->list, &made->node);
        registry->count++;
    }
    pthread_mutex_unlock(&registry->lock);
    return found;
}

static struct sp_tls_ctx *find_or_make(struct sp_tls_registry *registry,
                                       const struct sp_tls_options *options,
                                       const struct files *files, struct sp_tls_refusal *refusal)
{
    unsigned char identity[32];
    struct sp_tls_ctx *ctx, *other;

    if (!identify(options, files, identity)) {
        (void)refuse(refusal, "tls", sp_status_name(SP_NO_MEMORY));
        return NULL;
    }
    if ((ctx = share(registry, identity, NULL)))
        return ctx;
    ctx = make(options, files, refusal);
    other = ctx ? share(registry, identity, ctx) : NULL;
    if (!other)
        return ctx;
    ctx_free(ctx); /* somebody else was faster */
    return other;
}

static bool read_file(const char *option, const char *path, struct sp_tls_file *file,
                      struct sp_tls_refusal *refusal)
{
    sp_status status = sp_tls_file_read(path, file);

    return status == SP_OK || refuse(refusal, option, sp_status_name(status));
}

struct sp_tls_ctx *sp_tls_ctx_get(struct sp_tls_registry *registry,
                                  const struct sp_tls_options *options,
                                  struct sp_tls_refusal *refusal)
{
    struct files files = {0};
    struct sp_tls_ctx *ctx = NULL;

    if (!sp_tls_enter()) {
        *refusal = (struct sp_tls_refusal){"certfile", "exit"};
        return NULL;
    }
    ERR_clear_error();
    if (read_file("cacertfile", options->cacertfile, &files.cacerts, refusal) &&
        read_file("certfile", options->certfile, &files.cert, refusal) &&
        read_file("keyfile", options->keyfile, &files.key, refusal))
        ctx = find_or_make(registry, options, &files, refusal);
    sp_tls_file_wipe(&files.cacerts);
    sp_tls_file_wipe(&files.cert);
    sp_tls_file_wipe(&files.key);
    sp_tls_leave();
    return ctx;
}

void sp_tls_ctx_ref(struct sp_tls_ctx *ctx)
{
    atomic_fetch_add(&ctx->refs, 1);
}

void sp_tls_ctx_unref(struct sp_tls_ctx *ctx)
{
    struct sp_tls_registry *registry;

    if (!ctx || atomic_fetch_sub(&ctx->refs, 1) > 1 || !sp_tls_enter())
        return;
    registry = ctx->registry;
    pthread_mutex_lock(&registry->lock);
    sp_list_remove(&ctx->node);
    registry->count--;
    pthread_mutex_unlock(&registry->lock);
    ctx_free(ctx);
    sp_tls_registry_unref(registry);
    sp_tls_leave();
}

unsigned sp_tls_ctx_count(struct sp_tls_registry *registry)
{
    unsigned count;

    pthread_mutex_lock(&registry->lock);
    count = registry->count;
    pthread_mutex_unlock(&registry->lock);
    return count;
}

/* ---- slots ---- */

void sp_tls_slot_init(struct sp_tls_slot *slot)
{
    pthread_mutex_init(&slot->lock, NULL);
    slot->ctx = NULL;
    slot->turn = 0;
}

void sp_tls_slot_destroy(struct sp_tls_slot *slot)
{
    sp_tls_ctx_unref(slot->ctx);
    pthread_mutex_destroy(&slot->lock);
}

void sp_tls_slot_set(struct sp_tls_slot *slot, struct sp_tls_ctx *ctx, int64_t turn)
{
    struct sp_tls_ctx *unneeded = ctx;

    pthread_mutex_lock(&slot->lock);
    if (turn > slot->turn) {
        unneeded = slot->ctx;
        slot->ctx = ctx;
        slot->turn = turn;
    }
    pthread_mutex_unlock(&slot->lock);
    sp_tls_ctx_unref(unneeded);
}

struct sp_tls_ctx *sp_tls_slot_get(struct sp_tls_slot *slot)
{
    struct sp_tls_ctx *ctx;

    pthread_mutex_lock(&slot->lock);
    ctx = slot->ctx;
    if (ctx)
        atomic_fetch_add(&ctx->refs, 1);
    pthread_mutex_unlock(&slot->lock);
    return ctx;
}
