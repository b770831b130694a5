/* sn_deadlines: order, moving, clearing, against a plain array. */
#include "node/base/sn_deadlines.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static struct sn_deadlines deadlines;

static void begin(void)
{
    sn_deadlines_init(&deadlines);
}

static void end(void)
{
    sn_deadlines_free(&deadlines);
}

TestSuite(sn_deadlines, .init = begin, .fini = end);

Test(sn_deadlines, the_earliest_comes_first_and_not_before_its_time)
{
    struct sn_deadline a = {0}, b = {0}, c = {0};

    cr_assert_eq(sn_deadlines_next(&deadlines), UINT64_MAX);
    cr_assert_null(sn_deadlines_due(&deadlines, UINT64_MAX - 1));
    cr_assert_eq(sn_deadlines_set(&deadlines, &a, 30), SP_OK);
    cr_assert_eq(sn_deadlines_set(&deadlines, &b, 10), SP_OK);
    cr_assert_eq(sn_deadlines_set(&deadlines, &c, 20), SP_OK);
    cr_assert_eq(sn_deadlines_next(&deadlines), 10);
    cr_assert_null(sn_deadlines_due(&deadlines, 9));
    cr_assert_eq(sn_deadlines_due(&deadlines, 10), &b);
    cr_assert_eq(b.place, 0);
    cr_assert_null(sn_deadlines_due(&deadlines, 10));
    cr_assert_eq(sn_deadlines_set(&deadlines, &a, 15), SP_OK);
    cr_assert_eq(sn_deadlines_due(&deadlines, 50), &a);
    sn_deadlines_clear(&deadlines, &c);
    sn_deadlines_clear(&deadlines, &c);
    cr_assert_null(sn_deadlines_due(&deadlines, 50));
}

Test(sn_deadlines, as_an_array_would_do_it)
{
    enum { COUNT = 300, STEPS = 100000 };
    static struct sn_deadline all[COUNT];
    uint64_t now = 1000;

    srand(1);
    for (int step = 0; step < STEPS; step++) {
        struct sn_deadline *one = &all[rand() % COUNT], *due;
        uint64_t earliest = UINT64_MAX;
        size_t set = 0;

        if (rand() % 4 == 0)
            sn_deadlines_clear(&deadlines, one);
        else
            cr_assert_eq(sn_deadlines_set(&deadlines, one, now + (uint64_t)(rand() % 1000)), SP_OK);
        if (rand() % 3 == 0)
            now += (uint64_t)(rand() % 50);
        for (int i = 0; i < COUNT; i++) {
            set += all[i].place > 0;
            if (all[i].place && all[i].at_ns < earliest)
                earliest = all[i].at_ns;
        }
        cr_assert_eq(deadlines.count, set);
        cr_assert_eq(sn_deadlines_next(&deadlines), earliest);
        while ((due = sn_deadlines_due(&deadlines, now))) {
            cr_assert_eq(due->at_ns, earliest);
            earliest = sn_deadlines_next(&deadlines);
            cr_assert_geq(earliest, due->at_ns);
        }
    }
}
