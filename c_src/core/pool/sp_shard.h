/* Idle connections. A shard has those that were checked in by threads whose home it is. */
#ifndef SP_SHARD_H
#define SP_SHARD_H

#include "sp_pool.h"

/* Checked: cold, and where it belongs by how long it is idle. */
enum sp_idle { SP_IDLE_FRESH, SP_IDLE_COLD, SP_IDLE_AGED, SP_IDLE_CHECKED };

/* An idle connection, of the own shard before others, and one that is too old after all others; the caller holds it.
 * NULL: there is none. */
struct sp_conn *sp_shard_pop_any(struct sp_pool *pool, const struct sp_call *call);
/* One that is too old, and was put where these are. */
struct sp_conn *sp_shard_pop_aged(struct sp_pool *pool, const struct sp_call *call);
/* The one of the shard that has been idle for longest, if that is since before then: among the fresh, or among all that
 * are not too old. */
struct sp_conn *sp_shard_pop_idle_since(struct sp_pool *pool, struct sp_shard *shard,
                                        bool fresh_only, uint64_t before_ns);
/* Since when that one, of all, is idle; SP_NEVER: there is none. */
uint64_t sp_shard_idle_since(struct sp_shard *shard);
/* Whether there is one, at a glance. */
bool sp_shard_has_any(struct sp_pool *pool);
/* How many are idle, in all shards. */
uint32_t sp_shard_idle(struct sp_pool *pool);
/* Holder only: makes it idle in this shard, or closes one of it where the pool is shut. The caller looks
 * at nwait afterwards. */
void sp_pool_put(struct sp_pool *pool, const struct sp_call *call, struct sp_shard *shard,
                 struct sp_conn *conn, enum sp_idle as);
/* Under the shard's lock: the caller becomes the holder. */
void sp_shard_unlink(struct sp_pool *pool, struct sp_shard *shard, struct sp_conn *conn);
/* Of an idle connection: it is too old from now on. False where that is known, or it is not, or no longer, idle. */
SP_MUST_CHECK bool sp_shard_age(struct sp_pool *pool, struct sp_conn *conn);
/* The connection out of the shard that it is idle in; one in whose watch that generation is, where one is given.
 * False where it is not, or no longer, idle; otherwise the caller holds it. */
SP_MUST_CHECK bool sp_shard_take(struct sp_pool *pool, struct sp_conn *conn,
                                 const uint32_t *generation);
/* Likewise where `fits` says so, which is asked under the shard's lock, of an idle one only. */
SP_MUST_CHECK bool sp_shard_take_if(struct sp_pool *pool, struct sp_conn *conn,
                                    bool (*fits)(struct sp_conn *conn, void *arg), void *arg);
/* Whether it is idle; then since when, and how often it was leased. It stays where it is. */
SP_MUST_CHECK bool sp_shard_look(struct sp_pool *pool, struct sp_conn *conn,
                                 uint64_t *idle_since_ns, uint64_t *lease_seq);
/* After the phase has left OPEN: closes one idle connection; false where there is none. */
bool sp_pool_close_idle(struct sp_pool *pool, const struct sp_call *call);

#endif
