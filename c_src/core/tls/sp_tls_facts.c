#include "sp_tls_facts.h"

#include <string.h>

static void tell_peer_certificate(const SSL *ssl, sp_fact tell, void *arg)
{
    X509 *cert = SSL_get_peer_certificate(ssl);
    unsigned char *der = NULL;
    int len = cert ? i2d_X509(cert, &der) : 0;

    if (len > 0)
        tell(arg, "peercert", SP_FACT_BYTES, der, (size_t)len);
    OPENSSL_free(der);
    X509_free(cert);
}

static bool kernel_encrypts(SSL *ssl)
{
#if defined(BIO_get_ktls_send) && !defined(OPENSSL_NO_KTLS)
    return BIO_get_ktls_send(SSL_get_wbio(ssl));
#else
    (void)ssl;
    return false;
#endif
}

void sp_tls_tell(SSL *ssl, sp_fact tell, void *arg)
{
    const unsigned char *alpn;
    const char *cipher;
    unsigned alpn_len;

    cipher = SSL_get_cipher_name(ssl);
    tell(arg, "protocol", SP_FACT_WORD, SSL_version(ssl) == TLS1_3_VERSION ? "tlsv1.3" : "tlsv1.2",
         7);
    tell(arg, "cipher", SP_FACT_TEXT, cipher, strlen(cipher));
    SSL_get0_alpn_selected(ssl, &alpn, &alpn_len);
    if (alpn_len > 0)
        tell(arg, "alpn", SP_FACT_BYTES, alpn, alpn_len);
    else
        tell(arg, "alpn", SP_FACT_WORD, "undefined", 9);
    tell_peer_certificate(ssl, tell, arg);
    tell(arg, "resumed", SP_FACT_FLAG, NULL, SSL_session_reused(ssl) != 0);
    tell(arg, "ktls", SP_FACT_FLAG, NULL, kernel_encrypts(ssl));
}
