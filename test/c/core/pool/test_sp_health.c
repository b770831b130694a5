/* sp_health: pauses that are shortened for those who wait; fail_fast; how late a server is found that is back. */
#include "kit/pool_kit.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>

#define CONNECTOR 31

static struct handle *attempts[32];
static struct sp_plan plan;

static void open_pool(unsigned size, bool fail_fast)
{
    kit_init(1);
    kit_config.size = size;
    kit_config.max_overflow = 5;
    kit_config.fail_fast = fail_fast;
    kit_open();
}

static size_t step(void)
{
    return kit_step(attempts, 32, &plan);
}

static sp_status come(uint64_t owner)
{
    sp_status status;

    (void)kit_try_enqueue(owner, NULL, 0, &status);
    return status;
}

/* The pool of one connection, after so many failures in a row. */
static void fail_times(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        while (step() == 0)
            fake_sleep_ms(plan.wait_ns / SP_MS + 1);
        for (size_t at = 0; at < plan.attempts; at++)
            kit_drop(attempts[at]);
    }
}

/* ---- who waits ---- */

/* Seeds whose next pause is long. */
static uint64_t long_pause(void)
{
    do
        fail_times(1);
    while (step() == 0 && plan.wait_ns < 5000 * SP_MS);
    cr_assert_geq(plan.wait_ns, 5000 * SP_MS);
    return plan.wait_ns;
}

KIT_TEST(hurry, a_waiter_shortens_the_pause_to_a_quarter_of_its_bound)
{
    open_pool(1, false);
    fail_times(8);
    (void)long_pause();
    kit_enqueue(40);
    cr_assert_eq(step(), 0);
    cr_assert_eq(plan.wait_ns, 2500 * SP_MS);
    fake_sleep_ms(2499);
    for (unsigned i = 0; i < 50; i++)
        kit_enqueue(50 + i);
    cr_assert_eq(step(), 0, "however many wait");
    fake_sleep_ms(1);
    cr_assert_eq(step(), 1);
}

KIT_TEST(hurry, one_that_would_not_wait_does_likewise_and_says_so_once)
{
    unsigned wakes;

    open_pool(1, false);
    fail_times(8);
    (void)long_pause();
    wakes = fake_wakes();
    cr_assert_eq(sp_pool_want(kit_pool, kit_call()), SP_FULL);
    cr_assert_eq(fake_wakes(), wakes + 1);
    cr_assert_eq(step(), 0);
    cr_assert_eq(plan.wait_ns, 2500 * SP_MS);
    for (unsigned i = 0; i < 50; i++)
        cr_assert_eq(sp_pool_want(kit_pool, kit_call()), SP_FULL);
    cr_assert_eq(fake_wakes(), wakes + 1, "the step has a timer");
    fake_sleep_ms(2500);
    cr_assert_eq(step(), 1);
}

KIT_TEST(hurry, no_pause_becomes_shorter_than_the_first_ones_bound)
{
    open_pool(1, false);
    for (unsigned i = 0; i < 200; i++) {
        fail_times(1);
        sp_control_open(kit_pool, kit_call(), &kit_config, i);
        fail_times(1);
        kit_drop(kit_enqueue(40));
        step();
        cr_assert_leq(plan.wait_ns, 100 * SP_MS);
        cr_assert_eq(kit_pool->control.state.hurried_ns, fake_now_ns() + 100 * SP_MS);
        for (size_t at = 0; at < plan.attempts; at++)
            kit_drop(attempts[at]);
    }
}

KIT_TEST(hurry, without_anybody_the_pause_is_what_was_drawn)
{
    uint64_t wait_ns;

    open_pool(1, false);
    fail_times(8);
    wait_ns = long_pause();
    fake_sleep_ms(3000);
    cr_assert_eq(step(), 0);
    cr_assert_eq(plan.wait_ns, wait_ns - 3000 * SP_MS);
}

/* ---- fail_fast ---- */

KIT_TEST(fail_fast, tells_those_who_wait_and_refuses_who_comes)
{
    open_pool(1, true);
    cr_assert_eq(come(40), SP_OK, "nothing has failed yet");
    cr_assert_eq(come(41), SP_OK);
    cr_assert_eq(step(), 2);
    kit_drop(attempts[0]);
    cr_assert_eq(fake_notes_all(), 0, "not in the midst of whatever failed");
    step();
    cr_assert_eq(fake_note(40, 0)->status, SP_UNAVAILABLE);
    cr_assert_eq(fake_note(41, 0)->status, SP_UNAVAILABLE);
    cr_assert_eq(kit_stats().waiting, 0);
    cr_assert_eq(come(42), SP_UNAVAILABLE);
    cr_assert_eq(sp_pool_want(kit_pool, kit_call()), SP_UNAVAILABLE);
    kit_connect(attempts[1], CONNECTOR);
    cr_assert_eq(kit_discard(kit_checkout(43)), SP_OK);
    cr_assert_eq(kit_stats().timeouts, 0);
}

KIT_TEST(fail_fast, without_it_they_wait)
{
    open_pool(1, false);
    cr_assert_eq(come(40), SP_OK);
    fail_times(3);
    cr_assert_eq(come(41), SP_OK);
    cr_assert_eq(sp_pool_want(kit_pool, kit_call()), SP_FULL);
    step();
    cr_assert_eq(fake_notes_all(), 0);
}

KIT_TEST(fail_fast, while_one_is_up_they_wait_and_are_told_when_that_is_lost)
{
    struct handle *held;

    open_pool(2, true);
    cr_assert_eq(step(), 2);
    kit_connect(attempts[0], CONNECTOR);
    held = kit_checkout(KIT_OWNER);
    kit_drop(attempts[1]);
    cr_assert_eq(come(40), SP_OK);
    step();
    for (size_t at = 0; at < plan.attempts; at++)
        kit_drop(attempts[at]);
    step();
    cr_assert_eq(fake_notes_all(), 0);
    cr_assert_eq(kit_discard(held), SP_OK);
    step();
    cr_assert_eq(fake_note(40, 0)->status, SP_UNAVAILABLE);
    cr_assert_eq(come(41), SP_UNAVAILABLE);
}

/* Of size 0: where nobody came, nobody has tried since. */
KIT_TEST(fail_fast, who_comes_when_an_attempt_is_due_has_it_made)
{
    open_pool(0, true);
    cr_assert_eq(come(40), SP_OK);
    cr_assert_eq(step(), 1);
    kit_drop(attempts[0]);
    step();
    cr_assert_eq(fake_note(40, 0)->status, SP_UNAVAILABLE);
    fake_sleep_ms(101);
    cr_assert_eq(sp_pool_want(kit_pool, kit_call()), SP_UNAVAILABLE,
                 "who does not wait has nothing else");
    cr_assert_eq(come(41), SP_OK);
    cr_assert_eq(step(), 1);
    kit_tick();
    step();
    cr_assert_eq(fake_notes(41), 0, "its attempt is under way");
    cr_assert_eq(come(42), SP_UNAVAILABLE, "which is one, for one");
    kit_drop(attempts[0]);
    step();
    cr_assert_eq(fake_note(41, 0)->status, SP_UNAVAILABLE);
    fake_sleep_ms(201);
    cr_assert_eq(come(43), SP_OK);
    cr_assert_eq(step(), 1);
    kit_connect(attempts[0], CONNECTOR);
    cr_assert_eq(fake_note(43, 0)->status, SP_OK);
}

/* Who is refused has the next attempt made sooner, as who waits. */
KIT_TEST(fail_fast, the_refused_shorten_the_pause)
{
    open_pool(1, true);
    fail_times(8);
    (void)long_pause();
    cr_assert_eq(come(40), SP_UNAVAILABLE);
    cr_assert_eq(step(), 0);
    cr_assert_eq(plan.wait_ns, 2500 * SP_MS);
}

KIT_TEST(fail_fast, tells_many_in_slices)
{
    open_pool(1, true);
    for (unsigned i = 0; i < 2000; i++)
        cr_assert_eq(come(100 + i), SP_OK);
    cr_assert_geq(step(), 1);
    for (size_t at = 0; at < plan.attempts; at++)
        kit_drop(attempts[at]);
    step();
    cr_assert(plan.more);
    cr_assert(fake_notes_all() > 0 && fake_notes_all() < 2000);
    while (plan.more)
        step();
    cr_assert_eq(fake_notes_all(), 2000);
}

KIT_TEST(fail_fast, a_new_life_knows_nothing_of_it)
{
    open_pool(1, true);
    fail_times(1);
    cr_assert_eq(come(40), SP_UNAVAILABLE);
    kit_shut(SP_PHASE_DOWN, SP_CLOSED);
    kit_open();
    cr_assert_eq(come(41), SP_OK);
}

/* ---- how late the server is found that is back, and in how many attempts: the table of docs/reference.md ---- */

#define SEEDS 400
#define CALLERS_EVERY_MS 100

enum rule { BEFORE, QUIET, CALLERS, FAIL_FAST };

struct found {
    uint64_t late_ms[SEEDS];
    uint64_t attempts, most;
};

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static bool is_served(enum rule rule)
{
    struct sp_snapshot stats = kit_stats();

    return rule == QUIET ? stats.created > 0 : stats.checkouts > 0;
}

static void end_attempt(struct handle *attempt, enum rule rule, bool is_back)
{
    if (is_back)
        kit_connect(attempt, CONNECTOR);
    else
        kit_drop(attempt);
    if (rule == BEFORE)
        kit_pool->control.state.hurried_ns = UINT64_MAX;
}

/* The server refuses at once until then. Who comes waits for 5 s, or not at all. */
static uint64_t find(enum rule rule, uint64_t outage_ms, uint64_t seed, uint64_t *made)
{
    uint64_t began_ns, now_ms = 0, caller_ms = rule == QUIET ? UINT64_MAX : 0, owner = 1000;

    kit_init(1);
    kit_config.size = 10;
    kit_config.backoff_max_ns = (rule == BEFORE ? 10000 : 2000) * SP_MS;
    kit_config.fail_fast = rule == FAIL_FAST;
    began_ns = fake_now_ns();
    sp_control_open(kit_pool, kit_call(), &kit_config, seed);
    for (;;) {
        uint64_t next_ms;

        if (now_ms >= caller_ms) {
            sp_status status;
            struct handle *handle = kit_try_checkout(owner, &status);

            if (rule == FAIL_FAST && !handle)
                handle = kit_try_enqueue(owner, NULL, 0, &status);
            else if (!handle)
                handle = kit_enqueue_for(owner, 5000);
            owner++;
            caller_ms += CALLERS_EVERY_MS;
            kit_tick();
        }
        while (step() > 0)
            for (size_t at = 0; at < plan.attempts; at++)
                end_attempt(attempts[at], rule, now_ms >= outage_ms);
        if (is_served(rule))
            break;
        if (now_ms < outage_ms)
            *made = kit_stats().connect_attempts;
        next_ms = plan.wait_ns == SP_NEVER ? UINT64_MAX : now_ms + plan.wait_ns / SP_MS + 1;
        next_ms = next_ms < caller_ms ? next_ms : caller_ms;
        cr_assert_neq(next_ms, UINT64_MAX);
        fake_sleep_ms(next_ms - now_ms);
        now_ms = (fake_now_ns() - began_ns) / SP_MS;
    }
    kit_close();
    return now_ms - outage_ms;
}

static struct found find_often(enum rule rule, uint64_t outage_ms)
{
    static const char *const names[] = {"before", "quiet", "callers", "fail_fast"};
    struct found found = {.attempts = 0};

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        uint64_t made = 0;
        found.late_ms[seed] = find(rule, outage_ms, seed, &made);
        found.attempts += made;
        found.most = made > found.most ? made : found.most;
    }
    qsort(found.late_ms, SEEDS, sizeof *found.late_ms, compare);
    cr_log_info("%s: %" PRIu64 " s: median %" PRIu64 " ms, worst %" PRIu64 " ms, %.1f attempts, "
                "%" PRIu64 " at most",
                names[rule], outage_ms / 1000, found.late_ms[SEEDS / 2], found.late_ms[SEEDS - 1],
                (double)found.attempts / SEEDS, found.most);
    return found;
}

static const uint64_t OUTAGES_MS[] = {1000, 5000, 25000, 60000};

static void finds(enum rule rule, uint64_t median_ms, uint64_t worst_ms, uint64_t a_second)
{
    for (size_t i = 0; i < sizeof OUTAGES_MS / sizeof *OUTAGES_MS; i++) {
        struct found found = find_often(rule, OUTAGES_MS[i]);

        cr_expect_leq(found.late_ms[SEEDS / 2], median_ms);
        cr_expect_leq(found.late_ms[SEEDS - 1], worst_ms);
        /* The first ones are made together, and the first pauses are short. */
        cr_expect_leq(found.most, 10 + 20 + a_second * OUTAGES_MS[i] / 1000);
    }
}

Test(outage, a_server_that_is_back_is_used_within_a_second_by_the_median)
{
    finds(CALLERS, 500, 600, 3);
}

Test(outage, also_by_those_who_do_not_wait)
{
    finds(FAIL_FAST, 500, 700, 3);
}

Test(outage, and_where_nobody_calls)
{
    finds(QUIET, 1000, 2001, 2);
}

/* Of the rule before, so that the table can be made again; also that these tests can fail. */
Test(outage, with_ten_seconds_and_no_hurry_it_was_late)
{
    struct found found = find_often(BEFORE, 25000);

    cr_expect_gt(found.late_ms[SEEDS / 2], 1000);
    for (size_t i = 0; i < sizeof OUTAGES_MS / sizeof *OUTAGES_MS; i++)
        (void)find_often(BEFORE, OUTAGES_MS[i]);
}
