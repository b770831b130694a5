/* sp_expiry: deadlines of waiters; and sp_pool_expire(), which tells those that have passed. */
#include "kit/pool_kit.h"
#include "core/base/sp_expiry.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define GRAIN SP_EXPIRY_GRAIN_NS
#define TURN (SP_EXPIRY_SLOTS * GRAIN)
#define BASE (1000 * TURN + GRAIN / 3)

static struct sp_expiry wheel;

/* The next one that has passed, in as many calls as it takes. */
static struct sp_deadline *sweep(uint64_t now_ns)
{
    struct sp_deadline *deadline;
    bool more;

    do
        deadline = sp_expiry_next(&wheel, now_ns, &more);
    while (!deadline && more);
    return deadline;
}

static void make(void)
{
    sp_expiry_init(&wheel);
}

TestSuite(expiry, .init = make);

/* The first moment, of those that a sweep each grain looks at, at which it is given. */
static uint64_t given(const struct sp_deadline *deadline, uint64_t from_ns)
{
    for (uint64_t now = from_ns;; now += GRAIN) {
        struct sp_deadline *next = sweep(now);
        if (next == deadline)
            return now;
        cr_assert_null(next);
        cr_assert_lt(now, from_ns + 5 * TURN, "it is never given");
    }
}

Test(expiry, gives_nothing_where_nothing_is_set)
{
    cr_assert_null(sweep(BASE));
}

Test(expiry, gives_each_once_and_never_early)
{
    static const uint64_t AFTER[] = {0,        1,    GRAIN - 1,    GRAIN,   5 * GRAIN,
                                     TURN - 1, TURN, TURN + GRAIN, 3 * TURN};

    for (size_t i = 0; i < sizeof AFTER / sizeof *AFTER; i++) {
        struct sp_deadline deadline = {.set = false};
        uint64_t at = BASE + AFTER[i], when;
        make();
        sp_expiry_add(&wheel, &deadline, at, BASE);
        when = given(&deadline, BASE);
        cr_assert_geq(when, at);
        cr_assert_leq(when, at + 3 * GRAIN);
        cr_assert_not(deadline.set);
        cr_assert_null(sweep(when + 2 * TURN));
    }
}

Test(expiry, a_removed_one_is_not_given)
{
    struct sp_deadline deadline = {.set = false};

    sp_expiry_add(&wheel, &deadline, BASE + GRAIN, BASE);
    sp_expiry_remove(&wheel, &deadline);
    sp_expiry_remove(&wheel, &deadline);
    cr_assert_null(sweep(BASE + TURN));
    cr_assert_eq(wheel.count, 0);
}

Test(expiry, a_sweep_that_comes_late_misses_none)
{
    struct sp_deadline deadlines[3 * SP_EXPIRY_SLOTS] = {{.set = false}};
    size_t count = sizeof deadlines / sizeof *deadlines;

    for (size_t i = 0; i < count; i++)
        sp_expiry_add(&wheel, &deadlines[i], BASE + i * GRAIN, BASE);
    for (size_t i = 0; i < count; i++)
        cr_assert_not_null(sweep(BASE + 10 * TURN));
    cr_assert_null(sweep(BASE + 10 * TURN));
}

Test(expiry, one_that_has_passed_when_it_is_added_is_given_at_the_next_sweep)
{
    struct sp_deadline late = {.set = false}, other = {.set = false};

    sp_expiry_add(&wheel, &other, BASE + TURN, BASE);
    cr_assert_null(sweep(BASE + 10 * GRAIN));
    sp_expiry_add(&wheel, &late, BASE, BASE + 10 * GRAIN);
    cr_assert_eq(given(&late, BASE + 11 * GRAIN), BASE + 11 * GRAIN);
}

/* Of a slot that was not looked through. */
Test(expiry, a_look_at_an_earlier_time_loses_none)
{
    static struct sp_deadline deadlines[3 * SP_LOOKS_PER_PIECE];
    const size_t count = sizeof deadlines / sizeof *deadlines;
    bool more;

    for (size_t i = 0; i < count; i++)
        sp_expiry_add(&wheel, &deadlines[i], BASE + GRAIN, BASE);
    cr_assert_not_null(sp_expiry_next(&wheel, BASE + 5 * GRAIN, &more));
    for (size_t i = 0; i < 2 * count; i++)
        cr_assert_null(sp_expiry_next(&wheel, BASE, &more));
    for (size_t i = 1; i < count; i++)
        cr_assert_not_null(sweep(BASE + 5 * GRAIN));
    cr_assert_eq(wheel.count, 0);
}

/* Two clocks look, and one of them leaves to the other what has passed just now. */
Test(expiry, a_look_at_an_earlier_time_takes_and_changes_nothing_of_later_ones)
{
    struct sp_deadline early = {.set = false}, late = {.set = false};

    sp_expiry_add(&wheel, &early, BASE + GRAIN, BASE);
    sp_expiry_add(&wheel, &late, BASE + 10 * GRAIN, BASE);
    cr_assert_eq(sweep(BASE + 5 * GRAIN), &early);
    cr_assert_null(sweep(BASE + 5 * GRAIN));
    cr_assert_null(sweep(BASE + 2 * GRAIN));
    cr_assert_null(sweep(BASE + 5 * GRAIN));
    cr_assert_leq(given(&late, BASE + 6 * GRAIN), BASE + 12 * GRAIN);
    cr_assert_eq(wheel.count, 0);
}

Test(expiry, agrees_with_a_list_of_all)
{
    static struct sp_deadline deadlines[200];
    uint64_t now = BASE;
    size_t set = 0;

    srand(7);
    for (int turn = 0; turn < 20000; turn++) {
        struct sp_deadline *deadline = &deadlines[rand() % 200], *next;
        if (deadline->set && rand() % 2) {
            sp_expiry_remove(&wheel, deadline);
            set--;
        } else if (!deadline->set) {
            sp_expiry_add(&wheel, deadline, now + (uint64_t)rand() % (3 * TURN), now);
            set++;
        }
        now += (uint64_t)rand() % GRAIN;
        for (; (next = sweep(now)); set--)
            cr_assert_leq(next->at_ns, now);
        cr_assert_eq(wheel.count, set);
        for (int i = 0; i < 200; i++)
            cr_assert(!deadlines[i].set || deadlines[i].at_ns + 3 * GRAIN > now, "one is overdue");
    }
}

/* ---- the pool ---- */

static struct handle *holder;

static void held(void)
{
    kit_start(1, 0);
    holder = kit_checkout(KIT_OWNER);
}

TestSuite(pool_expiry, .init = held);

KIT_TEST(pool_expiry, tells_a_waiter_whose_time_is_over)
{
    struct handle *timed = kit_enqueue_for(21, 2000), *patient = kit_enqueue(22);

    fake_sleep_ms(1900);
    kit_tick();
    cr_assert_eq(fake_notes(21), 0);
    fake_sleep_ms(300);
    kit_tick();
    cr_assert_eq(fake_notes(21), 1);
    cr_assert_eq(fake_note(21, 0)->status, SP_TIMEOUT);
    cr_assert_eq(kit_stats().timeouts, 1);
    cr_assert_eq(kit_stats().waiting, 1);
    cr_assert_eq(kit_cancel(timed), SP_FAILED, "it is told already");
    kit_drop(timed);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert(kit_adopt(patient));
}

KIT_TEST(pool_expiry, who_grants_passes_over_a_waiter_whose_time_is_over)
{
    struct handle *late = kit_enqueue_for(21, 2000), *patient = kit_enqueue(22);

    fake_sleep_ms(2000);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert_eq(fake_note(21, 0)->status, SP_TIMEOUT);
    cr_assert_eq(kit_stats().timeouts, 1);
    kit_drop(late);
    cr_assert(kit_adopt(patient));
}

KIT_TEST(pool_expiry, leaves_a_waiter_that_was_served_alone)
{
    struct handle *timed = kit_enqueue_for(21, 2000);

    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert(kit_adopt(timed));
    fake_sleep_ms(5000);
    kit_tick();
    cr_assert_eq(fake_notes(21), 1);
    cr_assert_eq(fake_note(21, 0)->status, SP_OK);
    cr_assert_eq(kit_stats().timeouts, 0);
}

KIT_TEST(pool_expiry, leaves_a_waiter_that_was_cancelled_or_dropped_alone)
{
    struct handle *cancelled = kit_enqueue_for(21, 2000), *dropped = kit_enqueue_for(22, 2000);

    cr_assert_eq(kit_cancel(cancelled), SP_CANCELLED);
    kit_drop(cancelled);
    kit_drop(dropped);
    fake_sleep_ms(5000);
    kit_tick();
    cr_assert_eq(fake_notes_all(), 0);
    cr_assert_eq(fake_waiters(), 0);
}

KIT_TEST(pool_expiry, of_thousands_at_once_takes_slices)
{
    enum { MANY = 1000 };
    struct handle *timed[MANY];
    uint32_t cursor = 0;

    for (unsigned i = 0; i < MANY; i++)
        timed[i] = kit_enqueue_for(100 + i, 2000);
    fake_sleep_ms(2300);
    cr_assert(sp_control_tick(kit_pool, kit_call(), &cursor));
    cr_assert_lt(fake_notes_all(), 100);
    kit_tick();
    cr_assert_eq(fake_notes_all(), MANY);
    for (unsigned i = 0; i < MANY; i++)
        kit_drop(timed[i]);
}
