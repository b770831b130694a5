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

/* Puts TLS over a connection that has been used in clear, whose transport is `upgradable`. Called by the lease's owner,
 * within enter/leave, when nothing is armed; `host` is what the connection's address was found for. Then the transport's
 * handshake is to be done. It takes over the reference to the context.
 *
 * Whatever comes of it, nothing goes over the connection in clear any more. Where it fails, nothing at all: SP_UNREAD
 * where something came that nobody has read, which is dropped (conn->words has its begin); SP_CLOSED, also where there
 * is no context (NULL), SP_NO_MEMORY.
 *
 * Done by a connector it is how the connection is for good. After one of a lease the connection goes no further than
 * to its check-in. */
SP_MUST_CHECK sp_status sp_tls_upgrade(struct sp_conn *conn, uint64_t lease, const char *host,
                                       struct sp_tls_ctx *ctx);

#endif
