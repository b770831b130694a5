/* sn_watches: monitors by reference, links by process, their copies, growth and the bound. */
#include "node/serve/sn_watches.h"

#include <criterion/criterion.h>
#include <string.h>

static struct sn_watches watches;

static void begin(void)
{
    sn_watches_init(&watches);
}

static void end(void)
{
    sn_watches_free(&watches);
    cr_assert(watches.hash.count == 0 && !watches.hash.buckets);
}

TestSuite(sn_watches, .init = begin, .fini = end);

static struct sn_slice text(const char *chars)
{
    return (struct sn_slice){(const uint8_t *)chars, strlen(chars)};
}

static struct sn_slice number(const unsigned *value)
{
    return (struct sn_slice){(const uint8_t *)value, sizeof *value};
}

struct seen {
    size_t monitors, links;
    uint64_t sum;
};

static void see(const struct sn_watch *watch, void *arg)
{
    struct seen *seen = arg;
    unsigned value;

    memcpy(&value, watch->target.data, sizeof value);
    seen->sum += value;
    if (watch->kind == SN_WATCH_MONITOR)
        seen->monitors++;
    else
        seen->links++;
    cr_assert_eq(watch->kind == SN_WATCH_LINK, watch->reference.len == 0);
}

static struct seen look(void)
{
    struct seen seen = {0};

    sn_watches_each(&watches, see, &seen);
    cr_assert_eq(seen.monitors + seen.links, watches.hash.count);
    return seen;
}

static sp_status monitor(const char *from, const char *reference)
{
    return sn_watches_add(&watches, SN_WATCH_MONITOR, text(from), text(reference),
                          text("sockpool"));
}

static sp_status link_from(const char *from)
{
    return sn_watches_add(&watches, SN_WATCH_LINK, text(from), text(""), text("a pid"));
}

Test(sn_watches, empty)
{
    cr_assert_eq(look().monitors, 0);
    sn_watches_drop(&watches, SN_WATCH_LINK, text("p"));
    cr_assert_eq(watches.hash.count, 0);
}

Test(sn_watches, a_process_may_monitor_often_and_link_once)
{
    cr_assert_eq(monitor("p", "r1"), SP_OK);
    cr_assert_eq(monitor("p", "r2"), SP_OK);
    cr_assert_eq(monitor("p", "r2"), SP_OK);
    cr_assert_eq(link_from("p"), SP_OK);
    cr_assert_eq(link_from("p"), SP_OK);
    cr_assert_eq(look().monitors, 2);
    cr_assert_eq(look().links, 1);
}

Test(sn_watches, each_is_dropped_by_its_own_key)
{
    cr_assert_eq(monitor("p", "k"), SP_OK);
    cr_assert_eq(link_from("k"), SP_OK);
    sn_watches_drop(&watches, SN_WATCH_MONITOR, text("p"));
    sn_watches_drop(&watches, SN_WATCH_LINK, text("p"));
    cr_assert_eq(watches.hash.count, 2);
    sn_watches_drop(&watches, SN_WATCH_MONITOR, text("k"));
    cr_assert(look().monitors == 0 && look().links == 1);
    sn_watches_drop(&watches, SN_WATCH_LINK, text("k"));
    cr_assert_eq(watches.hash.count, 0);
}

static void check_copies(const struct sn_watch *watch, void *arg)
{
    (void)arg;
    cr_assert(sn_slice_equals(watch->from, text("from")));
    cr_assert(sn_slice_equals(watch->reference, text("reference")));
    cr_assert(sn_slice_equals(watch->target, text("target")));
}

Test(sn_watches, what_is_stored_is_a_copy)
{
    char from[] = "from", reference[] = "reference", target[] = "target";

    cr_assert_eq(
        sn_watches_add(&watches, SN_WATCH_MONITOR, text(from), text(reference), text(target)),
        SP_OK);
    memset(from, 'x', sizeof from - 1);
    memset(reference, 'x', sizeof reference - 1);
    memset(target, 'x', sizeof target - 1);
    sn_watches_each(&watches, check_copies, NULL);
}

Test(sn_watches, up_to_the_bound_and_down_again)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < SN_WATCHES_MAX; i++, sum += i - 1)
        cr_assert_eq(sn_watches_add(&watches, SN_WATCH_MONITOR, text("p"), number(&i), number(&i)),
                     SP_OK);
    cr_assert_eq(monitor("p", "r"), SP_FULL);
    cr_assert_eq(link_from("p"), SP_FULL);
    cr_assert_eq(look().sum, sum);
    for (unsigned i = 0; i < SN_WATCHES_MAX; i += 2, sum -= i - 2)
        sn_watches_drop(&watches, SN_WATCH_MONITOR, number(&i));
    cr_assert_eq(watches.hash.count, SN_WATCHES_MAX / 2);
    cr_assert_eq(look().sum, sum);
    cr_assert_eq(link_from("p"), SP_OK);
}
