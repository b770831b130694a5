/* Leases that are held for so long that their owners may have forgotten them: the host is told once of each, and once more
 * when it has ended. It is the sweep that looks, so a lease that is not reported costs nothing.
 *
 * Thread rule: the control process's, or, of a pool that is not open, who closes the connection. */
#ifndef SP_LEAK_H
#define SP_LEAK_H

#include "sp_pool.h"

/* A lease that goes on, and whose owner lives. */
void sp_leak_look(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                  uint64_t lease, uint64_t owner, uint64_t leased_ns);
/* Before that, and when the connection is closed: the lease that was reported may have ended. */
void sp_leak_look_for_end(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn);

#endif
