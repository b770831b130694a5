#include "sp_retire.h"

#include "core/conn/sp_recv.h"
#include "sp_health.h"
#include "sp_times.h"

static void leave(const struct sp_call *call, struct sp_conn *conn)
{
    sp_conn_set_state(conn, SP_CONN_CLOSING);
    sp_take(call, SP_PIECES_RETIRE);
    sp_conn_begin_close(conn, call);
}

static void count_close(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                        enum sp_why why)
{
    conn->ended = (uint8_t)why;
    sp_count_one(pool->counts.closed[why]);
    sp_times_note(pool, SP_TIME_AGE, sp_since(call, conn->born_ns));
}

/* It leaves `total` before `connecting`, or it would pass for a connection, see sp_health_unavailable(). */
static void leave_unready(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                          enum sp_failure why)
{
    conn->ended = SP_WHYS;
    sp_count_one(pool->counts.failed[why]);
    atomic_fetch_sub(&pool->total, 1);
    atomic_fetch_sub(&pool->connecting, 1);
    leave(call, conn);
    sp_pool_wake(pool, call);
}

void sp_pool_retire(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                    enum sp_why why)
{
    if (sp_conn_unready(conn)) {
        leave_unready(pool, call, conn, SP_FAILURE_OTHER);
        return;
    }
    count_close(pool, call, conn, why);
    leave(call, conn);
    /* Last: what its end tells of the server is known by then, see sp_close_queue(). */
    atomic_fetch_sub(&pool->total, 1);
    sp_health_lost(pool);
    /* Whether somebody needs the place is for the control step. */
    sp_pool_wake(pool, call);
}

bool sp_pool_retire_above(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                          uint32_t count, enum sp_why why)
{
    uint32_t total = atomic_load(&pool->total);

    do {
        if (total <= count)
            return false;
    } while (!atomic_compare_exchange_weak(&pool->total, &total, total - 1));
    count_close(pool, call, conn, why);
    leave(call, conn);
    sp_pool_wake(pool, call);
    return true;
}

void sp_pool_retire_unusable(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                             enum sp_why why)
{
    if (!conn->used && sp_pool_is_current(pool, conn)) {
        bool words = sp_recv_words(conn);
        pool->host->refused(call, conn,
                            words                  ? SP_UNREAD
                            : conn->fault != SP_OK ? conn->fault
                                                   : SP_CLOSED,
                            words);
        sp_health_lost_unused(pool, call);
    }
    sp_pool_retire(pool, call, conn, why);
}

void sp_pool_retire_failed(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                           enum sp_failure why)
{
    sp_health_failed(pool, call, conn);
    leave_unready(pool, call, conn, why);
}

enum sp_why sp_retire_why(const struct sp_conn *conn, enum sp_clean clean)
{
    if (clean == SP_DIRTY)
        return SP_WHY_UNREAD;
    return conn->fault == SP_OK ? SP_WHY_PEER_CLOSED : sp_why_of(conn->fault);
}
