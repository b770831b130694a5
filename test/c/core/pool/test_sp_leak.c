/* Leases that are held for longer than the pool's leak_threshold. */
#include "kit/pool_kit.h"

#include "core/pool/sp_settings.h"

#include <criterion/criterion.h>

#define THRESHOLD_MS 5000

static void started(void)
{
    kit_init(1);
    kit_config.leak_threshold_ns = THRESHOLD_MS * SP_MS;
    kit_config.max_hold_ns = 60000 * SP_MS;
    kit_open();
    cr_assert_eq(kit_grow(), 2);
}

TestSuite(leak, .init = started);

static void pass_ms(uint64_t ms)
{
    fake_sleep_ms(ms);
    kit_tick();
    (void)kit_grow();
}

static void reported(unsigned leaks, unsigned ends)
{
    cr_assert_eq(fake_leaks(), leaks, "%u reported", fake_leaks());
    cr_assert_eq(fake_leak_ends(), ends, "%u ended", fake_leak_ends());
    cr_assert_eq(kit_stats().leaked, leaks);
}

KIT_TEST(leak, is_reported_once_and_when_it_ends)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    uint64_t held_ms;

    pass_ms(THRESHOLD_MS);
    reported(0, 0);
    pass_ms(100);
    reported(1, 0);
    cr_assert_eq(fake_leaker(&held_ms), KIT_OWNER);
    cr_assert_eq(held_ms, THRESHOLD_MS + 100);
    pass_ms(THRESHOLD_MS);
    reported(1, 0);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    pass_ms(100);
    reported(1, 1);
    cr_assert_eq(fake_leaker(&held_ms), SP_OWNER_POOL);
    cr_assert_eq(held_ms, 2 * THRESHOLD_MS + 200);
    pass_ms(THRESHOLD_MS);
    reported(1, 1);
}

KIT_TEST(leak, ends_where_the_connection_is_closed)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    pass_ms(THRESHOLD_MS + 100);
    cr_assert_eq(kit_discard(handle), SP_OK);
    (void)kit_grow();
    reported(1, 1);
}

KIT_TEST(leak, ends_where_the_next_has_it_already)
{
    struct handle *first = kit_checkout(KIT_OWNER), *second, *other = kit_checkout(KIT_OWNER);

    pass_ms(THRESHOLD_MS - 100);
    cr_assert_eq(kit_checkin(other), SP_OK);
    pass_ms(200);
    reported(1, 0);
    other = kit_checkout(KIT_OTHER);
    cr_assert_eq(kit_checkin(first), SP_OK);
    second = kit_checkout(KIT_OTHER);
    pass_ms(100);
    reported(1, 1);
    pass_ms(THRESHOLD_MS);
    reported(3, 1);
    cr_assert_eq(kit_checkin(second), SP_OK);
    cr_assert_eq(kit_checkin(other), SP_OK);
}

KIT_TEST(leak, goes_on_with_the_next_owner)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    uint64_t held_ms;

    pass_ms(THRESHOLD_MS + 100);
    handle->lease = sp_conn_give_away(handle->conn, handle->lease, KIT_OTHER);
    pass_ms(100);
    reported(2, 1);
    cr_assert_eq(fake_leaker(&held_ms), KIT_OTHER);
    cr_assert_eq(kit_checkin(handle), SP_OK);
}

KIT_TEST(leak, ends_with_max_hold_and_with_its_owner)
{
    kit_checkout(KIT_OWNER);
    pass_ms(THRESHOLD_MS + 100);
    pass_ms(60000);
    reported(1, 0);
    pass_ms(100);
    reported(1, 1);
    kit_checkout(KIT_OWNER);
    pass_ms(THRESHOLD_MS + 100);
    fake_kill(KIT_OWNER);
    pass_ms(100);
    pass_ms(100);
    reported(2, 2);
}

KIT_TEST(leak, an_attempt_is_none)
{
    struct handle *attempts[4];
    struct sp_plan plan;

    kit_discard(kit_checkout(KIT_OWNER));
    cr_assert_eq(kit_step(attempts, 4, &plan), 1);
    fake_sleep_ms(2 * THRESHOLD_MS);
    kit_tick();
    reported(0, 0);
}

KIT_TEST(leak, the_threshold_changes)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    struct sp_config config = kit_config;

    config.leak_threshold_ns = SP_NEVER;
    sp_settings_update(kit_pool, &config);
    pass_ms(2 * THRESHOLD_MS);
    reported(0, 0);
    config.leak_threshold_ns = 1000 * SP_MS;
    sp_settings_update(kit_pool, &config);
    pass_ms(100);
    reported(1, 0);
    cr_assert_eq(kit_checkin(handle), SP_OK);
}
