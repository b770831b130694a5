/* When a control process that only does what it is told to looks again: nothing that is due is missed, and a pool at rest
 * is left alone. */
#include "kit/pool_kit.h"

#include "core/base/sp_random.h"
#include "core/pool/sp_due.h"
#include "core/pool/sp_settings.h"

#include <criterion/criterion.h>
#include <string.h>

#define STEP_MS 10
#define HOUR_MS (60 * 60 * 1000)

/* The control process: it acts when it is woken, and when it has said that it would. */
static struct {
    unsigned heard;
    uint64_t tick_ns, retry_ns;
    unsigned ticks, steps;
} control;

static void control_begin(void)
{
    memset(&control, 0, sizeof control);
    control.tick_ns = 0;
    control.retry_ns = SP_NEVER;
}

static void step(void)
{
    struct handle *attempts[32];
    struct sp_plan plan;

    do {
        control.heard = fake_wakes();
        kit_step(attempts, 32, &plan);
        for (size_t i = 0; i < plan.attempts; i++)
            kit_connect(attempts[i], KIT_OWNER);
        control.retry_ns = plan.wait_ns == SP_NEVER ? SP_NEVER : fake_now_ns() + plan.wait_ns;
        control.steps++;
    } while (plan.more);
}

static void tick(void)
{
    step();
    kit_tick();
    control.tick_ns = sp_due_next(kit_pool, kit_call());
    control.ticks++;
}

static void control_turn(void)
{
    if (fake_wakes() != control.heard || fake_now_ns() >= control.retry_ns) {
        step();
        if (control.tick_ns > fake_now_ns() + SP_TICK_NS)
            control.tick_ns = fake_now_ns() + SP_TICK_NS;
    }
    if (fake_now_ns() >= control.tick_ns)
        tick();
}

static void pass_ms(uint64_t ms)
{
    for (uint64_t passed = 0; passed < ms; passed += STEP_MS) {
        fake_sleep_ms(STEP_MS);
        control_turn();
    }
}

static void opened(void)
{
    kit_open();
    control_begin();
    control_turn();
}

static void started(unsigned size, unsigned max_overflow)
{
    kit_init(2);
    kit_config.size = size;
    kit_config.max_overflow = max_overflow;
    opened();
}

static bool is_asleep(void)
{
    return control.tick_ns == SP_NEVER && fake_wakes() == control.heard;
}

KIT_TEST(due, a_pool_at_rest_is_left_alone)
{
    unsigned ticks, steps;

    started(3, 5);
    pass_ms(1500);
    cr_assert(is_asleep());
    cr_assert_eq(fake_watches(), 3);
    ticks = control.ticks;
    steps = control.steps;
    pass_ms(HOUR_MS);
    cr_assert_eq(control.ticks, ticks);
    cr_assert_eq(control.steps, steps);
}

KIT_TEST(due, an_empty_pool_is_at_rest)
{
    started(0, 5);
    pass_ms(200);
    cr_assert(is_asleep());
}

KIT_TEST(due, a_lease_keeps_it_awake)
{
    struct handle *handle;
    unsigned ticks;

    started(1, 0);
    pass_ms(1500);
    handle = kit_checkout(KIT_OWNER);
    pass_ms(200);
    ticks = control.ticks;
    pass_ms(10000);
    cr_assert_geq(control.ticks - ticks, 90);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    pass_ms(1500);
    cr_assert(is_asleep());
}

/* At each moment from when it is busy to when it is at rest. */
KIT_TEST(due, a_lease_of_one_who_dies_is_swept_whenever_it_began)
{
    started(2, 0);
    for (unsigned ms = 0; ms <= 1600; ms += STEP_MS) {
        struct handle *handle;
        uint64_t owner = 100 + ms;

        pass_ms(ms);
        handle = kit_checkout(owner);
        fake_kill(owner);
        pass_ms(2 * SP_TICK_NS / SP_MS);
        cr_assert_eq(kit_stats().leased, 0, "a lease that began after %u ms", ms);
        kit_drop(handle);
    }
    cr_assert_eq(kit_stats().abandoned, 161);
}

static struct handle *in_between;

static void take_one(void *arg)
{
    (void)arg;
    in_between = kit_checkout(KIT_OTHER);
    fake_kill(KIT_OTHER);
}

/* While the last of them is given to the watch, and another is in the shard still. */
KIT_TEST(due, a_lease_that_began_within_the_last_tick)
{
    started(2, 0);
    pass_ms(500);
    fake_host_hook(FAKE_ON_WATCH, take_one, NULL);
    pass_ms(900);
    cr_assert_not_null(in_between);
    pass_ms(2 * SP_TICK_NS / SP_MS);
    cr_assert_eq(kit_stats().abandoned, 1);
    pass_ms(1500);
    cr_assert(is_asleep());
}

KIT_TEST(due, a_lease_given_to_a_waiter)
{
    struct handle *first, *waits;

    started(1, 0);
    pass_ms(1500);
    first = kit_checkout(KIT_OTHER);
    waits = kit_enqueue(KIT_OWNER);
    cr_assert_eq(kit_checkin(first), SP_OK);
    cr_assert(kit_adopt(waits));
    pass_ms(5000);
    fake_kill(KIT_OWNER);
    pass_ms(2 * SP_TICK_NS / SP_MS);
    cr_assert_eq(kit_stats().abandoned, 1);
}

/* It has looked, and queues when another has given one back meanwhile. */
KIT_TEST(due, a_waiter_who_finds_one_at_rest)
{
    struct handle *waits;

    started(1, 0);
    pass_ms(1500);
    waits = kit_enqueue(KIT_OWNER);
    cr_assert(kit_adopt(waits));
    fake_kill(KIT_OWNER);
    pass_ms(2 * SP_TICK_NS / SP_MS);
    cr_assert_eq(kit_stats().abandoned, 1);
}

KIT_TEST(due, a_wait_ends_in_time)
{
    struct handle *first, *waits;

    started(1, 0);
    pass_ms(1500);
    first = kit_checkout(KIT_OTHER);
    pass_ms(300);
    waits = kit_enqueue_for(KIT_OWNER, 3000);
    pass_ms(2900);
    cr_assert_eq(fake_notes(KIT_OWNER), 0);
    pass_ms(400);
    cr_assert_eq(fake_notes(KIT_OWNER), 1);
    cr_assert_eq(fake_note(KIT_OWNER, 0)->status, SP_TIMEOUT);
    kit_drop(waits);
    cr_assert_eq(kit_checkin(first), SP_OK);
}

KIT_TEST(due, max_hold_ends_a_lease)
{
    kit_init(1);
    kit_config.max_hold_ns = 3000 * SP_MS;
    opened();
    pass_ms(1500);
    kit_checkout(KIT_OWNER);
    pass_ms(2900);
    cr_assert_eq(kit_stats().leased, 1);
    pass_ms(350);
    cr_assert_eq(kit_stats().leased, 0);
}

KIT_TEST(due, a_lifetime_ends)
{
    kit_init(1);
    kit_config.lifetime_min_ns = kit_config.lifetime_max_ns = 60000 * SP_MS;
    opened();
    pass_ms(2000);
    cr_assert_not(is_asleep());
    cr_assert_eq(control.tick_ns / SP_MS, kit_pool->table.slots[0]->ends_ns / SP_MS);
    pass_ms(57800);
    cr_assert_eq(kit_stats().closed, 0);
    pass_ms(600);
    cr_assert_eq(kit_stats().closed, 2);
    cr_assert_eq(kit_stats().idle, 2);
}

static void surplus_is_closed(enum sp_strategy strategy)
{
    struct handle *handles[4];
    unsigned ticks;

    kit_init(2);
    kit_config.size = 1;
    kit_config.max_overflow = 3;
    kit_config.overflow_ttl_ns = 70000 * SP_MS;
    kit_config.strategy = strategy;
    opened();
    for (int i = 0; i < 4; i++) {
        kit_home((unsigned)i % 2);
        (void)sp_pool_want(kit_pool, kit_call());
        pass_ms(100);
        handles[i] = kit_checkout(KIT_OWNER);
    }
    for (int i = 0; i < 4; i++)
        cr_assert_eq(kit_checkin(handles[i]), SP_OK);
    pass_ms(1500);
    ticks = control.ticks;
    pass_ms(68000);
    cr_assert_eq(kit_stats().total, 4);
    pass_ms(strategy == SP_LIFO ? 800 : 11000);
    cr_assert_eq(kit_stats().total, 1);
    pass_ms(1000);
    cr_assert(is_asleep());
    cr_assert_leq(control.ticks - ticks, 30);
}

KIT_TEST(due, surplus_of_a_lifo)
{
    surplus_is_closed(SP_LIFO);
}

KIT_TEST(due, surplus_of_a_fifo)
{
    surplus_is_closed(SP_FIFO);
}

KIT_TEST(due, idle_ones_down_to_min_size)
{
    kit_init(1);
    kit_config.size = 4;
    kit_config.min_size = 1;
    kit_config.idle_timeout_ns = 60000 * SP_MS;
    opened();
    pass_ms(59000);
    cr_assert_eq(kit_stats().total, 4);
    pass_ms(1300);
    cr_assert_eq(kit_stats().total, 1);
    pass_ms(1500);
    cr_assert(is_asleep());
}

KIT_TEST(due, a_watched_one_that_fired_is_watched_again)
{
    struct sp_conn *conn;
    uint32_t generation;

    started(1, 0);
    pass_ms(1500);
    generation = fake_last_watch(&conn);
    sp_control_idle_event(kit_pool, kit_call(), conn->slot, generation);
    cr_assert_not(is_asleep());
    pass_ms(1500);
    cr_assert_eq(fake_watches(), 2);
    cr_assert(is_asleep());
}

KIT_TEST(due, one_that_was_lost_is_replaced)
{
    struct sp_conn *conn;
    uint32_t generation;

    started(1, 0);
    pass_ms(1500);
    generation = fake_last_watch(&conn);
    conn->used = true;
    fake_peer_closes(conn->fd);
    sp_control_idle_event(kit_pool, kit_call(), conn->slot, generation);
    pass_ms(200);
    cr_assert_eq(kit_stats().closed, 1);
    cr_assert_eq(kit_stats().idle, 1);
}

/* Revoked while its owner waited on it, who dies later. */
KIT_TEST(due, the_arm_of_a_dead_owner_is_undone)
{
    struct handle *handle;
    int fd;

    kit_init(1);
    kit_config.size = 1;
    kit_config.max_hold_ns = 1000 * SP_MS;
    opened();
    pass_ms(1500);
    handle = kit_checkout(KIT_OWNER);
    fd = handle->conn->fd;
    cr_assert(sp_conn_enter(handle->conn, handle->lease, kit_call()));
    handle->conn->touched = true;
    cr_assert(sp_conn_arming(handle->conn, handle->lease));
    sp_conn_leave(handle->conn, kit_call());
    pass_ms(10000);
    cr_assert_eq(kit_stats().leased, 0);
    cr_assert(fake_fd_open(fd));
    fake_kill(KIT_OWNER);
    pass_ms(300);
    cr_assert_not(fake_fd_open(fd));
    pass_ms(1500);
    cr_assert(is_asleep());
}

KIT_TEST(due, an_update_is_heeded)
{
    struct sp_config config;

    started(4, 0);
    pass_ms(1500);
    config = kit_config;
    config.min_size = 1;
    config.idle_timeout_ns = 5000 * SP_MS;
    sp_settings_update(kit_pool, &config);
    sp_pool_wake(kit_pool, kit_call());
    pass_ms(6000);
    cr_assert_eq(kit_stats().total, 1);
}

/* ---- whatever happens ---- */

static uint64_t rng;
static struct handle *held[64];
static uint64_t owners = 1000;

static unsigned random_below(unsigned below)
{
    return (unsigned)(sp_random(&rng) % below);
}

static void something_happens(void)
{
    unsigned i = random_below(64);
    sp_status status;

    kit_home(random_below(2));
    if (!held[i]) {
        held[i] = kit_try_checkout(++owners, &status);
        if (!held[i] && random_below(2))
            (void)sp_pool_want(kit_pool, kit_call());
        return;
    }
    switch (random_below(4)) {
    case 0:
        fake_kill(held[i]->owner);
        return; /* the handle is elsewhere still */
    case 1:
        kit_discard(held[i]);
        break;
    default:
        (void)kit_checkin(held[i]);
    }
    held[i] = NULL;
}

/* What a tick can change. */
struct seen {
    struct sp_snapshot stats;
    unsigned watches, wakes, aged;
};

static struct seen seen(void)
{
    struct seen seen;

    memset(&seen, 0, sizeof seen);
    seen.stats = kit_stats();
    seen.watches = fake_watches();
    seen.wakes = fake_wakes();
    seen.aged = atomic_load(&kit_pool->aged);
    return seen;
}

/* A tick that nobody was told to make finds nothing to do. */
static void tick_in_vain(uint64_t seed)
{
    struct seen before = seen(), after;

    kit_tick();
    after = seen();
    cr_assert(memcmp(&before, &after, sizeof before) == 0, "seed %u, at %u ms: a tick was missing",
              (unsigned)seed, (unsigned)(fake_now_ns() / SP_MS));
}

static void all_give_back(void)
{
    for (unsigned i = 0; i < 64; i++) {
        if (held[i])
            (void)kit_checkin(held[i]);
        held[i] = NULL;
    }
}

static void live(uint64_t seed)
{
    unsigned busy = 0, slept = 0;

    rng = seed;
    kit_init(2);
    kit_config.size = 1 + random_below(4);
    kit_config.max_overflow = random_below(5);
    kit_config.min_size = random_below(3);
    kit_config.min_idle = random_below(4);
    kit_config.strategy = random_below(2) ? SP_LIFO : SP_FIFO;
    kit_config.overflow_ttl_ns = (1 + random_below(20)) * 500 * SP_MS;
    kit_config.idle_timeout_ns = random_below(2) ? (1 + random_below(20)) * 1000 * SP_MS : SP_NEVER;
    kit_config.lifetime_max_ns = random_below(2) ? (5 + random_below(60)) * 1000 * SP_MS : SP_NEVER;
    kit_config.lifetime_min_ns = kit_config.lifetime_max_ns / 4 * 3;
    kit_config.max_uses = random_below(2) ? 3 + random_below(10) : SP_NEVER;
    kit_config.max_hold_ns = random_below(2) ? 2000 * SP_MS : SP_NEVER;
    opened();
    for (unsigned ms = 0; ms < 300000; ms += STEP_MS) {
        if (ms % 20000 == 0)
            busy = ms + STEP_MS * random_below(800);
        if (ms < busy && random_below(3) == 0)
            something_happens();
        if (ms == busy)
            all_give_back();
        pass_ms(STEP_MS);
        if (control.tick_ns > fake_now_ns() + SP_TICK_NS && fake_wakes() == control.heard) {
            slept++;
            tick_in_vain(seed);
        }
        kit_check();
    }
    cr_assert_gt(slept, 3000, "seed %u: it was asleep in %u of 30000 turns", (unsigned)seed, slept);
}

#define LIVES(from)                                                                                \
    KIT_TEST(due, nothing_is_missed_##from)                                                        \
    {                                                                                              \
        for (uint64_t seed = from; seed < (from) + 10; seed++) {                                   \
            if (seed > (from))                                                                     \
                kit_close();                                                                       \
            memset(held, 0, sizeof held);                                                          \
            live(seed);                                                                            \
        }                                                                                          \
    }
LIVES(1)
LIVES(101)
