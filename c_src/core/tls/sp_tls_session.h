/* Sessions to resume: the tickets that servers gave, kept for each destination, newest first.
 *
 * Bounded in all and for each destination, and dropped when they expire. One of TLS 1.3 is handed
 * out once, as RFC 8446, appendix C.4, asks; one of TLS 1.2 again and again. OpenSSL wipes the
 * secrets of a session when its last reference goes. Any thread may call. */
#ifndef SP_TLS_SESSION_H
#define SP_TLS_SESSION_H

#include "core/base/sp_list.h"
#include "core/base/sp_status.h"
#include "core/conn/sp_transport.h"

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The calls with a long, which does not reach beyond 2038 everywhere, are deprecated since OpenSSL 3.4. */
#if OPENSSL_VERSION_NUMBER < 0x30300000L
#define SSL_SESSION_get_time_ex SSL_SESSION_get_time
#define SSL_SESSION_set_time_ex SSL_SESSION_set_time
#endif

#define SP_TLS_SESSIONS_MAX 512
#define SP_TLS_SESSIONS_PER_DESTINATION 128
/* However long a server says that its ticket is good for. */
#define SP_TLS_SESSION_LIFE_MAX_S 86400

/* What a destination begins with: its address and port; then comes its name. */
#define SP_TLS_ADDRESS_BYTES 18
/* Into so many bytes that are 0; of an IP address. */
void sp_tls_put_address(char *out, const struct sp_addr *addr);

struct sp_tls_sessions {
    pthread_mutex_t lock;
    struct sp_list list; /* the newest last pushed */
    unsigned count;
};

void sp_tls_sessions_init(struct sp_tls_sessions *sessions);
/* Drops all of them. Nobody may call any more. */
void sp_tls_sessions_destroy(struct sp_tls_sessions *sessions);

/* Keeps a copy of its own of the session, where it can be resumed, until its own end or `good_until_s`.
 * All times are as time() has them. */
void sp_tls_sessions_put(struct sp_tls_sessions *sessions, const void *destination, size_t len,
                         SSL_SESSION *session, int64_t good_until_s, int64_t now_s);
/* The newest one for the destination that has not expired, for the caller to free, and until when it is
 * good, as put() was told; or NULL. */
SP_MUST_CHECK SSL_SESSION *sp_tls_sessions_take(struct sp_tls_sessions *sessions,
                                                const void *destination, size_t len, int64_t now_s,
                                                int64_t *good_until_s);

#endif
