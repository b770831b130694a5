/* sp_spare: min_idle. */
#include "kit/pool_kit.h"

#include "core/pool/sp_settings.h"

#include <criterion/criterion.h>

static void open_pool(unsigned size, unsigned max_overflow, unsigned min_idle)
{
    kit_init(2);
    kit_config.size = size;
    kit_config.max_overflow = max_overflow;
    kit_config.min_idle = min_idle;
    kit_open();
    kit_grow();
}

static void idle_for(uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i += 100) {
        fake_sleep_ms(100);
        kit_tick();
        kit_grow();
    }
}

KIT_TEST(spare, are_opened_above_the_size_too)
{
    open_pool(2, 5, 4);
    cr_assert_eq(kit_stats().idle, 4);
}

KIT_TEST(spare, up_to_the_limit)
{
    open_pool(2, 1, 40);
    cr_assert_eq(kit_stats().idle, 3);
    kit_checkout(KIT_OWNER);
    cr_assert_eq(kit_grow(), 0);
}

KIT_TEST(spare, none_by_default)
{
    unsigned wakes;

    open_pool(2, 5, 0);
    wakes = fake_wakes();
    kit_checkout(KIT_OWNER);
    kit_checkout(KIT_OWNER);
    cr_assert_eq(fake_wakes(), wakes);
    cr_assert_eq(kit_grow(), 0);
}

KIT_TEST(spare, one_that_is_taken_is_replaced_at_once)
{
    unsigned wakes;

    open_pool(4, 5, 2);
    cr_assert_eq(kit_stats().idle, 4);
    wakes = fake_wakes();
    kit_checkout(KIT_OWNER);
    kit_home(1);
    kit_checkout(KIT_OWNER);
    cr_assert_eq(fake_wakes(), wakes, "there are 2 still");
    kit_checkout(KIT_OWNER);
    cr_assert_eq(fake_wakes(), wakes + 1);
    cr_assert_eq(kit_grow(), 1);
    cr_assert_eq(kit_stats().idle, 2);
}

KIT_TEST(spare, those_under_way_count)
{
    struct handle *attempts[4];
    struct sp_plan plan;

    open_pool(2, 5, 2);
    kit_checkout(KIT_OWNER);
    kit_checkout(KIT_OWNER);
    cr_assert_eq(kit_step(attempts, 4, &plan), 2);
    cr_assert_eq(kit_step(attempts + 2, 2, &plan), 0);
    kit_connect(attempts[0], KIT_OTHER);
    kit_connect(attempts[1], KIT_OTHER);
    cr_assert_eq(kit_grow(), 0);
}

static void are_no_surplus(uint64_t overflow_ttl_ms, enum sp_strategy strategy)
{
    struct handle *held[3];
    uint64_t closed;

    kit_init(2);
    kit_config.size = 3;
    kit_config.max_overflow = 7;
    kit_config.min_idle = 2;
    kit_config.overflow_ttl_ns = overflow_ttl_ms * SP_MS;
    kit_config.strategy = strategy;
    kit_open();
    kit_grow();
    for (int i = 0; i < 3; i++)
        held[i] = kit_checkout(KIT_OWNER);
    kit_grow();
    cr_assert_eq(kit_stats().total, 5);
    closed = kit_stats().closed;
    idle_for(3000);
    cr_assert_eq(kit_stats().closed, closed, "as long as they are 2");
    cr_assert_eq(kit_stats().total, 5);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(kit_checkin(held[i]), SP_OK);
    idle_for(3000);
    cr_assert_eq(kit_stats().total, 3, "%u", (unsigned)kit_stats().total);
    cr_assert_eq(kit_stats().closed, closed + 2);
}

KIT_TEST(spare, are_no_surplus)
{
    are_no_surplus(500, SP_LIFO);
}

KIT_TEST(spare, are_no_surplus_in_a_fifo)
{
    are_no_surplus(500, SP_FIFO);
}

KIT_TEST(spare, are_no_surplus_where_others_close_at_checkin)
{
    are_no_surplus(0, SP_LIFO);
}

KIT_TEST(spare, are_kept_below_the_size_by_idle_timeout)
{
    kit_init(2);
    kit_config.size = 6;
    kit_config.min_size = 1;
    kit_config.min_idle = 2;
    kit_config.idle_timeout_ns = 500 * SP_MS;
    kit_open();
    kit_grow();
    kit_checkout(KIT_OWNER);
    idle_for(3000);
    cr_assert_eq(kit_stats().total, 3, "%u", (unsigned)kit_stats().total);
    cr_assert_eq(kit_stats().idle, 2);
    cr_assert_eq(kit_stats().created, 6);
}

KIT_TEST(spare, change_while_the_pool_is_open)
{
    open_pool(2, 8, 0);
    kit_config.min_idle = 5;
    sp_settings_update(kit_pool, &kit_config);
    cr_assert_eq(kit_grow(), 3);
    kit_config.size = 1;
    kit_config.min_idle = 3;
    sp_settings_update(kit_pool, &kit_config);
    kit_grow();
    cr_assert_eq(kit_stats().total, 3, "the rest of them is surplus");
}

/* A spike opens for those who wait by the rule of growth, and for these no more than so many. */
KIT_TEST(spare, are_not_asked_for_by_each_that_waits)
{
    struct handle *attempts[32];
    struct sp_plan plan;

    kit_init(2);
    kit_config.size = 2;
    kit_config.max_overflow = 50;
    kit_config.min_idle = 2;
    kit_open();
    cr_assert_eq(kit_step(attempts, 32, &plan), 2);
    fake_sleep_ms(150);
    kit_connect(attempts[0], KIT_OTHER);
    kit_connect(attempts[1], KIT_OTHER);
    for (int i = 0; i < 30; i++) {
        sp_status status;
        if (!kit_try_checkout(40, &status))
            kit_enqueue(50 + (uint64_t)i);
    }
    cr_assert_eq(kit_step(attempts, 32, &plan), 2);
}
