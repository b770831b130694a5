#include "sp_forecast.h"

#include "sp_queue.h"
#include "sp_times.h"

/* The weight of the last one in a mean. */
#define PARTS 8
/* After so many more the mean is theirs alone. */
#define FORGETS 64
/* No more of those who wait are looked at. */
#define LATE_MAX 1024

/* ---- what is known ---- */

/* The mean after `count` more whose own mean is `of`. */
static uint64_t averaged(uint64_t mean, uint64_t of, uint64_t count)
{
    int64_t off = (int64_t)(mean - of);

    if (mean == SP_NEVER || count >= FORGETS)
        return of;
    for (uint64_t i = 0; i < count; i++)
        off -= off / PARTS;
    return of + (uint64_t)off;
}

void sp_forecast_connected(struct sp_pool *pool, uint64_t took_ns)
{
    struct sp_forecast *forecast = &pool->forecast;

    pthread_mutex_lock(&pool->control.lock);
    /* It falls at once: who trusts one that is too long waits for nothing. */
    if (forecast->connect_ns != SP_NEVER && forecast->connect_ns / 2 > took_ns)
        forecast->connect_ns = took_ns * 2;
    else
        forecast->connect_ns = averaged(forecast->connect_ns, took_ns, 1);
    pthread_mutex_unlock(&pool->control.lock);
}

static uint64_t connect_ns(struct sp_pool *pool)
{
    uint64_t ns;

    pthread_mutex_lock(&pool->control.lock);
    ns = pool->forecast.connect_ns;
    pthread_mutex_unlock(&pool->control.lock);
    return ns;
}

struct sums {
    uint64_t grants, uses, used_ns, came;
};

/* Each counter by itself, of threads that go on: what is made of it is an estimate. */
static struct sums sum(struct sp_pool *pool)
{
    struct sums sums = {.came = atomic_load(&pool->nwait)};
    struct sp_distribution use;

    for (uint32_t i = 0; i < pool->shard_count; i++) {
        struct sp_shard *shard = &pool->shards[i];
        sums.grants += atomic_load_explicit(&shard->stats.immediate, memory_order_relaxed) +
                       atomic_load_explicit(&shard->stats.granted, memory_order_relaxed);
        sums.came += atomic_load_explicit(&shard->stats.timeouts, memory_order_relaxed) +
                     atomic_load_explicit(&shard->refused, memory_order_relaxed);
    }
    sums.came += sums.grants;
    sp_times_read(pool, SP_TIME_USE, &use);
    sums.uses = sp_distribution_count(&use);
    sums.used_ns = use.sum_ns;
    return sums;
}

static void note_came(struct sp_forecast *forecast, uint64_t came, uint64_t connect_ns,
                      uint64_t now_ns)
{
    if (connect_ns != SP_NEVER &&
        now_ns - forecast->slots[forecast->at].at_ns < connect_ns / (SP_FORECAST_SLOTS - 1))
        return;
    forecast->at = (forecast->at + 1) % SP_FORECAST_SLOTS;
    forecast->slots[forecast->at] = (struct sp_forecast_slot){now_ns, came};
}

/* How many have come so far. */
static uint64_t look(struct sp_pool *pool, const struct sp_call *call, uint64_t connect_ns)
{
    struct sp_forecast *forecast = &pool->forecast;
    struct sums sums = sum(pool);
    uint64_t uses = sums.uses - forecast->uses;
    int64_t used_ns = (int64_t)(sums.used_ns - forecast->used_ns);

    if (uses > 0 && used_ns >= 0)
        forecast->use_ns = averaged(forecast->use_ns, (uint64_t)used_ns / uses, uses);
    if (sums.grants != forecast->grants)
        forecast->granted_ns = call->now_ns;
    forecast->grants = sums.grants;
    forecast->uses = sums.uses;
    forecast->used_ns = sums.used_ns;
    note_came(forecast, sums.came, connect_ns, call->now_ns);
    return sums.came;
}

void sp_forecast_begin(struct sp_pool *pool, const struct sp_call *call)
{
    struct sums sums = sum(pool);

    pthread_mutex_lock(&pool->control.lock);
    pool->forecast = (struct sp_forecast){.use_ns = SP_NEVER,
                                          .connect_ns = SP_NEVER,
                                          .uses = sums.uses,
                                          .used_ns = sums.used_ns,
                                          .grants = sums.grants,
                                          .granted_ns = call->now_ns};
    for (int i = 0; i < SP_FORECAST_SLOTS; i++)
        pool->forecast.slots[i] = (struct sp_forecast_slot){call->now_ns, sums.came};
    pthread_mutex_unlock(&pool->control.lock);
}

void sp_forecast_tick(struct sp_pool *pool, const struct sp_call *call)
{
    (void)look(pool, call, connect_ns(pool));
}

/* ---- what will be ---- */

/* How many come in `span_ns`, going by the last while that was as long, or by a longer one where nobody looked. */
static double coming(const struct sp_forecast *forecast, uint64_t came, uint64_t span_ns,
                     uint64_t now_ns)
{
    const struct sp_forecast_slot *slot = &forecast->slots[forecast->at];
    uint64_t while_ns;

    for (uint32_t i = 1; i < SP_FORECAST_SLOTS && now_ns - slot->at_ns < span_ns; i++)
        slot = &forecast->slots[(forecast->at + SP_FORECAST_SLOTS - i) % SP_FORECAST_SLOTS];
    while_ns = now_ns - slot->at_ns;
    if (came <= slot->came)
        return 0;
    return (double)(came - slot->came) * (double)span_ns /
           (double)(while_ns > span_ns ? while_ns : span_ns);
}

struct ask {
    uint64_t waiting, under_way, ups; /* one who was refused waits */
    uint64_t connect_ns, now_ns;
};

/* When a use would last too long for so many, if nobody gets a connection until then. */
static uint64_t too_long_at(const struct sp_forecast *forecast, const struct ask *ask, double all)
{
    double use_ns = (double)ask->ups * (double)ask->connect_ns / all;
    uint64_t since_ns = ask->now_ns - forecast->granted_ns;

    /* Those who wait now have waited for an attempt's time before that. */
    if (use_ns > (double)(since_ns + ask->connect_ns))
        return SP_NEVER;
    return forecast->granted_ns + (uint64_t)use_ns + 1;
}

/* By the rule; *due_ns is when it may say more. */
static uint64_t by_rule(const struct sp_forecast *forecast, const struct ask *ask, uint64_t came,
                        uint64_t *due_ns)
{
    uint64_t since_ns = ask->now_ns - forecast->granted_ns;
    uint64_t whole, soon_ns = ask->now_ns + ask->connect_ns / (SP_FORECAST_SLOTS - 1) + 1;
    uint64_t use_ns =
        forecast->use_ns == SP_NEVER || forecast->use_ns < since_ns ? since_ns : forecast->use_ns;
    double c = (double)ask->connect_ns, h = (double)use_ns, wanted;
    double all = (double)ask->waiting + coming(forecast, came, ask->connect_ns, ask->now_ns);
    double served = h > 0 ? (double)ask->ups * c / h : all;

    *due_ns = all > served ? soon_ns : too_long_at(forecast, ask, all);
    if (*due_ns < soon_ns)
        *due_ns = soon_ns;
    wanted = (all - served) * h / c;
    if (wanted <= (double)ask->under_way)
        return 0;
    if (wanted >= (double)ask->waiting)
        return ask->waiting - ask->under_way;
    whole = (uint64_t)wanted;
    return whole + ((double)whole < wanted) - ask->under_way;
}

/* Whether those who would not wait have been refused for as long as one attempt takes. */
static bool refused_too_long(struct sp_forecast *forecast, uint64_t connect_ns, uint64_t now_ns)
{
    if (now_ns - forecast->refused_ns > connect_ns)
        forecast->refused_since_ns = now_ns;
    forecast->refused_ns = now_ns;
    if (now_ns - forecast->refused_since_ns < connect_ns)
        return false;
    forecast->refused_since_ns = now_ns;
    return true;
}

static uint64_t later(uint64_t since_ns, uint64_t by_ns)
{
    return since_ns == SP_NEVER ? SP_NEVER : since_ns + by_ns;
}

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

uint64_t sp_forecast_needed(struct sp_pool *pool, const struct sp_call *call, bool refused,
                            uint64_t *due_ns)
{
    struct sp_forecast *forecast = &pool->forecast;
    uint64_t total = atomic_load(&pool->total), connecting = atomic_load(&pool->connecting);
    uint64_t limit = atomic_load(&pool->limit), growing = atomic_load(&pool->nwait_growing);
    struct ask ask = {.waiting = sp_queue_demand(pool) + refused,
                      .under_way = connecting,
                      .ups = total > connecting ? total - connecting : 0,
                      .connect_ns = connect_ns(pool),
                      .now_ns = call->now_ns};
    uint64_t came, needed, late, next_ns, room = limit > total ? limit - total : 0;

    *due_ns = SP_NEVER;
    if (ask.waiting <= connecting || room == 0)
        return 0;
    came = look(pool, call, ask.connect_ns);
    if (pool->control.config.growth == SP_GROWTH_EAGER || sp_pool_has_pipes(pool) || ask.ups == 0 ||
        ask.connect_ns < SP_FORECAST_SHORT_NS || ask.connect_ns == SP_NEVER)
        return ask.waiting - connecting;
    needed = by_rule(forecast, &ask, came, due_ns);
    needed = most(needed, growing > connecting ? growing - connecting : 0);
    late =
        sp_queue_late(pool, call, connecting, room < LATE_MAX ? room : LATE_MAX,
                      call->now_ns > ask.connect_ns ? call->now_ns - ask.connect_ns : 0, &next_ns);
    if (refused && refused_too_long(forecast, ask.connect_ns, call->now_ns))
        late++;
    next_ns = later(next_ns, ask.connect_ns);
    if (next_ns < *due_ns)
        *due_ns = next_ns;
    return most(needed, late);
}
