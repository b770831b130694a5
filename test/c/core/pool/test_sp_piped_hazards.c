/* sp_piped and core/pipe: orders of events, and refusals, that must harm nobody but whom they are about. */
#include "kit/pipe_kit.h"

#include "core/pipe/sp_pipe_io.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

TestSuite(piped_hazards, .init = pipe_open_one);

static char long_text[601];

static const char *six_hundred(void)
{
    memset(long_text, 'x', sizeof long_text - 1);
    return long_text;
}

static int fd_of(uint32_t slot)
{
    return kit_pool->table.slots[slot]->fd;
}

static void says(int fd, const char *text)
{
    uint8_t len = (uint8_t)strlen(text);

    fake_peer_sends(fd, &len, 1);
    fake_peer_sends(fd, text, len);
}

/* That a request was sent on, and nothing was read of it yet. */
static int fd_that_was_sent_to(uint32_t slots)
{
    for (uint32_t i = 0; i < slots; i++) {
        size_t len;
        (void)fake_sent(fd_of(i), &len);
        if (len > 0)
            return fd_of(i);
    }
    fake_die("nothing was sent");
}

/* Whatever is under way. */
static void end_all(void)
{
    kit_allow(SP_ALLOWANCE_PIECES);
    for (uint32_t i = 0; i < kit_pool->table.count; i++)
        if (kit_pool->table.slots[i])
            fake_peer_resets(fd_of(i));
    kit_tick();
    fake_sleep_ms(PIPE_STALL_MS + 1000);
    kit_tick();
}

/* ---- the end of one connection is not that of the next ---- */

KIT_TEST(piped_hazards_many, a_break_in_pieces_does_not_break_the_next_connection, .init = NULL)
{
    enum { SLEEPERS = 100 };
    uint64_t at, last;
    int fd;

    pipe_open(256, 2);
    for (uint64_t i = 1; i <= SLEEPERS; i++)
        pipe_sleep(pipe_ask(i, "x"), i);
    last = pipe_ask(SLEEPERS + 1, "x");
    fd = fd_that_was_sent_to(2);
    fake_peer_resets(fd);
    (void)pipe_look(last, SLEEPERS + 1, false); /* tells as many as it may */
    cr_assert(kit_stats().closed == 0 && fake_told(1) == 1 && fake_told(SLEEPERS) == 0);
    while (pipe_look(last, SLEEPERS + 1, false) == SP_WANT_READ)
        ; /* and who comes next tells the others */
    cr_assert_eq(kit_stats().closed, 1);
    at = pipe_ask(1, "again");
    cr_assert_not(sp_piped_step(kit_pool, kit_call()));
    cr_assert_eq(pipe_look(at, 1, false), SP_WANT_READ);
    says(fd_of(fd == fd_of(0)), "A");
    pipe_replies(at, 1, "A");
    cr_assert_eq(kit_stats().closed, 1);
}

/* ---- one that takes nothing now is not all there is ---- */

/* Of three pipes for two requests each the first stalls, with room, and the third, which was used last, is full. */
static void make_one_stall(void)
{
    uint64_t at[6];
    int fd[3];

    pipe_open(2, 3);
    for (uint64_t i = 0; i < 6; i++) {
        at[i] = pipe_ask(i + 1, "x");
        (void)pipe_look(at[i], i + 1, false);
    }
    /* Idle connections are taken from the newest on. */
    for (int i = 0; i < 3; i++)
        fd[i] = fd_of(2 - (uint32_t)i);
    fake_sleep_ms(100);
    says(fd[0], "A");
    pipe_replies(at[0], 1, "A");
    fake_sleep_ms(PIPE_STALL_MS / 10 + 50);
    says(fd[1], "B");
    pipe_replies(at[2], 3, "B");
}

KIT_TEST(piped_hazards_several, a_request_goes_where_nothing_stalls)
{
    uint64_t at;

    make_one_stall();
    cr_assert_eq(pipe_try(7, "y", &at), SP_OK);
    cr_assert_eq(pipe_try(8, "y", &at), SP_EMPTY);
    end_all();
}

KIT_TEST(piped_hazards_several, so_does_who_has_waited)
{
    struct sp_waiter *waiter;
    struct iovec iov;

    make_one_stall();
    waiter = pipe_wait(7, &iov, "y");
    cr_assert_eq(kit_stats().waiting, 0);
    sp_waiter_abandon(waiter, kit_call());
    end_all();
}

KIT_TEST(piped_hazards, a_server_that_answers_early_and_reads_no_more_is_given_up)
{
    uint64_t a;

    fake_send_room(pipe_fd(), 3);
    a = pipe_ask(1, "hello");
    peer_says("A");
    pipe_replies(a, 1, "A");
    fake_sleep_ms(PIPE_STALL_MS - 100);
    fake_send_room(pipe_fd(), 1);
    pipe_fire(true);
    fake_sleep_ms(200);
    kit_tick();
    cr_assert_eq(kit_stats().closed, 0); /* it has read something */
    fake_sleep_ms(PIPE_STALL_MS);
    kit_tick();
    cr_assert_eq(kit_stats().closed, 1);
    cr_assert_eq(kit_stats().leased, 0);
}

KIT_TEST(piped_hazards, a_reply_that_nobody_has_read_for_long_is_not_late)
{
    uint64_t a = pipe_ask(1, "a");

    peer_says("A");
    fake_sleep_ms(2 * PIPE_STALL_MS);
    kit_tick();
    pipe_replies(a, 1, "A");
    cr_assert_eq(kit_stats().closed, 0);
}

/* ---- selects ---- */

KIT_TEST(piped_hazards, who_sleeps_behind_a_select_that_is_refused_is_told)
{
    uint64_t a = pipe_ask(1, "a");

    fake_refuse_selects(1);
    pipe_sleep(a, 1);
    pipe_told_why(1, SP_CLOSED);
    cr_assert_eq(kit_stats().closed, 1);
}

static void give_up_1(void *at)
{
    cr_assert_eq(pipe_leave(*(uint64_t *)at, 1, true), SP_WANT_READ);
}

KIT_TEST(piped_hazards, who_gives_up_while_its_select_is_refused_is_told_once)
{
    uint64_t a = pipe_ask(1, "a");

    fake_on_select(give_up_1, &a);
    fake_refuse_selects(1);
    pipe_sleep(a, 1);
    pipe_told_why(1, SP_TIMEOUT);
}

KIT_TEST(piped_hazards, only_its_owner_says_that_a_select_has_fired)
{
    uint64_t a = pipe_ask(1, "a"), b;

    pipe_sleep(a, 1);
    cr_assert_eq(pipe_look(a, 2, true), SP_NOT_FOUND);
    cr_assert_eq(pipe_leave(a, 2, false), SP_NOT_FOUND);
    b = pipe_ask(3, "b");
    peer_says("A");
    peer_says("B");
    pipe_replies(b, 3, "B");
    pipe_told(1, "A");
    cr_assert_not(fake_selected(pipe_fd(), false)->pending);
}

static void say_fired(void *at)
{
    cr_assert_eq(pipe_look(*(uint64_t *)at, 1, true), SP_WANT_READ);
}

KIT_TEST(piped_hazards, an_owner_that_says_so_too_early_frees_nothing_that_is_in_use)
{
    uint64_t a = pipe_ask(1, "a");

    fake_on_select(say_fired, &a);
    pipe_sleep(a, 1);
    cr_assert_eq(fake_selected(pipe_fd(), false)->owner, 1);
    pipe_sleep(a, 1);
    peer_says("A");
    pipe_fire(false);
    cr_assert_eq(pipe_look(a, 1, true), SP_OK);
}

static sp_status full_recv(struct sp_conn *conn, void *buf, size_t cap, size_t *got)
{
    (void)conn, (void)buf, (void)cap;
    *got = 0;
    return SP_WANT_WRITE;
}

KIT_TEST(piped_hazards, a_transport_that_has_to_write_before_it_reads_is_told_of_room)
{
    static struct sp_transport transport;
    struct sp_conn *conn = kit_pool->table.slots[0];
    uint64_t a = pipe_ask(1, "a");

    transport = sp_transport_tcp;
    transport.recv = full_recv;
    conn->transport = &transport;
    pipe_sleep(a, 1);
    conn->transport = &sp_transport_tcp;
    cr_assert(fake_selected(pipe_fd(), true)->pending);
    peer_says("A");
    pipe_fire(true);
    pipe_told(1, "A");
    pipe_idle(1);
}

/* ---- who waits in the queue ---- */

static struct sp_waiter *leaving;

static void cancel(void *arg)
{
    (void)arg;
    cr_assert_eq(sp_waiter_cancel(leaving, kit_call()), SP_CANCELLED);
}

static void cancel_and_shut(void *arg)
{
    cancel(arg);
    sp_control_shut_begin(kit_pool, SP_PHASE_CLOSED);
}

/* One of 600 bytes, behind 600 that are not out; `hook` runs when it has been taken from the queue. */
static void wait_behind(void (*hook)(void *arg))
{
    struct iovec iov = {.iov_base = long_text, .iov_len = sizeof long_text - 1};

    fake_send_room(pipe_fd(), 10);
    (void)pipe_ask(1, six_hundred());
    leaving = fake_waiter_new(kit_pool, 2, &iov, 1);
    leaving->piped = leaving->want.packet = true;
    fake_host_hook(FAKE_ON_ALIVE, hook, NULL);
    cr_assert_eq(sp_pool_enqueue(kit_pool, kit_call(), leaving), SP_OK);
}

KIT_TEST(piped_hazards, who_leaves_while_there_is_no_room_waits_no_more)
{
    wait_behind(cancel);
    cr_assert_eq(kit_stats().waiting, 0);
    sp_waiter_abandon(leaving, kit_call());
    end_all();
}

KIT_TEST(piped_hazards, who_has_left_is_not_told_of_a_shut)
{
    wait_behind(cancel_and_shut);
    cr_assert_eq(fake_notes(2), 0);
    sp_waiter_abandon(leaving, kit_call());
    end_all();
}

static void shut(void *arg)
{
    (void)arg;
    sp_control_shut_begin(kit_pool, SP_PHASE_CLOSED);
}

KIT_TEST(piped_hazards, who_is_put_back_into_a_pool_that_is_shut_hears_so)
{
    wait_behind(shut);
    cr_assert_eq(fake_notes(2), 1);
    cr_assert_eq(fake_note(2, 0)->status, SP_DRAINING);
    sp_waiter_abandon(leaving, kit_call());
    end_all();
}

static void check_in(void *lease)
{
    cr_assert_eq(kit_checkin(lease), SP_OK);
}

KIT_TEST(piped_hazards_several, a_connection_that_came_while_there_was_no_room_is_not_missed)
{
    struct handle *lease;
    struct sp_waiter *waiter;
    struct iovec iov;
    uint64_t a;
    int fd;

    pipe_open(4, 2);
    lease = kit_checkout(9);
    fd = lease->conn == kit_pool->table.slots[0] ? fd_of(1) : fd_of(0);
    fake_send_room(fd, 10);
    a = pipe_ask(1, six_hundred());
    waiter = pipe_wait(2, &iov, long_text);
    cr_assert_eq(kit_stats().waiting, 1);
    atomic_store(&kit_pool->woken, 0);
    fake_host_hook(FAKE_ON_ALIVE, check_in, lease);
    says(fd, "A");
    pipe_replies(a, 1, "A"); /* before it has read all; so a place is free, and there is no room */
    cr_assert_eq(atomic_load(&kit_pool->woken), 1);
    cr_assert_eq(kit_grow(), 0);
    cr_assert_eq(kit_stats().waiting, 0);
    sp_waiter_abandon(waiter, kit_call());
    end_all();
}

KIT_TEST(piped_hazards_none, a_pool_without_pipes_takes_nobody_who_waits_for_one, .init = NULL)
{
    struct sp_waiter *waiter;
    struct iovec iov = {.iov_base = "x", .iov_len = 1};

    kit_start(1, 0);
    waiter = fake_waiter_new(kit_pool, 1, &iov, 1);
    waiter->piped = waiter->want.packet = true;
    cr_assert_eq(sp_pool_enqueue(kit_pool, kit_call(), waiter), SP_CLOSED);
    atomic_store(&waiter->refs, 0);
    fake_host.waiter_free(waiter);
}

KIT_TEST(piped_hazards_several, connections_are_begun_for_as_many_as_each_has_places_for)
{
    struct sp_waiter *waiters[5];
    struct handle *attempts[32];
    struct iovec iov[5];
    struct sp_plan plan;
    uint64_t at[4];

    kit_init(1);
    kit_config.size = 1;
    kit_config.max_overflow = 10;
    kit_config.pipeline = 4;
    kit_config.pipeline_bytes = 1000;
    kit_config.pipeline_stall_ns = PIPE_STALL_MS * SP_MS;
    kit_config.framing = sp_framing_header(1);
    kit_open();
    cr_assert_eq(kit_grow(), 1);
    pipe_fill(at);
    for (uint64_t i = 0; i < 5; i++)
        waiters[i] = pipe_wait(i + 5, &iov[i], "y");
    cr_assert_eq(kit_step(attempts, 32, &plan), 2);
    kit_connect(attempts[0], KIT_OWNER);
    kit_connect(attempts[1], KIT_OWNER);
    while (sp_piped_step(kit_pool, kit_call()))
        ;
    cr_assert_eq(kit_stats().waiting, 0);
    for (int i = 0; i < 5; i++)
        sp_waiter_abandon(waiters[i], kit_call());
    end_all();
}

/* ---- bounds ---- */

KIT_TEST(piped_hazards_many, what_was_said_before_a_failed_write_is_read_however_long_that_takes,
         .init = NULL)
{
    enum { MANY = 40 };
    uint64_t at[MANY], late;

    pipe_open(64, 1);
    for (uint64_t i = 0; i < MANY; i++)
        at[i] = pipe_ask(i + 1, "x");
    (void)pipe_look(at[MANY - 1], MANY, false); /* and all are out */
    for (int i = 0; i < MANY; i++)
        peer_says("A");
    fake_fail(FAKE_SEND, EPIPE);
    kit_allow(1);
    late = pipe_ask(MANY + 1, "x");
    (void)pipe_look(late, MANY + 1, false);
    kit_allow(SP_ALLOWANCE_PIECES);
    while (sp_piped_step(kit_pool, kit_call()))
        ;
    for (uint64_t i = 0; i < MANY; i++)
        pipe_replies(at[i], i + 1, "A");
    cr_assert_eq(pipe_look(late, MANY + 1, false), SP_AGAIN);
}

KIT_TEST(piped_hazards, a_tick_comes_to_its_end_whatever_there_is_to_do_for_pipes)
{
    uint32_t cursor = 0;
    unsigned calls = 0;

    (void)pipe_ask(1, "a");
    kit_allow(2); /* one is for a look at the queue */
    while (sp_control_tick(kit_pool, kit_call(), &cursor))
        cr_assert_lt(++calls, 50);
    end_all();
}

KIT_TEST(piped_hazards_many, all_replies_of_the_dead_are_dropped_in_one_tick, .init = NULL)
{
    enum { MANY = 200 };
    uint64_t at = 0;

    pipe_open(4, 1);
    for (uint64_t i = 1; i <= MANY; i++) {
        at = pipe_ask(i, "x");
        peer_says("reply of more than sixty-four bytes, which has memory of its own, all of it");
        kit_tick();
        if (i < MANY)
            fake_kill(i);
    }
    cr_assert_eq(fake_replies(), MANY);
    fake_sleep_ms(3000);
    kit_allow(2);
    kit_tick();
    cr_assert_eq(fake_replies(), 1);
    cr_assert_eq(pipe_look(at, MANY, false), SP_OK);
}

/* ---- a pipe by itself, on a connection of the pool's ---- */

static enum sp_pipe_end rounds(struct sp_pipe *pipe, uint32_t wishes)
{
    struct sp_pipe_ended ended;
    enum sp_pipe_end end;
    bool due;

    do {
        cr_assert(sp_pipe_hold(pipe, wishes));
        end = sp_pipe_round(pipe, kit_call(), &ended, &due);
        cr_assert(sp_pipe_release(pipe));
    } while (due);
    return end;
}

static void append(struct sp_pipe *pipe, struct iovec *iov)
{
    struct sp_ask ask = {.owner = 1, .iov = iov, .count = 1, .len = iov->iov_len};
    uint64_t number;
    uint32_t wishes;

    cr_assert_eq(sp_pipe_append(pipe, kit_call(), &ask, &number, &wishes), SP_OK);
    cr_assert_eq(rounds(pipe, SP_PIPE_WRITE), SP_PIPE_ON);
}

KIT_TEST(piped_hazards, a_long_request_leaves_no_buffer_of_its_length_behind)
{
    enum { LEN = 600 * 1000 };
    const struct sp_pipe_limits limits = {
        .requests = 4, .bytes = LEN, .stall_ns = SP_NEVER, .in_all = UINT64_MAX};
    struct sp_pipe *pipe = sp_pipe_new(&fake_host, sp_waiter_ref, sp_waiter_unref, 0);
    struct handle *lease = kit_checkout(KIT_OWNER);
    struct iovec iov = {.iov_base = calloc(1, LEN), .iov_len = LEN};

    fake_host.conn_ref(lease->conn);
    cr_assert(sp_pipe_attach(pipe, kit_call(), lease->conn, lease->lease, &limits));
    append(pipe, &iov);
    cr_assert_geq(pipe->filling.cap + pipe->flight.cap, LEN);
    iov.iov_len = 1;
    append(pipe, &iov);
    /* Whichever of the two it is. */
    for (int i = 0; i < 2; i++)
        append(pipe, &iov);
    cr_assert(sp_pool_revoke(kit_pool, kit_call(), lease->conn, lease->lease));
    cr_assert_eq(rounds(pipe, SP_PIPE_SELECT), SP_PIPE_LOST);
    cr_assert_lt(pipe->filling.cap + pipe->flight.cap, LEN);
    fake_host.conn_unref(lease->conn);
    sp_pipe_free(pipe);
    free(iov.iov_base);
}
