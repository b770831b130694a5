/* Connections in use on which what was sent is not confirmed: the system repeats it for some 15 minutes, unless user_timeout
 * says otherwise. Each is told of once for each lease. The control process's. */
#ifndef SP_STALL_H
#define SP_STALL_H

#include "sp_pool.h"

/* At the begin of each tick. */
void sp_stall_tick(struct sp_pool *pool);
/* Looks at one of all connections; at a few in a tick, in turn. */
void sp_stall_sweep(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn);

#endif
