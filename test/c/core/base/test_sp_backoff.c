/* sp_backoff: bounds, full jitter, rounds, determinism. */
#include "core/base/sp_backoff.h"

#include <criterion/criterion.h>

#define MS UINT64_C(1000000)
#define NOW (UINT64_C(77777) * MS)

static struct sp_backoff backoff;

static uint64_t fail(void)
{
    sp_backoff_failed(&backoff, backoff.failures, NOW);
    cr_assert_geq(backoff.until_ns, NOW);
    return backoff.until_ns - NOW;
}

Test(backoff, is_healthy_at_first)
{
    sp_backoff_init(&backoff, 100 * MS, 10000 * MS, 1);
    cr_assert_not(sp_backoff_failing(&backoff));
    cr_assert_eq(backoff.failures, 0);
    cr_assert_eq(backoff.until_ns, 0);
}

Test(backoff, each_delay_is_within_its_own_bound_and_uses_all_of_it)
{
    uint64_t longest[12] = {0}, shortest[12];

    for (unsigned n = 0; n < 12; n++)
        shortest[n] = UINT64_MAX;
    for (uint64_t seed = 0; seed < 2000; seed++) {
        sp_backoff_init(&backoff, 100 * MS, 10000 * MS, seed);
        for (unsigned n = 0; n < 12; n++) {
            uint64_t delay = fail();
            longest[n] = delay > longest[n] ? delay : longest[n];
            shortest[n] = delay < shortest[n] ? delay : shortest[n];
        }
    }
    for (unsigned n = 0; n < 12; n++) {
        uint64_t bound = n < 7 ? 100 * MS << n : 10000 * MS;
        cr_expect_leq(longest[n], bound, "delay %u", n);
        cr_expect_gt(longest[n], bound / 100 * 98, "delay %u never comes near its bound", n);
        cr_expect_lt(shortest[n], bound / 50, "delay %u has not full jitter", n);
    }
}

Test(backoff, delays_are_spread_evenly)
{
    unsigned buckets[10] = {0};

    sp_backoff_init(&backoff, 100 * MS, 100 * MS, 5);
    for (unsigned i = 0; i < 10000; i++)
        buckets[fail() / (10 * MS + 1)]++;
    for (unsigned i = 0; i < 10; i++)
        cr_expect(buckets[i] > 850 && buckets[i] < 1150, "bucket %u has %u", i, buckets[i]);
}

Test(backoff, attempts_of_one_round_fail_once)
{
    uint64_t until_ns;

    sp_backoff_init(&backoff, 100 * MS, 10000 * MS, 1);
    sp_backoff_failed(&backoff, 0, NOW);
    until_ns = backoff.until_ns;
    sp_backoff_failed(&backoff, 0, NOW + 5 * MS);
    sp_backoff_failed(&backoff, 0, NOW + 9 * MS);
    cr_assert_eq(backoff.failures, 1);
    cr_assert_eq(backoff.until_ns, until_ns);
    sp_backoff_failed(&backoff, 1, NOW + 9 * MS);
    cr_assert_eq(backoff.failures, 2);
}

Test(backoff, success_resets)
{
    sp_backoff_init(&backoff, 100 * MS, 10000 * MS, 1);
    for (int i = 0; i < 20; i++)
        fail();
    cr_assert(sp_backoff_failing(&backoff));
    sp_backoff_succeeded(&backoff);
    cr_assert_not(sp_backoff_failing(&backoff));
    cr_assert_eq(backoff.until_ns, 0);
    cr_assert_leq(fail(), 100 * MS);
}

Test(backoff, a_seed_gives_the_same_delays_again_and_another_gives_others)
{
    uint64_t first[10];
    unsigned same = 0;

    sp_backoff_init(&backoff, 100 * MS, 10000 * MS, 42);
    for (int i = 0; i < 10; i++)
        first[i] = fail();
    sp_backoff_init(&backoff, 100 * MS, 10000 * MS, 42);
    for (int i = 0; i < 10; i++)
        cr_expect_eq(fail(), first[i]);
    sp_backoff_init(&backoff, 100 * MS, 10000 * MS, 43);
    for (int i = 0; i < 10; i++)
        same += fail() == first[i];
    cr_assert_lt(same, 3);
}

Test(backoff, many_failures_do_not_overflow)
{
    sp_backoff_init(&backoff, 1, UINT64_C(3600) * 1000 * MS, 1);
    for (int i = 0; i < 1000; i++)
        cr_assert_leq(fail(), UINT64_C(3600) * 1000 * MS);
}

Test(backoff, equal_bounds_are_allowed)
{
    sp_backoff_init(&backoff, 50 * MS, 50 * MS, 1);
    for (int i = 0; i < 100; i++)
        cr_assert_leq(fail(), 50 * MS);
}

Test(backoff, hurried_it_is_a_quarter_of_the_bound_at_most_and_the_first_bound_at_least)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        sp_backoff_init(&backoff, 100 * MS, 10000 * MS, seed);
        for (unsigned n = 0; n < 12; n++) {
            uint64_t bound = n < 7 ? 100 * MS << n : 10000 * MS, delay = fail();
            uint64_t most = bound / 4 > 100 * MS ? bound / 4 : 100 * MS;

            sp_backoff_hurry(&backoff);
            cr_assert_eq(backoff.until_ns - NOW, delay < most ? delay : most);
        }
    }
}

Test(backoff, there_is_nothing_to_hurry_without_a_failure)
{
    sp_backoff_init(&backoff, 100 * MS, 10000 * MS, 1);
    sp_backoff_hurry(&backoff);
    cr_assert_eq(backoff.until_ns, 0);
    fail();
    sp_backoff_succeeded(&backoff);
    sp_backoff_hurry(&backoff);
    cr_assert_eq(backoff.until_ns, 0);
}
