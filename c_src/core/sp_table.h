/* The pool's table of connections, for walking over all of them. It holds one reference to each,
 * from its reservation until its last pin is gone and its close is queued. */
#ifndef SP_TABLE_H
#define SP_TABLE_H

#include "sp_pool.h"

/* Takes over one reference; sets conn->slot. False where memory is short. */
SP_MUST_CHECK bool sp_table_add(struct sp_pool *pool, struct sp_conn *conn);
/* The table's reference becomes the caller's. */
void sp_table_remove(struct sp_pool *pool, struct sp_conn *conn);
/* Collects up to `max` connections from *cursor on, each with a reference for the caller; moves
 * the cursor; 0 and the cursor back at 0 at the end. */
size_t sp_table_walk(struct sp_pool *pool, uint32_t *cursor, struct sp_conn **found, size_t max);
/* The connection in the slot with a reference, or NULL. */
struct sp_conn *sp_table_get(struct sp_pool *pool, uint32_t slot);

#endif
