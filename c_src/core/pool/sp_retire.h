/* How a connection leaves its pool: its place is free, its close has begun, and the control process looks
 * whether somebody needs the place. Holder only, all of them. */
#ifndef SP_RETIRE_H
#define SP_RETIRE_H

#include "sp_pool.h"

void sp_pool_retire(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                    enum sp_why why);
/* One that was to be handed out and is not fit for it. */
void sp_pool_retire_unusable(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                             enum sp_why why);
/* Only where the pool has more connections than so many. */
SP_MUST_CHECK bool sp_pool_retire_above(struct sp_pool *pool, const struct sp_call *call,
                                        struct sp_conn *conn, uint32_t count, enum sp_why why);
/* CONNECTING or INITIALISING: the attempt failed, which counts for backoff. */
void sp_pool_retire_failed(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                           enum sp_failure why);
/* What a transport's look says of one that is not clean. */
enum sp_why sp_retire_why(const struct sp_conn *conn, enum sp_clean clean);

#endif
