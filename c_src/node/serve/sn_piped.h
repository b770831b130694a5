/* Requests on connections that several may have at once (core/pool/sp_piped.h). Each sleeps from the start: the core tells
 * it of its reply, within the receive that brought it, and what one turn of the loop reads of all clients goes out in one
 * write.
 *
 * The bytes are kept until the reply comes, since a connection that breaks before they are out makes them go on another
 * one. A reply whose client does not read is kept instead, by the rule for all that is kept: its connection is others', too. */
#ifndef SN_PIPED_H
#define SN_PIPED_H

#include "sn_session.h"

/* Whether a request of these bytes, with their header, goes on such a connection. */
bool sn_piped_takes(struct sn_pool *pool, const struct iovec pieces[2]);

/* As sn_io_request(). */
void sn_piped_request(struct sn_sessions *sessions, struct sn_client *client,
                      const struct sn_caller *caller, struct sn_pool *pool, struct sn_slice id,
                      const struct iovec pieces[2], const struct sp_want *want,
                      uint64_t timeout_ns);

#endif
