/* The pool's table of connections, for walking over all of them. It holds one reference to each,
 * from its reservation until its last pin is gone and its close is queued. */
#ifndef SP_TABLE_H
#define SP_TABLE_H

#include "sp_pool.h"

/* Takes over one reference; sets conn->slot. False where memory is short. */
SP_MUST_CHECK bool sp_table_add(struct sp_pool *pool, struct sp_conn *conn);
/* The table's reference becomes the caller's. */
void sp_table_remove(struct sp_pool *pool, struct sp_conn *conn);
/* The next connection from *cursor on, with a reference for the caller; moves the cursor, which is back
 * at 0 at the end. NULL where some slots are empty: with another cursor than 0 there may be more. */
struct sp_conn *sp_table_next(struct sp_pool *pool, const struct sp_call *call, uint32_t *cursor);
/* The connection in the slot with a reference, or NULL. */
struct sp_conn *sp_table_get(struct sp_pool *pool, uint32_t slot);

#endif
