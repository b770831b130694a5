/* The second clock for waits that have no timer of their own. The first is the tick of each pool's control
 * process, which may be suspended, behind or starved. This one is a thread: no process can hold it up.
 *
 * It looks at the pools that have waiters, and at those whose control process could not be woken; while there are none it
 * sleeps. Who begins to wait does so, and then looks whether the pool is here (`clocked`); the thread lets go of a pool by
 * clearing that, and then looks whether somebody waits: so one of the two sees the other. */
#include "sp_nif.h"

#include <pthread.h>
#include <time.h>

#define LOOK_NS (200 * SP_MS)
/* What has passed for less than this is left to the tick, which then comes in time. */
#define LATE_NS (200 * SP_MS)

struct sp_nif_clock {
    ErlNifTid thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool ending;
    bool is_kept; /* there was a pool */
    struct sp_nif_pool
        *pools; /* each with a reference; those that the thread looks at are its own */
};

static bool is_needed(struct sp_nif_pool *pool)
{
    return atomic_load(&pool->core.nwait) || atomic_load(&pool->unheard);
}

/* The core's own waits for locks aside, this takes as long as there are waiters to tell. */
static void look(struct sp_nif_pool *pool)
{
    struct sp_call call = sp_nif_call(NULL);

    if (atomic_exchange(&pool->unheard, false))
        sp_pool_wake(&pool->core, &call);
    if (call.now_ns < LATE_NS || !atomic_load(&pool->core.nwait))
        return;
    call.now_ns -= LATE_NS;
    while (sp_pool_expire(&pool->core, &call))
        ;
}

/* Under the lock. */
static void wait_for_change(struct sp_nif_clock *clock)
{
#ifdef __APPLE__
    struct timespec look = {.tv_nsec = (long)LOOK_NS};
#else
    struct timespec look;
    clock_gettime(CLOCK_MONOTONIC, &look);
    look.tv_nsec += (long)LOOK_NS;
    look.tv_sec += look.tv_nsec / 1000000000;
    look.tv_nsec %= 1000000000;
#endif
    if (!clock->pools)
        pthread_cond_wait(&clock->changed, &clock->lock);
    else
#ifdef __APPLE__
        pthread_cond_timedwait_relative_np(&clock->changed, &clock->lock, &look);
#else
        pthread_cond_timedwait(&clock->changed, &clock->lock, &look);
#endif
}

/* Under the lock. */
static void put(struct sp_nif_clock *clock, struct sp_nif_pool *pool)
{
    pool->clock_next = clock->pools;
    clock->pools = pool;
}

static bool lets_go(struct sp_nif_pool *pool)
{
    if (is_needed(pool))
        return false;
    atomic_store(&pool->clocked, false);
    return !is_needed(pool) || atomic_exchange(&pool->clocked, true);
}

/* Those that it is to look at again. */
static struct sp_nif_pool *look_at_all(struct sp_nif_pool *pools)
{
    struct sp_nif_pool *pool, *kept = NULL;

    while ((pool = pools)) {
        void *resource = pool->resource;
        pools = pool->clock_next;
        look(pool);
        if (lets_go(pool)) {
            enif_release_resource(resource);
            continue;
        }
        pool->clock_next = kept;
        kept = pool;
    }
    return kept;
}

static void *run(void *arg)
{
    struct sp_nif_clock *clock = arg;

    sp_nif_keep_no_waiters();
    pthread_mutex_lock(&clock->lock);
    while (!clock->ending) {
        struct sp_nif_pool *pools = clock->pools, *pool;
        clock->pools = NULL;
        pthread_mutex_unlock(&clock->lock);
        pools = look_at_all(pools);
        pthread_mutex_lock(&clock->lock);
        while ((pool = pools)) {
            pools = pool->clock_next;
            put(clock, pool);
        }
        if (!clock->ending)
            wait_for_change(clock);
    }
    pthread_mutex_unlock(&clock->lock);
    return NULL;
}

static void init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
#ifndef __APPLE__
    /* Or a wall clock that is set back would stop it. */
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void clock_free(struct sp_nif_clock *clock)
{
    pthread_mutex_destroy(&clock->lock);
    pthread_cond_destroy(&clock->changed);
    enif_free(clock);
}

struct sp_nif_clock *sp_nif_clock_start(void)
{
    struct sp_nif_clock *clock = enif_alloc(sizeof *clock);

    if (!clock)
        return NULL;
    *clock = (struct sp_nif_clock){.ending = false};
    pthread_mutex_init(&clock->lock, NULL);
    init_condition(&clock->changed);
    if (enif_thread_create("sockpool_clock", &clock->thread, run, clock, NULL) == 0)
        return clock;
    clock_free(clock);
    return NULL;
}

bool sp_nif_clock_keep(struct sp_nif_clock *clock)
{
    bool is_first;

    pthread_mutex_lock(&clock->lock);
    is_first = !clock->is_kept;
    clock->is_kept = true;
    pthread_mutex_unlock(&clock->lock);
    return is_first;
}

void sp_nif_clock_watch(struct sp_nif_pool *pool)
{
    struct sp_nif_clock *clock = pool->clock;

    if (atomic_load(&pool->clocked) || atomic_exchange(&pool->clocked, true))
        return;
    enif_keep_resource(pool->resource);
    pthread_mutex_lock(&clock->lock);
    put(clock, pool);
    pthread_cond_signal(&clock->changed);
    pthread_mutex_unlock(&clock->lock);
}

void sp_nif_clock_stop(struct sp_nif_clock *clock)
{
    pthread_mutex_lock(&clock->lock);
    clock->ending = true;
    pthread_cond_signal(&clock->changed);
    pthread_mutex_unlock(&clock->lock);
    enif_thread_join(clock->thread, NULL);
    clock_free(clock);
}
