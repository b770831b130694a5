/* The control plane of a pool: opening and closing, growth, reconnect, sweeps.
 *
 * Thread rule: open, shut, step, tick and idle_event are called by one control process at a time;
 * the connector functions by the process that holds the connector's lease. */
#ifndef SP_CONTROL_H
#define SP_CONTROL_H

#include "sp_growth.h"

/* Opens the pool in a new epoch. The phase must be CLOSED or DOWN, all slices of its shut done.
 * The caller steps at once. */
void sp_control_open(struct sp_pool *pool, const struct sp_call *call,
                     const struct sp_config *config, uint64_t seed);
/* Leaves OPEN, at once; `phase` is DOWN or CLOSED. Then sp_control_shut_slice() until it says
 * false: each does as much as the call may. Waiters get `status`, every lease is revoked and
 * every connection closed, but for those that a call is still using, which close at its end. */
void sp_control_shut_begin(struct sp_pool *pool, enum sp_phase phase);
SP_MUST_CHECK bool sp_control_shut_slice(struct sp_pool *pool, const struct sp_call *call,
                                         sp_status status);

/* Serves waiters, decides which connections to make (the base size, and one for each waiter up to the
 * limit; after a failure one at a time, with backoff), and works off closes. */
void sp_control_step(struct sp_pool *pool, const struct sp_call *call, struct sp_attempt *attempts,
                     size_t max, struct sp_plan *plan);

/* When it is due: tells waiters whose time is over, ends the leases of dead owners and those held for too long, closes extra
 * connections after overflow_ttl, watches those that have turned cold. In slices: call again while
 * it returns true, with *cursor as it was left (0 at first). */
SP_MUST_CHECK bool sp_control_tick(struct sp_pool *pool, const struct sp_call *call,
                                   uint32_t *cursor);

/* A watched connection became readable: closes it where it is still the idle one that was meant. */
void sp_control_idle_event(struct sp_pool *pool, const struct sp_call *call, uint32_t slot,
                           uint32_t generation);

/* Connector. Begins (again, with the next address) to connect: SP_OK, SP_WANT_WRITE, SP_CLOSED
 * where the lease has ended, or -errno (the lease holds on). *lease becomes a new number, leased
 * to `owner`. */
SP_MUST_CHECK sp_status sp_control_begin(struct sp_pool *pool, const struct sp_call *call,
                                         struct sp_conn *conn, uint64_t *lease, uint64_t owner,
                                         const struct sp_addr *addr);
/* Connector: once connected. SP_OK: the init function may use the connection. SP_WANT_WRITE: not yet
 * connected. SP_HANDSHAKE: call sp_control_handshake() until that is SP_OK, then this again. */
SP_MUST_CHECK sp_status sp_control_opened(struct sp_conn *conn, uint64_t *lease,
                                          const struct sp_call *call);
/* Connector, within enter/leave: one step of the transport's handshake, which may compute for
 * milliseconds. SP_OK, SP_WANT_READ, SP_WANT_WRITE, or why it failed. Touches nothing but the
 * connection's transport, so that the attempt may be ended meanwhile. */
SP_MUST_CHECK sp_status sp_control_handshake(struct sp_conn *conn);
/* Connector: ready. Ends the lease; the connection is the pool's. SP_UNREAD, SP_CLOSED, the
 * transport's fault: not fit for a user, which ends it as a failed attempt. */
SP_MUST_CHECK sp_status sp_control_ready(struct sp_pool *pool, const struct sp_call *call,
                                         struct sp_conn *conn, uint64_t lease);

#endif
