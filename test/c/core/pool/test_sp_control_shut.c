/* sp_control: opening, shutting, opening again in a new epoch. */
#include "kit/pool_kit.h"

#include <criterion/criterion.h>

#define FIRST 21
#define CONNECTOR 31

static const struct sp_addr ADDR = {.storage.ss_family = AF_INET, .len = sizeof ADDR.storage};

static void two(void)
{
    kit_start(2, 1);
}

static void shut(enum sp_phase phase)
{
    kit_shut(phase, phase == SP_PHASE_DOWN ? SP_CLOSED : SP_DRAINING);
    cr_assert_eq(sp_pool_phase(kit_pool), phase);
    kit_check();
}

static void arm(struct handle *handle)
{
    cr_assert(sp_conn_enter(handle->conn, handle->lease, kit_call()));
    handle->conn->touched = true;
    cr_assert(sp_conn_arming(handle->conn, handle->lease));
    sp_conn_leave(handle->conn, kit_call());
}

TestSuite(shut, .init = two);

/* No sweep follows, and the handle may live on. */
KIT_TEST(shut, closes_what_the_dead_are_armed_on)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    int fd = handle->conn->fd;

    arm(handle);
    fake_kill(KIT_OWNER);
    shut(SP_PHASE_DOWN);
    cr_assert_not(fake_fd_open(fd));
}

KIT_TEST(shut, closes_idle_connections)
{
    shut(SP_PHASE_CLOSED);
    cr_assert_eq(kit_stats().total, 0);
    cr_assert_eq(fake_conns(), 0);
    cr_assert_eq(fake_fds_open(), 0);
}

KIT_TEST(shut, closes_cold_connections)
{
    fake_sleep_ms(1500);
    kit_tick();
    shut(SP_PHASE_DOWN);
    cr_assert_eq(fake_fds_open(), 0);
}

KIT_TEST(shut, ends_leases_touched_or_not)
{
    struct handle *touched = kit_checkout(KIT_OWNER), *untouched = kit_checkout(KIT_OTHER);

    touched->conn->touched = true;
    shut(SP_PHASE_CLOSED);
    cr_assert_eq(fake_fds_open(), 0);
    cr_assert_eq(kit_stats().total, 0);
    cr_assert_not(sp_conn_enter(touched->conn, touched->lease, kit_call()));
    cr_assert_not(sp_conn_enter(untouched->conn, untouched->lease, kit_call()));
    cr_assert_eq(kit_checkin(touched), SP_CLOSED);
    cr_assert_eq(kit_discard(untouched), SP_CLOSED);
}

KIT_TEST(shut, wakes_an_owner_that_waits_who_closes)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    int fd = handle->conn->fd;

    arm(handle);
    shut(SP_PHASE_DOWN);
    cr_assert_eq(fake_calls(FAKE_SHUTDOWN), 1);
    cr_assert(fake_fd_open(fd));
    cr_assert_eq(kit_stats().total, 0);
    sp_conn_disarmed(handle->conn, handle->lease, kit_call());
    cr_assert_not(fake_fd_open(fd), "there is no control process to close it");
}

KIT_TEST(shut, leaves_the_descriptor_to_a_call_under_way)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    int fd = handle->conn->fd;

    cr_assert(sp_conn_enter(handle->conn, handle->lease, kit_call()));
    shut(SP_PHASE_CLOSED);
    cr_assert(fake_fd_open(fd));
    sp_conn_leave(handle->conn, kit_call());
    cr_assert_not(fake_fd_open(fd));
}

KIT_TEST(shut, ends_attempts_in_each_state)
{
    struct handle *attempts[3];
    struct sp_plan plan;

    kit_close();
    kit_init(1);
    kit_config.size = 3;
    kit_open();
    cr_assert_eq(kit_step(attempts, 3, &plan), 3);
    for (int i = 1; i < 3; i++)
        cr_assert_eq(sp_control_begin(kit_pool, kit_call(), attempts[i]->conn, &attempts[i]->lease,
                                      CONNECTOR, &ADDR),
                     SP_OK);
    cr_assert_eq(sp_control_opened(attempts[2]->conn, &attempts[2]->lease, kit_call()), SP_OK);
    shut(SP_PHASE_CLOSED);
    cr_assert_eq(kit_stats().total, 0);
    cr_assert_eq(fake_fds_open(), 0);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(sp_control_ready(kit_pool, kit_call(), attempts[i]->conn, attempts[i]->lease),
                     SP_CLOSED);
}

KIT_TEST(shut, fails_waiters_with_the_given_status)
{
    kit_checkout(KIT_OWNER);
    kit_checkout(KIT_OWNER);
    kit_enqueue(FIRST);
    shut(SP_PHASE_DOWN);
    cr_assert_eq(fake_notes(FIRST), 1);
    cr_assert_eq(fake_note(FIRST, 0)->status, SP_CLOSED);
}

KIT_TEST(shut, makes_no_more_connections)
{
    struct handle *attempt;
    struct sp_plan plan;

    cr_assert_eq(kit_discard(kit_checkout(KIT_OWNER)), SP_OK);
    shut(SP_PHASE_DOWN);
    cr_assert_eq(kit_step(&attempt, 1, &plan), 0);
    cr_assert_eq(plan.wait_ns, SP_NEVER);
}

KIT_TEST(shut, twice_is_as_once)
{
    shut(SP_PHASE_DOWN);
    shut(SP_PHASE_CLOSED);
    cr_assert_eq(fake_fds_open(), 0);
}

KIT_TEST(shut, comes_in_slices_that_the_allowance_allows)
{
    unsigned slices = 0, waiters = 0;

    kit_close();
    kit_start(70, 0);
    for (unsigned i = 0; i < 70; i++)
        kit_checkout(KIT_OWNER);
    for (unsigned i = 0; i < 10; i++)
        kit_enqueue(100 + i);
    sp_control_shut_begin(kit_pool, SP_PHASE_CLOSED);
    cr_assert_eq(sp_pool_phase(kit_pool), SP_PHASE_DRAINING);
    cr_assert_eq(fake_notes_all(), 0);
    kit_allow(4 * SP_PIECES_TELL);
    while (sp_control_shut_slice(kit_pool, kit_call(), SP_DRAINING)) {
        slices++;
        cr_assert_leq(fake_notes_all() - waiters, 4);
        waiters = fake_notes_all();
        cr_assert_eq(sp_pool_phase(kit_pool), SP_PHASE_DRAINING, "until the last slice");
    }
    cr_assert_geq(slices, 80 / 4);
    cr_assert_eq(waiters, 10);
    cr_assert_eq(sp_pool_phase(kit_pool), SP_PHASE_CLOSED);
    cr_assert_eq(fake_fds_open(), 0);
}

KIT_TEST(shut, between_its_slices_nobody_is_served)
{
    struct handle *holder = kit_checkout(KIT_OWNER);
    sp_status status;

    kit_checkout(KIT_OTHER);
    kit_enqueue(FIRST);
    sp_control_shut_begin(kit_pool, SP_PHASE_CLOSED);
    cr_assert_eq(kit_checkin(holder), SP_OK, "its lease still holds");
    cr_assert_eq(fake_notes(FIRST), 0);
    cr_assert_null(kit_try_enqueue(FIRST, NULL, 0, &status));
    cr_assert_eq(status, SP_DRAINING);
    kit_allow(1);
    while (sp_control_shut_slice(kit_pool, kit_call(), SP_DRAINING))
        ;
    cr_assert_eq(fake_notes(FIRST), 1);
    cr_assert_eq(fake_note(FIRST, 0)->status, SP_DRAINING);
}

KIT_TEST(shut, in_slices_ends_although_a_call_is_under_way)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    cr_assert(sp_conn_enter(handle->conn, handle->lease, kit_call()));
    sp_control_shut_begin(kit_pool, SP_PHASE_DOWN);
    kit_allow(1);
    for (int i = 0; sp_control_shut_slice(kit_pool, kit_call(), SP_CLOSED); i++)
        cr_assert_lt(i, 100);
    sp_conn_leave(handle->conn, kit_call());
}

/* ---- what comes late ---- */

TestSuite(late, .init = two);

static void shut_down(void *arg)
{
    (void)arg;
    kit_shut(SP_PHASE_DOWN, SP_CLOSED);
}

static void shut_and_open(void *arg)
{
    shut_down(arg);
    kit_open();
}

static void idle_then(void (*hook)(void *arg))
{
    cr_assert_eq(kit_checkin(kit_checkout(KIT_OWNER)), SP_OK);
    fake_sys_hook(FAKE_RECV, hook, NULL);
}

KIT_TEST(late, a_connection_popped_before_the_shut_is_not_handed_out_after_it)
{
    struct handle *handle;
    sp_status status;

    idle_then(shut_down);
    handle = kit_try_checkout(KIT_OWNER, &status);
    cr_assert(!handle || !sp_conn_enter(handle->conn, handle->lease, kit_call()),
              "a lease outlives the pool");
    if (handle)
        kit_drop(handle);
    cr_assert_eq(kit_stats().total, 0);
    cr_assert_eq(fake_fds_open(), 0);
}

KIT_TEST(late, nor_where_the_pool_is_open_again)
{
    struct handle *handle;
    sp_status status;

    idle_then(shut_and_open);
    handle = kit_try_checkout(KIT_OWNER, &status);
    cr_assert(!handle || !sp_conn_enter(handle->conn, handle->lease, kit_call()),
              "a lease outlives its epoch");
    if (handle)
        kit_drop(handle);
    cr_assert_eq(kit_stats().total, 0);
    cr_assert_eq(kit_grow(), 2);
}

KIT_TEST(late, its_keepsake_is_dropped_with_it)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    sp_status status;

    handle->keepsake = fake_keepsake_new();
    cr_assert_eq(kit_checkin(handle), SP_OK);
    fake_sys_hook(FAKE_RECV, shut_down, NULL);
    cr_assert_null(kit_try_checkout(KIT_OWNER, &status));
    cr_assert_eq(status, SP_CLOSED);
    cr_assert_eq(fake_keepsakes(), 0);
}

KIT_TEST(late, a_grant_that_the_shut_overtakes_is_told_and_ended)
{
    struct handle *holder = kit_checkout(KIT_OWNER), *waiting;

    kit_checkout(KIT_OTHER);
    waiting = kit_enqueue(FIRST);
    fake_host_hook(FAKE_ON_ALIVE, shut_down, NULL);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert_eq(fake_notes(FIRST), 1);
    cr_assert(kit_adopt(waiting));
    cr_assert_not(sp_conn_enter(waiting->conn, waiting->lease, kit_call()));
    cr_assert_eq(kit_stats().total, 0);
    cr_assert_eq(fake_fds_open(), 0);
}

KIT_TEST(late, a_grant_shut_as_it_is_told_is_ended_too)
{
    struct handle *holder = kit_checkout(KIT_OWNER), *waiting;

    kit_checkout(KIT_OTHER);
    waiting = kit_enqueue(FIRST);
    fake_host_hook(FAKE_ON_NOTIFY, shut_and_open, NULL);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert_eq(fake_notes(FIRST), 1);
    cr_assert(kit_adopt(waiting));
    cr_assert_not(sp_conn_enter(waiting->conn, waiting->lease, kit_call()));
    cr_assert_eq(kit_stats().total, 0);
    cr_assert_eq(kit_grow(), 2);
}

/* An attempt that the shut misses, because it is between two lease numbers. */
static struct handle *straggler(void (*hook)(void *arg))
{
    struct handle *attempt;
    struct sp_plan plan;

    cr_assert_eq(kit_discard(kit_checkout(KIT_OWNER)), SP_OK);
    cr_assert_eq(kit_step(&attempt, 1, &plan), 1);
    fake_sys_hook(FAKE_SOCKET, hook, NULL);
    cr_assert_eq(
        sp_control_begin(kit_pool, kit_call(), attempt->conn, &attempt->lease, CONNECTOR, &ADDR),
        SP_OK);
    return attempt;
}

KIT_TEST(late, an_attempt_ready_in_a_shut_pool_is_closed)
{
    struct handle *attempt = straggler(shut_down);

    cr_assert_eq(sp_control_opened(attempt->conn, &attempt->lease, kit_call()), SP_OK);
    cr_assert_eq(sp_control_ready(kit_pool, kit_call(), attempt->conn, attempt->lease), SP_OK);
    cr_assert_eq(kit_stats().total, 0);
    cr_assert_eq(fake_fds_open(), 0);
}

KIT_TEST(late, an_attempt_ready_in_the_next_epoch_is_closed)
{
    struct handle *attempt = straggler(shut_and_open);

    cr_assert_eq(sp_control_opened(attempt->conn, &attempt->lease, kit_call()), SP_OK);
    cr_assert_eq(sp_control_ready(kit_pool, kit_call(), attempt->conn, attempt->lease), SP_OK);
    cr_assert_eq(kit_stats().idle, 0);
    cr_assert_eq(kit_grow(), 2);
}

KIT_TEST(late, an_attempt_failing_in_the_next_epoch_does_not_slow_it)
{
    struct handle *attempts[2];
    struct sp_plan plan;

    kit_drop(straggler(shut_and_open));
    cr_assert_eq(kit_stats().total, 0);
    cr_assert_eq(kit_step(attempts, 2, &plan), 2);
}

/* ---- opening again ---- */

TestSuite(reopen, .init = two);

KIT_TEST(reopen, is_a_new_epoch_with_new_connections)
{
    uint64_t epoch = atomic_load(&kit_pool->epoch);

    shut(SP_PHASE_DOWN);
    kit_open();
    cr_assert_gt(atomic_load(&kit_pool->epoch), epoch);
    cr_assert_eq(kit_grow(), 2);
    kit_checkout(KIT_OWNER);
    cr_assert_eq(kit_stats().created, 4);
    cr_assert_eq(kit_stats().closed, 2);
}

KIT_TEST(reopen, wakes_the_new_control_process)
{
    unsigned wakes;

    cr_assert_eq(kit_discard(kit_checkout(KIT_OWNER)), SP_OK);
    shut(SP_PHASE_DOWN);
    wakes = fake_wakes();
    kit_open();
    cr_assert_eq(fake_wakes(), wakes + 1);
}

KIT_TEST(reopen, takes_the_new_configuration)
{
    shut(SP_PHASE_CLOSED);
    kit_config.size = 4;
    kit_config.max_overflow = 3;
    kit_config.strategy = SP_FIFO;
    kit_config.max_waiting = 9;
    kit_config.max_hold_ns = 1;
    kit_config.overflow_ttl_ns = 2;
    kit_config.validate_after_ns = 3;
    kit_open();
    cr_assert_eq(atomic_load(&kit_pool->limit), 7);
    cr_assert_eq(atomic_load(&kit_pool->strategy), SP_FIFO);
    cr_assert_eq(atomic_load(&kit_pool->max_waiting), 9);
    cr_assert_eq(atomic_load(&kit_pool->max_hold_ns), 1);
    cr_assert_eq(atomic_load(&kit_pool->overflow_ttl_ns), 2);
    cr_assert_eq(atomic_load(&kit_pool->validate_after_ns), 3);
    cr_assert_eq(kit_grow(), 4);
    cr_assert_eq(kit_stats().size, 4);
    cr_assert_eq(kit_stats().max_overflow, 3);
}

KIT_TEST(reopen, forgets_the_old_backoff)
{
    struct handle *attempts[2];
    struct sp_plan plan;

    cr_assert_eq(kit_discard(kit_checkout(KIT_OWNER)), SP_OK);
    cr_assert_eq(kit_step(attempts, 1, &plan), 1);
    kit_drop(attempts[0]);
    shut(SP_PHASE_DOWN);
    kit_open();
    cr_assert_eq(kit_step(attempts, 2, &plan), 2);
    cr_assert_not(sp_health_unavailable(kit_pool));
}

KIT_TEST(reopen, a_lease_of_the_old_epoch_stays_ended)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    shut(SP_PHASE_DOWN);
    kit_open();
    cr_assert_eq(kit_grow(), 2);
    cr_assert_not(sp_conn_enter(handle->conn, handle->lease, kit_call()));
    cr_assert_eq(kit_checkin(handle), SP_CLOSED);
    cr_assert_eq(kit_stats().idle, 2);
}
