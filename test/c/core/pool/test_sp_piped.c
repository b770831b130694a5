/* sp_piped and core/pipe: requests of several callers on one connection, each of which gets its own reply. */
#include "kit/pipe_kit.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

TestSuite(piped, .init = pipe_open_one);

/* ---- one after the other ---- */

KIT_TEST(piped, one_request_goes_out_at_once)
{
    uint64_t at = pipe_ask(KIT_OWNER, "hello");

    pipe_sent("hello");
    cr_assert_eq(pipe_look(at, KIT_OWNER, false), SP_WANT_READ);
    cr_assert_eq(kit_stats().leased, 1);
    peer_says("world");
    pipe_replies(at, KIT_OWNER, "world");
    pipe_idle(1);
    cr_assert_eq(pipe_look(at, KIT_OWNER, false), SP_NOT_FOUND);
    cr_assert_eq(kit_stats().pipelined, 1);
}

KIT_TEST(piped, many_share_a_connection_and_each_gets_its_own)
{
    uint64_t a = pipe_ask(1, "a"), b = pipe_ask(2, "b"), c = pipe_ask(3, "c");

    cr_assert_eq(pipe_look(a, 1, false), SP_WANT_READ); /* and what is not out yet goes out */
    pipe_sent("abc");
    peer_says("A");
    peer_says("B");
    peer_says("C");
    pipe_replies(c, 3, "C");
    pipe_replies(a, 1, "A");
    pipe_replies(b, 2, "B");
    pipe_idle(1);
}

KIT_TEST(piped, nobody_takes_anothers_reply)
{
    uint64_t a = pipe_ask(1, "a");

    peer_says("A");
    cr_assert_eq(pipe_look(a, 2, false), SP_NOT_FOUND);
    cr_assert_eq(pipe_look(a + (1 << 16), 1, false), SP_NOT_FOUND);
    cr_assert_eq(pipe_look(77, 1, false), SP_NOT_FOUND);
    pipe_replies(a, 1, "A");
}

static void peer_sends(const char *bytes, size_t len)
{
    if (len > 0)
        fake_peer_sends(pipe_fd(), bytes, len);
    kit_tick();
}

KIT_TEST(piped, every_split_gives_the_same_replies)
{
    static const char STREAM[] = "\1A\2BB\0\3CCC";

    for (size_t first = 0; first < sizeof STREAM; first++)
        for (size_t second = first; second < sizeof STREAM; second++) {
            uint64_t at[4];
            for (uint64_t i = 0; i < 4; i++)
                at[i] = pipe_ask(i + 1, "x");
            cr_assert_eq(pipe_look(at[3], 4, false), SP_WANT_READ);
            peer_sends(STREAM, first);
            peer_sends(STREAM + first, second - first);
            peer_sends(STREAM + second, sizeof STREAM - 1 - second);
            pipe_replies(at[3], 4, "CCC");
            pipe_replies(at[2], 3, "");
            pipe_replies(at[0], 1, "A");
            pipe_replies(at[1], 2, "BB");
            pipe_idle(1);
        }
}

KIT_TEST(piped, a_number_of_bytes_may_be_asked_for)
{
    struct iovec iov;
    struct sp_ask ask = pipe_asks(1, "a", &iov);
    uint64_t a, b;

    ask.want = (struct sp_want){.len_bytes = 3};
    cr_assert_eq(sp_piped_request(kit_pool, kit_call(), &ask, &a), SP_OK);
    b = pipe_ask(2, "b");
    (void)pipe_look(b, 2, false);
    fake_peer_sends(pipe_fd(), "xyz\1B", 5);
    pipe_replies(b, 2, "B");
    pipe_replies(a, 1, "xyz");
}

KIT_TEST(piped, a_long_reply_is_handed_over)
{
    enum { LEN = 300 * 1000 };
    char *bytes = malloc(LEN);
    struct iovec iov;
    struct sp_ask ask = pipe_asks(1, "a", &iov);
    struct sp_reply reply = {.far = NULL};
    uint64_t a, b;

    for (int i = 0; i < LEN; i++)
        bytes[i] = (char)(i * 31 >> 4);
    ask.want = (struct sp_want){.len_bytes = LEN};
    cr_assert_eq(sp_piped_request(kit_pool, kit_call(), &ask, &a), SP_OK);
    b = pipe_ask(2, "b");
    (void)pipe_look(b, 2, false);
    fake_peer_sends(pipe_fd(), bytes, LEN);
    peer_says("B");
    for (int i = 0; i < 20; i++)
        (void)pipe_look(b, 77, false), kit_tick();
    cr_assert_eq(sp_piped_look(kit_pool, kit_call(), a, 1, false, &reply), SP_OK);
    cr_assert_eq(reply.len, LEN);
    cr_assert_arr_eq(reply.far + reply.offset, bytes, LEN);
    fake_reply_free(&reply);
    pipe_replies(b, 2, "B");
    free(bytes);
}

/* ---- asleep ---- */

KIT_TEST(piped, who_is_alone_is_told_by_its_select)
{
    uint64_t at = pipe_ask(1, "a");

    pipe_sleep(at, 1);
    cr_assert_eq(fake_selected(pipe_fd(), false)->owner, 1);
    peer_says("A");
    pipe_fire(false);
    cr_assert_eq(pipe_look(at, 1, true), SP_OK);
    cr_assert_eq(fake_told(1), 0);
    pipe_idle(1);
}

KIT_TEST(piped, a_select_that_fired_for_nothing_is_renewed)
{
    uint64_t at = pipe_ask(1, "a");

    pipe_sleep(at, 1);
    pipe_fire(false);
    cr_assert_eq(pipe_look(at, 1, true), SP_WANT_READ);
    pipe_sleep(at, 1);
    cr_assert(fake_selected(pipe_fd(), false)->pending);
    peer_says("A");
    pipe_fire(false);
    cr_assert_eq(pipe_look(at, 1, true), SP_OK);
}

KIT_TEST(piped, who_sleeps_depends_on_no_other_sleeper)
{
    uint64_t a = pipe_ask(1, "a"), b = pipe_ask(2, "b");

    pipe_sleep(a, 1);
    pipe_sleep(b, 2);
    cr_assert_eq(fake_selected(pipe_fd(), false)->owner, 0);
    peer_says("A");
    peer_says("B");
    pipe_fire(false);
    pipe_told(1, "A");
    pipe_told(2, "B");
    pipe_idle(1);
}

KIT_TEST(piped, a_sleeper_is_told_by_who_receives_first)
{
    uint64_t a = pipe_ask(1, "a"), b;

    pipe_sleep(a, 1);
    b = pipe_ask(2, "b");
    peer_says("A");
    peer_says("B");
    pipe_replies(b, 2, "B");
    pipe_told(1, "A");
    cr_assert_not(fake_selected(pipe_fd(), false)->pending);
    pipe_idle(1);
}

KIT_TEST(piped, who_was_told_by_its_select_is_not_told_again)
{
    uint64_t a = pipe_ask(1, "a"), b;

    pipe_sleep(a, 1);
    pipe_fire(false);
    b = pipe_ask(2, "b");
    peer_says("A");
    peer_says("B");
    pipe_replies(b, 2, "B");
    cr_assert_eq(fake_told(1), 0);
    cr_assert_eq(pipe_look(a, 1, true), SP_OK);
    cr_assert_str_eq(pipe_reply, "A");
}

/* ---- giving up ---- */

KIT_TEST(piped, a_reply_that_nobody_wants_is_dropped)
{
    uint64_t a = pipe_ask(1, "a"), b = pipe_ask(2, "b");

    cr_assert_eq(pipe_leave(a, 1, false), SP_TIMEOUT);
    peer_says("A");
    peer_says("B");
    pipe_replies(b, 2, "B");
    pipe_idle(1);
}

KIT_TEST(piped, who_gives_up_late_has_its_reply)
{
    uint64_t a = pipe_ask(1, "a"), b = pipe_ask(2, "b");

    peer_says("A");
    cr_assert_eq(pipe_look(b, 2, false), SP_WANT_READ);
    cr_assert_eq(pipe_leave(a, 1, false), SP_OK);
    cr_assert_str_eq(pipe_reply, "A");
    cr_assert_eq(pipe_leave(b, 2, false), SP_TIMEOUT);
    peer_says("B");
    kit_tick();
    pipe_idle(1);
}

KIT_TEST(piped, the_receiver_gives_up)
{
    uint64_t a = pipe_ask(1, "a"), b;

    pipe_sleep(a, 1);
    cr_assert_eq(pipe_leave(a, 1, true), SP_WANT_READ);
    pipe_told_why(1, SP_TIMEOUT);
    cr_assert_not(fake_selected(pipe_fd(), false)->pending);
    b = pipe_ask(2, "b");
    peer_says("A");
    peer_says("B");
    pipe_replies(b, 2, "B");
}

KIT_TEST(piped, the_receiver_gives_up_when_its_select_has_fired)
{
    uint64_t a = pipe_ask(1, "a");

    pipe_sleep(a, 1);
    pipe_fire(false);
    cr_assert_eq(pipe_leave(a, 1, true), SP_WANT_READ);
    cr_assert_eq(fake_told(1), 0);
    cr_assert_eq(pipe_leave(a, 1, false), SP_TIMEOUT);
    peer_says("A");
    kit_tick();
    pipe_idle(1);
}

KIT_TEST(piped, a_sleeper_who_gives_up_hears_nothing)
{
    uint64_t a = pipe_ask(1, "a"), b = pipe_ask(2, "b");

    pipe_sleep(a, 1);
    pipe_sleep(b, 2);
    cr_assert_eq(pipe_leave(b, 2, true), SP_TIMEOUT);
    peer_says("A");
    peer_says("B");
    pipe_fire(false);
    pipe_told(1, "A");
    cr_assert_eq(fake_told(2), 0);
    pipe_idle(1);
}

/* ---- the dead ---- */

KIT_TEST(piped, what_the_dead_have_asked_for_harms_nobody)
{
    uint64_t a = pipe_ask(1, "a"), b = pipe_ask(2, "b");

    pipe_sleep(a, 1);
    fake_kill(1);
    pipe_sleep(b, 2);
    peer_says("A");
    peer_says("B");
    pipe_fire(false);
    pipe_told(2, "B");
    pipe_idle(1);
}

KIT_TEST(piped, replies_of_the_dead_make_room)
{
    enum { MANY = 12 };
    uint64_t at[MANY];

    for (uint64_t i = 0; i < MANY; i++) {
        at[i] = pipe_ask(i + 1, "x");
        peer_says("reply of more than sixty-four bytes, which has memory of its own, all of it");
        kit_tick();
        if (i % 2)
            fake_kill(i + 1);
    }
    fake_sleep_ms(3000);
    kit_tick();
    cr_assert_eq(fake_replies(), MANY / 2);
    for (uint64_t i = 0; i < MANY; i += 2)
        cr_assert_eq(pipe_look(at[i], i + 1, false), SP_OK);
    cr_assert_eq(pipe_look(at[1], 2, false), SP_NOT_FOUND);
}

/* ---- room ---- */

KIT_TEST(piped, who_finds_no_room_waits_in_turn)
{
    struct sp_waiter *waiter;
    struct iovec iov;
    uint64_t at[4], late;

    pipe_fill(at);
    cr_assert_eq(pipe_try(5, "late", &late), SP_EMPTY);
    waiter = pipe_wait(5, &iov, "y");
    cr_assert_eq(kit_stats().waiting, 1);
    peer_says("A");
    pipe_replies(at[0], 1, "A");
    cr_assert_eq(kit_stats().waiting, 0);
    pipe_sent("xxxxy");
    for (int i = 0; i < 3; i++)
        peer_says("B");
    peer_says("Y");
    pipe_fire(false);
    pipe_told(5, "Y");
    for (uint64_t i = 1; i < 4; i++)
        pipe_replies(at[i], i + 1, "B");
    sp_waiter_abandon(waiter, kit_call());
    pipe_idle(1);
}

KIT_TEST(piped, who_waits_with_bytes_is_first_when_a_connection_comes)
{
    struct handle *lease = kit_checkout(9);
    struct sp_waiter *first, *second;
    struct iovec iov[2];

    first = pipe_wait(1, &iov[0], "a");
    second = pipe_wait(2, &iov[1], "b");
    cr_assert_eq(kit_checkin(lease), SP_OK);
    cr_assert_not(sp_piped_step(kit_pool, kit_call()));
    pipe_sent("ab");
    peer_says("A");
    peer_says("B");
    pipe_fire(false);
    pipe_told(1, "A");
    pipe_told(2, "B");
    sp_waiter_abandon(first, kit_call());
    sp_waiter_abandon(second, kit_call());
    pipe_idle(1);
}

KIT_TEST(piped, while_somebody_waits_for_all_of_it_nobody_else_gets_on)
{
    uint64_t a = pipe_ask(1, "a"), b;
    struct handle *wait = kit_enqueue(9);

    cr_assert_eq(pipe_try(2, "b", &b), SP_EMPTY);
    peer_says("A");
    pipe_replies(a, 1, "A");
    kit_adopt(wait);
    cr_assert_eq(kit_checkin(wait), SP_OK);
    b = pipe_ask(2, "b");
    peer_says("B");
    pipe_replies(b, 2, "B");
}

KIT_TEST(piped, bytes_are_bounded)
{
    char text[600];
    uint64_t a, b;

    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    fake_send_room(pipe_fd(), 10);
    a = pipe_ask(1, text);
    cr_assert_eq(pipe_try(2, text, &b), SP_EMPTY);
    cr_assert(sp_piped_is_too_long(kit_pool, 1001));
    cr_assert_not(sp_piped_is_too_long(kit_pool, 1000));
    fake_send_room(pipe_fd(), 10000);
    pipe_fire(true);
    b = pipe_ask(2, text);
    (void)pipe_look(a, 1, false);
    peer_says("A");
    peer_says("B");
    pipe_replies(a, 1, "A");
    pipe_replies(b, 2, "B");
}
