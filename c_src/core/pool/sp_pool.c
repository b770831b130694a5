#include "sp_pool.h"

#include <assert.h>
#include <stdlib.h>

/* A lock that is held for some ten instructions: who meets it held spins a little before it sleeps. */
static void lock_init(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attr;

    pthread_mutexattr_init(&attr);
#ifdef PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
#endif
    pthread_mutex_init(lock, &attr);
    pthread_mutexattr_destroy(&attr);
}

sp_status sp_pool_init(struct sp_pool *pool, const struct sp_host *host, const struct sp_sys *sys,
                       uint32_t shard_count)
{
    void *shards = NULL;

    if (shard_count > SP_SHARDS_MAX)
        shard_count = SP_SHARDS_MAX;
    if (posix_memalign(&shards, _Alignof(struct sp_shard), shard_count * sizeof(struct sp_shard)))
        return SP_NO_MEMORY;
    pool->host = host;
    pool->sys = sys;
    pool->shard_count = shard_count;
    pool->shards = shards;
    for (uint32_t i = 0; i < shard_count; i++) {
        pool->shards[i] = (struct sp_shard){.top = 0};
        lock_init(&pool->shards[i].lock);
        sp_list_init(&pool->shards[i].fresh);
        sp_list_init(&pool->shards[i].cold);
        sp_list_init(&pool->shards[i].aged);
    }
    lock_init(&pool->queue.lock);
    sp_list_init(&pool->queue.list);
    sp_expiry_init(&pool->queue.expiry);
    pthread_mutex_init(&pool->table.lock, NULL);
    pthread_mutex_init(&pool->closing.lock, NULL);
    sp_list_init(&pool->closing.list);
    pthread_mutex_init(&pool->control.lock, NULL);
    return SP_OK;
}

void sp_pool_destroy(struct sp_pool *pool)
{
    assert(sp_list_empty(&pool->queue.list) && sp_list_empty(&pool->closing.list));
    for (uint32_t i = 0; i < pool->shard_count; i++) {
        pthread_mutex_destroy(&pool->shards[i].lock);
        free(atomic_load(&pool->shards[i].used));
    }
    for (int i = 0; i < SP_TIMES; i++)
        free(atomic_load(&pool->times[i]));
    pthread_mutex_destroy(&pool->queue.lock);
    pthread_mutex_destroy(&pool->table.lock);
    pthread_mutex_destroy(&pool->closing.lock);
    pthread_mutex_destroy(&pool->control.lock);
    free(pool->shards);
    free(pool->table.slots);
}

sp_status sp_pool_phase_status(enum sp_phase phase)
{
    switch (phase) {
    case SP_PHASE_OPEN:
        return SP_OK;
    case SP_PHASE_DRAINING:
        return SP_DRAINING;
    case SP_PHASE_DOWN:
        return SP_CLOSED;
    case SP_PHASE_CLOSED:
        break;
    }
    return SP_NOT_FOUND;
}

void sp_pool_wake(struct sp_pool *pool, const struct sp_call *call)
{
    /* Read first: a burst of wake-ups then shares the line instead of fighting for it. */
    if (!atomic_load(&pool->woken) && !atomic_exchange(&pool->woken, 1))
        pool->host->wake(call, pool);
}

sp_status sp_pool_refuse(struct sp_pool *pool, sp_status status)
{
    static const sp_status STATUS[SP_ERRORS] = {[SP_ERROR_TIMEOUT] = SP_TIMEOUT,
                                                [SP_ERROR_FULL] = SP_FULL,
                                                [SP_ERROR_UNAVAILABLE] = SP_UNAVAILABLE,
                                                [SP_ERROR_CLOSED] = SP_CLOSED,
                                                [SP_ERROR_DRAINING] = SP_DRAINING};

    for (int i = 0; i < SP_ERRORS; i++)
        if (STATUS[i] == status)
            sp_count_one(pool->counts.errors[i]);
    return status;
}
