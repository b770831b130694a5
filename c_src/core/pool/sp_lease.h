/* Leases and waits, from their owner's side: waiting for one, giving it back, losing it.
 *
 * Thread rule: every function here may be called from any thread at any time. Functions that take a
 * lease number act only if that lease still holds. */
#ifndef SP_LEASE_H
#define SP_LEASE_H

#include "sp_queue.h"

/* Says that a connection was wanted that nobody waits for. SP_FULL, or, with fail_fast, SP_UNAVAILABLE. */
sp_status sp_pool_want(struct sp_pool *pool, const struct sp_call *call);

/* After SP_EMPTY: the pool is as large as it may be, and fewer wait than it has connections.
 * Holders that were merely preempted may then give back as soon as they run, and who queues at once
 * starts a convoy: from then on every check-in must wake a waiter, whose next check-out must wait
 * as well. */
bool sp_pool_crowded(struct sp_pool *pool);
/* Queues the waiter (zeroed but for its constant group). On SP_OK it has two references, and
 * sooner or later exactly one waiter_notify(), unless it is cancelled.
 * On an error (SP_FULL, SP_UNAVAILABLE, SP_CLOSED, ...) it has none: the caller frees it. */
SP_MUST_CHECK sp_status sp_pool_enqueue(struct sp_pool *pool, const struct sp_call *call,
                                        struct sp_waiter *waiter);
/* The handle is gone: whatever the waiter has or would get goes back. Drops the handle's reference.
 */
void sp_waiter_abandon(struct sp_waiter *waiter, const struct sp_call *call);

/* Ends the lease and gives the connection to the next: SP_OK; SP_CLOSED where the lease had ended;
 * SP_BUSY while a call waits on it. A tainted connection, or one with unread bytes, or of which the lease has received
 * nothing since it last sent (unless the pool has no replies), is closed: what a lease leaves behind is not for the next
 * one, whatever `validate' says of idle connections.
 * On SP_OK the keepsake stays with the connection: its next lease's host finds it there. */
SP_MUST_CHECK sp_status sp_pool_checkin(struct sp_pool *pool, const struct sp_call *call,
                                        struct sp_conn *conn, uint64_t lease, void *keepsake);
/* As sp_pool_checkin(), of an owner who knows that what it has sent is not answered, or not any more. */
SP_MUST_CHECK sp_status sp_pool_checkin_clean(struct sp_pool *pool, const struct sp_call *call,
                                              struct sp_conn *conn, uint64_t lease, void *keepsake);
/* As sp_pool_checkin(), in one go with a last receive of the lease, which may have been the look
 * already. */
SP_MUST_CHECK sp_status sp_pool_finish(struct sp_pool *pool, const struct sp_call *call,
                                       struct sp_conn *conn, uint64_t lease);
/* Ends the lease and closes the connection; SP_OK or SP_CLOSED. */
sp_status sp_pool_discard(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                          uint64_t lease, enum sp_why why);
/* Takes the lease from its owner, who may be waiting in a call: untouched the connection goes to
 * the next, used it is closed, and the owner's call returns. True where this call ended it. */
bool sp_pool_revoke(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                    uint64_t lease);
/* Likewise where the owner is dead or lost the handle, and no call of it waits any more. A worker is taken for used
 * by who has had it, unless the pool reuses those of the dead. */
bool sp_pool_abandon(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                     uint64_t lease);

/* The connector's, of an attempt that has failed. True where this call ended it. */
bool sp_pool_fail_attempt(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                          uint64_t lease, enum sp_failure why);

/* The worker has ended: its lease has, too; an idle one is closed. May be called again, and the tick does, for
 * one that was on its way between two places just now. Its connector's is left to the connector. */
void sp_pool_lost(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn);

/* Holder only, after a lease that used it: serves it, or closes it where it is not clean. */
void sp_pool_accept(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn);

#endif
