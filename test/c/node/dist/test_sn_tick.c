/* sn_tick: when a tick is due and when a node is gone. */
#include "node/dist/sn_tick.h"

#include <criterion/criterion.h>

#define START 1000
#define PERIOD 250

static struct sn_tick tick;

static void begin(void)
{
    sn_tick_begin(&tick, 4 * PERIOD, START);
}

Test(sn_tick, nothing_before_the_period_ends)
{
    begin();
    cr_assert_eq(tick.next_ns, START + PERIOD);
    cr_assert_eq(sn_tick_due(&tick, START + PERIOD - 1), SN_TICK_NOTHING);
    cr_assert_eq(sn_tick_due(&tick, START + PERIOD), SN_TICK_SEND);
    cr_assert_eq(tick.next_ns, START + 2 * PERIOD);
}

Test(sn_tick, what_was_written_spares_a_tick)
{
    begin();
    sn_tick_written(&tick);
    cr_assert_eq(sn_tick_due(&tick, START + PERIOD), SN_TICK_NOTHING);
    cr_assert_eq(sn_tick_due(&tick, START + 2 * PERIOD), SN_TICK_SEND);
}

Test(sn_tick, four_silent_periods_are_the_end)
{
    begin();
    for (int period = 1; period < 4; period++)
        cr_assert_eq(sn_tick_due(&tick, START + period * PERIOD), SN_TICK_SEND);
    cr_assert_eq(sn_tick_due(&tick, START + 4 * PERIOD), SN_TICK_GONE);
}

Test(sn_tick, a_byte_begins_the_count_anew)
{
    begin();
    for (int period = 1; period < 4; period++)
        (void)sn_tick_due(&tick, START + period * PERIOD);
    sn_tick_read(&tick);
    for (int period = 4; period < 8; period++)
        cr_assert_eq(sn_tick_due(&tick, START + period * PERIOD), SN_TICK_SEND, "%d", period);
    cr_assert_eq(sn_tick_due(&tick, START + 8 * PERIOD), SN_TICK_GONE);
}

Test(sn_tick, what_is_written_does_not_show_that_the_node_is_there)
{
    begin();
    for (int period = 1; period < 4; period++) {
        sn_tick_written(&tick);
        cr_assert_eq(sn_tick_due(&tick, START + period * PERIOD), SN_TICK_NOTHING);
    }
    sn_tick_written(&tick);
    cr_assert_eq(sn_tick_due(&tick, START + 4 * PERIOD), SN_TICK_GONE);
}

Test(sn_tick, periods_slept_through_count_as_one)
{
    begin();
    cr_assert_eq(sn_tick_due(&tick, START + 100 * PERIOD), SN_TICK_SEND);
    cr_assert_eq(tick.silent, 1);
    cr_assert_eq(tick.next_ns, START + 101 * PERIOD);
}
