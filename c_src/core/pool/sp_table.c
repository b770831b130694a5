#include "sp_table.h"

#include <stdlib.h>

static bool grow_locked(struct sp_pool *pool)
{
    uint32_t count = pool->table.count ? 2 * pool->table.count : 16;
    struct sp_conn **slots = realloc(pool->table.slots, count * sizeof *slots);

    if (!slots)
        return false;
    for (uint32_t i = pool->table.count; i < count; i++)
        slots[i] = NULL;
    pool->table.free_hint = pool->table.count;
    pool->table.slots = slots;
    pool->table.count = count;
    return true;
}

bool sp_table_add(struct sp_pool *pool, struct sp_conn *conn)
{
    bool room = true;

    pthread_mutex_lock(&pool->table.lock);
    uint32_t slot = pool->table.free_hint; /* no free slot is below it */
    while (slot < pool->table.count && pool->table.slots[slot])
        slot++;
    if (slot == pool->table.count)
        room = grow_locked(pool);
    if (room) {
        conn->slot = slot;
        pool->table.slots[slot] = conn;
        pool->table.free_hint = slot + 1;
    }
    pthread_mutex_unlock(&pool->table.lock);
    return room;
}

void sp_table_remove(struct sp_pool *pool, struct sp_conn *conn)
{
    pthread_mutex_lock(&pool->table.lock);
    pool->table.slots[conn->slot] = NULL;
    if (conn->slot < pool->table.free_hint)
        pool->table.free_hint = conn->slot;
    pthread_mutex_unlock(&pool->table.lock);
}

struct sp_conn *sp_table_next(struct sp_pool *pool, const struct sp_call *call, uint32_t *cursor)
{
    struct sp_conn *conn = NULL;

    sp_take(call, SP_PIECES_LOOK);
    pthread_mutex_lock(&pool->table.lock);
    for (int i = 0; i < SP_LOOKS_PER_PIECE && !conn && *cursor < pool->table.count; i++)
        conn = pool->table.slots[(*cursor)++];
    if (conn)
        pool->host->conn_ref(conn);
    if (*cursor >= pool->table.count)
        *cursor = 0;
    pthread_mutex_unlock(&pool->table.lock);
    return conn;
}

struct sp_conn *sp_table_get(struct sp_pool *pool, uint32_t slot)
{
    struct sp_conn *conn = NULL;

    pthread_mutex_lock(&pool->table.lock);
    if (slot < pool->table.count && (conn = pool->table.slots[slot]))
        pool->host->conn_ref(conn);
    pthread_mutex_unlock(&pool->table.lock);
    return conn;
}
