/* The second clock for waits that have no timer of their own. The first is the tick of each pool's control
 * process, which may be suspended, behind or starved. This one is a thread: no process can hold it up. */
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
    /* The latest first, each with a reference: only ever longer, so it is walked without the lock. */
    struct sp_nif_pool *pools;
};

/* The core's own waits for locks aside, this takes as long as there are waiters to tell. */
static void look(struct sp_nif_pool *pool)
{
    struct sp_call call = sp_nif_call(NULL);

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

static void *run(void *arg)
{
    struct sp_nif_clock *clock = arg;

    sp_nif_keep_no_waiters();
    pthread_mutex_lock(&clock->lock);
    while (!clock->ending) {
        struct sp_nif_pool *pool = clock->pools;
        pthread_mutex_unlock(&clock->lock);
        for (; pool; pool = pool->clock_next)
            look(pool);
        pthread_mutex_lock(&clock->lock);
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

void sp_nif_clock_add(struct sp_nif_clock *clock, struct sp_nif_pool *pool)
{
    enif_keep_resource(pool->resource);
    pthread_mutex_lock(&clock->lock);
    pool->clock_next = clock->pools;
    clock->pools = pool;
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
