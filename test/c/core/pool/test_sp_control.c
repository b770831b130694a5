/* sp_control: growth, back-off. Connectors: test_sp_control_connect.c; servers that refuse or die:
 * test_sp_control_server.c; sweeps: test_sp_control_sweep.c; opening and closing:
 * test_sp_control_shut.c. */
#include "kit/fail_alloc.h"
#include "kit/pool_kit.h"

#include <criterion/criterion.h>

#define CONNECTOR 31

static struct handle *attempts[32];
static struct sp_plan plan;

static void open_pool(unsigned size, unsigned max_overflow)
{
    kit_init(1);
    kit_config.size = size;
    kit_config.max_overflow = max_overflow;
    kit_open();
}

static size_t step(size_t max)
{
    return kit_step(attempts, max, &plan);
}

/* As the face does when a connector reports failure or dies. */
static void fail(struct handle *attempt)
{
    kit_drop(attempt);
}

/* ---- growth ---- */

KIT_TEST(growth, to_the_base_size)
{
    open_pool(5, 3);
    cr_assert_eq(fake_wakes(), 1, "opening wakes");
    cr_assert_eq(step(32), 5);
    cr_assert_not(plan.more);
    cr_assert_eq(plan.wait_ns, SP_NEVER);
    cr_assert_eq(kit_stats().connecting, 5);
    cr_assert_eq(kit_stats().total, 5);
    cr_assert_eq(kit_stats().connect_attempts, 5);
    cr_assert_eq(step(32), 0, "they are under way");
    for (int i = 0; i < 5; i++)
        kit_connect(attempts[i], CONNECTOR);
    cr_assert_eq(kit_stats().idle, 5);
    cr_assert_eq(kit_stats().created, 5);
    cr_assert_eq(step(32), 0);
}

KIT_TEST(growth, of_size_0_waits_for_demand)
{
    open_pool(0, 2);
    cr_assert_eq(step(32), 0);
    kit_enqueue(KIT_OWNER);
    cr_assert_eq(step(32), 1);
}

KIT_TEST(growth, an_attempt_has_what_the_configuration_says)
{
    kit_init(1);
    kit_config.size = 1;
    kit_config.framing = sp_framing_line();
    kit_config.recv_limit_bytes = 77;
    kit_config.sockopts.keepalive = true;
    kit_open();
    cr_assert_eq(step(1), 1);
    struct sp_conn *conn = attempts[0]->conn;
    cr_assert_eq(sp_conn_state(conn), SP_CONN_CONNECTING);
    cr_assert_eq(conn->fd, -1);
    cr_assert_eq(conn->pool, kit_pool);
    cr_assert_eq(conn->sys, &fake_sys);
    cr_assert_eq(conn->transport, &sp_transport_tcp);
    cr_assert_eq(conn->framing.kind, SP_FRAMING_DELIMITER);
    cr_assert_eq(conn->pool_framing.kind, SP_FRAMING_DELIMITER);
    cr_assert_eq(conn->recv_limit_bytes, 77);
    cr_assert(conn->keepalive && !conn->nodelay);
    cr_assert_eq(conn->epoch, atomic_load(&kit_pool->epoch));
    cr_assert_eq(conn->born_ns, fake_now_ns());
    cr_assert_eq(atomic_load(&conn->owner), 0, "nobody's until a connector begins");
}

KIT_TEST(growth, comes_in_the_slices_that_the_caller_has_room_for)
{
    open_pool(5, 0);
    for (int left = 5; left > 0; left -= 2) {
        cr_assert_eq(step(2), left > 1 ? 2 : 1);
        cr_assert_eq(plan.more, left > 1);
    }
    cr_assert_eq(step(2), 0);
}

KIT_TEST(growth, above_64_goes_on_as_attempts_come_up)
{
    struct handle *first[64];
    unsigned wakes;

    open_pool(100, 0);
    cr_assert_eq(kit_step(first, 32, &plan), 32);
    cr_assert(plan.more);
    cr_assert_eq(kit_step(first + 32, 32, &plan), 32);
    cr_assert_eq(step(32), 0, "so many at once are enough");
    wakes = fake_wakes();
    for (int i = 0; i < 64; i++)
        kit_connect(first[i], CONNECTOR);
    cr_assert_gt(fake_wakes(), wakes, "the control process hears that there is room");
    cr_assert_eq(kit_grow(), 36);
    cr_assert_eq(kit_stats().idle, 100);
}

KIT_TEST(growth, one_for_each_waiter_up_to_the_limit)
{
    struct handle *waiting[4];

    open_pool(1, 2);
    cr_assert_eq(kit_grow(), 1);
    kit_checkout(KIT_OWNER);
    for (unsigned i = 0; i < 4; i++)
        waiting[i] = kit_enqueue(40 + i);
    cr_assert_eq(step(32), 2, "4 wait, 2 may be made");
    cr_assert_eq(kit_stats().total, 3);
    cr_assert_eq(step(32), 0);
    kit_connect(attempts[0], CONNECTOR);
    kit_connect(attempts[1], CONNECTOR);
    cr_assert(kit_adopt(waiting[0]));
    cr_assert(kit_adopt(waiting[1]));
    cr_assert_eq(kit_stats().waiting, 2);
    cr_assert_eq(step(32), 0, "the pool is at its limit");
}

KIT_TEST(growth, counts_attempts_under_way_for_waiters)
{
    open_pool(0, 5);
    kit_enqueue(40);
    cr_assert_eq(step(32), 1);
    kit_enqueue(41);
    kit_enqueue(42);
    cr_assert_eq(step(32), 2);
    cr_assert_eq(kit_stats().connecting, 3);
}

KIT_TEST(growth, for_those_who_do_not_wait)
{
    sp_status status;

    open_pool(1, 3);
    cr_assert_eq(kit_grow(), 1);
    kit_checkout(KIT_OWNER);
    cr_assert_null(kit_try_checkout(KIT_OTHER, &status));
    sp_pool_want(kit_pool, kit_call());
    cr_assert_eq(step(32), 1);
    sp_pool_want(kit_pool, kit_call());
    cr_assert_eq(step(32), 0, "one is under way for this");
    kit_connect(attempts[0], CONNECTOR);
    cr_assert_eq(kit_stats().idle, 1);
    cr_assert_not_null(kit_try_checkout(KIT_OTHER, &status));
    sp_pool_want(kit_pool, kit_call());
    sp_pool_want(kit_pool, kit_call());
    cr_assert_eq(step(32), 1, "one at a time, however many ask");
}

KIT_TEST(growth, for_those_whom_the_queue_has_no_room_for)
{
    sp_status status;

    open_pool(0, 3);
    atomic_store(&kit_pool->max_waiting, 0);
    cr_assert_null(kit_try_enqueue(KIT_OWNER, NULL, 0, &status));
    cr_assert_eq(status, SP_FULL);
    cr_assert_eq(step(32), 1);
}

KIT_TEST(growth, without_memory_tries_again_later)
{
    open_pool(2, 0);
    fake_refuse_conns(1);
    cr_assert_eq(step(32), 0);
    cr_assert_eq(plan.wait_ns, 100 * SP_MS);
    cr_assert_eq(kit_stats().total, 0, "the capacity is given back");
    cr_assert_eq(kit_stats().connect_attempts, 0);
    kit_check();
    cr_assert_eq(step(32), 2);
}

KIT_TEST(growth, without_memory_for_the_table_tries_again_later)
{
    open_pool(2, 0);
    fail_alloc_after(1); /* the first is the fake host's, for the connection */
    cr_assert_eq(step(32), 0);
    cr_assert_eq(plan.wait_ns, 100 * SP_MS);
    cr_assert_eq(fake_conns(), 0);
    kit_check();
    cr_assert_eq(step(32), 2);
}

KIT_TEST(growth, replaces_lost_base_connections_but_not_extra_ones)
{
    struct handle *held[2];

    open_pool(1, 1);
    cr_assert_eq(kit_grow(), 1);
    held[0] = kit_checkout(KIT_OWNER);
    held[1] = kit_enqueue(KIT_OTHER);
    cr_assert_eq(kit_grow(), 1);
    cr_assert(kit_adopt(held[1]));
    cr_assert_eq(kit_discard(held[1]), SP_OK);
    cr_assert_eq(kit_grow(), 0);
    cr_assert_eq(kit_discard(held[0]), SP_OK);
    cr_assert_eq(kit_grow(), 1);
}

KIT_TEST(growth, closes_are_worked_off_in_slices)
{
    struct handle *held[40];

    open_pool(0, 40);
    for (int i = 0; i < 40; i++) {
        sp_pool_want(kit_pool, kit_call());
        cr_assert_eq(kit_grow(), 1);
    }
    for (int i = 0; i < 40; i++)
        held[i] = kit_checkout(KIT_OWNER);
    for (int i = 0; i < 40; i++)
        cr_assert_eq(kit_discard(held[i]), SP_OK);
    cr_assert_eq(fake_fds_open(), 40);
    kit_allow(16 * SP_PIECES_CLOSE);
    step(32);
    cr_assert(plan.more);
    cr_assert_eq(fake_fds_open(), 24);
    step(32);
    cr_assert(plan.more);
    cr_assert_eq(fake_fds_open(), 8);
    step(32);
    cr_assert_not(plan.more);
    cr_assert_eq(fake_fds_open(), 0);
}

/* ---- back-off ---- */

KIT_TEST(backoff_step, after_a_failure_one_at_a_time_and_none_too_early)
{
    uint64_t until_ns;

    open_pool(3, 0);
    cr_assert_eq(step(32), 3);
    fail(attempts[0]);
    cr_assert_eq(kit_stats().connect_failures, 1);
    cr_assert_eq(kit_stats().total, 2);
    cr_assert_eq(step(32), 0, "two others are under way");
    cr_assert_eq(plan.wait_ns, SP_NEVER, "whose end wakes");
    fail(attempts[1]);
    fail(attempts[2]);
    cr_assert_eq(step(32), 0);
    until_ns = fake_now_ns() + plan.wait_ns;
    cr_assert(plan.wait_ns > 0 && plan.wait_ns <= 100 * SP_MS);
    while (fake_now_ns() + SP_MS < until_ns) {
        fake_sleep_ms(1);
        cr_assert_eq(step(32), 0);
        cr_assert_eq(plan.wait_ns, until_ns - fake_now_ns());
    }
    fake_sleep_ms(1);
    cr_assert_eq(step(32), 1);
    cr_assert_eq(step(32), 0);
    cr_assert_eq(plan.wait_ns, SP_NEVER);
}

/* Sleeps until the plan allows an attempt, and lets it fail. */
static uint64_t fail_again(void)
{
    uint64_t wait_ns;

    step(32);
    wait_ns = plan.attempts ? 0 : plan.wait_ns;
    cr_assert_neq(wait_ns, SP_NEVER);
    if (plan.attempts == 0) {
        fake_sleep_ms(wait_ns / SP_MS + 1);
        step(32);
    }
    cr_assert_eq(plan.attempts, 1);
    fail(attempts[0]);
    return wait_ns;
}

KIT_TEST(backoff_step, delays_grow_to_their_bound)
{
    uint64_t longest_ns = 0;

    open_pool(1, 0);
    for (unsigned i = 0; i < 40; i++) {
        uint64_t wait_ns = fail_again();
        uint64_t bound_ns = i == 0 ? 0 : (i < 8 ? 100 * SP_MS << (i - 1) : 10000 * SP_MS);
        cr_assert_leq(wait_ns, bound_ns, "attempt %u", i);
        longest_ns = wait_ns > longest_ns ? wait_ns : longest_ns;
    }
    cr_assert_gt(longest_ns, 5000 * SP_MS);
    cr_assert_eq(kit_stats().connect_attempts, 40);
    cr_assert_eq(kit_stats().connect_failures, 40);
}

KIT_TEST(backoff_step, attempts_of_one_round_lengthen_it_once)
{
    open_pool(5, 0);
    cr_assert_eq(step(32), 5);
    for (int i = 0; i < 5; i++)
        fail(attempts[i]);
    cr_assert_eq(kit_pool->control.state.failures, 1);
    fake_sleep_ms(101);
    cr_assert_eq(step(32), 1);
    fail(attempts[0]);
    cr_assert_eq(kit_pool->control.state.failures, 2);
}

KIT_TEST(backoff_step, success_brings_the_pool_to_full)
{
    unsigned wakes;

    open_pool(5, 0);
    cr_assert_eq(step(32), 5);
    for (int i = 0; i < 5; i++)
        fail(attempts[i]);
    fake_sleep_ms(101);
    cr_assert_eq(step(32), 1);
    wakes = fake_wakes();
    kit_connect(attempts[0], CONNECTOR);
    cr_assert_gt(fake_wakes(), wakes);
    cr_assert_eq(step(32), 4, "all the others at once");
    for (int i = 0; i < 4; i++)
        kit_connect(attempts[i], CONNECTOR);
    cr_assert_eq(kit_stats().idle, 5);
    cr_assert_eq(kit_pool->control.state.failures, 0);
}

/* The server accepts and closes. */
static void lose_unused(void)
{
    struct sp_conn *conn = attempts[0]->conn;
    sp_status status;
    int fd;

    kit_connect(attempts[0], CONNECTOR);
    fd = conn->fd;
    fake_peer_closes(fd);
    cr_assert_null(kit_try_checkout(KIT_OWNER, &status));
    cr_assert_eq(status, SP_EMPTY);
    cr_assert_eq(kit_stats().total, 0);
}

KIT_TEST(backoff_step, a_connection_lost_before_its_first_use_slows_the_next)
{
    open_pool(1, 0);
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(step(32), 1);
        lose_unused();
        cr_assert_eq(kit_pool->control.state.failures, 1);
        cr_assert_eq(step(32), 0);
        cr_assert(plan.wait_ns > 0 && plan.wait_ns <= 100 * SP_MS);
        fake_sleep_ms(plan.wait_ns / SP_MS + 1);
    }
    cr_assert_eq(kit_stats().connect_attempts, 20);
}

KIT_TEST(backoff_step, a_connection_lost_after_use_is_replaced_at_once)
{
    open_pool(1, 0);
    cr_assert_eq(kit_grow(), 1);
    cr_assert_eq(kit_checkin(kit_checkout(KIT_OWNER)), SP_OK);
    fake_peer_closes(fake_last(FAKE_CONNECT, 0)->fd);
    cr_assert_null(kit_try_checkout(KIT_OWNER, &(sp_status){0}));
    cr_assert_eq(step(32), 1);
}

KIT_TEST(backoff_step, a_loss_amid_failures_does_not_lengthen_the_delay)
{
    open_pool(2, 0);
    cr_assert_eq(step(32), 2);
    fail(attempts[1]);
    kit_pool->control.state.failures = 3;
    sp_health_lost_unused(kit_pool, kit_call());
    cr_assert_eq(kit_pool->control.state.failures, 3);
}

KIT_TEST(backoff_step, waiters_have_no_more_attempts_made)
{
    open_pool(1, 5);
    cr_assert_eq(step(32), 1);
    fail(attempts[0]);
    for (unsigned i = 0; i < 5; i++)
        kit_enqueue(40 + i);
    cr_assert_eq(step(32), 0);
    fake_sleep_ms(101);
    cr_assert_eq(step(32), 1);
}

KIT_TEST(unavailable, while_the_last_attempt_failed_and_nothing_is_up)
{
    open_pool(2, 0);
    cr_assert_not(sp_health_unavailable(kit_pool), "nothing has failed yet");
    cr_assert_eq(step(32), 2);
    cr_assert_not(sp_health_unavailable(kit_pool));
    fail(attempts[0]);
    cr_assert(sp_health_unavailable(kit_pool));
    kit_connect(attempts[1], CONNECTOR);
    cr_assert_not(sp_health_unavailable(kit_pool));
    cr_assert_eq(step(32), 1);
    fail(attempts[0]);
    cr_assert_not(sp_health_unavailable(kit_pool), "one is up");
    cr_assert_eq(kit_discard(kit_checkout(KIT_OWNER)), SP_OK);
    cr_assert(sp_health_unavailable(kit_pool));
}
