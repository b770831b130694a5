/* A day in the life of a pool, by the virtual clock: load that comes and goes, owners that die, outages, crashes, and a
 * size that changes. After each step all that must always hold is looked at.
 *
 * A failure names its seed and step; SOCKPOOL_SEED=N runs the day of that seed, too. */
#include "core/base/sp_random.h"
#include "core/pool/sp_settings.h"
#include "core/pool/sp_times.h"
#include "kit/pool_kit.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define DAY_MS (24 * 3600 * UINT64_C(1000))
#define TICK_MS 100
#define CALLERS 64
#define ATTEMPTS 64
#define OWNERS 200000

enum doing { NOTHING, WAITS, HOLDS };

struct caller {
    enum doing doing;
    uint64_t owner;
    struct handle *handle;
    uint64_t until_ms; /* it gives up, or gives back */
    bool expires;      /* the pool has the pool's tick end its wait */
};

struct attempt {
    struct handle *handle;
    uint64_t until_ms;
};

static struct {
    uint64_t seed, rng, step, now_ms, tick_ms, change_ms, outage_ms, owner;
    unsigned load; /* who come in a second */
    bool down;     /* the server */
    struct caller callers[CALLERS];
    struct attempt attempts[ATTEMPTS];
    unsigned notes; /* looked at */
    /* ends of waits */
    uint64_t queued, granted, told, gave_up, vanished;
    uint64_t outages, resizes, crashes;
} day;

#define MUST(what)                                                                                 \
    cr_assert(what, "seed %llu, step %llu: " #what, (unsigned long long)day.seed,                  \
              (unsigned long long)day.step)

static uint64_t below(uint64_t limit)
{
    return sp_random(&day.rng) % limit;
}

static bool one_in(uint64_t count)
{
    return below(count) == 0;
}

/* ---- callers ---- */

static struct caller *caller_of(uint64_t owner)
{
    for (unsigned i = 0; i < CALLERS; i++)
        if (day.callers[i].doing != NOTHING && day.callers[i].owner == owner)
            return &day.callers[i];
    return NULL;
}

static uint64_t new_owner(void)
{
    do
        day.owner = day.owner % OWNERS + 1;
    while (!fake_alive(day.owner) || caller_of(day.owner));
    return day.owner;
}

static void holds(struct caller *caller, struct handle *handle)
{
    caller->doing = HOLDS;
    caller->handle = handle;
    caller->until_ms = day.now_ms + (one_in(50) ? below(20000) : below(200));
}

static void waits(struct caller *caller)
{
    uint64_t ms = 1 + below(5000);
    sp_status status = SP_OK;

    caller->expires = one_in(2) && atomic_load(&kit_pool->max_waiting) == SP_NEVER;
    caller->handle = caller->expires ? kit_enqueue_for(caller->owner, ms)
                                     : kit_try_enqueue(caller->owner, NULL, 0, &status);
    if (status != SP_OK)
        return;
    day.queued++;
    caller->doing = WAITS;
    caller->until_ms = caller->expires ? UINT64_MAX : day.now_ms + ms;
}

static void comes(void)
{
    struct caller *caller = day.callers;
    struct handle *handle;
    sp_status status;

    while (caller < day.callers + CALLERS && caller->doing != NOTHING)
        caller++;
    if (caller == day.callers + CALLERS)
        return;
    caller->owner = new_owner();
    handle = kit_try_checkout(caller->owner, &status);
    if (handle)
        holds(caller, handle);
    else if (status == SP_EMPTY && one_in(10))
        (void)sp_pool_want(kit_pool, kit_call());
    else if (status == SP_EMPTY)
        waits(caller);
}

static void use(struct handle *handle)
{
    if (!sp_conn_enter(handle->conn, handle->lease, kit_call()))
        return;
    sp_conn_sends(handle->conn);
    handle->conn->unanswered = one_in(100);
    if (one_in(200))
        sp_conn_taint(handle->conn, SP_WHY_IO_TIMEOUT);
    sp_conn_leave(handle->conn, kit_call());
}

static void gives_back(struct caller *caller)
{
    if (!one_in(4))
        use(caller->handle);
    caller->doing = NOTHING;
    if (one_in(100))
        kit_drop(caller->handle);
    else if (one_in(50))
        kit_discard(caller->handle);
    else
        kit_checkin(caller->handle);
}

static void dies(struct caller *caller)
{
    if (caller->doing == HOLDS && one_in(2))
        use(caller->handle);
    fake_kill(caller->owner);
    if (one_in(2))
        return; /* its handle lives on for a while: the sweep finds it */
    day.vanished += caller->doing == WAITS;
    kit_drop(caller->handle);
    caller->doing = NOTHING;
}

/* Whom the sweep has found is gone, or is told that it waits no more by nobody. */
static void act(struct caller *caller)
{
    if (!fake_alive(caller->owner)) {
        day.vanished += caller->doing == WAITS;
        kit_drop(caller->handle);
        caller->doing = NOTHING;
    } else if (one_in(500)) {
        dies(caller);
    } else if (caller->until_ms <= day.now_ms && caller->doing == HOLDS) {
        gives_back(caller);
    } else if (caller->until_ms <= day.now_ms) {
        MUST(kit_cancel(caller->handle) == SP_CANCELLED);
        day.gave_up++;
        kit_drop(caller->handle);
        caller->doing = NOTHING;
    }
}

/* Each that waits is told once, or not at all. */
static void hear(void)
{
    while (day.notes < fake_notes_all()) {
        const struct fake_note *note = fake_note_at(day.notes++);
        struct caller *caller = caller_of(note->owner);

        MUST(caller && caller->doing == WAITS);
        if (note->status == SP_OK) {
            day.granted++;
            MUST(kit_adopt(caller->handle));
            holds(caller, caller->handle);
        } else {
            day.told++;
            kit_drop(caller->handle);
            caller->doing = NOTHING;
        }
    }
    if (day.notes > 60000) {
        fake_forget_notes();
        day.notes = 0;
    }
}

/* ---- the server ---- */

static void connects(struct attempt *attempt)
{
    struct handle *handle = attempt->handle;

    attempt->handle = NULL;
    if (day.down || one_in(50)) {
        (void)sp_pool_fail_attempt(kit_pool, kit_call(), handle->conn, handle->lease,
                                   one_in(2) ? SP_FAILURE_REFUSED : SP_FAILURE_TIMEOUT);
        kit_drop(handle);
    } else if (atomic_load(&handle->conn->lease) == handle->lease) {
        kit_connect(handle, new_owner());
    } else {
        kit_drop(handle);
    }
}

static void lose_some(unsigned one_of)
{
    for (uint32_t i = 0; i < kit_pool->table.count; i++) {
        const struct sp_conn *conn = kit_pool->table.slots[i];
        if (conn && conn->fd >= 0 && !sp_conn_unready(conn) && one_in(one_of))
            fake_peer_closes(conn->fd);
    }
}

static void change_server(void)
{
    if (day.now_ms < day.outage_ms)
        return;
    day.down = !day.down;
    day.outages += day.down;
    if (day.down)
        lose_some(1);
    day.outage_ms = day.now_ms + 1000 + below(day.down ? 60 * 1000 : 40 * 60 * 1000);
}

/* ---- the pool ---- */

static void configure(void)
{
    kit_config.size = (uint32_t)below(9);
    kit_config.max_overflow = (uint32_t)below(7) + (kit_config.size == 0);
    kit_config.min_size = (uint32_t)below(kit_config.size + 1);
    kit_config.overflow_ttl_ns = one_in(3) ? 0 : below(20000) * SP_MS;
    kit_config.idle_timeout_ns = one_in(2) ? SP_NEVER : (1000 + below(60000)) * SP_MS;
    kit_config.lifetime_max_ns = one_in(3) ? SP_NEVER : (1000 + below(600000)) * SP_MS;
    kit_config.lifetime_min_ns = kit_config.lifetime_max_ns / 4 * 3;
    kit_config.max_uses = one_in(2) ? SP_NEVER : 1 + below(500);
    kit_config.max_hold_ns = one_in(2) ? SP_NEVER : 5000 * SP_MS;
    kit_config.max_waiting = one_in(3) ? 4 : SP_NEVER;
    kit_config.strategy = one_in(2) ? SP_LIFO : SP_FIFO;
}

static void step(void)
{
    struct handle *made[8];
    struct sp_plan plan;

    do {
        uint64_t attempts = kit_stats().connect_attempts;
        size_t count = kit_step(made, 8, &plan);

        /* More than the limit there may be after a resize only, and then none is begun. */
        MUST(count == 0 || atomic_load(&kit_pool->total) <= atomic_load(&kit_pool->limit));
        MUST(kit_stats().connect_attempts == attempts + count);
        for (size_t i = 0, place = 0; i < count; i++) {
            while (day.attempts[place].handle)
                MUST(++place < ATTEMPTS);
            day.attempts[place] = (struct attempt){made[i], day.now_ms + below(300)};
        }
    } while (plan.more);
}

static void crash(void)
{
    kit_shut(SP_PHASE_DOWN, SP_CLOSED);
    kit_check();
    hear();
    day.crashes++;
    kit_open();
}

static void change_pool(void)
{
    if (day.now_ms < day.change_ms)
        return;
    day.change_ms = day.now_ms + 1000 + below(4 * 60 * 1000);
    day.load = one_in(3) ? 0 : (unsigned)below(60);
    if (one_in(20)) {
        crash();
    } else {
        configure();
        sp_settings_update(kit_pool, &kit_config);
        day.resizes++;
    }
}

/* ---- what always holds ---- */

/* Those who died in the queue and were passed over, whose handles are there. */
static uint64_t buried(void)
{
    uint64_t count = 0;

    for (unsigned i = 0; i < CALLERS; i++)
        count +=
            day.callers[i].doing == WAITS && day.callers[i].handle->waiter->state != SP_WAITING;
    return count;
}

static void look(void)
{
    struct sp_snapshot stats = kit_stats();
    struct sp_distribution waited = {.sum_ns = 0};
    uint64_t closed = 0, failed = 0;

    kit_check();
    for (int i = 0; i < SP_WHYS; i++)
        closed += stats.closed_by[i];
    for (int i = 0; i < SP_FAILURES; i++)
        failed += stats.failed_by[i];
    sp_histogram_read(&kit_pool->waited, &waited);
    MUST(stats.total == stats.idle + stats.leased + stats.connecting);
    MUST(closed + stats.idle + stats.leased == stats.created);
    MUST(stats.created + failed + stats.connecting == stats.connect_attempts);
    MUST(stats.waited == day.queued);
    MUST(stats.waited ==
         day.granted + day.told + day.gave_up + day.vanished + stats.waiting + buried());
    MUST(sp_distribution_count(&waited) == day.granted);
    MUST(sp_times_count(kit_pool, SP_TIME_WAIT) == stats.checkouts);
    MUST(sp_times_count(kit_pool, SP_TIME_USE) == stats.checkins);
    MUST(sp_times_count(kit_pool, SP_TIME_IDLE) == stats.reused);
    MUST(sp_times_count(kit_pool, SP_TIME_AGE) == closed);
    MUST(sp_times_count(kit_pool, SP_TIME_CONNECT) == stats.created);
    MUST(stats.checkins + stats.abandoned + stats.leased == stats.checkouts);
}

static void live(uint64_t ms)
{
    fake_sleep_ms(ms);
    day.now_ms += ms;
    kit_home((unsigned)below(3));
    change_server();
    if (one_in(2000))
        lose_some(3);
    change_pool();
    for (uint64_t i = below(2 * (day.load * ms / 1000 + 1)); i > 0 && day.load > 0; i--)
        comes();
    hear();
    for (unsigned i = 0; i < CALLERS; i++)
        if (day.callers[i].doing != NOTHING) {
            act(&day.callers[i]);
            hear();
        }
    for (unsigned i = 0; i < ATTEMPTS; i++)
        if (day.attempts[i].handle && day.attempts[i].until_ms <= day.now_ms)
            connects(&day.attempts[i]);
    if (day.now_ms >= day.tick_ms + TICK_MS) {
        day.tick_ms = day.now_ms;
        kit_tick();
    }
    step();
    hear();
    look();
}

static void end(void)
{
    for (unsigned i = 0; i < CALLERS; i++) {
        if (day.callers[i].doing == NOTHING)
            continue;
        day.vanished += day.callers[i].doing == WAITS;
        kit_drop(day.callers[i].handle);
        day.callers[i].doing = NOTHING;
        hear();
    }
    look();
    kit_close();
}

static void run(uint64_t seed)
{
    memset(&day, 0, sizeof day);
    day.seed = day.rng = seed;
    day.outage_ms = 60 * 1000;
    kit_init(3);
    configure();
    kit_open();
    while (day.now_ms < DAY_MS) {
        day.step++;
        live(one_in(8) ? below(5000) : below(200));
    }
    end();
    MUST(day.queued > 1000 && day.granted > 1000 && day.told > 100 && day.gave_up > 100);
    MUST(day.outages > 30 && day.resizes > 300 && day.crashes > 10);
}

Test(simulation, a_day_of_a_pool)
{
    const char *given = getenv("SOCKPOOL_SEED");

    run(1);
    if (given)
        run(strtoull(given, NULL, 10));
}
