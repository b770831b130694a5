/* sp_pool: waiters, from enqueue to grant, cancel or abandon, without a request. */
#include "kit/pool_kit.h"

#include <criterion/criterion.h>

#define FIRST 21
#define SECOND 22
#define THIRD 23

static struct handle *holder;

/* A pool of one connection, which the holder has. */
static void busy(void)
{
    kit_start(1, 0);
    holder = kit_checkout(KIT_OWNER);
}

/* ---- enqueue and grant ---- */

TestSuite(waiter, .init = busy);

KIT_TEST(waiter, gets_the_connection_at_checkin)
{
    struct handle *waiting = kit_enqueue(FIRST);
    struct sp_conn *conn = holder->conn;

    cr_assert_eq(kit_stats().waiting, 1);
    cr_assert_eq(fake_notes(FIRST), 0);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert_eq(fake_notes(FIRST), 1);
    cr_assert_eq(fake_note(FIRST, 0)->status, SP_OK);
    cr_assert_eq(fake_note(FIRST, 0)->conn, conn);
    cr_assert_eq(kit_stats().waiting, 0);
    cr_assert(kit_adopt(waiting));
    cr_assert_eq(waiting->conn, conn);
    cr_assert_eq(atomic_load(&conn->owner), FIRST);
    cr_assert_eq(fake_conn_refs(conn), 2);
    cr_assert_eq(fake_waiters(), 0, "both references are gone");
    cr_assert_eq(kit_stats().checkouts, 2);
    cr_assert_eq(kit_stats().reused, 1);
    cr_assert_eq(kit_checkin(waiting), SP_OK);
}

KIT_TEST(waiter, first_come_first_served)
{
    struct handle *waiting[3] = {kit_enqueue(FIRST), kit_enqueue(SECOND), kit_enqueue(THIRD)};

    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(kit_checkin(i == 0 ? holder : waiting[i - 1]), SP_OK);
        cr_assert_eq(fake_notes_all(), i + 1);
        cr_assert_eq(fake_notes(FIRST + i), 1);
        cr_assert(kit_adopt(waiting[i]));
    }
}

KIT_TEST(waiter, that_comes_as_a_connection_turns_idle_gets_it_at_once)
{
    struct handle *waiting;

    cr_assert_eq(kit_checkin(holder), SP_OK);
    waiting = kit_enqueue(FIRST);
    cr_assert_eq(fake_notes(FIRST), 1);
    cr_assert(kit_adopt(waiting));
    cr_assert_eq(kit_stats().waiting, 0);
}

KIT_TEST(waiter, finds_an_idle_connection_in_any_shard)
{
    kit_close();
    kit_init(4);
    kit_config.size = 1;
    kit_open();
    cr_assert_eq(kit_grow(), 1);
    kit_home(2);
    cr_assert(kit_adopt(kit_enqueue(FIRST)));
}

KIT_TEST(waiter, gets_a_new_connection_when_it_is_ready)
{
    struct handle *waiting;

    atomic_store(&kit_pool->limit, 2);
    waiting = kit_enqueue(FIRST);
    cr_assert_eq(kit_grow(), 1);
    cr_assert_eq(fake_notes(FIRST), 1);
    cr_assert(kit_adopt(waiting));
    cr_assert_neq(waiting->conn, holder->conn);
}

KIT_TEST(waiter, wakes_the_control_process_where_there_is_room_to_grow)
{
    unsigned wakes = fake_wakes();

    kit_enqueue(FIRST);
    cr_assert_eq(fake_wakes(), wakes, "the pool is at its limit");
    atomic_store(&kit_pool->limit, 2);
    kit_enqueue(SECOND);
    cr_assert_eq(fake_wakes(), wakes + 1);
}

KIT_TEST(waiter, beyond_max_waiting_is_refused)
{
    sp_status status;

    atomic_store(&kit_pool->max_waiting, 2);
    kit_enqueue(FIRST);
    struct handle *second = kit_enqueue(SECOND);
    cr_assert_null(kit_try_enqueue(THIRD, NULL, 0, &status));
    cr_assert_eq(status, SP_FULL);
    cr_assert_eq(kit_cancel(second), SP_CANCELLED);
    cr_assert_not_null(kit_try_enqueue(THIRD, NULL, 0, &status));
}

KIT_TEST(waiter, with_max_waiting_0_nobody_waits)
{
    sp_status status;

    atomic_store(&kit_pool->max_waiting, 0);
    cr_assert_null(kit_try_enqueue(FIRST, NULL, 0, &status));
    cr_assert_eq(status, SP_FULL);
    cr_assert_eq(kit_stats().waiting, 0);
}

KIT_TEST(waiter, for_growth_only_is_refused_where_it_would_be_for_a_checkin)
{
    sp_status status;

    cr_assert_null(kit_enqueue_growing(FIRST, &status));
    cr_assert_eq(status, SP_FULL);
    cr_assert_eq(kit_stats().waiting, 0);
    /* One place more: that is the first one's, until it has left the queue. */
    atomic_store(&kit_pool->limit, 2);
    struct handle *first = kit_enqueue_growing(FIRST, &status);
    cr_assert_not_null(first);
    cr_assert_null(kit_enqueue_growing(SECOND, &status));
    cr_assert_eq(status, SP_FULL);
    cr_assert_eq(kit_cancel(first), SP_CANCELLED);
    struct handle *second = kit_enqueue_growing(SECOND, &status);
    cr_assert_not_null(second);
    /* Also while it is being made; and who waits for anything comes before. */
    struct handle *attempts[2];
    struct sp_plan plan;
    cr_assert_eq(kit_step(attempts, 2, &plan), 1);
    cr_assert_null(kit_enqueue_growing(THIRD, &status));
    cr_assert_eq(kit_cancel(second), SP_CANCELLED);
    cr_assert_not_null(kit_enqueue_growing(THIRD, &status));
    kit_connect(attempts[0], KIT_OWNER);
    cr_assert_eq(fake_notes(THIRD), 1);
    cr_assert_null(kit_enqueue_growing(FIRST, &status));
    cr_assert_eq(status, SP_FULL);
}

/* ---- dead owners ---- */

TestSuite(waiter_dead, .init = busy);

KIT_TEST(waiter_dead, is_skipped)
{
    struct handle *second;

    kit_enqueue(FIRST);
    second = kit_enqueue(SECOND);
    fake_kill(FIRST);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert_eq(fake_notes(FIRST), 0);
    cr_assert_eq(fake_notes(SECOND), 1);
    cr_assert(kit_adopt(second));
    cr_assert_eq(kit_stats().closed, 0, "the connection was not used");
}

KIT_TEST(waiter_dead, where_all_are_dead_the_connection_is_idle)
{
    kit_enqueue(FIRST);
    kit_enqueue(SECOND);
    fake_kill(FIRST);
    fake_kill(SECOND);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert_eq(kit_stats().idle, 1);
    cr_assert_eq(kit_stats().waiting, 0);
}

static void kill_owner(void *owner)
{
    fake_kill(*(uint64_t *)owner);
}

KIT_TEST(waiter_dead, as_it_is_told_leaves_the_connection_to_the_next)
{
    uint64_t first = FIRST;
    struct handle *second;

    kit_enqueue(FIRST);
    second = kit_enqueue(SECOND);
    fake_host_hook(FAKE_ON_NOTIFY, kill_owner, &first);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert_eq(fake_notes(FIRST), 0);
    cr_assert(kit_adopt(second));
    cr_assert_eq(kit_stats().total, 1);
    cr_assert_eq(kit_stats().closed, 0);
}

static struct handle *first_handle;

/* Its owner dies, its handle is collected, and the connection goes another way and is closed, all
 * of it while the granter is still telling the owner. */
static void end_of_it_all(void *arg)
{
    struct handle *other;

    (void)arg;
    fake_kill(FIRST);
    kit_drop(first_handle);
    other = kit_checkout(KIT_OTHER);
    cr_assert_eq(kit_discard(other), SP_OK);
    sp_close_work(kit_pool, kit_call());
    cr_assert_eq(fake_conns(), 1, "the granter still looks at the connection");
}

KIT_TEST(waiter_dead, the_granter_keeps_the_connection_it_looks_at)
{
    first_handle = kit_enqueue(FIRST);
    fake_host_hook(FAKE_ON_NOTIFY, end_of_it_all, NULL);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert_eq(fake_conns(), 0);
    cr_assert_eq(kit_stats().total, 0);
}

/* ---- cancel ---- */

TestSuite(waiter_cancel, .init = busy);

KIT_TEST(waiter_cancel, while_waiting_leaves_the_queue)
{
    struct handle *first = kit_enqueue(FIRST), *second = kit_enqueue(SECOND);

    cr_assert_eq(kit_cancel(first), SP_CANCELLED);
    cr_assert_eq(kit_stats().waiting, 1);
    cr_assert_eq(kit_stats().timeouts, 1);
    cr_assert_eq(fake_waiters(), 2, "the handle has its reference still");
    cr_assert_not(kit_adopt(first));
    kit_drop(first);
    cr_assert_eq(fake_waiters(), 1);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert_eq(fake_notes(FIRST), 0);
    cr_assert(kit_adopt(second));
}

KIT_TEST(waiter_cancel, of_the_last_one_leaves_the_connection_idle)
{
    cr_assert_eq(kit_cancel(kit_enqueue(FIRST)), SP_CANCELLED);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert_eq(kit_stats().idle, 1);
    cr_assert_eq(fake_notes_all(), 0);
}

KIT_TEST(waiter_cancel, from_the_middle_keeps_the_order)
{
    struct handle *first = kit_enqueue(FIRST), *second = kit_enqueue(SECOND);
    struct handle *third = kit_enqueue(THIRD);

    cr_assert_eq(kit_cancel(second), SP_CANCELLED);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert(kit_adopt(first));
    cr_assert_eq(kit_checkin(first), SP_OK);
    cr_assert(kit_adopt(third));
}

KIT_TEST(waiter_cancel, after_the_grant_says_that_it_is_told)
{
    struct handle *waiting = kit_enqueue(FIRST);

    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert_eq(kit_cancel(waiting), SP_GRANTED);
    cr_assert_eq(kit_stats().timeouts, 0);
    cr_assert_eq(fake_notes(FIRST), 1);
    cr_assert(kit_adopt(waiting));
}

KIT_TEST(waiter_cancel, after_the_pool_was_shut_says_that_it_failed)
{
    struct handle *waiting = kit_enqueue(FIRST);

    kit_shut(SP_PHASE_DOWN, SP_CLOSED);
    cr_assert_eq(fake_notes(FIRST), 1);
    cr_assert_eq(fake_note(FIRST, 0)->status, SP_CLOSED);
    cr_assert_eq(kit_cancel(waiting), SP_FAILED);
    cr_assert_not(kit_adopt(waiting));
    kit_drop(waiting);
}

KIT_TEST(waiter_cancel, twice_changes_nothing)
{
    struct handle *waiting = kit_enqueue(FIRST);

    cr_assert_eq(kit_cancel(waiting), SP_CANCELLED);
    cr_assert_eq(kit_cancel(waiting), SP_CANCELLED);
    cr_assert_eq(kit_stats().waiting, 0);
    cr_assert_eq(fake_waiters(), 1);
}

static enum sp_waiter_state cancelled_as;

static void cancel_first(void *arg)
{
    (void)arg;
    cancelled_as = kit_cancel(first_handle);
}

KIT_TEST(waiter_cancel, between_grant_and_hand_over_says_that_it_will_be_told)
{
    first_handle = kit_enqueue(FIRST);
    fake_host_hook(FAKE_ON_ALIVE, cancel_first, NULL);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert_eq(cancelled_as, SP_GRANTED);
    cr_assert_eq(fake_notes(FIRST), 1);
    cr_assert(kit_adopt(first_handle));
}

/* ---- abandon ---- */

TestSuite(waiter_abandon, .init = busy);

KIT_TEST(waiter_abandon, while_waiting_leaves_the_queue_and_frees_it)
{
    kit_drop(kit_enqueue(FIRST));
    cr_assert_eq(kit_stats().waiting, 0);
    cr_assert_eq(kit_stats().timeouts, 0);
    cr_assert_eq(fake_waiters(), 0);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert_eq(kit_stats().idle, 1);
}

KIT_TEST(waiter_abandon, after_the_grant_gives_the_lease_back)
{
    struct handle *first = kit_enqueue(FIRST), *second = kit_enqueue(SECOND);

    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert_eq(fake_notes(FIRST), 1);
    kit_drop(first);
    cr_assert_eq(kit_stats().abandoned, 1);
    cr_assert_eq(fake_notes(SECOND), 1, "untouched, so for the next");
    cr_assert(kit_adopt(second));
    cr_assert_eq(fake_waiters(), 0);
}

KIT_TEST(waiter_abandon, after_the_lease_was_swept_changes_nothing)
{
    struct handle *first = kit_enqueue(FIRST), *other;

    cr_assert_eq(kit_checkin(holder), SP_OK);
    fake_kill(FIRST);
    kit_tick();
    cr_assert_eq(kit_stats().abandoned, 1);
    other = kit_checkout(KIT_OTHER);
    kit_drop(first);
    cr_assert_eq(kit_stats().abandoned, 1);
    cr_assert_eq(atomic_load(&other->conn->lease), other->lease);
}

KIT_TEST(waiter_abandon, after_the_pool_was_shut_changes_nothing)
{
    struct handle *waiting = kit_enqueue(FIRST);

    kit_shut(SP_PHASE_DOWN, SP_CLOSED);
    kit_drop(waiting);
    cr_assert_eq(fake_waiters(), 0);
    cr_assert_eq(fake_notes(FIRST), 1);
}

static void drop_first(void *arg)
{
    (void)arg;
    kit_drop(first_handle);
}

KIT_TEST(waiter_abandon, before_the_hand_over_lets_the_connection_go_on)
{
    struct handle *second;

    first_handle = kit_enqueue(FIRST);
    second = kit_enqueue(SECOND);
    fake_host_hook(FAKE_ON_ALIVE, drop_first, NULL);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert_eq(fake_notes(FIRST), 0);
    cr_assert_eq(fake_notes(SECOND), 1);
    cr_assert(kit_adopt(second));
    cr_assert_eq(fake_conn_refs(second->conn), 2);
    cr_assert_eq(kit_stats().abandoned, 0, "there was no lease yet");
}

KIT_TEST(waiter_abandon, after_the_hand_over_but_before_it_is_told)
{
    struct handle *second;

    first_handle = kit_enqueue(FIRST);
    second = kit_enqueue(SECOND);
    fake_host_hook(FAKE_ON_NOTIFY, drop_first, NULL);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert_eq(kit_stats().abandoned, 1);
    cr_assert_eq(fake_notes(SECOND), 1);
    cr_assert(kit_adopt(second));
    cr_assert_eq(fake_conn_refs(second->conn), 2);
    cr_assert_eq(fake_waiters(), 0);
}

KIT_TEST(waiter_abandon, by_a_dead_owner_before_it_is_told)
{
    struct handle *second;

    first_handle = kit_enqueue(FIRST);
    second = kit_enqueue(SECOND);
    fake_kill(FIRST);
    fake_host_hook(FAKE_ON_ALIVE, drop_first, NULL);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert_eq(fake_notes(FIRST), 0);
    cr_assert(kit_adopt(second));
    cr_assert_eq(kit_stats().leased, 1);
}

/* ---- shutting ---- */

KIT_TEST(waiter_shut, all_waiters_fail_once_in_their_order, .init = busy)
{
    kit_enqueue(FIRST);
    kit_enqueue(SECOND);
    kit_enqueue(THIRD);
    kit_shut(SP_PHASE_CLOSED, SP_DRAINING);
    cr_assert_eq(fake_notes_all(), 3);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(fake_note_at(i)->owner, FIRST + i);
        cr_assert_eq(fake_note_at(i)->status, SP_DRAINING);
    }
    cr_assert_eq(kit_stats().waiting, 0);
}

KIT_TEST(waiter_shut, dead_ones_among_them_do_no_harm, .init = busy)
{
    kit_enqueue(FIRST);
    kit_enqueue(SECOND);
    fake_kill(FIRST);
    kit_shut(SP_PHASE_CLOSED, SP_DRAINING);
    cr_assert_eq(fake_notes_all(), 1);
    cr_assert_eq(fake_notes(SECOND), 1);
}

static struct handle *given;
static uint64_t moved_to;

static void shut(void *arg)
{
    (void)arg;
    kit_shut(SP_PHASE_DOWN, SP_CLOSED);
}

static void adopt_and_give_away(void *arg)
{
    (void)arg;
    cr_assert(kit_adopt(given));
    moved_to = sp_conn_give_away(given->conn, given->lease, SECOND);
}

KIT_TEST(waiter_shut, that_misses_a_lease_being_made_leaves_none_to_be_given_away, .init = busy)
{
    int fd = holder->conn->fd;

    given = kit_enqueue(FIRST);
    fake_host_hook(FAKE_ON_ALIVE, shut, NULL);
    fake_host_hook(FAKE_ON_NOTIFY, adopt_and_give_away, NULL);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    cr_assert_eq(fake_notes(FIRST), 1);
    cr_assert_eq(moved_to, SP_LEASE_NONE);
    cr_assert_not(sp_conn_enter(given->conn, given->lease, kit_call()));
    sp_close_work(kit_pool, kit_call());
    cr_assert_not(fake_fd_open(fd));
}
