#include "sp_close.h"

#include "sp_health.h"
#include "sp_leak.h"
#include "sp_table.h"

static struct sp_conn *next_queued(struct sp_pool *pool)
{
    struct sp_list_node *node;

    pthread_mutex_lock(&pool->closing.lock);
    node = sp_list_oldest(&pool->closing.list);
    if (node)
        sp_list_remove(node);
    pthread_mutex_unlock(&pool->closing.lock);
    return node ? SP_CONTAINER(node, struct sp_conn, node) : NULL;
}

static bool any_queued(struct sp_pool *pool)
{
    bool any;

    pthread_mutex_lock(&pool->closing.lock);
    any = !sp_list_empty(&pool->closing.list);
    pthread_mutex_unlock(&pool->closing.lock);
    return any;
}

/* Before what the host may want to know of it is gone. */
static void tell(struct sp_pool *pool, const struct sp_call *call, const struct sp_conn *conn)
{
    if (conn->ended < SP_WHYS && pool->host->closed &&
        atomic_load_explicit(&pool->listened, memory_order_relaxed))
        pool->host->closed(call, conn, sp_since(call, conn->born_ns),
                           conn->rested ? sp_since(call, conn->idle_since_ns) : 0);
}

bool sp_close_one(struct sp_pool *pool, const struct sp_call *call)
{
    struct sp_conn *conn = next_queued(pool);

    if (!conn)
        return false;
    sp_leak_look_for_end(pool, call, conn);
    tell(pool, call, conn);
    sp_conn_set_state(conn, SP_CONN_CLOSED);
    sp_conn_cleanup(conn);
    sp_conn_settle(conn, call);
    sp_take(call, SP_PIECES_CLOSE);
    if (conn->fd >= 0 || sp_is_worker(conn->transport))
        pool->host->conn_stop(call, conn, conn->fd);
    sp_conn_forget(conn);
    pool->host->conn_unref(conn);
    return true;
}

bool sp_close_work(struct sp_pool *pool, const struct sp_call *call)
{
    while (sp_close_one(pool, call))
        if (sp_spent(call))
            return any_queued(pool);
    return false;
}

void sp_close_queue(struct sp_conn *conn, const struct sp_call *call)
{
    struct sp_pool *pool = conn->pool;

    sp_health_learn(pool, call, conn);
    sp_table_remove(pool, conn);
    pthread_mutex_lock(&pool->closing.lock);
    sp_list_push_newest(&pool->closing.list, &conn->node);
    pthread_mutex_unlock(&pool->closing.lock);
    /* The control process leaves by storing the phase and then working the queue off: one of the
     * two sees the other. After that everybody who queues one closes one: so none is left. */
    if (sp_pool_phase(pool) == SP_PHASE_OPEN)
        sp_pool_wake(pool, call);
    else
        (void)sp_close_one(pool, call);
}
