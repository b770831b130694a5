/* sp_pool: workers, which end at any moment, and whose owners may use them after a lease. */
#include "kit/fake_worker.h"
#include "kit/pool_kit.h"

#include <criterion/criterion.h>

/* What the host's own look finds, before it tells of it. */
static struct sp_conn *dead;

static enum sp_clean worker_validate(struct sp_conn *conn)
{
    return conn == dead || atomic_load(&conn->gone) ? SP_DEAD : SP_CLEAN;
}

static const struct sp_transport WORKER = FAKE_WORKER(worker_validate);

static void start(unsigned size, bool reuse_abandoned)
{
    kit_init(1);
    dead = NULL;
    kit_config.transport = &WORKER;
    kit_config.size = size;
    kit_config.reuse_abandoned = reuse_abandoned;
    kit_config.max_hold_ns = 1000 * SP_MS;
    kit_open();
    cr_assert_eq(kit_grow(), size);
}

static void two(void)
{
    start(2, false);
}

static void lose(struct sp_conn *conn)
{
    sp_pool_lost(kit_pool, kit_call(), conn);
}

/* One that is idle again: without a handle, it stays as long as its pool has it. */
static struct sp_conn *used_one(void)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    struct sp_conn *conn = handle->conn;

    cr_assert_eq(kit_checkin(handle), SP_OK);
    return conn;
}

static void assert_ended(unsigned closed, unsigned abandoned)
{
    struct sp_snapshot stats = kit_stats();
    struct sp_plan plan;
    struct handle *attempts[4];

    cr_assert_eq(stats.closed, closed);
    cr_assert_eq(stats.abandoned, abandoned);
    kit_check();
    /* Closed by the control process's step, which begins another. */
    (void)kit_step(attempts, 4, &plan);
    cr_assert_eq(fake_worker_stops(), closed);
    for (size_t i = 0; i < plan.attempts; i++)
        kit_connect(attempts[i], KIT_OWNER);
}

TestSuite(lost, .init = two);

KIT_TEST(lost, idle)
{
    struct sp_conn *conn = used_one();

    lose(conn);
    cr_assert_eq(kit_stats().idle, 1);
    assert_ended(1, 0);
    cr_assert_eq(kit_stats().idle, 2);
}

KIT_TEST(lost, idle_and_cold)
{
    struct sp_conn *conn = used_one();

    fake_sleep_ms(SP_COLD_NS / SP_MS + 1);
    kit_tick();
    cr_assert(conn->cold);
    lose(conn);
    assert_ended(1, 0);
}

static struct sp_conn *newest(void)
{
    return SP_CONTAINER(sp_list_newest(&kit_pool->shards[0].fresh), struct sp_conn, node);
}

KIT_TEST(lost, unused_counts_as_a_failure)
{
    struct handle *attempts[4];
    struct sp_plan plan;

    lose(newest());
    cr_assert_eq(kit_step(attempts, 4, &plan), 0);
    cr_assert_neq(plan.wait_ns, SP_NEVER, "a pause, then another attempt");
}

KIT_TEST(lost, leased)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    lose(handle->conn);
    cr_assert_eq(kit_stats().leased, 0);
    cr_assert_eq(kit_checkin(handle), SP_CLOSED);
    assert_ended(1, 1);
}

KIT_TEST(lost, in_a_call_of_its_owner)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    struct sp_conn *conn = handle->conn;

    cr_assert(sp_conn_enter(conn, handle->lease, kit_call()));
    lose(conn);
    (void)kit_grow();
    cr_assert_eq(fake_worker_stops(), 0, "not under the call");
    sp_conn_leave(conn, kit_call());
    kit_drop(handle);
    assert_ended(1, 1);
}

KIT_TEST(lost, twice)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    lose(handle->conn);
    lose(handle->conn);
    assert_ended(1, 1);
    lose(handle->conn);
    cr_assert_eq(sp_conn_state(handle->conn), SP_CONN_CLOSED);
    kit_drop(handle);
    assert_ended(1, 1);
}

/* It is the connector's, who is told when it says that it is ready. */
KIT_TEST(lost, while_connecting)
{
    static const struct sp_addr NOWHERE = {.len = 0};
    struct handle *attempts[4];
    struct sp_plan plan;
    struct sp_conn *conn;

    lose(used_one());
    cr_assert_eq(kit_step(attempts, 4, &plan), 1);
    conn = attempts[0]->conn;
    lose(conn);
    cr_assert_eq(
        sp_control_begin(kit_pool, kit_call(), conn, &attempts[0]->lease, KIT_OWNER, &NOWHERE),
        SP_OK);
    cr_assert_eq(sp_control_opened(conn, &attempts[0]->lease, kit_call()), SP_OK);
    lose(conn);
    kit_tick();
    cr_assert_eq(sp_conn_state(conn), SP_CONN_INITIALISING);
    cr_assert_eq(sp_control_ready(kit_pool, kit_call(), conn, attempts[0]->lease), SP_CLOSED);
    kit_drop(attempts[0]);
    cr_assert_eq(kit_stats().connect_failures, 1);
    cr_assert_eq(kit_stats().connecting, 0);
}

static void lose_and_kill(void *conn)
{
    lose(conn);
    fake_kill(KIT_OTHER);
}

/* In nobody's hands: the next tick finds it. */
KIT_TEST(lost, on_its_way)
{
    struct handle *one = kit_checkout(KIT_OWNER), *two = kit_checkout(KIT_OWNER);
    struct handle *waiter = kit_enqueue(KIT_OTHER);
    struct sp_conn *conn = one->conn;

    fake_host_hook(FAKE_ON_ALIVE, lose_and_kill, conn);
    cr_assert_eq(kit_checkin(one), SP_OK);
    cr_assert_eq(sp_conn_state(conn), SP_CONN_IDLE);
    cr_assert_eq(kit_stats().closed, 0);
    kit_tick();
    kit_drop(waiter);
    assert_ended(1, 0);
    cr_assert_eq(kit_checkin(two), SP_OK);
}

KIT_TEST(lost, on_its_way_is_not_given_before_the_tick)
{
    struct handle *one = kit_checkout(KIT_OWNER), *two = kit_checkout(KIT_OWNER);
    struct handle *waiter = kit_enqueue(KIT_OTHER);
    sp_status status;

    fake_host_hook(FAKE_ON_ALIVE, lose_and_kill, one->conn);
    cr_assert_eq(kit_checkin(one), SP_OK);
    cr_assert_null(kit_try_checkout(KIT_OWNER, &status));
    cr_assert_eq(status, SP_EMPTY);
    kit_drop(waiter);
    assert_ended(1, 0);
    cr_assert_eq(kit_checkin(two), SP_OK);
}

/* Dead before the host tells: nobody gets it, and there are no last words to look for. */
KIT_TEST(lost, found_by_a_checkout)
{
    struct handle *one, *two = NULL;
    sp_status status;

    dead = newest();
    one = kit_checkout(KIT_OWNER);
    cr_assert_neq(one->conn, dead);
    cr_assert_eq(fake_last_refusal(), SP_CLOSED);
    two = kit_try_checkout(KIT_OWNER, &status);
    cr_assert_null(two);
    assert_ended(1, 0);
    cr_assert_eq(kit_checkin(one), SP_OK);
}

KIT_TEST(lost, after_a_shut)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    kit_shut(SP_PHASE_DOWN, SP_CLOSED);
    cr_assert_eq(fake_worker_stops(), 2);
    lose(handle->conn);
    cr_assert_eq(fake_worker_stops(), 2);
    kit_drop(handle);
}

KIT_TEST(lost, while_it_shuts)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    struct sp_conn *idle = newest();

    sp_control_shut_begin(kit_pool, SP_PHASE_DOWN);
    lose(idle);
    lose(handle->conn);
    while (sp_control_shut_slice(kit_pool, kit_call(), SP_CLOSED))
        ;
    cr_assert_eq(fake_worker_stops(), 2);
    kit_drop(handle);
}

/* ---- what an owner leaves ---- */

/* How the lease of that owner ends, and whether the worker goes on. */
static void leave_by(bool reuse_abandoned, bool owner_dies, bool revoked, bool goes_on)
{
    struct handle *handle;
    struct sp_conn *conn;

    start(1, reuse_abandoned);
    handle = kit_checkout(KIT_OTHER);
    conn = handle->conn;
    if (owner_dies)
        fake_kill(KIT_OTHER);
    if (revoked) {
        fake_sleep_ms(1001);
        kit_tick();
    }
    kit_drop(handle);
    cr_assert_eq(kit_stats().abandoned, 1);
    cr_assert_eq(kit_stats().closed, goes_on ? 0 : 1);
    if (goes_on) {
        handle = kit_checkout(KIT_OWNER);
        cr_assert_eq(handle->conn, conn);
        cr_assert_eq(kit_checkin(handle), SP_OK);
    }
}

KIT_TEST(left, by_the_dead_is_closed)
{
    leave_by(false, true, false, false);
}

KIT_TEST(left, by_the_dead_is_used_again_where_that_is_wanted)
{
    leave_by(true, true, false, true);
}

KIT_TEST(left, by_the_living_is_closed_in_any_case)
{
    leave_by(true, false, false, false);
}

KIT_TEST(left, too_late_is_closed_in_any_case)
{
    leave_by(true, false, true, false);
}

KIT_TEST(left, by_the_dead_and_found_by_the_tick)
{
    leave_by(true, true, true, true);
}

/* It has never had it. */
KIT_TEST(left, by_a_waiter_that_has_not_looked)
{
    struct handle *handle, *waiter;
    struct sp_conn *conn;

    start(1, false);
    handle = kit_checkout(KIT_OWNER);
    conn = handle->conn;
    waiter = kit_enqueue(KIT_OTHER);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    kit_drop(waiter);
    cr_assert_eq(kit_stats().closed, 0);
    handle = kit_checkout(KIT_OWNER);
    cr_assert_eq(handle->conn, conn);
    cr_assert_eq(kit_checkin(handle), SP_OK);
}
