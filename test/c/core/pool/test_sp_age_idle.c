/* Connections that nobody needed for a time. */
#include "kit/pool_kit.h"

#include "core/pool/sp_settings.h"

#include <criterion/criterion.h>

static void started(unsigned size, unsigned max_overflow, enum sp_strategy strategy)
{
    kit_init(1);
    kit_config.size = size;
    kit_config.max_overflow = max_overflow;
    kit_config.strategy = strategy;
    kit_config.overflow_ttl_ns = 1000 * SP_MS;
}

static void opened(unsigned extra)
{
    kit_open();
    cr_assert_eq(kit_grow(), kit_config.size);
    for (unsigned i = 0; i < extra; i++) {
        sp_pool_want(kit_pool, kit_call());
        cr_assert_eq(kit_grow(), 1);
    }
}

/* So many are leased all the time, each for 10 ms, for so long. */
static void use(unsigned many, unsigned ms)
{
    struct handle *leased[16];

    for (unsigned now = 0; now < ms; now += 10) {
        for (unsigned i = 0; i < many; i++)
            leased[i] = kit_checkout(KIT_OWNER);
        fake_sleep_ms(10);
        if (now % 100 == 0)
            kit_tick();
        for (unsigned i = 0; i < many; i++)
            cr_assert_eq(kit_checkin(leased[i]), SP_OK);
        (void)kit_grow();
    }
}

KIT_TEST(idle, a_fifo_is_shrunk_to_its_size)
{
    started(2, 8, SP_FIFO);
    opened(8);
    use(1, 950);
    cr_assert_eq(kit_stats().total, 10, "not before the time is over");
    use(1, 300);
    cr_assert_eq(kit_stats().total, 2);
    cr_assert_eq(kit_stats().closed, 8);
}

KIT_TEST(idle, a_fifo_keeps_as_many_as_were_leased_at_once)
{
    started(2, 8, SP_FIFO);
    opened(8);
    use(5, 3000);
    cr_assert_eq(kit_stats().total, 5);
    use(3, 700);
    cr_assert_eq(kit_stats().total, 5);
    use(3, 700);
    cr_assert_eq(kit_stats().total, 3);
}

KIT_TEST(idle, a_fifo_that_was_exhausted_keeps_them)
{
    struct handle *leased[10];
    sp_status status;

    started(2, 8, SP_FIFO);
    opened(8);
    for (int rounds = 0; rounds < 20; rounds++) {
        use(1, 200);
        for (unsigned i = 0; i < 10; i++)
            leased[i] = kit_checkout(KIT_OWNER);
        cr_assert_null(kit_try_checkout(KIT_OWNER, &status));
        for (unsigned i = 0; i < 10; i++)
            cr_assert_eq(kit_checkin(leased[i]), SP_OK);
        cr_assert_eq(kit_stats().total, 10, "though no tick has met them in use");
    }
}

KIT_TEST(idle, a_lifo_keeps_those_in_use)
{
    started(2, 8, SP_LIFO);
    opened(8);
    use(5, 3000);
    cr_assert_eq(kit_stats().total, 5);
}

KIT_TEST(idle, overflow_ttl_infinity_keeps_a_fifo)
{
    started(2, 8, SP_FIFO);
    kit_config.overflow_ttl_ns = SP_NEVER;
    opened(8);
    use(1, 3000);
    cr_assert_eq(kit_stats().total, 10);
}

/* ---- idle_timeout ---- */

static void down_to_min_size(enum sp_strategy strategy)
{
    started(6, 2, strategy);
    kit_config.min_size = 2;
    kit_config.idle_timeout_ns = 2000 * SP_MS;
    opened(0);
    use(1, 1950);
    cr_assert_eq(kit_stats().total, 6);
    use(1, 500);
    cr_assert_eq(kit_stats().total, 2);
    cr_assert_eq(kit_grow(), 0, "and the size is not filled up again");
    use(1, 5000);
    cr_assert_eq(kit_stats().created, 6);
}

KIT_TEST(idle, idle_timeout_goes_down_to_min_size)
{
    down_to_min_size(SP_LIFO);
}

KIT_TEST(idle, idle_timeout_goes_down_to_min_size_in_a_fifo)
{
    down_to_min_size(SP_FIFO);
}

KIT_TEST(idle, what_was_needed_again_is_kept_up_again)
{
    struct handle *leased[4];

    down_to_min_size(SP_LIFO);
    for (int i = 0; i < 4; i++) {
        leased[i] = kit_enqueue(KIT_OWNER);
        (void)kit_grow();
        cr_assert(kit_adopt(leased[i]));
    }
    cr_assert_eq(kit_stats().total, 4);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(kit_discard(leased[i]), SP_OK);
    cr_assert_eq(kit_grow(), 4);
    use(1, 3000);
    cr_assert_eq(kit_stats().total, 2);
}

KIT_TEST(idle, idle_timeout_does_nothing_above_the_size)
{
    started(2, 8, SP_LIFO);
    kit_config.overflow_ttl_ns = SP_NEVER;
    kit_config.min_size = 0;
    kit_config.idle_timeout_ns = 200 * SP_MS;
    opened(8);
    fake_sleep_ms(5000);
    kit_tick();
    cr_assert_eq(kit_stats().total, 10);
}

KIT_TEST(idle, idle_timeout_infinity_keeps_the_size)
{
    started(6, 2, SP_FIFO);
    kit_config.min_size = 0;
    opened(0);
    use(1, 100000);
    cr_assert_eq(kit_stats().total, 6);
}

KIT_TEST(idle, one_that_is_replaced_leaves_the_base_as_it_is)
{
    down_to_min_size(SP_LIFO);
    for (uint32_t slot = 0; slot < kit_pool->table.count; slot++)
        if (kit_pool->table.slots[slot])
            atomic_store(&kit_pool->table.slots[slot]->ends_ns, 1);
    kit_tick();
    cr_assert_eq(kit_grow(), 2);
    cr_assert_eq(kit_stats().total, 2);
    cr_assert_eq(kit_stats().created, 8);
}

KIT_TEST(idle, nothing_within_the_size_is_closed_while_attempts_fail)
{
    struct handle *handle, *attempt;
    struct sp_plan plan;

    down_to_min_size(SP_LIFO);
    atomic_store(&kit_pool->base, 6);
    (void)kit_grow();
    handle = kit_checkout(KIT_OWNER);
    cr_assert_eq(kit_discard(handle), SP_OK);
    cr_assert_eq(kit_step(&attempt, 1, &plan), 1);
    kit_drop(attempt);
    fake_sleep_ms(5000);
    kit_tick();
    cr_assert_eq(kit_stats().idle, 5);
}

/* ---- changes while it runs ---- */

KIT_TEST(idle, a_new_size_is_kept_up_and_a_smaller_one_lowers_min_size)
{
    down_to_min_size(SP_LIFO);
    kit_config.size = 4;
    sp_settings_update(kit_pool, &kit_config);
    cr_assert_eq(kit_grow(), 2, "it is filled");
    use(1, 3000);
    cr_assert_eq(kit_stats().total, 2);
    kit_config.size = 1;
    sp_settings_update(kit_pool, &kit_config);
    (void)kit_grow();
    use(1, 3000);
    cr_assert_eq(kit_stats().total, 1);
}

KIT_TEST(idle, a_smaller_pool_closes_those_that_are_too_old_first)
{
    struct sp_conn *old;

    started(3, 0, SP_LIFO);
    opened(0);
    old = kit_pool->table.slots[2];
    atomic_store(&old->ends_ns, 1);
    kit_tick();
    cr_assert(old->aged);
    kit_config.size = 2;
    sp_settings_update(kit_pool, &kit_config);
    (void)kit_grow();
    cr_assert_eq(kit_stats().total, 2);
    cr_assert_eq(kit_stats().created, 3, "it is not replaced");
    cr_assert_null(kit_pool->table.slots[2]);
}
