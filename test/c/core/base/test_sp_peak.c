#include "core/base/sp_peak.h"

#include <criterion/criterion.h>

static struct sp_peak peak;

/* A window of 700, begun at 1000: slots of 101. */
static void begun(void)
{
    sp_peak_begin(&peak, 700, 1000);
}

TestSuite(peak, .init = begun);

Test(peak, is_not_known_before_a_window_has_passed)
{
    cr_assert_eq(sp_peak_get(&peak), 0);
    sp_peak_note(&peak, 3, 1010);
    cr_assert_eq(sp_peak_get(&peak), 3);
    cr_assert_not(sp_peak_is_known(&peak, 1700));
    cr_assert(sp_peak_is_known(&peak, 1701));
}

Test(peak, is_remembered_for_the_window_and_a_slot_at_most)
{
    for (uint64_t now = 1000; now <= 2000; now += 10)
        sp_peak_note(&peak, 3, now);
    sp_peak_note(&peak, 9, 2000);
    for (uint64_t now = 2000; now <= 2700; now += 10) {
        sp_peak_note(&peak, 4, now);
        cr_assert_eq(sp_peak_get(&peak), 9, "at %u", (unsigned)now);
    }
    for (uint64_t now = 2700; now <= 2810; now += 10)
        sp_peak_note(&peak, 4, now);
    cr_assert_eq(sp_peak_get(&peak), 4);
}

Test(peak, forgets_all_after_a_gap)
{
    sp_peak_note(&peak, 9, 1000);
    sp_peak_note(&peak, 1, 1000000);
    cr_assert_eq(sp_peak_get(&peak), 1);
    sp_peak_note(&peak, 0, 2000000);
    cr_assert_eq(sp_peak_get(&peak), 0);
}

Test(peak, of_a_window_without_an_end_is_never_forgotten)
{
    sp_peak_begin(&peak, UINT64_MAX, 0);
    sp_peak_note(&peak, 7, 1);
    sp_peak_note(&peak, 1, UINT64_MAX - 1);
    cr_assert_eq(sp_peak_get(&peak), 7);
    cr_assert_not(sp_peak_is_known(&peak, UINT64_MAX));
}

Test(peak, of_no_window_is_the_last)
{
    sp_peak_begin(&peak, 0, 0);
    sp_peak_note(&peak, 7, 10);
    sp_peak_note(&peak, 2, 20);
    cr_assert_eq(sp_peak_get(&peak), 2);
}

Test(peak, bears_a_clock_that_is_behind)
{
    sp_peak_note(&peak, 5, 2000000);
    sp_peak_note(&peak, 6, 10);
    cr_assert_eq(sp_peak_get(&peak), 6);
}
