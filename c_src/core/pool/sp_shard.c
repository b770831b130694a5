#include "sp_shard.h"

#include "sp_retire.h"

/* Of those that are idle for longest, to find the place of one. */
#define LOOKED_AT 64

/* Under the lock. */
static struct sp_conn *unlinked(struct sp_pool *pool, struct sp_shard *shard,
                                struct sp_list_node *node)
{
    struct sp_conn *conn = node ? SP_CONTAINER(node, struct sp_conn, node) : NULL;

    if (conn)
        sp_shard_unlink(pool, shard, conn);
    return conn;
}

static struct sp_conn *pop(struct sp_pool *pool, struct sp_shard *shard)
{
    struct sp_list_node *node;
    struct sp_conn *conn;

    if (!atomic_load(&shard->top))
        return NULL;
    pthread_mutex_lock(&shard->lock);
    if (atomic_load_explicit(&pool->strategy, memory_order_relaxed) == SP_LIFO)
        node = sp_list_empty(&shard->fresh) ? sp_list_newest(&shard->cold)
                                            : sp_list_newest(&shard->fresh);
    else
        node = sp_list_empty(&shard->cold) ? sp_list_oldest(&shard->fresh)
                                           : sp_list_oldest(&shard->cold);
    conn = unlinked(pool, shard, node);
    pthread_mutex_unlock(&shard->lock);
    return conn;
}

/* The one that was put there first. */
static struct sp_conn *pop_aged(struct sp_pool *pool, struct sp_shard *shard)
{
    struct sp_conn *conn;

    if (!atomic_load(&shard->top))
        return NULL;
    pthread_mutex_lock(&shard->lock);
    conn = unlinked(pool, shard, sp_list_oldest(&shard->aged));
    pthread_mutex_unlock(&shard->lock);
    return conn;
}

static struct sp_conn *pop_of_all(struct sp_pool *pool, const struct sp_call *call,
                                  struct sp_conn *(*from)(struct sp_pool *, struct sp_shard *))
{
    uint32_t home = call->shard % pool->shard_count;
    struct sp_conn *conn = NULL;

    for (uint32_t i = 0; i < pool->shard_count && !conn; i++)
        conn = from(
            pool,
            &pool->shards[home + i < pool->shard_count ? home + i : home + i - pool->shard_count]);
    return conn;
}

struct sp_conn *sp_shard_pop_aged(struct sp_pool *pool, const struct sp_call *call)
{
    return atomic_load(&pool->aged) ? pop_of_all(pool, call, pop_aged) : NULL;
}

struct sp_conn *sp_shard_pop_any(struct sp_pool *pool, const struct sp_call *call)
{
    struct sp_conn *conn = pop_of_all(pool, call, pop);

    return conn ? conn : sp_shard_pop_aged(pool, call);
}

/* Under the shard's lock. */
static struct sp_conn *oldest(struct sp_shard *shard, bool fresh_only)
{
    struct sp_list_node *node = fresh_only ? NULL : sp_list_oldest(&shard->cold);

    if (!node)
        node = sp_list_oldest(&shard->fresh);
    return node ? SP_CONTAINER(node, struct sp_conn, node) : NULL;
}

struct sp_conn *sp_shard_pop_idle_since(struct sp_pool *pool, struct sp_shard *shard,
                                        bool fresh_only, uint64_t before_ns)
{
    struct sp_conn *conn;

    if (!atomic_load(&shard->top))
        return NULL;
    pthread_mutex_lock(&shard->lock);
    conn = oldest(shard, fresh_only);
    if (conn && conn->idle_since_ns < before_ns)
        sp_shard_unlink(pool, shard, conn);
    else
        conn = NULL;
    pthread_mutex_unlock(&shard->lock);
    return conn;
}

uint64_t sp_shard_idle_since(struct sp_shard *shard)
{
    struct sp_conn *conn;
    uint64_t since_ns = SP_NEVER;

    if (!atomic_load(&shard->top))
        return SP_NEVER;
    pthread_mutex_lock(&shard->lock);
    conn = oldest(shard, false);
    if (conn)
        since_ns = conn->idle_since_ns;
    pthread_mutex_unlock(&shard->lock);
    return since_ns;
}

uint32_t sp_shard_idle(struct sp_pool *pool)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < pool->shard_count; i++)
        count += atomic_load(&pool->shards[i].top);
    return count;
}

bool sp_shard_has_any(struct sp_pool *pool)
{
    bool any = false;

    for (uint32_t i = 0; i < pool->shard_count && !any; i++)
        any = atomic_load(&pool->shards[i].top) > 0;
    return any;
}

void sp_shard_unlink(struct sp_pool *pool, struct sp_shard *shard, struct sp_conn *conn)
{
    sp_list_remove(&conn->node);
    conn->cold = false;
    if (conn->aged)
        atomic_fetch_sub(&pool->aged, 1);
    conn->aged = false;
    sp_conn_set_state(conn, SP_CONN_LEASED);
    atomic_fetch_sub(&shard->top, 1);
}

/* Under the lock of the shard: whether the connection is. First that, then what the lock guards. */
static bool is_idle_in(struct sp_pool *pool, struct sp_shard *shard, struct sp_conn *conn)
{
    return sp_conn_state(conn) == SP_CONN_IDLE && &pool->shards[atomic_load(&conn->shard)] == shard;
}

bool sp_shard_age(struct sp_pool *pool, struct sp_conn *conn)
{
    struct sp_shard *shard = &pool->shards[atomic_load(&conn->shard)];
    bool moved;

    pthread_mutex_lock(&shard->lock);
    moved = is_idle_in(pool, shard, conn) && !conn->aged;
    if (moved) {
        sp_list_remove(&conn->node);
        sp_list_push_newest(&shard->aged, &conn->node);
        conn->cold = false;
        conn->aged = true;
        atomic_fetch_add(&pool->aged, 1);
    }
    pthread_mutex_unlock(&shard->lock);
    return moved;
}

bool sp_shard_take(struct sp_pool *pool, struct sp_conn *conn, const uint32_t *generation)
{
    struct sp_shard *shard = &pool->shards[atomic_load(&conn->shard)];
    bool held;

    pthread_mutex_lock(&shard->lock);
    /* One that has become too old may be watched still. */
    held = is_idle_in(pool, shard, conn) &&
           (!generation || ((conn->cold || conn->aged) && conn->watch == *generation));
    if (held)
        sp_shard_unlink(pool, shard, conn);
    pthread_mutex_unlock(&shard->lock);
    return held;
}

bool sp_shard_take_if(struct sp_pool *pool, struct sp_conn *conn,
                      bool (*fits)(struct sp_conn *conn, void *arg), void *arg)
{
    struct sp_shard *shard = &pool->shards[atomic_load(&conn->shard)];
    bool held;

    if (sp_conn_state(conn) != SP_CONN_IDLE)
        return false;
    pthread_mutex_lock(&shard->lock);
    held = is_idle_in(pool, shard, conn) && fits(conn, arg);
    if (held)
        sp_shard_unlink(pool, shard, conn);
    pthread_mutex_unlock(&shard->lock);
    return held;
}

bool sp_shard_look(struct sp_pool *pool, struct sp_conn *conn, uint64_t *idle_since_ns,
                   uint64_t *lease_seq)
{
    struct sp_shard *shard = &pool->shards[atomic_load(&conn->shard)];
    bool idle;

    if (sp_conn_state(conn) != SP_CONN_IDLE)
        return false;
    pthread_mutex_lock(&shard->lock);
    idle = is_idle_in(pool, shard, conn);
    if (idle) {
        *idle_since_ns = conn->idle_since_ns;
        *lease_seq = conn->lease_seq;
    }
    pthread_mutex_unlock(&shard->lock);
    return idle;
}

/* Under the lock. Behind many that are idle for longer it comes among these: it is one of them soon. */
static void insert_by_age(struct sp_list *list, struct sp_conn *conn)
{
    struct sp_list_node *node = list->head.prev;

    for (int i = 0; i < LOOKED_AT && node != &list->head &&
                    SP_CONTAINER(node, struct sp_conn, node)->idle_since_ns <= conn->idle_since_ns;
         i++)
        node = node->prev;
    sp_list_insert_older(node, &conn->node);
}

void sp_pool_put(struct sp_pool *pool, const struct sp_call *call, struct sp_shard *shard,
                 struct sp_conn *conn, enum sp_idle as)
{
    struct sp_list *const lists[] = {&shard->fresh, &shard->cold, &shard->aged, &shard->cold};

    pthread_mutex_lock(&shard->lock);
    conn->cold = as == SP_IDLE_COLD || as == SP_IDLE_CHECKED;
    conn->aged = as == SP_IDLE_AGED;
    if (conn->aged)
        atomic_fetch_add(&pool->aged, 1);
    atomic_store_explicit(&conn->shard, (uint32_t)(shard - pool->shards), memory_order_relaxed);
    conn->rested = true;
    sp_conn_set_state(conn, SP_CONN_IDLE);
    if (as == SP_IDLE_CHECKED)
        insert_by_age(lists[as], conn);
    else
        sp_list_push_newest(lists[as], &conn->node);
    atomic_fetch_add(&shard->top, 1);
    pthread_mutex_unlock(&shard->lock);
    /* Everybody who puts one into a shut pool takes one out of the same shard: so none is left. */
    if (sp_pool_phase(pool) != SP_PHASE_OPEN &&
        ((conn = pop(pool, shard)) || (conn = pop_aged(pool, shard))))
        sp_pool_retire(pool, call, conn, SP_WHY_STOPPED);
}

bool sp_pool_close_idle(struct sp_pool *pool, const struct sp_call *call)
{
    struct sp_conn *conn = sp_shard_pop_any(pool, call);

    if (conn)
        sp_pool_retire(pool, call, conn, SP_WHY_STOPPED);
    return conn != NULL;
}
