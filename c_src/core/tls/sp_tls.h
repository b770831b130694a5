/* The tls transport: OpenSSL over the descriptor of a tcp connection.
 *
 * Its settings (struct sp_sockopts) are a struct sp_tls_slot with a context in it.
 *
 * Thread rule: that of struct sp_transport. An SSL object is not thread-safe, and is used by the
 * holder of its connection or by the pinned calls of its owner; `shutdown`, which may come from
 * elsewhere, does not touch it. */
#ifndef SP_TLS_H
#define SP_TLS_H

#include "sp_tls_ctx.h"
#include "core/conn/sp_transport.h"

extern const struct sp_transport sp_transport_tls;

#endif
