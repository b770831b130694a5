/* sp_forecast: the rule by which pools grow, in scenes whose times are known. `eager' beside it is one for each that waits. */
#include "growth_world.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include "core/pool/sp_forecast.h"
#include <string.h>

static void pool(enum sp_growth growth, unsigned size, unsigned max_overflow)
{
    kit_init(1);
    kit_config.size = size;
    kit_config.max_overflow = max_overflow;
    kit_config.overflow_ttl_ns = SP_NEVER;
    kit_config.growth = growth;
}

static void with_times(uint64_t connect_ms, uint64_t use_ms)
{
    world.connect_ms = connect_ms;
    world.use_ms = use_ms;
}

/* ---- a spike that is over before a connection could be there ---- */

static void spike(enum sp_growth growth, unsigned uses)
{
    pool(growth, 5, 95);
    with_times(150, 2);
    world_begin(uses);
    world_come(50);
    world_run_out();
    cr_log_info("spike of 50 on 5: %u at the end, worst wait %" PRIu64 " ms, %u steps", world.most,
                world.worst_ms, world.steps);
    cr_expect_leq(world.worst_ms, 25);
    world_run(1000);
}

Test(forecast, a_spike_opens_nothing_that_comes_too_late)
{
    spike(SP_GROWTH_EXPECTED, 20);
    cr_expect_leq(world.most, 6);
    world_end();
}

Test(forecast, nor_does_the_first_that_a_pool_ever_sees)
{
    spike(SP_GROWTH_EXPECTED, 0);
    cr_expect_leq(world.most, 6);
    world_end();
}

Test(forecast, eager_opens_one_for_each)
{
    spike(SP_GROWTH_EAGER, 20);
    cr_expect_eq(world.most, 50);
    world_end();
}

/* ---- more than the pool can do, for long ---- */

static void sustained(enum sp_growth growth, unsigned *soon)
{
    pool(growth, 5, 95);
    with_times(150, 2);
    world_begin(20);
    for (int ms = 0; ms < 2000; ms++) {
        world_come(3);
        world_run(1);
        if (ms == 150)
            *soon = world.most;
    }
    cr_log_info("3,000 a second on 5: %u soon, %u at the end, worst wait %" PRIu64 " ms", *soon,
                world.most, world.worst_ms);
    world_run_out();
    world_end();
}

Test(forecast, a_pool_that_is_too_small_gets_what_it_needs)
{
    unsigned soon;

    sustained(SP_GROWTH_EXPECTED, &soon);
    cr_expect(soon >= 6 && soon <= 7, "%u", soon);
    cr_expect(world.most >= 6 && world.most <= 8, "%u", world.most);
    cr_expect_leq(world.worst_ms, 150);
    sustained(SP_GROWTH_EAGER, &soon);
    cr_expect_geq(world.most, 10);
}

/* ---- nothing is up ---- */

static void on_empty(enum sp_growth growth, unsigned parallelism, uint64_t use_ms)
{
    pool(growth, 0, 100);
    kit_config.connect_parallelism = parallelism;
    with_times(2000, use_ms);
    world_begin(0);
    world_come(100);
    world_run_out();
    cr_log_info("100 on an empty pool, %u at once: worst wait %" PRIu64 " ms", parallelism,
                world.worst_ms);
    world_run(10000);
    world_end();
}

Test(forecast, on_an_empty_pool_all_have_attempts)
{
    on_empty(SP_GROWTH_EXPECTED, 100, 8000);
    cr_expect_leq(world.worst_ms, 2400);
    on_empty(SP_GROWTH_EXPECTED, 64, 8000);
    cr_expect_leq(world.worst_ms, 4800);
    on_empty(SP_GROWTH_EXPECTED, 64, 2);
    cr_expect_leq(world.worst_ms, 2400);
}

Test(forecast, by_default_so_many_at_once_as_the_transport_stands)
{
    on_empty(SP_GROWTH_EXPECTED, 0, 8000);
    cr_expect_leq(world.worst_ms, 4800);
}

/* ---- uses that take longer than a connect ---- */

static void slow_uses(enum sp_growth growth, unsigned uses)
{
    pool(growth, 10, 90);
    kit_config.connect_parallelism = 100;
    with_times(2000, 10000);
    world_begin(uses);
    for (int i = 0; i < 100; i++) {
        world_come(1);
        world_run(22);
    }
    world_run_out();
    cr_log_info("100 of 10 s on 10, 45 a second: %u, worst wait %" PRIu64 " ms", world.most,
                world.worst_ms);
    world_run(11000);
    world_end();
}

Test(forecast, slow_uses_open_one_for_each)
{
    slow_uses(SP_GROWTH_EXPECTED, 3);
    cr_expect_eq(world.most, 100);
    cr_expect_leq(world.worst_ms, 2010);
    slow_uses(SP_GROWTH_EAGER, 3);
    cr_expect_eq(world.most, 100);
}

Test(forecast, also_where_no_use_has_ended_yet)
{
    slow_uses(SP_GROWTH_EXPECTED, 0);
    cr_expect_eq(world.most, 100);
    cr_expect_leq(world.worst_ms, 4010);
}

/* ---- estimates that are wrong ---- */

/* Uses took 2 ms, and then the server hangs. */
Test(forecast, uses_that_suddenly_take_long_are_noticed_by_what_does_not_come_back)
{
    pool(SP_GROWTH_EXPECTED, 5, 95);
    with_times(150, 2);
    world_begin(20);
    world.use_ms = 100000;
    world_come(50);
    world_run(100);
    cr_expect_eq(world.most, 50, "%u", world.most);
    world_run_out();
    cr_expect_leq(world.worst_ms, 250);
    world_end();
}

/* One of five is quick, so that the mean says nothing of the others. */
Test(forecast, who_has_waited_for_as_long_as_an_attempt_takes_has_one)
{
    pool(SP_GROWTH_EXPECTED, 5, 95);
    with_times(150, 2);
    world_begin(20);
    world.use_ms = 100000;
    world_come(4);
    world.use_ms = 2;
    for (int i = 0; i < 300; i++) {
        world_come(1);
        world_run(1);
        cr_assert(i < 150 || world.most > 5 || world.worst_ms <= 151);
    }
    world_run_out();
    cr_expect_geq(world.most, 6);
    cr_expect_leq(world.worst_ms, 301);
    world_end();
}

Test(forecast, the_time_of_an_attempt_falls_at_once_and_rises_slowly)
{
    pool(SP_GROWTH_EXPECTED, 1, 0);
    kit_open();
    cr_expect_eq(kit_pool->forecast.connect_ns, SP_NEVER);
    sp_forecast_connected(kit_pool, 800);
    cr_expect_eq(kit_pool->forecast.connect_ns, 800);
    sp_forecast_connected(kit_pool, 1600);
    cr_expect_eq(kit_pool->forecast.connect_ns, 900);
    sp_forecast_connected(kit_pool, 500);
    cr_expect_eq(kit_pool->forecast.connect_ns, 850);
    sp_forecast_connected(kit_pool, 8);
    cr_expect_eq(kit_pool->forecast.connect_ns, 16);
    kit_close();
}

/* ---- those who would not wait ---- */

Test(forecast, who_is_refused_again_and_again_has_the_pool_grow)
{
    pool(SP_GROWTH_EXPECTED, 1, 9);
    with_times(150, 2);
    world_begin(20);
    for (int ms = 0; ms < 2000; ms++) {
        world_come_hurried(5);
        world_run(1);
    }
    cr_expect_geq(world.most, 9, "%u", world.most);
    world_end();
}

Test(forecast, who_is_refused_now_and_then_has_not)
{
    pool(SP_GROWTH_EXPECTED, 1, 9);
    with_times(150, 2);
    world_begin(20);
    for (int i = 0; i < 20; i++) {
        world_come_hurried(2);
        world_run(300);
    }
    cr_expect_eq(world.refused, 20);
    cr_expect_eq(world.most, 1);
    world_end();
}

Test(forecast, who_is_refused_while_the_only_one_is_held_has_one_made_in_time)
{
    pool(SP_GROWTH_EXPECTED, 1, 9);
    with_times(150, 2);
    world_begin(20);
    world.use_ms = 100000;
    world_come(1);
    for (int i = 0; i < 160; i++) {
        world_come_hurried(1);
        world_run(1);
    }
    cr_expect_geq(world.most, 2);
    world_end();
}

/* ---- who is not to wait for a check-in ---- */

Test(forecast, who_waits_for_a_new_one_only_has_it_made_at_once)
{
    struct handle *waiting;
    sp_status status;
    struct sp_plan plan;
    struct handle *attempts[4];

    pool(SP_GROWTH_EXPECTED, 1, 9);
    with_times(150, 2);
    world_begin(20);
    kit_checkout(KIT_OWNER);
    waiting = kit_enqueue_growing(KIT_OTHER, &status);
    cr_assert_eq(status, SP_OK);
    cr_expect_eq(kit_step(attempts, 4, &plan), 1);
    kit_connect(attempts[0], KIT_OTHER);
    cr_assert(kit_adopt(waiting));
    kit_close();
}

/* ---- against eager, with times that change ---- */

#define SEEDS 20
#define CHANGES 12

static uint64_t rng;

static unsigned random_below(unsigned below)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(rng >> 33) % below;
}

static uint64_t eager_ms[WORLD_PROCESSES];

static unsigned changing(enum sp_growth growth, uint64_t seed)
{
    static const uint64_t CONNECTS_MS[] = {2, 200}, USES_MS[] = {1, 8, 60};
    rng = seed;
    pool(growth, 5, 45);
    kit_config.overflow_ttl_ns = 500 * SP_MS;
    with_times(CONNECTS_MS[random_below(2)], USES_MS[random_below(3)]);
    world_begin(10);
    for (int change = 0; change < CHANGES; change++) {
        unsigned phase_ms = 100 + random_below(1000), every = 1 + random_below(8);

        with_times(CONNECTS_MS[random_below(2)], USES_MS[random_below(3)]);
        for (unsigned ms = 0; ms < phase_ms; ms++) {
            world_come((ms % every == 0) + (random_below(400) == 0 ? 40 : 0));
            world_run(1);
        }
    }
    world_run_out();
    return (unsigned)kit_stats().created;
}

Test(forecast, with_times_that_change_nobody_waits_much_longer_than_with_eager, .timeout = 120)
{
    unsigned made = 0, made_eagerly = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t worst_ms = 0;
        unsigned late = 0;

        made_eagerly += changing(SP_GROWTH_EAGER, seed);
        memcpy(eager_ms, world.waited_ms, sizeof eager_ms);
        world_end();
        made += changing(SP_GROWTH_EXPECTED, seed);
        /* More than with eager: what the pool took for the time of an attempt, an attempt, and a use. */
        for (unsigned i = 0; i < world.came; i++) {
            uint64_t more = world.waited_ms[i] > eager_ms[i] ? world.waited_ms[i] - eager_ms[i] : 0;
            late += more > world.expected_ms[i] + world.own_ms[i];
            worst_ms = more > worst_ms ? more : worst_ms;
        }
        cr_log_info("seed %" PRIu64 ": %u came, %u late, at most %" PRIu64 " ms more", seed,
                    world.came, late, worst_ms);
        cr_expect_eq(late, 0, "seed %" PRIu64 ": %u", seed, late);
        world_end();
    }
    cr_log_info("%u connections, eagerly %u", made, made_eagerly);
    cr_expect_lt(made, made_eagerly);
}
