/* What may change while a pool is open: its size, its limits, its times, and the options of the sockets to come.
 * By the control process only, as all of the control plane. */
#ifndef SP_SETTINGS_H
#define SP_SETTINGS_H

#include "sp_pool.h"

/* What the data plane reads. The pool is not open, or that is told to nobody else. */
void sp_settings_store(struct sp_pool *pool, const struct sp_config *config);
/* Of an open pool. What a connection is made of stays: transport, framing, recv_limit_bytes, pipeline, settings and
 * silence of the sockets. Nobody's lease ends: where the pool has more connections than its size was made, the
 * idle ones among them are closed by the next steps, the longest idle first; where it has more than its limit, those
 * that are checked in are closed, too. The caller steps at once. */
void sp_settings_update(struct sp_pool *pool, const struct sp_config *config);
/* Closes what an update has left over, as much as the call may. True: something is left to do at once. */
SP_MUST_CHECK bool sp_settings_shrink(struct sp_pool *pool, const struct sp_call *call);

#endif
