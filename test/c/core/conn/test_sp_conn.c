/* sp_conn: states, pins, leases, arming. */
#include "kit/pool_kit.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define OWNER 7

static struct sp_conn *conn;
static struct handle *attempt;

/* One connection in state CONNECTING, not begun. */
static void connecting(void)
{
    struct sp_plan plan;

    kit_init(1);
    kit_config.size = 1;
    kit_open();
    cr_assert_eq(kit_step(&attempt, 1, &plan), 1);
    conn = attempt->conn;
}

/* One connection, leased. */
static void leased(void)
{
    kit_start(1, 0);
    attempt = kit_checkout(OWNER);
    conn = attempt->conn;
}

/* ---- states ---- */

static const struct {
    enum sp_conn_state from, to;
} ALLOWED[] = {
    {SP_CONN_CONNECTING, SP_CONN_INITIALISING},
    {SP_CONN_CONNECTING, SP_CONN_CLOSING},
    {SP_CONN_INITIALISING, SP_CONN_LEASED},
    {SP_CONN_INITIALISING, SP_CONN_CLOSING},
    {SP_CONN_LEASED, SP_CONN_IDLE},
    {SP_CONN_LEASED, SP_CONN_CLOSING},
    {SP_CONN_IDLE, SP_CONN_LEASED},
    {SP_CONN_CLOSING, SP_CONN_CLOSED},
};

static bool allowed(int from, int to)
{
    for (size_t i = 0; i < sizeof ALLOWED / sizeof *ALLOWED; i++)
        if ((int)ALLOWED[i].from == from && (int)ALLOWED[i].to == to)
            return true;
    return false;
}

/* Whether the transition is taken; asserts end a process of their own. */
static bool survives(enum sp_conn_state from, enum sp_conn_state to)
{
    struct sp_conn lone = {.state = from};
    int status;
    pid_t pid = fork();

    cr_assert_geq(pid, 0);
    if (pid == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(2);
        sp_conn_set_state(&lone, to);
        _exit(sp_conn_state(&lone) == to ? 0 : 3);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status)) {
        cr_assert_eq(WTERMSIG(status), SIGABRT);
        return false;
    }
    cr_assert_eq(WEXITSTATUS(status), 0);
    return true;
}

Test(conn_state, takes_the_pictured_transitions_and_asserts_on_every_other)
{
    for (int from = SP_CONN_CONNECTING; from <= SP_CONN_CLOSED; from++)
        for (int to = SP_CONN_CONNECTING; to <= SP_CONN_CLOSED; to++)
            cr_expect_eq(survives((enum sp_conn_state)from, (enum sp_conn_state)to),
                         allowed(from, to), "%d -> %d", from, to);
}

Test(conn_state, unready_is_connecting_or_initialising)
{
    for (int state = SP_CONN_CONNECTING; state <= SP_CONN_CLOSED; state++) {
        struct sp_conn lone = {.state = (uint32_t)state};
        cr_expect_eq(sp_conn_unready(&lone),
                     state == SP_CONN_CONNECTING || state == SP_CONN_INITIALISING);
    }
}

/* ---- pins ---- */

TestSuite(conn_pin, .init = leased);

KIT_TEST(conn_pin, pins_are_counted)
{
    cr_assert_not(sp_conn_pinned(conn));
    cr_assert(sp_conn_pin(conn));
    cr_assert(sp_conn_pin(conn));
    sp_conn_unpin(conn, kit_call());
    cr_assert(sp_conn_pinned(conn));
    sp_conn_unpin(conn, kit_call());
    cr_assert_not(sp_conn_pinned(conn));
    cr_assert_eq(sp_conn_state(conn), SP_CONN_LEASED);
}

static void silent_unpin(struct sp_conn *unpinned)
{
    cr_assert(freopen("/dev/null", "w", stderr));
    sp_conn_unpin(unpinned, kit_call());
}

Test(conn_pin, unpin_without_a_pin_asserts, .signal = SIGABRT)
{
    silent_unpin(conn);
}

KIT_TEST(conn_pin, closing_without_pins_queues_the_close_at_once)
{
    cr_assert_eq(sp_pool_discard(kit_pool, kit_call(), conn, attempt->lease, SP_WHY_DISCARDED),
                 SP_OK);
    cr_assert_eq(sp_conn_state(conn), SP_CONN_CLOSING);
    cr_assert_not(sp_conn_pin(conn), "no new pin while closing");
    cr_assert_eq(fake_calls(FAKE_SHUTDOWN), 0, "nobody waits, so nobody is to be woken");
    cr_assert_eq(fake_calls(FAKE_CLOSE), 0, "closing is the control process's work");
    cr_assert_not(sp_close_work(kit_pool, kit_call()));
    cr_assert_eq(sp_conn_state(conn), SP_CONN_CLOSED);
    cr_assert_eq(fake_calls(FAKE_CLOSE), 1);
}

KIT_TEST(conn_pin, a_pin_keeps_the_descriptor_open_until_the_last_unpin)
{
    cr_assert(sp_conn_pin(conn));
    cr_assert(sp_conn_pin(conn));
    cr_assert_eq(sp_pool_discard(kit_pool, kit_call(), conn, attempt->lease, SP_WHY_DISCARDED),
                 SP_OK);
    cr_assert_eq(fake_calls(FAKE_SHUTDOWN), 1, "who is in a call is woken");
    cr_assert_not(sp_conn_pin(conn));
    sp_close_work(kit_pool, kit_call());
    sp_conn_unpin(conn, kit_call());
    sp_close_work(kit_pool, kit_call());
    cr_assert(fake_fd_open(conn->fd));
    cr_assert_eq(sp_conn_state(conn), SP_CONN_CLOSING);
    sp_conn_unpin(conn, kit_call());
    sp_close_work(kit_pool, kit_call());
    cr_assert_not(fake_fd_open(conn->fd));
    cr_assert_eq(sp_conn_state(conn), SP_CONN_CLOSED);
}

Test(conn_pin, a_second_close_asserts, .signal = SIGABRT)
{
    cr_assert(sp_conn_pin(conn));
    cr_assert_eq(sp_pool_discard(kit_pool, kit_call(), conn, attempt->lease, SP_WHY_DISCARDED),
                 SP_OK);
    cr_assert(freopen("/dev/null", "w", stderr));
    sp_conn_begin_close(conn, kit_call());
}

/* ---- leases ---- */

TestSuite(conn_lease, .init = leased);

KIT_TEST(conn_lease, a_lease_is_ended_once)
{
    uint64_t lease = attempt->lease;

    cr_assert(sp_conn_unlease(conn, lease));
    cr_assert_not(sp_conn_unlease(conn, lease));
    cr_assert_eq(atomic_load(&conn->lease), SP_LEASE_NONE);
    attempt->lease = sp_conn_lease(conn, OWNER, 5);
}

KIT_TEST(conn_lease, numbers_are_never_used_twice)
{
    uint64_t seen = attempt->lease;

    for (int i = 0; i < 100; i++) {
        cr_assert(sp_conn_unlease(conn, attempt->lease));
        attempt->lease = sp_conn_lease(conn, OWNER, 5);
        cr_assert_gt(attempt->lease, seen);
        seen = attempt->lease;
        attempt->lease = sp_conn_give_away(conn, attempt->lease, OWNER + 1);
        cr_assert_gt(attempt->lease, seen);
        seen = attempt->lease;
    }
}

KIT_TEST(conn_lease, a_new_lease_has_owner_and_time_and_is_untouched)
{
    cr_assert(sp_conn_unlease(conn, attempt->lease));
    conn->touched = true;
    attempt->lease = sp_conn_lease(conn, 99, 12345);
    cr_assert_eq(atomic_load(&conn->owner), 99);
    cr_assert_eq(atomic_load(&conn->leased_ns), 12345);
    cr_assert_not(conn->touched);
}

KIT_TEST(conn_lease, none_and_moving_are_no_leases)
{
    uint64_t lease = attempt->lease;

    cr_assert_not(sp_conn_unlease(conn, SP_LEASE_NONE));
    atomic_store(&conn->lease, SP_LEASE_MOVING);
    cr_assert_not(sp_conn_unlease(conn, SP_LEASE_MOVING));
    cr_assert_not(sp_conn_unlease(conn, lease));
    cr_assert_eq(sp_conn_give_away(conn, lease, OWNER), SP_LEASE_NONE);
    atomic_store(&conn->lease, lease);
}

KIT_TEST(conn_lease, give_away_moves_the_lease_and_keeps_what_it_did)
{
    uint64_t old = attempt->lease;

    conn->touched = true;
    attempt->lease = sp_conn_give_away(conn, old, OWNER + 1);
    cr_assert_neq(attempt->lease, SP_LEASE_NONE);
    cr_assert_eq(atomic_load(&conn->owner), OWNER + 1);
    cr_assert(conn->touched, "it stays used: never back into the pool if abandoned");
    cr_assert_not(sp_conn_unlease(conn, old));
    cr_assert_not(sp_conn_enter(conn, old, kit_call()));
    cr_assert_eq(sp_conn_give_away(conn, old, OWNER + 2), SP_LEASE_NONE);
    cr_assert(sp_conn_enter(conn, attempt->lease, kit_call()));
    sp_conn_leave(conn, kit_call());
}

KIT_TEST(conn_lease, enter_needs_the_current_lease)
{
    cr_assert(sp_conn_enter(conn, attempt->lease, kit_call()));
    cr_assert(sp_conn_pinned(conn));
    sp_conn_leave(conn, kit_call());
    cr_assert_not(sp_conn_enter(conn, attempt->lease + 1, kit_call()));
    cr_assert_not(sp_conn_pinned(conn), "a refused enter keeps no pin");
    cr_assert(sp_conn_pin(conn));
    cr_assert_eq(sp_pool_discard(kit_pool, kit_call(), conn, attempt->lease, SP_WHY_DISCARDED),
                 SP_OK);
    cr_assert_not(sp_conn_enter(conn, attempt->lease, kit_call()));
    sp_conn_unpin(conn, kit_call());
}

/* ---- arming ---- */

TestSuite(conn_arm, .init = leased);

static void arm(void)
{
    cr_assert(sp_conn_enter(conn, attempt->lease, kit_call()));
    cr_assert(sp_conn_arming(conn, attempt->lease));
    sp_conn_leave(conn, kit_call());
}

KIT_TEST(conn_arm, an_arm_holds_a_pin_until_disarmed)
{
    cr_assert_not(sp_conn_armed(conn, attempt->lease));
    arm();
    cr_assert(sp_conn_armed(conn, attempt->lease));
    cr_assert(sp_conn_pinned(conn));
    sp_conn_disarmed(conn, attempt->lease, kit_call());
    cr_assert_not(sp_conn_armed(conn, attempt->lease));
    cr_assert_not(sp_conn_pinned(conn));
}

KIT_TEST(conn_arm, disarming_twice_or_for_another_lease_changes_nothing)
{
    sp_conn_disarmed(conn, attempt->lease, kit_call());
    arm();
    sp_conn_disarmed(conn, attempt->lease + 1, kit_call());
    cr_assert(sp_conn_armed(conn, attempt->lease));
    sp_conn_disarmed(conn, attempt->lease, kit_call());
    sp_conn_disarmed(conn, attempt->lease, kit_call());
    cr_assert_not(sp_conn_pinned(conn));
}

KIT_TEST(conn_arm, only_one_arm_at_a_time)
{
    arm();
    cr_assert(sp_conn_pin(conn));
    cr_assert_not(sp_conn_arming(conn, attempt->lease));
    sp_conn_unpin(conn, kit_call());
    sp_conn_disarmed(conn, attempt->lease, kit_call());
    cr_assert_not(sp_conn_pinned(conn), "a refused arm keeps no pin");
    arm();
}

KIT_TEST(conn_arm, arming_while_closing_still_holds_the_descriptor)
{
    cr_assert(sp_conn_enter(conn, attempt->lease, kit_call()));
    cr_assert_eq(sp_pool_discard(kit_pool, kit_call(), conn, attempt->lease, SP_WHY_DISCARDED),
                 SP_OK);
    cr_assert(sp_conn_arming(conn, attempt->lease));
    sp_conn_leave(conn, kit_call());
    sp_close_work(kit_pool, kit_call());
    cr_assert(fake_fd_open(conn->fd));
    sp_conn_disarmed(conn, attempt->lease, kit_call());
    sp_close_work(kit_pool, kit_call());
    cr_assert_not(fake_fd_open(conn->fd));
}

/* ---- close before there is a descriptor ---- */

TestSuite(conn_unborn, .init = connecting);

KIT_TEST(conn_unborn, an_attempt_without_a_descriptor_closes_nothing)
{
    cr_assert_eq(conn->fd, -1);
    cr_assert(sp_conn_pin(conn));
    cr_assert(sp_pool_abandon(kit_pool, kit_call(), conn, attempt->lease));
    sp_conn_unpin(conn, kit_call());
    sp_close_work(kit_pool, kit_call());
    cr_assert_eq(sp_conn_state(conn), SP_CONN_CLOSED);
    cr_assert_eq(fake_calls(FAKE_SHUTDOWN) + fake_calls(FAKE_CLOSE), 0);
}

/* ---- a lease's own options ---- */

TestSuite(conn_options, .init = leased);

KIT_TEST(conn_options, nodelay_and_keepalive_go_back_at_checkin)
{
    unsigned before = fake_calls(FAKE_SETSOCKOPT);

    cr_assert_eq(sp_conn_setopt(conn, SP_OPT_NODELAY, 1), SP_OK);
    cr_assert_eq(sp_conn_setopt(conn, SP_OPT_KEEPALIVE, 1), SP_OK);
    cr_assert_eq(fake_last(FAKE_SETSOCKOPT, 0)->b, SO_KEEPALIVE);
    cr_assert_eq(fake_last(FAKE_SETSOCKOPT, 0)->value, 1);
    cr_assert(conn->touched);
    cr_assert_eq(kit_checkin(attempt), SP_OK);
    cr_assert_eq(fake_calls(FAKE_SETSOCKOPT), before + 4);
    cr_assert_eq(fake_last(FAKE_SETSOCKOPT, 1)->b, TCP_NODELAY);
    cr_assert_eq(fake_last(FAKE_SETSOCKOPT, 1)->value, 0);
    cr_assert_eq(fake_last(FAKE_SETSOCKOPT, 0)->b, SO_KEEPALIVE);
    cr_assert_eq(fake_last(FAKE_SETSOCKOPT, 0)->value, 0);
    cr_assert_eq(kit_stats().idle, 1);
    cr_assert_eq(kit_checkin(kit_checkout(OWNER)), SP_OK);
    cr_assert_eq(fake_calls(FAKE_SETSOCKOPT), before + 4, "once");
}

KIT_TEST(conn_options, what_cannot_be_put_back_closes_the_connection)
{
    cr_assert_eq(sp_conn_setopt(conn, SP_OPT_NODELAY, 1), SP_OK);
    fake_fail(FAKE_SETSOCKOPT, EINVAL);
    cr_assert_eq(kit_checkin(attempt), SP_OK);
    cr_assert_eq(kit_stats().total, 0);
}

KIT_TEST(conn_options, changed_buffers_close_the_connection)
{
    cr_assert_eq(sp_conn_setopt(conn, SP_OPT_RECBUF, 4096), SP_OK);
    cr_assert_eq(kit_checkin(attempt), SP_OK);
    cr_assert_eq(kit_stats().total, 0);
}

KIT_TEST(conn_options, a_refused_option_is_told)
{
    fake_fail(FAKE_SETSOCKOPT, EDOM);
    cr_assert_eq(sp_conn_setopt(conn, SP_OPT_SNDBUF, 4096), -EDOM);
    fake_fail(FAKE_SETSOCKOPT, EDOM);
    cr_assert_eq(sp_conn_setopt(conn, SP_OPT_NODELAY, 1), -EDOM);
    cr_assert_not(conn->touched);
    cr_assert_eq(kit_checkin(attempt), SP_OK);
    cr_assert_eq(kit_stats().idle, 1, "nothing has changed");
}

KIT_TEST(conn_options, packet_goes_back_at_checkin)
{
    conn->search.looked = 5;
    sp_conn_set_framing(
        conn,
        &(struct sp_framing){.kind = SP_FRAMING_DELIMITER, .delimiter_len = 1, .delimiter = {10}});
    cr_assert_eq(conn->framing.kind, SP_FRAMING_DELIMITER);
    cr_assert_eq(conn->search.looked, 0);
    cr_assert(conn->touched);
    cr_assert_eq(kit_checkin(attempt), SP_OK);
    cr_assert_eq(conn->framing.kind, SP_FRAMING_RAW);
    cr_assert_eq(kit_stats().idle, 1);
}

KIT_TEST(conn_options, changed_by_one_who_dies_close_the_connection)
{
    sp_conn_set_framing(conn,
                        &(struct sp_framing){.kind = SP_FRAMING_LENGTH, .bytes = 4, .strip = true});
    fake_kill(OWNER);
    kit_tick();
    cr_assert_eq(kit_stats().total, 0);
}
