/* Who gets a connection: one who finds an idle one at check-out, or the oldest waiter. */
#ifndef SP_GRANT_H
#define SP_GRANT_H

#include "sp_pool.h"

/* An idle, clean connection, leased to the owner; the caller gets a reference to it, and what its
 * last check-in left (or NULL). SP_EMPTY where there is none or others wait already; SP_AGAIN where so
 * many were found closed that the call has to end: call again, or queue; SP_CLOSED, SP_DRAINING,
 * SP_NOT_FOUND by the phase. */
SP_MUST_CHECK sp_status sp_pool_checkout(struct sp_pool *pool, const struct sp_call *call,
                                         uint64_t owner, struct sp_conn **conn, uint64_t *lease,
                                         void **keepsake);

/* Holder only: hands the connection (NULL: any idle one) to waiters, or makes it idle. Where the call
 * may do no more while there are both, the control process is woken to go on. */
void sp_pool_serve(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn);

#endif
