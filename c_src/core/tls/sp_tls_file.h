/* PEM files: read once into memory, which is wiped when it is given back. */
#ifndef SP_TLS_FILE_H
#define SP_TLS_FILE_H

#include "core/base/sp_status.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

struct sp_tls_blob {
    const void *data;
    size_t len;
};

struct sp_tls_file {
    unsigned char *data;
    size_t len;
};

/* SP_OK, SP_NO_MEMORY, SP_TOO_BIG (above 16 MiB) or -errno. No path: an empty file. */
SP_MUST_CHECK sp_status sp_tls_file_read(const char *path, struct sp_tls_file *file);
void sp_tls_file_wipe(struct sp_tls_file *file);

/* Each puts what it finds into the context. NULL, or why not. */
SP_MUST_CHECK const char *sp_tls_use_cacerts(SSL_CTX *ssl_ctx, const struct sp_tls_file *file);
SP_MUST_CHECK const char *sp_tls_use_der_cacerts(SSL_CTX *ssl_ctx, const struct sp_tls_blob *certs,
                                                 size_t count);
SP_MUST_CHECK const char *sp_tls_use_chain(SSL_CTX *ssl_ctx, const struct sp_tls_file *file);
/* After the chain: it must fit the certificate. */
SP_MUST_CHECK const char *sp_tls_use_key(SSL_CTX *ssl_ctx, const struct sp_tls_file *file,
                                         const struct sp_tls_blob *password);

#endif
