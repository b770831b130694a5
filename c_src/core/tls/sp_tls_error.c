#include "sp_tls_error.h"

#include <openssl/err.h>
#include <openssl/x509_vfy.h>

/* OpenSSL numbers the alerts that it received from here. */
#define ALERT_REASON_OFFSET 1000
#define ALERT_MAX 255
#define ALERT_PROTOCOL_VERSION 70

/* RFC 8446, section 6, and RFC 5246, section 7.2. */
/* clang-format off */
#define ALERT_MAP(X) \
    X(10, "unexpected_message") X(20, "bad_record_mac") X(21, "decryption_failed") \
    X(22, "record_overflow") X(30, "decompression_failure") X(40, "handshake_failure") \
    X(41, "no_certificate") X(42, "bad_certificate") X(43, "unsupported_certificate") \
    X(44, "certificate_revoked") X(45, "certificate_expired") X(46, "certificate_unknown") \
    X(47, "illegal_parameter") X(48, "unknown_ca") X(49, "access_denied") X(50, "decode_error") \
    X(51, "decrypt_error") X(60, "export_restriction") X(70, "protocol_version") \
    X(71, "insufficient_security") X(80, "internal_error") X(86, "inappropriate_fallback") \
    X(90, "user_canceled") X(100, "no_renegotiation") X(109, "missing_extension") \
    X(110, "unsupported_extension") X(111, "certificate_unobtainable") \
    X(112, "unrecognized_name") X(113, "bad_certificate_status_response") \
    X(114, "bad_certificate_hash_value") X(115, "unknown_psk_identity") \
    X(116, "certificate_required") X(120, "no_application_protocol")
/* clang-format on */

static sp_status verify_reason(long result)
{
    switch (result) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CRL_HAS_EXPIRED:
        return SP_TLS_CERTIFICATE_EXPIRED;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return SP_TLS_CERTIFICATE_NOT_YET_VALID;
    case X509_V_ERR_CERT_REVOKED:
        return SP_TLS_CERTIFICATE_REVOKED;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return SP_TLS_HOSTNAME_MISMATCH;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return SP_TLS_SELF_SIGNED;
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_UNTRUSTED:
        return SP_TLS_UNKNOWN_CA;
    case X509_V_ERR_INVALID_PURPOSE:
    case X509_V_ERR_CERT_REJECTED:
        return SP_TLS_INVALID_PURPOSE;
    case X509_V_ERR_INVALID_CA:
    case X509_V_ERR_PATH_LENGTH_EXCEEDED:
        return SP_TLS_INVALID_CA;
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_CA_KEY_TOO_SMALL:
    case X509_V_ERR_CA_MD_TOO_WEAK:
        return SP_TLS_WEAK_CERTIFICATE;
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        return SP_TLS_BAD_SIGNATURE;
    default:
        return SP_TLS_BAD_CERTIFICATE;
    }
}

/* What cannot be read as a record is another protocol only as long as no record was. */
static sp_status unreadable(const SSL *ssl)
{
    OSSL_HANDSHAKE_STATE state = SSL_get_state(ssl);

    return state == TLS_ST_BEFORE || state == TLS_ST_CW_CLNT_HELLO ? SP_TLS_NOT_TLS
                                                                   : SP_TLS_PROTOCOL_ERROR;
}

static sp_status queue_reason(const SSL *ssl, int reason)
{
    if (reason == ALERT_REASON_OFFSET + ALERT_PROTOCOL_VERSION)
        return SP_TLS_PROTOCOL_VERSION;
    if (reason > ALERT_REASON_OFFSET && reason <= ALERT_REASON_OFFSET + ALERT_MAX)
        return SP_TLS_ALERT + reason - ALERT_REASON_OFFSET;
    switch (reason) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
        return verify_reason(SSL_get_verify_result(ssl));
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_WRONG_SSL_VERSION:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
        return SP_TLS_PROTOCOL_VERSION;
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_RECORD_LENGTH_MISMATCH:
    case SSL_R_BAD_RECORD_TYPE:
    case SSL_R_UNEXPECTED_RECORD:
        return unreadable(ssl);
    case SSL_R_NO_CIPHERS_AVAILABLE:
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_WRONG_CIPHER_RETURNED:
    case SSL_R_UNKNOWN_CIPHER_RETURNED:
        return SP_TLS_NO_CIPHER;
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
    case SSL_R_DECRYPTION_FAILED:
        return SP_TLS_BAD_RECORD;
    case SSL_R_UNSAFE_LEGACY_RENEGOTIATION_DISABLED:
        return SP_TLS_LEGACY_RENEGOTIATION;
    case SSL_R_WRONG_SIGNATURE_TYPE:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
        return SP_TLS_SIGNATURE_ALGORITHM;
    case SSL_R_DH_KEY_TOO_SMALL:
        return SP_TLS_WEAK_DH;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return SP_TLS_NO_CERTIFICATE;
    default:
        return SP_TLS_PROTOCOL_ERROR;
    }
}

/* An end of file where there should have been a close_notify. OpenSSL 1.1.1 has no reason for it. */
static bool cut_off(int ssl_error, unsigned long code)
{
#ifdef SSL_R_UNEXPECTED_EOF_WHILE_READING
    if (ERR_GET_LIB(code) == ERR_LIB_SSL &&
        ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return true;
#endif
    return ssl_error == SSL_ERROR_SYSCALL && !code;
}

sp_status sp_tls_error(const SSL *ssl, bool shaken, int ssl_error, int io_errno)
{
    unsigned long code = ERR_peek_error();
    sp_status status;

    if (ssl_error == SSL_ERROR_ZERO_RETURN)
        status = shaken ? SP_CLOSED : SP_TLS_CLOSED;
    else if (io_errno)
        status = -io_errno;
    else if (cut_off(ssl_error, code))
        status = shaken ? SP_TLS_TRUNCATED : SP_TLS_CLOSED;
    else if (ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE)
        status = SP_NO_MEMORY;
    else if (ERR_GET_LIB(code) == ERR_LIB_SSL)
        status = queue_reason(ssl, ERR_GET_REASON(code));
    else
        status = SP_TLS_PROTOCOL_ERROR;
    ERR_clear_error();
    return status;
}

const char *sp_tls_error_name(sp_status status, bool *alert)
{
#define REASON_CASE(name, text)                                                                    \
    case SP_TLS_##name:                                                                            \
        return text;
#define ALERT_CASE(number, text)                                                                   \
    case SP_TLS_ALERT + (number):                                                                  \
        return text;
    *alert = status >= SP_TLS_ALERT;
    switch (status) {
        SP_TLS_REASON_MAP(REASON_CASE)
        ALERT_MAP(ALERT_CASE)
    default:
        return *alert ? "unknown_alert" : "unknown";
    }
#undef REASON_CASE
#undef ALERT_CASE
}
