/* When a connection is too old, by time or by uses, what becomes of it then, and which are closed because nobody
 * needed them.
 *
 * Its end is drawn once, when it becomes usable. One that has passed it is put where an idle one is handed out only if
 * there is no other, until another is up in its place; then it is closed. Where the pool is as large as it may be, it is
 * closed first, if nobody waits. At most a tenth of the pool is replaced at a time; nothing is closed for its age while
 * attempts fail, and no lease ends for it.
 *
 * Thread rule: sp_age_step(), sp_age_tick(), sp_age_sweep(), sp_age_wanted(), sp_age_begin() and sp_age_attempts() are the control
 * process's; the others are for who holds the connection. */
#ifndef SP_AGE_H
#define SP_AGE_H

#include "sp_pool.h"

/* The pool opens. */
void sp_age_begin(struct sp_pool *pool, const struct sp_call *call, const struct sp_config *config);
/* Its options change while it is open. What is drawn is for connections that are made from then on. */
void sp_age_change(struct sp_pool *pool, const struct sp_config *from, const struct sp_config *to);
/* It is usable from now on. */
void sp_age_born(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn);

/* Of a lease that has just begun: how many uses there may be, this one included. */
uint64_t sp_age_uses_left(struct sp_pool *pool, const struct sp_conn *conn);

/* One that is over and that somebody wants: whether it may be handed out once more, as no other is idle and it is not long
 * over, or enough are being replaced. False: it is not the caller's any more. */
SP_MUST_CHECK bool sp_age_may_serve(struct sp_pool *pool, const struct sp_call *call,
                                    struct sp_conn *conn);
/* One that is over and that nobody wants: idle, until it is replaced. */
void sp_age_put(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn);

/* Closes those that have been replaced. */
void sp_age_step(struct sp_pool *pool, const struct sp_call *call);
/* How many are to be opened for those that are to be closed; and that so many were begun, at least one of them because
 * somebody wanted one, or not. */
uint64_t sp_age_wanted(struct sp_pool *pool);
void sp_age_attempts(struct sp_pool *pool, uint64_t count, bool called_for);

/* Once in each tick: closes what was idle for too long. */
void sp_age_tick(struct sp_pool *pool, const struct sp_call *call);
/* Looks at one of all connections. */
void sp_age_sweep(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn);

#endif
