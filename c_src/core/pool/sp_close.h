/* Closing descriptors. A close costs 10-50 us, so whoever ends a connection only queues it, and the
 * pool's control process works the queue off in slices; where the pool has none, the closer does. */
#ifndef SP_CLOSE_H
#define SP_CLOSE_H

#include "core/conn/sp_host.h"

/* Called once per connection, in state CLOSING and without pins. The table's reference
 * becomes the queue's. */
void sp_close_queue(struct sp_conn *conn, const struct sp_call *call);

/* Closes the oldest queued connection; false where there is none. */
bool sp_close_one(struct sp_pool *pool, const struct sp_call *call);
/* As many as the call may; true where more are queued. */
bool sp_close_work(struct sp_pool *pool, const struct sp_call *call);

#endif
