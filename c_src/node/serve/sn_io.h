/* The calls that may take time: checkout, request, send, recv, and call and send_to of a pool. Each is answered once, unless its process
 * goes away or cancels it. Times are kept here, by the daemon's clock. */
#ifndef SN_IO_H
#define SN_IO_H

#include "sn_session.h"

/* Timeouts are nanoseconds; 0 does not wait, SP_NEVER has no end. */

void sn_io_checkout(struct sn_sessions *sessions, struct sn_client *client,
                    const struct sn_caller *caller, struct sn_pool *pool, struct sn_slice id,
                    uint64_t timeout_ns);

/* `want` fits the pool's framing. */
void sn_io_request(struct sn_sessions *sessions, struct sn_client *client,
                   const struct sn_caller *caller, struct sn_pool *pool, struct sn_slice id,
                   struct sn_slice data, const struct sp_want *want, uint64_t timeout_ns);

/* With a connection to a node: a call, or a message. */
void sn_io_node_request(struct sn_sessions *sessions, struct sn_client *client,
                        const struct sn_caller *caller, struct sn_pool *pool, struct sn_slice id,
                        const struct sn_node_request *request, uint64_t timeout_ns);

/* For a lease that no call is using. After these the session may be gone. */
void sn_io_send(struct sn_session *session, struct sn_client *client,
                const struct sn_caller *caller, struct sn_slice data, uint64_t timeout_ns);
void sn_io_recv(struct sn_session *session, struct sn_client *client,
                const struct sn_caller *caller, const struct sp_want *want, uint64_t timeout_ns);

/* Leases of the pool may have ended: answers the calls that use them, and forgets them. */
void sn_io_ended_leases(struct sn_pool *pool);

#endif
