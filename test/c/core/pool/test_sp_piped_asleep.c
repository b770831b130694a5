/* sp_piped for a host whose callers all sleep, as the C node's: requests are put on pipes with who is told of the reply, and the
 * control plane does the rest. */
#include "kit/pipe_kit.h"

#include <criterion/criterion.h>

/* The kit's, without what such a host has not. */
static struct sp_host host;

static void open_asleep(void)
{
    pipe_open_one();
    host = fake_host;
    host.pipe_unselect = NULL;
    host.keepsake_drop = NULL;
    kit_pool->host = &host;
}

TestSuite(piped_asleep, .init = open_asleep);

static struct iovec bytes[16];
static bool may_linger;

static struct sp_waiter *waiter_of(uint64_t owner, const char *text)
{
    struct iovec *iov = &bytes[owner];
    struct sp_waiter *waiter;

    *iov = (struct iovec){.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    waiter = fake_waiter_new(kit_pool, owner, iov, 1);
    waiter->piped = true;
    waiter->want.packet = true;
    return waiter;
}

static struct sp_waiter *ask(uint64_t owner, const char *text)
{
    struct sp_waiter *waiter = waiter_of(owner, text);

    cr_assert_eq(sp_piped_request_asleep(kit_pool, kit_call(), waiter, &may_linger), SP_OK);
    return waiter;
}

static uint64_t at(const struct sp_waiter *waiter)
{
    return sp_piped_at(waiter->pipe, waiter->lease);
}

static void step(void)
{
    cr_assert_not(sp_piped_step(kit_pool, kit_call()));
}

KIT_TEST(piped_asleep, what_comes_before_a_step_goes_out_in_one_write)
{
    struct sp_waiter *waiters[4];
    unsigned writes;

    for (uint64_t i = 0; i < 4; i++)
        waiters[i] = ask(i + 1, (const char *[]){"a", "b", "c", "d"}[i]);
    pipe_sent("");
    writes = fake_calls(FAKE_SEND);
    step();
    pipe_sent("abcd");
    cr_assert_eq(fake_calls(FAKE_SEND), writes + 1);
    for (int i = 0; i < 4; i++)
        peer_says((const char *[]){"A", "B", "C", "D"}[i]);
    pipe_fire(false);
    for (uint64_t i = 0; i < 4; i++) {
        pipe_told(i + 1, (const char *[]){"A", "B", "C", "D"}[i]);
        sp_waiter_unref(waiters[i]);
    }
    cr_assert_eq(kit_stats().pipelined, 4);
    pipe_idle(1);
}

static void four_at_once(void)
{
    struct sp_waiter *waiters[4];

    for (uint64_t i = 0; i < 4; i++)
        waiters[i] = ask(i + 1, "x");
    step();
    for (int i = 0; i < 4; i++)
        peer_says("X");
    pipe_fire(false);
    for (int i = 0; i < 4; i++)
        sp_waiter_unref(waiters[i]);
}

/* Of one who is usually alone the bytes go out at once; where four come at once, for one of them it is worth waiting. */
KIT_TEST(piped_asleep, whether_more_are_likely_to_come)
{
    struct sp_waiter *waiter = ask(1, "a");

    cr_assert_not(may_linger);
    step();
    peer_says("A");
    pipe_fire(false);
    sp_waiter_unref(waiter);
    for (int i = 0; i < 20; i++)
        four_at_once();
    waiter = ask(5, "b");
    cr_assert(may_linger);
    /* Any step writes it. */
    step();
    peer_says("B");
    pipe_fire(false);
    pipe_told(5, "B");
    sp_waiter_unref(waiter);
}

/* Nobody but the control process is told of a descriptor. */
KIT_TEST(piped_asleep, one_alone_is_told_of_its_reply)
{
    struct sp_waiter *waiter = ask(1, "a");

    step();
    cr_assert(fake_selected(pipe_fd(), false)->pending);
    cr_assert_eq(fake_selected(pipe_fd(), false)->owner, 0);
    peer_says("A");
    pipe_fire(false);
    pipe_told(1, "A");
    sp_waiter_unref(waiter);
    pipe_idle(1);
}

KIT_TEST(piped_asleep, who_gives_up_is_told_nothing)
{
    struct sp_waiter *first = ask(1, "a"), *second = ask(2, "b");

    step();
    cr_assert_eq(pipe_leave(at(first), 1, true), SP_TIMEOUT);
    sp_waiter_abandon(first, kit_call());
    peer_says("A");
    peer_says("B");
    pipe_fire(false);
    cr_assert_eq(fake_told(1), 0);
    pipe_told(2, "B");
    sp_waiter_unref(second);
    pipe_idle(1);
}

KIT_TEST(piped_asleep, who_gives_up_unwritten_is_written_all_the_same)
{
    struct sp_waiter *first = ask(1, "a"), *second = ask(2, "b");

    cr_assert_eq(pipe_leave(at(first), 1, true), SP_TIMEOUT);
    sp_waiter_abandon(first, kit_call());
    step();
    pipe_sent("ab");
    peer_says("A");
    peer_says("B");
    pipe_fire(false);
    pipe_told(2, "B");
    sp_waiter_unref(second);
}

KIT_TEST(piped_asleep, where_there_is_no_room_it_waits_in_the_queue)
{
    struct sp_waiter *waiters[4], *fifth = waiter_of(5, "e"), *sixth = waiter_of(6, "f");

    for (uint64_t i = 0; i < 4; i++)
        waiters[i] = ask(i + 1, "x");
    cr_assert_eq(sp_piped_request_asleep(kit_pool, kit_call(), fifth, &may_linger), SP_EMPTY);
    cr_assert_eq(sp_pool_enqueue(kit_pool, kit_call(), fifth), SP_OK);
    step();
    peer_says("A");
    pipe_fire(false);
    pipe_told(1, "A");
    cr_assert_eq(fake_told(5), 0);
    pipe_sent("xxxxe");
    /* Nor does anybody come before one who waits. */
    cr_assert_eq(sp_piped_request_asleep(kit_pool, kit_call(), sixth, &may_linger), SP_EMPTY);
    fake_host.waiter_free(sixth);
    for (int i = 0; i < 4; i++)
        peer_says("B");
    pipe_fire(false);
    pipe_told(5, "B");
    for (int i = 0; i < 4; i++)
        sp_waiter_unref(waiters[i]);
    sp_waiter_unref(fifth);
    pipe_idle(1);
}

KIT_TEST(piped_asleep, what_is_not_out_when_it_breaks_is_to_be_asked_again)
{
    struct sp_waiter *first = ask(1, "aaaa"), *second;

    fake_send_room(pipe_fd(), 2);
    step();
    second = ask(2, "b");
    fake_peer_closes(pipe_fd());
    pipe_fire(false);
    pipe_told_why(1, SP_CLOSED);
    pipe_told_why(2, SP_AGAIN);
    sp_waiter_unref(first);
    sp_waiter_unref(second);
    kit_check();
}

KIT_TEST(piped_asleep, a_pool_that_is_shut_takes_nothing)
{
    struct sp_waiter *first = ask(1, "a"), *second = waiter_of(2, "b");

    kit_shut(SP_PHASE_DRAINING, SP_DRAINING);
    pipe_told_why(1, SP_AGAIN);
    cr_assert_eq(sp_piped_request_asleep(kit_pool, kit_call(), second, &may_linger), SP_DRAINING);
    fake_host.waiter_free(second);
    sp_waiter_unref(first);
}
