/* An OpenSSL BIO over a connection's descriptor, through the core's table of system calls.
 *
 * It remembers the errno of the call that failed, and takes no more than its budget from the
 * descriptor before it answers "again": so a peer that floods with handshake messages cannot keep a
 * call for long. */
#ifndef SP_TLS_BIO_H
#define SP_TLS_BIO_H

#include <openssl/bio.h>
#include <stdbool.h>
#include <stddef.h>

struct sp_conn;

struct sp_tls_io {
    struct sp_conn *conn;
    size_t budget_bytes;    /* set before each operation */
    unsigned messages_left; /* not for the user, that may come in this operation */
    bool flooded;           /* more of them came */
    int error;              /* errno of the last call that failed for good, or 0 */
    bool ended;             /* end of file was read */
};

/* NULL where memory is short. `io` must outlive it. */
BIO *sp_tls_bio_new(struct sp_tls_io *io);

#endif
