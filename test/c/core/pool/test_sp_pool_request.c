/* sp_pool: the request that a waiter carries, sent by whoever grants. */
#include "kit/pool_kit.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#define FIRST 21
#define SECOND 22

static struct handle *holder, *asking;
static int fd;
static char part_1[] = "hello, ", part_2[] = "world";
static const struct iovec IOV[] = {{part_1, sizeof part_1 - 1}, {part_2, sizeof part_2 - 1}};
#define WHOLE (sizeof part_1 + sizeof part_2 - 2)

/* A pool of one connection, which the holder has, and a request that waits for it. */
static void asked(void)
{
    kit_start(1, 0);
    holder = kit_checkout(KIT_OWNER);
    fd = holder->conn->fd;
    asking = kit_request(FIRST, IOV, 2);
}

static void release(void)
{
    cr_assert_eq(kit_checkin(holder), SP_OK);
}

/* What the owner was told. */
static void told(size_t sent)
{
    cr_assert_eq(fake_notes(FIRST), 1);
    cr_assert_eq(fake_note(FIRST, 0)->status, SP_OK);
    cr_assert_eq(fake_note(FIRST, 0)->sent, sent);
}

TestSuite(request, .init = asked);

KIT_TEST(request, is_sent_by_who_grants)
{
    size_t len;

    cr_assert_eq(fake_calls(FAKE_SEND), 0);
    release();
    cr_assert_eq(memcmp(fake_sent(fd, &len), "hello, world", WHOLE), 0);
    cr_assert_eq(len, WHOLE);
    cr_assert_eq(fake_calls(FAKE_SEND), 1);
    told(WHOLE);
    cr_assert(kit_adopt(asking));
    cr_assert(asking->conn->touched);
    cr_assert_not(sp_conn_pinned(asking->conn), "the granter's pin is gone");
    cr_assert(asking->conn->unanswered);
    cr_assert_eq(kit_checkin(asking), SP_OK);
    cr_assert_eq(kit_stats().idle, 0, "a reply may still come");
}

KIT_TEST(request, sent_in_part_is_the_owners_to_finish)
{
    fake_send_room(fd, 3);
    release();
    told(3);
    cr_assert(kit_adopt(asking));
    cr_assert_not(sp_conn_armed(asking->conn, asking->lease));
    cr_assert_not(sp_conn_pinned(asking->conn));
}

KIT_TEST(request, that_finds_the_socket_full_is_the_owners_to_send)
{
    fake_send_room(fd, 0);
    release();
    told(0);
}

KIT_TEST(request, whose_send_fails_lets_the_owner_find_out)
{
    fake_fail(FAKE_SEND, ECONNRESET);
    release();
    told(0);
    cr_assert(kit_adopt(asking));
    cr_assert(asking->conn->touched);
}

KIT_TEST(request, of_a_dead_owner_is_not_sent)
{
    fake_kill(FIRST);
    release();
    cr_assert_eq(fake_calls(FAKE_SEND), 0);
    cr_assert_eq(kit_stats().idle, 1);
}

static void kill_first(void *arg)
{
    (void)arg;
    fake_kill(FIRST);
}

KIT_TEST(request, sent_for_an_owner_that_died_meanwhile_costs_the_connection)
{
    struct handle *second = kit_enqueue(SECOND);
    unsigned wakes = fake_wakes();

    fake_send_room(fd, 3);
    fake_host_hook(FAKE_ON_NOTIFY, kill_first, NULL);
    release();
    cr_assert_eq(kit_stats().closed, 1, "half a request is on it");
    cr_assert_eq(fake_notes(SECOND), 0);
    cr_assert_gt(fake_wakes(), wakes);
    cr_assert_eq(kit_grow(), 1);
    cr_assert(kit_adopt(second));
}

static void kill_and_drop_first(void *arg)
{
    (void)arg;
    fake_kill(FIRST);
    kit_drop(asking);
}

KIT_TEST(request, sent_for_an_owner_that_is_gone_leaks_no_descriptor)
{
    fake_host_hook(FAKE_ON_NOTIFY, kill_and_drop_first, NULL);
    release();
    sp_close_work(kit_pool, kit_call());
    cr_assert_eq(kit_stats().total, 0);
    cr_assert_not(fake_fd_open(fd));
}

static void finish_and_die(void *arg)
{
    (void)arg;
    cr_assert_eq(kit_cancel(asking), SP_GRANTED);
    cr_assert(kit_adopt(asking));
    cr_assert_eq(kit_discard(asking), SP_OK);
    fake_kill(FIRST);
}

KIT_TEST(request, given_up_before_its_owner_is_told_leaks_no_descriptor)
{
    fake_host_hook(FAKE_ON_NOTIFY, finish_and_die, NULL);
    release();
    sp_close_work(kit_pool, kit_call());
    cr_assert_eq(kit_stats().total, 0);
    cr_assert_not(fake_fd_open(fd));
}

KIT_TEST(request, of_an_owner_gone_during_the_send_leaks_no_descriptor)
{
    fake_sys_hook(FAKE_SEND, kill_and_drop_first, NULL);
    release();
    sp_close_work(kit_pool, kit_call());
    cr_assert_eq(kit_stats().total, 0);
    cr_assert_not(fake_fd_open(fd));
}

static void shut(void *arg)
{
    (void)arg;
    kit_shut(SP_PHASE_DOWN, SP_CLOSED);
}

KIT_TEST(request, of_a_pool_that_shuts_during_the_send_keeps_the_descriptor_until_it_is_over)
{
    fake_sys_hook(FAKE_SEND, shut, NULL);
    release();
    told(0);
    cr_assert_not(fake_fd_open(fd));
    cr_assert(kit_adopt(asking));
    cr_assert_not(sp_conn_enter(asking->conn, asking->lease, kit_call()));
}

/* ---- cancel and abandon ---- */

static enum sp_waiter_state cancelled_as;

static void cancel_first(void *arg)
{
    (void)arg;
    cancelled_as = kit_cancel(asking);
}

KIT_TEST(request, cancelled_before_it_is_sent_is_taken_back)
{
    struct handle *second = kit_enqueue(SECOND);

    fake_host_hook(FAKE_ON_ALIVE, cancel_first, NULL);
    release();
    cr_assert_eq(cancelled_as, SP_CANCELLED);
    cr_assert_eq(fake_calls(FAKE_SEND), 0);
    cr_assert_eq(fake_notes(FIRST), 0);
    cr_assert_eq(kit_stats().timeouts, 1);
    cr_assert_not(kit_adopt(asking), "there is nothing to adopt");
    cr_assert(kit_adopt(second));
    cr_assert_eq(fake_conn_refs(second->conn), 2);
    kit_drop(asking);
    cr_assert_eq(fake_conn_refs(second->conn), 2, "the collected handle had no reference");
    cr_assert_eq(atomic_load(&second->conn->lease), second->lease);
    cr_assert_eq(fake_waiters(), 0);
}

KIT_TEST(request, cancelled_after_it_was_sent_is_told)
{
    release();
    cr_assert_eq(kit_cancel(asking), SP_GRANTED);
    cr_assert_eq(kit_stats().timeouts, 0);
    cr_assert(kit_adopt(asking));
    cr_assert_eq(kit_discard(asking), SP_OK);
    cr_assert_eq(kit_stats().total, 0);
}

KIT_TEST(request, cancelled_while_it_waits_is_not_sent)
{
    cr_assert_eq(kit_cancel(asking), SP_CANCELLED);
    release();
    cr_assert_eq(fake_calls(FAKE_SEND), 0);
    cr_assert_eq(kit_stats().idle, 1);
}

static void drop_first(void *arg)
{
    (void)arg;
    kit_drop(asking);
}

KIT_TEST(request, abandoned_before_it_is_sent_is_not_sent)
{
    fake_host_hook(FAKE_ON_ALIVE, drop_first, NULL);
    release();
    cr_assert_eq(fake_calls(FAKE_SEND), 0);
    cr_assert_eq(kit_stats().idle, 1);
    cr_assert_eq(fake_waiters(), 0);
}

KIT_TEST(request, abandoned_after_it_was_sent_closes_the_connection)
{
    release();
    kit_drop(asking);
    sp_close_work(kit_pool, kit_call());
    cr_assert_eq(kit_stats().abandoned, 1);
    cr_assert_not(fake_fd_open(fd));
    cr_assert_eq(kit_stats().total, 0);
}

KIT_TEST(request, whose_connection_was_closed_meanwhile_is_sent_on_another)
{
    fake_peer_closes(fd);
    release();
    cr_assert_eq(fake_notes(FIRST), 0);
    cr_assert_eq(kit_grow(), 1);
    told(WHOLE);
}
