/* For tests of TLS: certificates made on the spot, and a server in memory at the other end of a fake
 * socket. Everything aborts by fake_die() where OpenSSL itself fails. */
#ifndef TLS_KIT_H
#define TLS_KIT_H

#include "lone_conn.h"
#include "core/tls/sp_tls.h"

#include <openssl/evp.h>
#include <openssl/x509.h>

struct tkit_cert {
    X509 *cert;
    EVP_PKEY *key;
};

/* `names`: a subjectAltName as in "DNS:localhost,IP:127.0.0.1", or NULL. No issuer: self-signed.
 * Valid from and to so many seconds from now. */
struct tkit_cert tkit_cert_new(const char *name, const char *names, bool ca,
                               const struct tkit_cert *issuer, long from_s, long to_s);
void tkit_cert_free(struct tkit_cert *cert);
/* Into a new file under /tmp, removed at exit; NULL parts are left out. */
const char *tkit_pem(const X509 *cert, EVP_PKEY *key, const char *password);
/* A file with the first certificate in clear, where there is one, and the second encrypted. */
const char *tkit_encrypted(const X509 *first, const X509 *second, const char *password);
const char *tkit_file(const void *data, size_t len);

/* A certificate authority and a certificate of it for localhost, 127.0.0.1 and *.wild.example. */
struct tkit_world {
    struct tkit_cert ca, leaf;
    const char *ca_file;
};
extern struct tkit_world tkit_world;
extern struct sp_tls_registry *tkit_registry; /* lives from tkit_world_make to tkit_world_free */
void tkit_world_make(void);
void tkit_world_free(void);

/* Trusts tkit_world's authority; versions 1.2 and 1.3, sessions reused. */
struct sp_tls_options tkit_options(void);
/* The context of these options, which must be right, with a reference. */
struct sp_tls_ctx *tkit_ctx(const struct sp_tls_options *options);

struct tkit_server {
    SSL_CTX *ctx;
    SSL *ssl;
    size_t taken; /* of what the client sent */
    bool held;    /* tkit_pump() keeps back what the server says */
};

/* Speaks `version` only, with this certificate. */
struct tkit_server tkit_server_new(const struct tkit_cert *cert, int version);
void tkit_server_free(struct tkit_server *server);
/* Ready for another connection, with the same tickets. */
void tkit_server_again(struct tkit_server *server);

/* Opens a connection to the server, before its handshake. It must stay where it is. */
void tkit_open(struct sp_conn *conn, struct sp_tls_slot *slot, const char *host);
void tkit_close(struct sp_conn *conn);
/* Moves bytes both ways until nothing moves; the server does its handshake meanwhile. */
void tkit_pump(struct sp_conn *conn, struct tkit_server *server);
/* Handshake steps and pumping until it is done or fails. */
sp_status tkit_shake(struct sp_conn *conn, struct tkit_server *server);

#endif
