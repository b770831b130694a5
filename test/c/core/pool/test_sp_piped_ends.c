/* sp_piped and core/pipe: writes in parts, connections that end, servers that stall; several connections. */
#include "kit/pipe_kit.h"

#include <criterion/criterion.h>
#include <errno.h>

TestSuite(piped_ends, .init = pipe_open_one);

/* ---- writing in parts ---- */

KIT_TEST(piped_ends, what_does_not_fit_goes_out_when_there_is_room)
{
    uint64_t a, b;

    fake_send_room(pipe_fd(), 3);
    a = pipe_ask(1, "hello");
    b = pipe_ask(2, "world");
    cr_assert(fake_selected(pipe_fd(), true)->pending);
    cr_assert_eq(pipe_look(a, 1, false), SP_WANT_READ);
    pipe_sent("hel");
    fake_send_room(pipe_fd(), 100);
    pipe_fire(true);
    pipe_sent("helloworld");
    peer_says("A");
    peer_says("B");
    pipe_replies(a, 1, "A");
    pipe_replies(b, 2, "B");
    pipe_idle(1);
}

KIT_TEST(piped_ends, a_server_may_answer_before_it_has_read_all)
{
    uint64_t a;

    fake_send_room(pipe_fd(), 3);
    a = pipe_ask(1, "hello");
    peer_says("A");
    pipe_replies(a, 1, "A");
    cr_assert_eq(kit_stats().leased, 1); /* the rest is still to go out */
    fake_send_room(pipe_fd(), 100);
    pipe_fire(true);
    pipe_idle(1);
}

/* ---- ends ---- */

KIT_TEST(piped_ends, what_is_out_is_lost_with_its_connection_and_nothing_else)
{
    uint64_t a, b, c;

    fake_send_room(pipe_fd(), 5);
    a = pipe_ask(1, "hello");
    b = pipe_ask(2, "world");
    c = pipe_ask(3, "!");
    fake_peer_resets(pipe_fd());
    cr_assert_eq(pipe_look(a, 1, false), SP_CLOSED);
    cr_assert_eq(pipe_look(b, 2, false), SP_AGAIN); /* in the buffer behind it */
    cr_assert_eq(pipe_look(c, 3, false), SP_AGAIN);
    cr_assert_eq(kit_stats().closed, 1);
}

KIT_TEST(piped_ends, of_what_a_part_is_out_counts_as_out)
{
    uint64_t a = pipe_ask(1, "a"), b, c;

    fake_send_room(pipe_fd(), 3);
    b = pipe_ask(2, "hello");
    (void)pipe_look(a, 1, false);
    c = pipe_ask(3, "world");
    pipe_sent("ahel");
    fake_peer_closes(pipe_fd());
    cr_assert_eq(pipe_look(c, 3, false), SP_AGAIN);
    cr_assert_eq(pipe_look(b, 2, false), SP_CLOSED);
    cr_assert_eq(pipe_look(a, 1, false), SP_CLOSED);
}

KIT_TEST(piped_ends, who_sleeps_is_told_of_the_end)
{
    uint64_t a = pipe_ask(1, "a"), b = pipe_ask(2, "b");

    pipe_sleep(a, 1);
    pipe_sleep(b, 2);
    fake_peer_closes(pipe_fd());
    pipe_fire(false);
    pipe_told_why(1, SP_CLOSED);
    pipe_told_why(2, SP_CLOSED);
}

KIT_TEST(piped_ends, replies_before_the_end_are_delivered)
{
    uint64_t a = pipe_ask(1, "a"), b = pipe_ask(2, "b");

    (void)pipe_look(a, 1, false);
    peer_says("A");
    fake_peer_closes(pipe_fd());
    pipe_replies(a, 1, "A");
    cr_assert_eq(pipe_look(b, 2, false), SP_CLOSED);
}

KIT_TEST(piped_ends, last_words_come_before_a_failed_write)
{
    uint64_t a = pipe_ask(1, "a"), b;

    peer_says("A");
    fake_fail(FAKE_SEND, EPIPE);
    b = pipe_ask(2, "b");
    pipe_replies(a, 1, "A");
    cr_assert_eq(pipe_look(b, 2, false), SP_AGAIN);
}

KIT_TEST(piped_ends, bytes_that_nobody_asked_for_close_it)
{
    uint64_t a = pipe_ask(1, "a");

    peer_says("A");
    peer_says("and more");
    pipe_replies(a, 1, "A");
    cr_assert_eq(kit_stats().closed, 1);
    cr_assert_eq(kit_stats().leased, 0);
}

KIT_TEST(piped_ends, an_unasked_reply_is_not_the_next_ones)
{
    uint64_t a = pipe_ask(1, "a"), b;

    fake_send_room(pipe_fd(), 0);
    b = pipe_ask(2, "b");
    peer_says("A");
    peer_says("unasked");
    pipe_replies(a, 1, "A");
    cr_assert_eq(pipe_look(b, 2, false), SP_AGAIN);
    cr_assert_eq(kit_stats().closed, 1);
}

KIT_TEST(piped_ends, a_reply_above_the_limit_is_the_oldests_fault)
{
    uint64_t a, b;

    kit_pool->table.slots[0]->recv_limit_bytes = 10;
    a = pipe_ask(1, "a");
    b = pipe_ask(2, "b");
    (void)pipe_look(a, 1, false);
    peer_says("more than ten bytes");
    cr_assert_eq(pipe_look(a, 1, false), SP_TOO_BIG);
    cr_assert_eq(pipe_look(b, 2, false), SP_CLOSED);
}

KIT_TEST(piped_ends, a_server_that_does_not_answer_gets_nothing_new_and_is_given_up)
{
    uint64_t a = pipe_ask(1, "a"), b;

    fake_sleep_ms(PIPE_STALL_MS / 10 - 100);
    b = pipe_ask(2, "b");
    (void)pipe_look(b, 2, false);
    fake_sleep_ms(200);
    cr_assert_eq(pipe_try(3, "c", &b), SP_EMPTY);
    fake_sleep_ms(PIPE_STALL_MS);
    kit_tick();
    cr_assert_eq(pipe_look(a, 1, false), SP_CLOSED);
    cr_assert_eq(kit_stats().closed, 1);
}

KIT_TEST(piped_ends, a_server_that_answers_slowly_is_none_that_stalls)
{
    uint64_t at[4];

    pipe_fill(at);
    for (uint64_t i = 0; i < 4; i++) {
        fake_sleep_ms(PIPE_STALL_MS - 100);
        kit_tick();
        peer_says("A");
        pipe_replies(at[i], i + 1, "A");
    }
    pipe_idle(1);
}

/* It was the pool's process, or the machine, that stood still. */
KIT_TEST(piped_ends, a_reply_that_is_there_is_late_no_more)
{
    uint64_t a = pipe_ask(1, "a"), b = pipe_ask(2, "b");

    pipe_sleep(b, 2);
    peer_says("A");
    fake_sleep_ms(2 * PIPE_STALL_MS);
    kit_tick();
    pipe_replies(a, 1, "A");
    fake_sleep_ms(PIPE_STALL_MS + 1);
    kit_tick();
    pipe_told_why(2, SP_CLOSED);
}

KIT_TEST(piped_ends, a_shut_ends_all)
{
    uint64_t a = pipe_ask(1, "a"), b = pipe_ask(2, "b"), c;
    struct sp_waiter *waiter;
    struct iovec iov;

    pipe_sleep(a, 1);
    c = pipe_ask(3, "c");
    (void)pipe_ask(4, "d");
    waiter = pipe_wait(5, &iov, "e");
    fake_kill(4);
    kit_shut(SP_PHASE_CLOSED, SP_DRAINING);
    cr_assert_eq(fake_told(1), 1);
    cr_assert(pipe_look(b, 2, false) == SP_CLOSED);
    cr_assert(pipe_look(c, 3, false) == SP_AGAIN || pipe_look(c, 3, false) == SP_NOT_FOUND);
    cr_assert_eq(pipe_try(1, "x", &a), SP_NOT_FOUND);
    sp_waiter_abandon(waiter, kit_call());
    kit_open();
    (void)kit_grow();
    a = pipe_ask(1, "a");
    peer_says("A");
    pipe_replies(a, 1, "A");
}

KIT_TEST(piped_ends, a_lease_that_a_shut_has_ended_ends_the_pipe)
{
    uint64_t a = pipe_ask(1, "a");
    struct sp_conn *conn = kit_pool->table.slots[0];

    cr_assert(sp_pool_revoke(kit_pool, kit_call(), conn, atomic_load(&conn->lease)));
    cr_assert_eq(pipe_look(a, 1, false), SP_CLOSED);
}

/* ---- several connections ---- */

KIT_TEST(piped_ends, a_ring_of_another_size_keeps_what_was_not_taken)
{
    uint64_t a = pipe_ask(1, "a"), b;

    peer_says("A");
    kit_tick();
    kit_shut(SP_PHASE_CLOSED, SP_DRAINING);
    kit_config.pipeline = 64;
    kit_open();
    (void)kit_grow();
    b = pipe_ask(2, "b");
    pipe_replies(a, 1, "A");
    peer_says("B");
    pipe_replies(b, 2, "B");
}

KIT_TEST(piped_several, what_is_full_makes_others_start)
{
    uint64_t at[8], late;

    pipe_open(4, 2);
    for (uint64_t i = 0; i < 8; i++)
        at[i] = pipe_ask(i + 1, "x");
    cr_assert_eq(kit_stats().leased, 2);
    cr_assert_eq(pipe_try(9, "x", &late), SP_EMPTY);
    for (uint64_t i = 0; i < 8; i++)
        cr_assert_eq(pipe_look(at[i], i + 1, false), SP_WANT_READ);
    for (uint32_t i = 0; i < 2; i++)
        fake_peer_sends(kit_pool->table.slots[i]->fd, "\1A\1B\1C\1D", 8);
    for (uint64_t i = 0; i < 8; i++)
        cr_assert_eq(pipe_look(at[i], i + 1, false), SP_OK);
    pipe_idle(2);
}
