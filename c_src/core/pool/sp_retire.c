#include "sp_retire.h"

#include "core/conn/sp_recv.h"
#include "sp_health.h"

static void leave(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    if (sp_conn_state(conn) == SP_CONN_LEASED)
        sp_count(sp_pool_home(pool, call), closed);
    else
        atomic_fetch_sub(&pool->connecting, 1);
    sp_conn_set_state(conn, SP_CONN_CLOSING);
    sp_take(call, SP_PIECES_RETIRE);
    sp_conn_begin_close(conn, call);
}

void sp_pool_retire(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    bool attempt = sp_conn_unready(conn);

    /* An attempt leaves `total` before `connecting`, or it would pass for a connection, see
     * sp_health_unavailable(). A connection leaves it last: what its end tells of the server is
     * known by then, see sp_close_queue(). */
    if (attempt)
        atomic_fetch_sub(&pool->total, 1);
    leave(pool, call, conn);
    if (!attempt)
        atomic_fetch_sub(&pool->total, 1);
    /* Whether somebody needs the place is for the control step. */
    sp_pool_wake(pool, call);
}

bool sp_pool_retire_above(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                          uint32_t count)
{
    uint32_t total = atomic_load(&pool->total);

    do {
        if (total <= count)
            return false;
    } while (!atomic_compare_exchange_weak(&pool->total, &total, total - 1));
    leave(pool, call, conn);
    sp_pool_wake(pool, call);
    return true;
}

void sp_pool_retire_unusable(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
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
    sp_pool_retire(pool, call, conn);
}

void sp_pool_retire_failed(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    sp_health_failed(pool, call, conn);
    sp_count(sp_pool_home(pool, call), connect_failures);
    sp_pool_retire(pool, call, conn);
}
