/* Idle connections. A shard has those that were checked in by threads whose home it is. */
#ifndef SP_SHARD_H
#define SP_SHARD_H

#include "sp_pool.h"

/* An idle connection, of the own shard before others; the caller holds it. NULL: there is none. */
struct sp_conn *sp_shard_pop_any(struct sp_pool *pool, const struct sp_call *call);
/* The longest idle one of the shard, where it has been idle since before that time; the caller holds it. */
struct sp_conn *sp_shard_pop_oldest(struct sp_shard *shard, uint64_t before_ns);
/* Since when that one is idle; SP_NEVER: there is none. */
uint64_t sp_shard_idle_since(struct sp_shard *shard);
/* Whether there is one, at a glance. */
bool sp_shard_has_any(struct sp_pool *pool);
/* Holder only: makes it idle in this shard, or closes one of it where the pool is shut. The caller looks
 * at nwait afterwards. */
void sp_pool_put(struct sp_pool *pool, const struct sp_call *call, struct sp_shard *shard,
                 struct sp_conn *conn, bool cold);
/* Under the shard's lock: the caller becomes the holder. */
void sp_shard_unlink(struct sp_shard *shard, struct sp_conn *conn);
/* The connection out of the shard that it is idle in; one in whose watch that generation is, where one is given.
 * False where it is not, or no longer, idle; otherwise the caller holds it. */
SP_MUST_CHECK bool sp_shard_take(struct sp_pool *pool, struct sp_conn *conn,
                                 const uint32_t *generation);
/* After the phase has left OPEN: closes one idle connection; false where there is none. */
bool sp_pool_close_idle(struct sp_pool *pool, const struct sp_call *call);

#endif
