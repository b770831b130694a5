/* What can be told of a TLS connection whose handshake is done. */
#ifndef SP_TLS_FACTS_H
#define SP_TLS_FACTS_H

#include "core/conn/sp_transport.h"

#include <openssl/ssl.h>

/* Its version, cipher, ALPN, the peer's certificate, whether it was resumed, whether the kernel encrypts. */
void sp_tls_tell(SSL *ssl, sp_fact tell, void *arg);

#endif
