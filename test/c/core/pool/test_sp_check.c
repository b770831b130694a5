/* Active checks of idle connections: when, how many, and what becomes of who fails. */
#include "kit/check_kit.h"

#include <criterion/criterion.h>

KIT_TEST(check, comes_before_the_interval_is_over)
{
    uint64_t ms;

    started(1, 0);
    cr_assert_eq(begun(), 0);
    ms = until_begun(INTERVAL_MS);
    cr_assert(ms >= INTERVAL_MS * 4 / 5 && ms <= INTERVAL_MS, "%u ms", (unsigned)ms);
    cr_assert_eq(kit_stats().idle, 1, "it is no use");
    cr_assert_eq(kit_stats().leased, 0);
    cr_assert_eq(pass(), SP_OK);
    cr_assert_eq(kit_stats().health_ok, 1);
    cr_assert_eq(kit_stats().checkouts + kit_stats().checkins + kit_stats().reused, 0);
    ms = until_begun(INTERVAL_MS);
    cr_assert(ms >= INTERVAL_MS * 4 / 5, "%u ms", (unsigned)ms);
    cr_assert_eq(pass(), SP_OK);
}

/* The latest that is drawn leaves time for a round to come by. */
KIT_TEST(check, comes_so_early_that_a_round_may_be_late)
{
    started(1, 0);
    cr_assert_eq(begun(), 0);
    kit_pool->table.slots[0]->early = 1;
    fake_sleep_ms(INTERVAL_MS - 100);
    cr_assert_eq(begun(), 1);
    cr_assert_eq(pass(), SP_OK);
}

KIT_TEST(check, is_none_where_none_are_wanted)
{
    started(2, 0);
    atomic_store(&kit_pool->health_interval_ns, 0);
    fake_sleep_ms(10 * INTERVAL_MS);
    cr_assert_eq(begun(), 0);
    cr_assert_eq(plan.wait_ns, SP_NEVER);
}

KIT_TEST(check, is_not_of_those_in_use)
{
    struct handle *handle;

    started(1, 0);
    for (int i = 0; i < 30; i++) {
        handle = kit_checkout(KIT_OWNER);
        fake_sleep_ms(INTERVAL_MS / 5);
        cr_assert_eq(begun(), 0);
        cr_assert_eq(kit_checkin(handle), SP_OK);
        fake_sleep_ms(INTERVAL_MS / 5);
        cr_assert_eq(begun(), 0);
    }
}

KIT_TEST(check, does_not_make_it_younger)
{
    struct handle *handle;

    configured(2, 2);
    kit_config.overflow_ttl_ns = 3 * INTERVAL_MS * MS;
    kit_open();
    cr_assert_eq(kit_grow(), 2);
    handle = kit_checkout(KIT_OWNER);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    for (unsigned ms = 0; ms < 10 * INTERVAL_MS; ms += 100) {
        fake_sleep_ms(100);
        kit_tick();
        while (begun() > 0)
            while (count > 0)
                cr_assert_eq(pass(), SP_OK);
    }
    cr_assert_geq(kit_stats().health_ok, 20);
    cr_assert_eq(kit_stats().total, 2);
    atomic_store(&kit_pool->size, 0);
    kit_tick();
    cr_assert_eq(kit_stats().total, 0, "they are idle for long enough");
}

KIT_TEST(check, opens_no_other_for_min_idle)
{
    configured(1, 4);
    kit_config.min_idle = 1;
    kit_open();
    cr_assert_eq(kit_grow(), 1);
    cr_assert_geq(until_begun(INTERVAL_MS), 1);
    cr_assert_eq(kit_grow(), 0, "it comes back");
    cr_assert_eq(pass(), SP_OK);
    cr_assert_eq(kit_stats().total, 1);
}

static void claimed(void)
{
    atomic_store(&checks[0].conn->owner, KIT_OWNER);
}

KIT_TEST(check, is_no_leak)
{
    configured(1, 0);
    kit_config.leak_threshold_ns = 1000 * MS;
    kit_config.health_timeout_ns = 10000 * MS;
    kit_open();
    cr_assert_eq(kit_grow(), 1);
    (void)until_begun(INTERVAL_MS);
    claimed();
    fake_sleep_ms(5000);
    kit_tick();
    cr_assert_eq(kit_stats().leaked, 0);
    cr_assert_eq(pass(), SP_OK);
    kit_tick();
    cr_assert_eq(fake_leaks() + fake_leak_ends(), 0);
}

KIT_TEST(check, is_ended_by_who_checks_only)
{
    started(1, 0);
    (void)until_begun(INTERVAL_MS);
    cr_assert_eq(
        sp_pool_discard(kit_pool, kit_call(), checks[0].conn, checks[0].lease, SP_WHY_DISCARDED),
        SP_BUSY);
    cr_assert_eq(pass(), SP_OK);
    cr_assert_eq(atomic_load(&kit_pool->check.under_way), 0);
}

KIT_TEST(check, passes_where_checks_were_switched_off)
{
    started(1, 0);
    (void)until_begun(INTERVAL_MS);
    claimed();
    atomic_store(&kit_pool->health_interval_ns, 0);
    atomic_store(&kit_pool->health_timeout_ns, 0);
    fake_sleep_ms(TIMEOUT_MS - 100);
    kit_tick();
    cr_assert_eq(pass(), SP_OK);
    cr_assert_eq(kit_stats().total, 1);
}

/* The one that was used last is taken first, however often the others are checked. */
KIT_TEST(check, leaves_the_order_as_it_is)
{
    struct handle *handles[5];
    struct sp_conn *conns[5];

    started(5, 0);
    for (int i = 0; i < 5; i++)
        handles[i] = kit_checkout(KIT_OWNER);
    for (int i = 0; i < 5; i++) {
        conns[i] = handles[i]->conn;
        fake_sleep_ms(10);
        cr_assert_eq(kit_checkin(handles[i]), SP_OK);
    }
    for (unsigned ms = 0; ms < 5 * INTERVAL_MS; ms += 100) {
        fake_sleep_ms(100);
        while (begun() > 0)
            while (count > 0)
                cr_assert_eq(pass(), SP_OK);
    }
    cr_assert_geq(kit_stats().health_ok, 25);
    for (int i = 5; i-- > 0;) {
        handles[i] = kit_checkout(KIT_OWNER);
        cr_assert_eq(handles[i]->conn, conns[i], "the %dth", i);
    }
}

KIT_TEST(check, at_most_a_tenth_at_a_time)
{
    unsigned most = 0, all = 0;

    started(30, 0);
    for (unsigned ms = 0; ms < INTERVAL_MS + 100; ms += 100) {
        fake_sleep_ms(100);
        begun();
        if (count > most)
            most = (unsigned)count;
        all += count > 0;
        if (count > 0)
            cr_assert_eq(pass(), SP_OK);
    }
    cr_assert_eq(most, 3);
    cr_assert_gt(all, 10);
    while (count > 0)
        cr_assert_eq(pass(), SP_OK);
}

KIT_TEST(check, is_spread)
{
    unsigned hundreds = 0;

    started(20, 0);
    for (unsigned ms = 0; ms < INTERVAL_MS; ms += 100) {
        fake_sleep_ms(100);
        hundreds += begun() > 0;
        while (count > 0)
            cr_assert_eq(pass(), SP_OK);
    }
    cr_assert_geq(kit_stats().health_ok, 20);
    cr_assert_geq(hundreds, 7, "%u", hundreds);
}

KIT_TEST(check, is_none_while_somebody_waits)
{
    struct handle *handle, *waiter;

    started(2, 0);
    handle = kit_checkout(KIT_OWNER);
    until_begun(INTERVAL_MS);
    waiter = kit_enqueue(KIT_OTHER);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert(kit_adopt(waiter));
    cr_assert_eq(pass(), SP_OK);
    cr_assert_eq(kit_checkin(waiter), SP_OK);
    fake_sleep_ms(2 * INTERVAL_MS);
    handle = kit_checkout(KIT_OWNER);
    atomic_fetch_add(&kit_pool->nwait, 1);
    do {
        sp_check_step(kit_pool, kit_call(), checks, MOST, &plan);
        cr_assert_eq(plan.count, 0);
    } while (plan.more);
    atomic_fetch_sub(&kit_pool->nwait, 1);
    cr_assert_lt(plan.wait_ns, 200 * MS);
    cr_assert_eq(begun(), 1);
    cr_assert_eq(pass(), SP_OK);
}

KIT_TEST(check, of_the_only_one_serves_who_came_meanwhile)
{
    struct handle *waiter;
    sp_status status;

    started(1, 0);
    until_begun(INTERVAL_MS);
    cr_assert_null(kit_try_checkout(KIT_OWNER, &status));
    cr_assert_eq(status, SP_EMPTY);
    waiter = kit_enqueue(KIT_OWNER);
    cr_assert_eq(pass(), SP_OK);
    cr_assert(kit_adopt(waiter));
    cr_assert_eq(kit_checkin(waiter), SP_OK);
}

KIT_TEST(check, that_fails_closes)
{
    started(1, 0);
    until_begun(INTERVAL_MS);
    fail();
    cr_assert_eq(kit_stats().health_failed, 1);
    cr_assert_eq(kit_stats().closed, 1);
    cr_assert_eq(kit_stats().abandoned, 0);
    cr_assert_eq(kit_grow(), 1);
}

KIT_TEST(check, that_passes_too_late_fails)
{
    started(1, 0);
    until_begun(INTERVAL_MS);
    fake_sleep_ms(TIMEOUT_MS + 1);
    cr_assert_eq(pass(), SP_TIMEOUT);
    cr_assert_eq(kit_stats().health_failed, 1);
    cr_assert_eq(kit_stats().closed, 1);
}

KIT_TEST(check, of_whom_nobody_hears_is_ended_by_the_sweep)
{
    struct sp_check check;

    started(2, 0);
    until_begun(INTERVAL_MS);
    fake_sleep_ms(TIMEOUT_MS + 400);
    atomic_store(&checks[0].conn->owner, KIT_OWNER);
    kit_tick();
    cr_assert_eq(kit_stats().closed, 0);
    fake_sleep_ms(200);
    kit_tick();
    cr_assert_eq(kit_stats().closed, 1);
    cr_assert_eq(kit_stats().health_failed, 1);
    cr_assert_eq(kit_stats().abandoned, 0);
    cr_assert_eq(sp_check_passed(kit_pool, kit_call(), checks[0].conn, checks[0].lease), SP_CLOSED);
    check = take();
    fake_host.conn_unref(check.conn);
}

KIT_TEST(check, of_one_that_has_died_is_ended_by_the_sweep)
{
    struct sp_check check;

    started(1, 0);
    until_begun(INTERVAL_MS);
    atomic_store(&checks[0].conn->owner, KIT_OWNER);
    fake_kill(KIT_OWNER);
    kit_tick();
    cr_assert_eq(kit_stats().health_failed, 1);
    cr_assert_eq(kit_stats().abandoned, 0);
    check = take();
    fake_host.conn_unref(check.conn);
}

static void left_behind(void (*leave)(struct sp_conn *conn), sp_status status)
{
    started(1, 0);
    until_begun(INTERVAL_MS);
    leave(checks[0].conn);
    cr_assert_eq(pass(), status);
    cr_assert_eq(kit_stats().health_ok, status == SP_OK);
    cr_assert_eq(kit_stats().closed, status != SP_OK);
}

static void more_bytes(struct sp_conn *conn)
{
    fake_peer_sends(conn->fd, "x", 1);
}

static void end_of_file(struct sp_conn *conn)
{
    fake_peer_closes(conn->fd);
}

static void no_answer(struct sp_conn *conn)
{
    sp_conn_sends(conn);
}

static void taint(struct sp_conn *conn)
{
    conn->tainted = true;
}

static void an_option(struct sp_conn *conn)
{
    cr_assert_eq(sp_conn_setopt(conn, SP_OPT_NODELAY, 1), SP_OK);
}

KIT_TEST(check, leaves_more_than_the_answer)
{
    left_behind(more_bytes, SP_UNREAD);
}

KIT_TEST(check, leaves_the_end_of_file)
{
    left_behind(end_of_file, SP_CLOSED);
}

KIT_TEST(check, leaves_a_question)
{
    left_behind(no_answer, SP_UNREAD);
}

KIT_TEST(check, leaves_it_tainted)
{
    left_behind(taint, SP_CLOSED);
}

KIT_TEST(check, leaves_an_option)
{
    left_behind(an_option, SP_OK);
}

/* One that the server has closed is not asked. */
KIT_TEST(check, is_none_of_one_that_is_closed)
{
    started(1, 0);
    fake_peer_closes(kit_pool->table.slots[0]->fd);
    fake_sleep_ms(INTERVAL_MS);
    cr_assert_eq(begun(), 0);
    cr_assert_eq(kit_stats().closed, 1);
    cr_assert_eq(kit_stats().health_failed, 0);
}

KIT_TEST(check, that_was_skipped_counts_as_none)
{
    struct sp_check check;

    started(1, 0);
    until_begun(INTERVAL_MS);
    check = take();
    sp_check_skipped(kit_pool, kit_call(), check.conn, check.lease);
    fake_host.conn_unref(check.conn);
    cr_assert_eq(begun(), 0);
    cr_assert_eq(kit_stats().health_ok + kit_stats().health_failed + kit_stats().closed, 0);
    cr_assert_eq(kit_stats().idle, 1);
}

/* Its lease is nobody's to give back. */
KIT_TEST(check, cannot_be_checked_in)
{
    started(1, 0);
    until_begun(INTERVAL_MS);
    cr_assert_eq(sp_pool_checkin(kit_pool, kit_call(), checks[0].conn, checks[0].lease, NULL),
                 SP_BUSY);
    cr_assert_eq(pass(), SP_OK);
}

KIT_TEST(check, of_one_that_is_too_old_leaves_it_so)
{
    configured(1, 1);
    kit_config.lifetime_min_ns = kit_config.lifetime_max_ns = (INTERVAL_MS + 500) * MS;
    kit_open();
    cr_assert_eq(kit_grow(), 1);
    until_begun(INTERVAL_MS);
    kit_pool->table.slots[0]->ends_ns = fake_now_ns() + 500 * MS;
    fake_sleep_ms(600);
    cr_assert_eq(pass(), SP_OK);
    cr_assert_eq(atomic_load(&kit_pool->aged), 1);
}

KIT_TEST(check, ends_with_the_pool)
{
    struct sp_check check;

    started(3, 0);
    until_begun(INTERVAL_MS);
    kit_shut(SP_PHASE_DOWN, SP_CLOSED);
    cr_assert_eq(begun(), 0);
    cr_assert_eq(kit_stats().health_failed, 0);
    check = take();
    cr_assert_eq(sp_check_passed(kit_pool, kit_call(), check.conn, check.lease), SP_CLOSED);
    fake_host.conn_unref(check.conn);
    cr_assert_eq(atomic_load(&kit_pool->check.under_way), 0);
}

/* The look comes too late to see that the pool is shut. */
KIT_TEST(check, that_ends_in_a_shut_pool_is_closed)
{
    struct sp_check check;

    started(1, 0);
    until_begun(INTERVAL_MS);
    check = take();
    sp_control_shut_begin(kit_pool, SP_PHASE_DOWN);
    cr_assert_eq(sp_check_passed(kit_pool, kit_call(), check.conn, check.lease), SP_OK);
    cr_assert_eq(kit_stats().closed, 1);
    fake_host.conn_unref(check.conn);
    while (sp_control_shut_slice(kit_pool, kit_call(), SP_CLOSED))
        ;
}

KIT_TEST(check, goes_on_in_pieces)
{
    size_t all = 0;

    started(200, 0);
    fake_sleep_ms(INTERVAL_MS);
    kit_allow(20);
    sp_check_step(kit_pool, kit_call(), checks, MOST, &plan);
    cr_assert(plan.more && plan.count < 20);
    all = count = plan.count;
    all += begun();
    cr_assert_eq(all, 20);
    while (count > 0)
        cr_assert_eq(pass(), SP_OK);
}

KIT_TEST(check, changes_with_its_interval)
{
    started(1, 0);
    cr_assert_eq(begun(), 0);
    kit_config.health_interval_ns = 1000 * MS;
    atomic_store(&kit_pool->health_interval_ns, 1000 * MS);
    fake_sleep_ms(1000);
    cr_assert_eq(begun(), 1);
    cr_assert_eq(pass(), SP_OK);
}
