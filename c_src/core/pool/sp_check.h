/* Active checks: idle connections whose server is asked from time to time whether it is there.
 *
 * Which connection is due is decided here, by the control process; who asks is the host's business. Meanwhile the
 * connection is lent to who asks, by a lease that no user has: to callers it is as if in use, in the statistics it is
 * idle. Each that nobody uses is checked once in the interval, at a time of its own in the last fifth of that; at most a
 * tenth of the idle ones, and at least one, at a time, and none while somebody waits. A check that fails closes the
 * connection, and all others that are idle are then checked at once, at most SP_CHECKS_MAX at a time.
 *
 * Thread rule: sp_check_begin() and sp_check_step() are the control process's; the others are for any thread. */
#ifndef SP_CHECK_H
#define SP_CHECK_H

#include "sp_pool.h"

/* The pool opens. */
void sp_check_begin(struct sp_pool *pool, uint64_t seed);

/* A connection to be checked, leased to nobody yet. */
struct sp_check {
    struct sp_conn *conn; /* with a reference */
    uint64_t lease;
};

struct sp_check_plan {
    size_t
        count; /* how many connections were written to the caller's array, to be checked within the timeout */
    bool more;        /* call again soon */
    uint64_t wait_ns; /* call again after this time; SP_NEVER: only after a step */
};

/* After each step, and when plan->wait_ns is over. */
void sp_check_step(struct sp_pool *pool, const struct sp_call *call, struct sp_check *checks,
                   size_t max, struct sp_check_plan *plan);

/* By who checks: the server has answered as it should. SP_OK: the connection is idle again, for as long as it was. SP_UNREAD,
 * where more is there than the answer, SP_TIMEOUT, where it comes late, SP_CLOSED: so the check has failed after all. */
SP_MUST_CHECK sp_status sp_check_passed(struct sp_pool *pool, const struct sp_call *call,
                                        struct sp_conn *conn, uint64_t lease);
/* It has not, or not in time. Nothing where the lease has ended. */
void sp_check_failed(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                     uint64_t lease);
/* Nobody was there to ask. */
void sp_check_skipped(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                      uint64_t lease);

/* For who has ended the lease of such a connection otherwise, and holds it: as sp_check_failed(), or, where the pool is being
 * shut, without a word. */
void sp_check_ended(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn);
/* How long a lease may last: longer than its host gives it. */
uint64_t sp_check_limit_ns(struct sp_pool *pool);

#endif
