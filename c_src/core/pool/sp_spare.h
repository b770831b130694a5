/* Idle connections that a pool keeps ready, `min_idle' of them where its limit allows: opened ahead, also above the size, and no
 * surplus. One that is being made counts as one of them. */
#ifndef SP_SPARE_H
#define SP_SPARE_H

#include "sp_pool.h"

/* How many are missing. */
uint32_t sp_spare_missing(struct sp_pool *pool);
/* An idle one was taken: has it replaced, where it was one of these. By any thread. */
void sp_spare_taken(struct sp_pool *pool, const struct sp_call *call);
/* How many connections the pool is to have that would be content with `count'. `held' of the leased ones are about to be idle. */
uint32_t sp_spare_above(struct sp_pool *pool, uint32_t count, uint32_t held);

#endif
