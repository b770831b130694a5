/* What is known of the server's health: whether attempts fail, and the pause before the next; whether the
 * server is in doubt, as it takes connections and then refuses them. */
#ifndef SP_HEALTH_H
#define SP_HEALTH_H

#include "sp_pool.h"

/* A new epoch begins, of which nothing is known. The phase is not OPEN. */
void sp_health_begin(struct sp_pool *pool, const struct sp_config *config, uint64_t seed);
/* A connection is ready: that ends the backoff, unless the server is in doubt. */
void sp_health_up(struct sp_pool *pool);
/* An attempt has failed. Nothing where that was one of another epoch. */
void sp_health_failed(struct sp_pool *pool, const struct sp_call *call, const struct sp_conn *conn);
/* A connection that nobody ever used was found closed or dirty: the next attempt waits for the
 * first backoff, so that a server that accepts and closes is not stormed. */
void sp_health_lost_unused(struct sp_pool *pool, const struct sp_call *call);
/* Holder only, at a check-in and before the connection's cleanup: what it tells of the server. Where the
 * server refused it, before it said anything on it, that counts for backoff as a failed attempt, and from
 * now on a connection that is ready does not end the backoff, but one on which the server has said
 * something. TLS 1.3 servers refuse a client's certificate so. */
void sp_health_learn(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn);
/* Whether the last attempt failed. */
bool sp_health_failing(struct sp_pool *pool);
/* Whether the last attempt failed and no connection is up. */
bool sp_health_unavailable(struct sp_pool *pool);
/* How many connections are up, idle or in use. */
uint32_t sp_health_ups(struct sp_pool *pool);
/* Somebody waits for the next attempt, see sp_backoff_hurry(). */
void sp_health_hurry(struct sp_pool *pool);
/* A connection is gone: it may have been the last that was up. */
void sp_health_lost(struct sp_pool *pool);
/* With fail_fast: whether who comes now is told so. */
bool sp_health_refuses(struct sp_pool *pool);
/* Likewise who would wait: not where an attempt is due that nobody has begun, which is then made for who comes, and
 * whose end says more. */
bool sp_health_refuses_to_wait(struct sp_pool *pool, uint64_t now_ns);
/* Whether those who wait are to be told so, since nothing is up any more, or a further attempt has failed; once. */
bool sp_health_has_lost_all(struct sp_pool *pool);

#endif
