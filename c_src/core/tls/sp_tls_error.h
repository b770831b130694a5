/* Why TLS failed, in words: OpenSSL's error queue, the result of a certificate's verification and
 * alerts, as statuses of the transport's own (SP_STATUS_TRANSPORT) with names. */
#ifndef SP_TLS_ERROR_H
#define SP_TLS_ERROR_H

#include "core/base/sp_status.h"

#include <openssl/ssl.h>
#include <stdbool.h>

/* clang-format off */
#define SP_TLS_REASON_MAP(X) \
    X(CLOSED, "closed")       /* the peer closed the stream before the handshake was done */ \
    X(TRUNCATED, "truncated") /* end of file without close_notify: data may be missing */ \
    X(NOT_TLS, "not_tls")     /* the peer speaks another protocol */ \
    X(PROTOCOL_VERSION, "protocol_version") \
    X(NO_CIPHER, "no_shared_cipher") \
    X(BAD_RECORD, "bad_record_mac") \
    X(PROTOCOL_ERROR, "protocol_error") \
    X(LEGACY_RENEGOTIATION, "legacy_renegotiation") \
    X(SIGNATURE_ALGORITHM, "signature_algorithm") \
    X(WEAK_DH, "weak_dh_key") \
    X(CERTIFICATE_EXPIRED, "certificate_expired") \
    X(CERTIFICATE_NOT_YET_VALID, "certificate_not_yet_valid") \
    X(CERTIFICATE_REVOKED, "certificate_revoked") \
    X(HOSTNAME_MISMATCH, "hostname_mismatch") /* or that of the IP address */ \
    X(SELF_SIGNED, "self_signed") \
    X(UNKNOWN_CA, "unknown_ca") \
    X(INVALID_PURPOSE, "invalid_purpose") \
    X(INVALID_CA, "invalid_ca") \
    X(WEAK_CERTIFICATE, "weak_certificate") \
    X(BAD_SIGNATURE, "bad_certificate_signature") \
    X(BAD_CERTIFICATE, "bad_certificate") \
    X(NO_CERTIFICATE, "no_certificate")
/* clang-format on */

#define SP_TLS_REASON_ENUM(name, text) SP_TLS_##name,
enum { SP_TLS_BASE = SP_STATUS_TRANSPORT, SP_TLS_REASON_MAP(SP_TLS_REASON_ENUM) SP_TLS_REASON_END };
#undef SP_TLS_REASON_ENUM

/* Plus the alert's number. */
#define SP_TLS_ALERT (SP_STATUS_TRANSPORT + 0x1000)

/* After a call that failed with this SSL_get_error(), in the same thread. `shaken`: the handshake was
 * done before. `io_errno` is the system call's, 0 where none failed. Takes the thread's error queue.
 * Never SP_OK and never a want. */
SP_MUST_CHECK sp_status sp_tls_error(const SSL *ssl, bool shaken, int ssl_error, int io_errno);

/* The name of a transport's status; static, never NULL. *alert: it was sent by the peer. */
const char *sp_tls_error_name(sp_status status, bool *alert);

#endif
