#include "sn_pools.h"

#include <string.h>
#include <sys/random.h>

static struct sn_pool *pool_of(struct sp_list_node *node)
{
    return SP_CONTAINER(node, struct sn_pool, node);
}

/* Whether there are any left when the turn has had its part. */
static bool fail_waiters(struct sn_pools *pools)
{
    struct sp_call call = sn_loop_call(pools->loop);

    for (struct sp_list_node *at = pools->list.head.prev; at != &pools->list.head; at = at->prev)
        while (sp_pool_fail_waiter(&pool_of(at)->hosted.core, &call, SP_DRAINING))
            if (sp_spent(&call))
                return true;
    return false;
}

static void on_task(struct sn_task *task)
{
    struct sn_pools *pools = SP_CONTAINER(task, struct sn_pools, task);

    if (pools->draining && fail_waiters(pools)) {
        sn_loop_defer(pools->loop, task);
        return;
    }
    if (!pools->awaited || !pools->awaited(pools))
        return;
    pools->awaited = NULL;
    pools->reached(pools->arg);
}

static void await(struct sn_pools *pools, bool (*awaited)(struct sn_pools *pools),
                  void (*reached)(void *arg), void *arg)
{
    pools->awaited = awaited;
    pools->reached = reached;
    pools->arg = arg;
    sn_loop_defer(pools->loop, &pools->task);
}

sp_status sn_pools_init(struct sn_pools *pools, struct sn_loop *loop, const struct sn_here *here,
                        void (*ended_leases)(struct sn_pool *pool))
{
    *pools = (struct sn_pools){
        .loop = loop, .here = here, .ended_leases = ended_leases, .task.run = on_task};
    sp_list_init(&pools->list);
    sn_hash_init(&pools->by_name);
    sn_lookups_init(&pools->lookups, loop);
    pools->tls = sp_tls_registry_new();
    if (!pools->tls || getrandom(&pools->seed, sizeof pools->seed, 0) != sizeof pools->seed)
        return SP_NO_MEMORY;
    return SP_OK;
}

void sn_pools_free(struct sn_pools *pools)
{
    sn_hash_free(&pools->by_name);
    sp_tls_registry_unref(pools->tls);
}

static uint64_t hash_of(const char *name, size_t name_len)
{
    return sn_hash_bytes((struct sn_slice){(const uint8_t *)name, name_len});
}

static struct sn_pool *find(struct sn_pools *pools, const char *name, size_t name_len)
{
    struct sn_hash_node *node = sn_hash_first(&pools->by_name, hash_of(name, name_len));

    for (; node; node = sn_hash_next(&pools->by_name, node)) {
        struct sn_pool *pool = SP_CONTAINER(node, struct sn_pool, by_name);

        if (pool->options.name_len == name_len && memcmp(pool->options.name, name, name_len) == 0)
            return pool;
    }
    return NULL;
}

struct sn_pool *sn_pools_find(struct sn_pools *pools, const char *name, size_t name_len)
{
    struct sn_pool *pool = find(pools, name, name_len);

    return pool && !pool->stopping ? pool : NULL;
}

struct sn_pool *sn_pools_next(struct sn_pools *pools, struct sn_pool *pool)
{
    struct sp_list_node *at = pool ? &pool->node : &pools->list.head;

    do
        at = at->prev;
    while (at != &pools->list.head && pool_of(at)->stopping);
    return at == &pools->list.head ? NULL : pool_of(at);
}

static void on_released(struct sn_pool *pool)
{
    if (pool->pools->awaited)
        sn_loop_defer(pool->pools->loop, &pool->pools->task);
}

static void on_stopped(struct sn_pool *pool)
{
    sp_list_remove(&pool->node);
    sn_hash_remove(&pool->pools->by_name, &pool->by_name);
    if (pool->done)
        pool->done(pool->done_arg);
    on_released(pool);
}

sp_status sn_pools_start(struct sn_pools *pools, struct sn_options *options,
                         struct sp_tls_refusal *refusal)
{
    struct sn_pool *pool;
    sp_status status;

    if (pools->draining)
        return SP_DRAINING;
    if (find(pools, options->name, options->name_len))
        return SP_BUSY;
    status = sn_hash_make_room(&pools->by_name);
    if (status == SP_OK)
        status = sn_pool_open(&pool, pools->loop, pools->here, pools->tls, options, pools->seed++,
                              refusal);
    if (status != SP_OK)
        return status;
    pool->pools = pools;
    pool->lookups = &pools->lookups;
    pool->ended_leases = pools->ended_leases;
    pool->leaked = pools->leaked;
    pool->released = on_released;
    pool->on_stopped = on_stopped;
    sp_list_push_newest(&pools->list, &pool->node);
    return sn_hash_add(&pools->by_name, &pool->by_name,
                       hash_of(pool->options.name, pool->options.name_len));
}

sp_status sn_pools_stop(struct sn_pools *pools, const char *name, size_t name_len,
                        void (*done)(void *arg), void *arg)
{
    struct sn_pool *pool = sn_pools_find(pools, name, name_len);

    if (!pool)
        return SP_NOT_FOUND;
    pool->done = done;
    pool->done_arg = arg;
    sn_pool_stop(pool);
    return SP_OK;
}

long sn_pools_count(struct sn_pools *pools)
{
    long count = 0;

    for (struct sn_pool *pool = NULL; (pool = sn_pools_next(pools, pool));)
        count++;
    return count;
}

bool sn_pools_are_unused(struct sn_pools *pools)
{
    for (struct sp_list_node *at = pools->list.head.prev; at != &pools->list.head; at = at->prev)
        if (!sp_list_empty(&pool_of(at)->sessions))
            return false;
    return true;
}

void sn_pools_drain(struct sn_pools *pools, void (*drained)(void *arg), void *arg)
{
    pools->draining = true;
    await(pools, sn_pools_are_unused, drained, arg);
}

static bool are_gone(struct sn_pools *pools)
{
    return sp_list_empty(&pools->list);
}

void sn_pools_close(struct sn_pools *pools, void (*closed)(void *arg), void *arg)
{
    struct sn_pool *pool;

    pools->draining = true;
    while ((pool = sn_pools_next(pools, NULL)))
        sn_pool_stop(pool);
    sn_lookups_close(&pools->lookups);
    await(pools, are_gone, closed, arg);
}
