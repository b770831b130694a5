/* What is configured for TLS: certificates, trust, versions, ciphers, as an SSL_CTX.
 *
 * One for each distinct configuration, the contents of its files included, however many pools use
 * it. Reference counted. Immutable but for its sessions, so any thread may use it.
 *
 * A slot is what a pool has: it holds the current configuration while the pool is open, and a reload
 * replaces that under the pool's feet. Connections keep the one that they were made with, so after
 * the pool's shut the context, and the private key in it, goes with the last of them. */
#ifndef SP_TLS_CTX_H
#define SP_TLS_CTX_H

#include "sp_tls_file.h"
#include "sp_tls_session.h"

#include <stdatomic.h>

/* The contexts that live, so that one configuration has one. It belongs to whoever loads this code and
 * not to the code: after an upgrade two libraries use the same. Any thread may use it. */
struct sp_tls_registry {
    _Atomic unsigned refs; /* its maker's, the users', and one for each context in it */
    pthread_mutex_t lock;
    struct sp_list list; /* under the lock; holds no references */
    unsigned count;      /* under the lock */
};

/* With a reference, or NULL where there is no memory. */
SP_MUST_CHECK struct sp_tls_registry *sp_tls_registry_new(void);
/* One reference more, for somebody who has one already. */
void sp_tls_registry_ref(struct sp_tls_registry *registry);
void sp_tls_registry_unref(struct sp_tls_registry *registry);

/* NULL, 0 or an empty blob: OpenSSL's default. All is read during the call only. */
struct sp_tls_options {
    bool verify_peer, session_reuse, ktls;
    int min_version, max_version; /* TLS1_2_VERSION, TLS1_3_VERSION */
    const char *server_name;      /* to ask for and to verify instead of the host */
    const char *ciphers, *ciphersuites, *groups;
    const char *cacertfile, *certfile, *keyfile, *keylog; /* paths */
    const struct sp_tls_blob *cacerts;                    /* DER */
    size_t cacert_count;
    struct sp_tls_blob alpn; /* each name after its length, in one byte */
    struct sp_tls_blob password;
};

/* Where a connection goes: the app data of its SSL object, by which the context keeps the tickets that the
 * server gives. */
struct sp_tls_destination {
    const void *bytes;
    size_t len;
    int64_t resumed_until_s; /* the session that was offered is good until then */
};

struct sp_tls_ctx {
    SSL_CTX *ssl_ctx;
    bool verify_peer, session_reuse, ktls;
    char *server_name;
    struct sp_tls_sessions sessions;

    /* sp_tls_ctx.c's own */
    int keylog_fd;
    _Atomic unsigned refs;            /* 0: being freed */
    struct sp_tls_registry *registry; /* with a reference, once it is in there */
    struct sp_list_node node;         /* under the registry's lock */
    unsigned char identity[32];       /* SHA-256 of the configuration */
};

/* Which option could not be used and why, both static strings; why may be an errno's name. */
struct sp_tls_refusal {
    const char *option, *why;
};

/* The context of these options, with a reference; or NULL and *refusal. Reads files and computes:
 * some milliseconds. */
SP_MUST_CHECK struct sp_tls_ctx *sp_tls_ctx_get(struct sp_tls_registry *registry,
                                                const struct sp_tls_options *options,
                                                struct sp_tls_refusal *refusal);
/* One reference more, for somebody who has one already. */
void sp_tls_ctx_ref(struct sp_tls_ctx *ctx);
void sp_tls_ctx_unref(struct sp_tls_ctx *ctx);
/* How many there are, for tests. */
unsigned sp_tls_ctx_count(struct sp_tls_registry *registry);

struct sp_tls_slot {
    pthread_mutex_t lock;
    struct sp_tls_ctx *ctx; /* one reference, or NULL */
    int64_t turn;           /* of ctx; 0 at first */
};

void sp_tls_slot_init(struct sp_tls_slot *slot);
void sp_tls_slot_destroy(struct sp_tls_slot *slot);
/* Takes over the caller's reference; NULL empties the slot. What has a later turn stays, also where
 * that is nothing: a reload may be slow, and finish after a newer one, or after its pool was shut or
 * started anew. Pointer and turn change together under the lock, so whichever comes first, the later
 * turn is what remains. */
void sp_tls_slot_set(struct sp_tls_slot *slot, struct sp_tls_ctx *ctx, int64_t turn);
/* The current one with a reference, or NULL. */
SP_MUST_CHECK struct sp_tls_ctx *sp_tls_slot_get(struct sp_tls_slot *slot);

#endif
