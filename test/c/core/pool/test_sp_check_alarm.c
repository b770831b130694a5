/* A check that has failed: all other idle connections are checked. */
#include "kit/check_kit.h"

#include <criterion/criterion.h>

KIT_TEST(alarm, has_all_idle_ones_checked)
{
    struct handle *handle;

    started(5, 0);
    handle = kit_checkout(KIT_OWNER);
    until_begun(INTERVAL_MS);
    fail();
    cr_assert_gt(fake_wakes(), 0);
    cr_assert_eq(begun(), 3, "and not the one in use");
    while (count > 0)
        cr_assert_eq(pass(), SP_OK);
    cr_assert_eq(begun(), 0, "once");
    cr_assert_eq(kit_stats().idle, 3);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert_eq(begun(), 0);
}

KIT_TEST(alarm, is_not_raised_by_those_that_follow)
{
    started(6, 0);
    until_begun(INTERVAL_MS);
    fail();
    cr_assert_eq(begun(), 5);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(pass(), SP_OK);
    fail();
    fail();
    cr_assert_eq(begun(), 0);
    cr_assert_eq(kit_stats().health_failed, 3);
    cr_assert_eq(kit_stats().total, 3);
}

/* Two were under way when the first of them failed. */
KIT_TEST(alarm, is_raised_once_for_what_was_begun_before)
{
    started(30, 0);
    fake_sleep_ms(INTERVAL_MS);
    cr_assert_eq(begun(), 3);
    fail();
    cr_assert_eq(begun(), 27);
    fail();
    cr_assert_eq(pass(), SP_OK);
    for (int i = 0; i < 20; i++)
        cr_assert_eq(pass(), SP_OK);
    cr_assert_eq(begun(), 0);
    while (count > 0)
        cr_assert_eq(pass(), SP_OK);
}

KIT_TEST(alarm, at_most_64_at_a_time)
{
    started(100, 0);
    until_begun(INTERVAL_MS);
    while (count > 1)
        cr_assert_eq(pass(), SP_OK);
    fail();
    cr_assert_eq(begun(), 64);
    while (count > 0) {
        fail();
        begun();
        cr_assert_leq(count, 64);
    }
    cr_assert_eq(kit_stats().health_failed + kit_stats().idle, 100,
                 "what was checked since the server has gone");
}

/* Claim 7: the server of 100 idle connections is gone without a word at some moment. */
static void fail_over(uint64_t at_ms)
{
    uint64_t gone_ns, until_ns[MOST], took_ms;

    started(100, 0);
    for (uint64_t ms = 0; ms < at_ms; ms += 10) {
        fake_sleep_ms(10);
        begun();
        while (count > 0)
            cr_assert_eq(pass(), SP_OK);
    }
    gone_ns = fake_now_ns();
    while (kit_stats().total > 0) {
        size_t before = count;
        begun();
        for (; before < count; before++)
            until_ns[before] = fake_now_ns() + TIMEOUT_MS * MS;
        fake_sleep_ms(10);
        while (count > 0 && fake_now_ns() >= until_ns[0]) {
            fail();
            for (size_t i = 0; i < count; i++)
                until_ns[i] = until_ns[i + 1];
        }
        took_ms = (fake_now_ns() - gone_ns) / MS;
        cr_assert_leq(took_ms, INTERVAL_MS + 3 * TIMEOUT_MS);
    }
    cr_assert_eq(kit_stats().health_failed, 100);
}

KIT_TEST(alarm, after_a_fail_over_the_pool_is_clean_in_time)
{
    fail_over(0);
}

KIT_TEST(alarm, after_a_later_fail_over_too)
{
    fail_over(3 * INTERVAL_MS + INTERVAL_MS / 3);
}

/* The pool of one, whose only connection has just been heard of. */
KIT_TEST(alarm, of_one_in_time)
{
    uint64_t from_ns;

    started(1, 0);
    from_ns = fake_now_ns();
    until_begun(INTERVAL_MS);
    fake_sleep_ms(TIMEOUT_MS);
    fail();
    cr_assert_leq((fake_now_ns() - from_ns) / MS, INTERVAL_MS + TIMEOUT_MS);
}
