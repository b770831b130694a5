/* How long things take, as histograms; and what is measured by a clock that is exact, where that of the calls is not. */
#include "core/pool/sp_times.h"

#include "kit/fail_alloc.h"
#include "kit/pool_kit.h"

#include <criterion/criterion.h>

#define MS SP_MS
#define US (SP_MS / 1000)

static struct sp_distribution times(enum sp_time time)
{
    struct sp_distribution to;

    sp_times_read(kit_pool, time, &to);
    return to;
}

static uint64_t in(enum sp_time time, uint64_t ns)
{
    struct sp_distribution all = times(time);

    return all.buckets[sp_histogram_bucket(ns)];
}

static void use(uint64_t ms)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    fake_sleep_ms(ms);
    cr_assert_eq(kit_checkin(handle), SP_OK);
}

Test(histogram, buckets_are_1_2_5)
{
    static const struct {
        uint64_t ns;
        unsigned bucket;
    } CASES[] = {
        {0, 0},           {1 * US, 0},      {1 * US + 1, 1},      {2 * US, 1},     {2 * US + 1, 2},
        {5 * US, 2},      {6 * US, 3},      {1 * MS, 9},          {5 * MS, 11},    {1000 * MS, 18},
        {10000 * MS, 21}, {50000 * MS, 23}, {50000 * MS + 1, 24}, {UINT64_MAX, 24}};

    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        cr_assert_eq(sp_histogram_bucket(CASES[i].ns), CASES[i].bucket, "%llu",
                     (unsigned long long)CASES[i].ns);
}

KIT_TEST(times, of_uses)
{
    kit_start(1, 0);
    use(0);
    use(3);
    use(3);
    use(700);
    cr_assert_eq(in(SP_TIME_USE, 0), 1);
    cr_assert_eq(in(SP_TIME_USE, 3 * MS), 2);
    cr_assert_eq(in(SP_TIME_USE, 700 * MS), 1);
    cr_assert_eq(times(SP_TIME_USE).sum_ns, 706 * MS);
    cr_assert_eq(kit_stats().checkins, 4);
}

KIT_TEST(times, of_leases_that_their_owner_has_not_ended_are_not_known)
{
    kit_start(1, 0);
    kit_drop(kit_checkout(KIT_OWNER));
    cr_assert_eq(sp_times_count(kit_pool, SP_TIME_USE), 0);
}

KIT_TEST(times, of_waits)
{
    struct handle *first, *second;

    kit_start(1, 0);
    first = kit_checkout(KIT_OWNER);
    second = kit_enqueue(KIT_OTHER);
    fake_sleep_ms(30);
    cr_assert_eq(kit_checkin(first), SP_OK);
    cr_assert(kit_adopt(second));
    cr_assert_eq(in(SP_TIME_WAIT, 0), 1);
    cr_assert_eq(in(SP_TIME_WAIT, 30 * MS), 1);
    cr_assert_eq(times(SP_TIME_WAIT).sum_ns, 30 * MS);
    cr_assert_eq(kit_stats().checkouts, 2);
    /* Who gives up has got nothing. */
    first = kit_enqueue(KIT_OWNER);
    fake_sleep_ms(30);
    cr_assert_eq(kit_cancel(first), SP_CANCELLED);
    cr_assert_eq(sp_times_count(kit_pool, SP_TIME_WAIT), 2);
}

KIT_TEST(times, of_being_idle_and_of_lives)
{
    kit_start(1, 0);
    fake_sleep_ms(500); /* before the first use */
    use(0);
    use(0);
    fake_sleep_ms(10);
    use(0);
    fake_sleep_ms(11);
    use(0);
    cr_assert_eq(in(SP_TIME_IDLE, 10 * MS), 2);
    cr_assert_eq(in(SP_TIME_IDLE, 11 * MS), 1);
    cr_assert_eq(kit_stats().reused, 3);
    cr_assert_eq(sp_times_count(kit_pool, SP_TIME_AGE), 0);
    cr_assert_eq(kit_discard(kit_checkout(KIT_OWNER)), SP_OK);
    cr_assert_eq(times(SP_TIME_AGE).sum_ns, 521 * MS);
    cr_assert_eq(in(SP_TIME_AGE, 521 * MS), 1);
}

KIT_TEST(times, of_connects_by_what_was_done)
{
    struct handle *attempt;
    struct sp_plan plan;
    const struct sp_addr addr = {.storage.ss_family = AF_INET, .len = sizeof addr.storage};

    kit_init(1);
    kit_config.size = 1;
    kit_open();
    cr_assert_eq(kit_step(&attempt, 1, &plan), 1);
    fake_sleep_ms(40); /* the name, and what else there is before a socket */
    cr_assert_eq(
        sp_control_begin(kit_pool, kit_call(), attempt->conn, &attempt->lease, KIT_OWNER, &addr),
        SP_OK);
    fake_sleep_ms(3);
    cr_assert_eq(sp_control_opened(attempt->conn, &attempt->lease, kit_call()), SP_OK);
    fake_sleep_ms(15);
    cr_assert_eq(sp_control_ready(kit_pool, kit_call(), attempt->conn, attempt->lease), SP_OK);
    kit_drop(attempt);
    cr_assert_eq(in(SP_TIME_TCP, 3 * MS), 1);
    cr_assert_eq(in(SP_TIME_INIT, 15 * MS), 1);
    cr_assert_eq(in(SP_TIME_CONNECT, 58 * MS), 1);
    cr_assert_eq(times(SP_TIME_CONNECT).sum_ns, 58 * MS);
    cr_assert_eq(sp_times_count(kit_pool, SP_TIME_TLS), 0);
    cr_assert_eq(sp_times_count(kit_pool, SP_TIME_CONNECT), kit_stats().created);
}

/* ---- a coarse clock beside an exact one ---- */

static uint64_t exact_us;

static uint64_t exact(void)
{
    return fake_now_ns() + exact_us * US;
}

static void use_exactly(uint64_t us)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    exact_us += us;
    cr_assert_eq(kit_checkin(handle), SP_OK);
}

KIT_TEST(times, what_is_short_is_measured_now_and_then)
{
    static struct sp_host host;

    kit_start(1, 0);
    host = fake_host;
    host.exact_ns = exact;
    kit_pool->host = &host;
    fake_sleep_ms(4);
    use_exactly(7);
    cr_assert_eq(in(SP_TIME_USE, 7 * US), 1);
    /* The coarse clock stands: these are taken to be as the first. */
    use_exactly(300);
    use_exactly(0);
    cr_assert_eq(in(SP_TIME_USE, 7 * US), 3);
    cr_assert_eq(times(SP_TIME_USE).sum_ns, 21 * US);
    fake_sleep_ms(4);
    use_exactly(300);
    use_exactly(1);
    cr_assert_eq(in(SP_TIME_USE, 300 * US), 2);
    /* What is long is told from the coarse clock, and says nothing of what is short. */
    use(30);
    use_exactly(1);
    cr_assert_eq(in(SP_TIME_USE, 30 * MS), 1);
    cr_assert_eq(in(SP_TIME_USE, 1 * US), 1);
    cr_assert_eq(kit_stats().checkins, 7);
    kit_pool->host = &fake_host;
}

KIT_TEST(times, without_memory_are_counted_all_the_same)
{
    kit_start(1, 0);
    fail_alloc_after(0);
    use(3);
    cr_assert_eq(kit_stats().checkins, 1);
    use(3);
    cr_assert_eq(kit_stats().checkins, 2);
    cr_assert_eq(in(SP_TIME_USE, 3 * MS), 1);
}
