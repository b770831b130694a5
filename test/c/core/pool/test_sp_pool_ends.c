/* sp_pool: the ends of a lease: check-in, discard, revoke, abandon. */
#include "kit/pool_kit.h"

#include <criterion/criterion.h>
#include <string.h>

static void two(void)
{
    kit_start(2, 0);
}

static struct sp_conn *conn_of(struct handle *handle)
{
    return handle->conn;
}

/* ---- check-in ---- */

TestSuite(pool_checkin, .init = two);

KIT_TEST(pool_checkin, makes_it_idle)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    struct sp_conn *conn = conn_of(handle);

    fake_sleep_ms(3);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert_eq(sp_conn_state(conn), SP_CONN_IDLE);
    cr_assert_eq(conn->idle_since_ns, fake_now_ns());
    cr_assert_eq(kit_stats().checkins, 1);
    kit_check();
}

KIT_TEST(pool_checkin, of_a_lease_that_has_ended_is_closed)
{
    struct handle *handle = kit_checkout(KIT_OWNER), *next;
    struct handle stale = *handle;

    cr_assert_eq(kit_checkin(handle), SP_OK);
    next = kit_checkout(KIT_OTHER);
    cr_assert_eq(conn_of(next), stale.conn, "the same connection under another lease");
    cr_assert_eq(sp_pool_checkin(kit_pool, kit_call(), stale.conn, stale.lease, NULL), SP_CLOSED);
    cr_assert_eq(sp_pool_discard(kit_pool, kit_call(), stale.conn, stale.lease, SP_WHY_DISCARDED),
                 SP_CLOSED);
    cr_assert_not(sp_pool_revoke(kit_pool, kit_call(), stale.conn, stale.lease));
    cr_assert_not(sp_pool_abandon(kit_pool, kit_call(), stale.conn, stale.lease));
    cr_assert_eq(atomic_load(&stale.conn->lease), next->lease);
    cr_assert_eq(kit_stats().checkins, 1);
    cr_assert_eq(kit_stats().abandoned, 0);
}

KIT_TEST(pool_checkin, closes_what_is_tainted)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    handle->conn->tainted = true;
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert_eq(kit_stats().total, 1);
    cr_assert_eq(kit_stats().closed, 1);
}

KIT_TEST(pool_checkin, closes_what_has_unread_bytes_in_its_buffer)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    cr_assert(fake_host.rbuf_reserve(handle->conn, 8));
    handle->conn->rbuf.len = 1;
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert_eq(kit_stats().total, 1);
}

/* ---- a lease whose last I/O was a send ---- */

static struct handle *sent_on(void)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    sp_conn_sends(handle->conn);
    return handle;
}

KIT_TEST(pool_checkin, closes_what_has_sent_and_received_nothing_since)
{
    cr_assert_eq(kit_checkin(sent_on()), SP_OK);
    cr_assert_eq(kit_stats().total, 1);
    cr_assert_eq(kit_stats().closed, 1);
    cr_assert_eq(kit_stats().checkins, 1);
}

KIT_TEST(pool_checkin, keeps_it_where_its_owner_says_that_it_is_clean)
{
    cr_assert_eq(kit_checkin_clean(sent_on()), SP_OK);
    cr_assert_eq(kit_stats().idle, 2);
    cr_assert_eq(kit_checkin(kit_checkout(KIT_OTHER)), SP_OK, "it was the last lease's");
    cr_assert_eq(kit_stats().idle, 2);
}

KIT_TEST(pool_checkin, clean_says_nothing_of_the_rest)
{
    struct handle *handle = sent_on();

    handle->conn->tainted = true;
    cr_assert_eq(kit_checkin_clean(handle), SP_OK);
    handle = sent_on();
    cr_assert(fake_host.rbuf_reserve(handle->conn, 8));
    handle->conn->rbuf.len = 1;
    cr_assert_eq(kit_checkin_clean(handle), SP_OK);
    cr_assert_eq(kit_stats().total, 0);
}

KIT_TEST(pool_checkin, keeps_it_in_a_pool_without_replies)
{
    atomic_store(&kit_pool->replies, false);
    cr_assert_eq(kit_checkin(sent_on()), SP_OK);
    cr_assert_eq(kit_stats().idle, 2);
}

KIT_TEST(pool_checkin, keeps_it_once_something_was_received)
{
    struct handle *handle = sent_on();
    struct sp_received received;
    uint8_t scratch[8];
    struct sp_want want = {.len_bytes = 2};

    fake_peer_sends(handle->conn->fd, "a", 1);
    cr_assert_eq(sp_recv(handle->conn, kit_call(), &want, scratch, sizeof scratch, &received),
                 SP_WANT_READ);
    cr_assert(handle->conn->unanswered, "not by a part of it");
    fake_peer_sends(handle->conn->fd, "b", 1);
    cr_assert_eq(sp_recv(handle->conn, kit_call(), &want, scratch, sizeof scratch, &received),
                 SP_OK);
    sp_recv_taken(handle->conn, &received);
    cr_assert_not(handle->conn->unanswered);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert_eq(kit_stats().idle, 2);
}

KIT_TEST(pool_checkin, of_what_was_given_away_is_that_of_all_its_owners)
{
    struct handle *handle = sent_on();

    handle->lease = sp_conn_give_away(handle->conn, handle->lease, KIT_OTHER);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert_eq(kit_stats().total, 1);
}

/* A used lease under each `validate', on whose end so many receives look, and with bytes or without. */
static void end_used(uint64_t validate_after_ns, bool bytes, unsigned looks, unsigned idle)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    unsigned before;

    atomic_store(&kit_pool->validate_after_ns, validate_after_ns);
    handle->conn->touched = true;
    handle->conn->drained = true; /* as its last receive saw it */
    if (bytes)
        fake_peer_sends(handle->conn->fd, "late", 4);
    before = fake_calls(FAKE_RECV);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_expect_eq(fake_calls(FAKE_RECV) - before, looks);
    cr_expect_eq(kit_stats().idle, idle);
}

KIT_TEST(pool_checkin, looks_at_what_was_used_where_the_checkout_does_not)
{
    end_used(SP_NEVER, false, 1, 2);
    end_used(1000 * SP_MS, false, 1, 2);
    end_used(0, false, 0, 2);
    end_used(SP_NEVER, true, 1, 1);
    end_used(1000 * SP_MS, true, 1, 0);
}

KIT_TEST(pool_checkin, of_an_untouched_one_leaves_what_was_there_before)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    atomic_store(&kit_pool->validate_after_ns, SP_NEVER);
    fake_peer_sends(handle->conn->fd, "early", 5);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert_eq(kit_stats().idle, 2);
}

/* A request's last receive, and the end of its lease: how many receives that takes. */
static unsigned finish_one(const char *bytes, struct sp_want want)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    struct sp_conn *conn = conn_of(handle);
    struct sp_received received;
    unsigned before = fake_calls(FAKE_RECV);
    uint8_t scratch[8];

    fake_peer_sends(conn->fd, bytes, strlen(bytes));
    cr_assert_eq(sp_recv(conn, kit_call(), &want, scratch, sizeof scratch, &received), SP_OK);
    cr_assert_eq(memcmp(received.data, bytes, received.len), 0);
    sp_recv_taken(conn, &received);
    cr_assert_eq(sp_pool_finish(kit_pool, kit_call(), conn, handle->lease), SP_OK);
    kit_drop(handle);
    return fake_calls(FAKE_RECV) - before;
}

KIT_TEST(pool_finish, needs_no_look_where_the_receive_was_one)
{
    kit_start(5, 0);
    atomic_store(&kit_pool->validate_after_ns, SP_NEVER);
    cr_assert_eq(finish_one("abc", (struct sp_want){.len_bytes = 3, .ends_lease = true}), 1);
    cr_assert_eq(finish_one("abc", (struct sp_want){.packet = true, .ends_lease = true}), 1);
    cr_assert_eq(kit_stats().idle, 5);
    cr_assert_eq(finish_one("abcd", (struct sp_want){.len_bytes = 3, .ends_lease = true}), 1);
    cr_assert_eq(kit_stats().idle, 4, "one was there that is not the request's");
    cr_assert_eq(finish_one("abcdefgh", (struct sp_want){.len_bytes = 8, .ends_lease = true}), 2);
    cr_assert_eq(kit_stats().idle, 4, "as much as one receive takes: looked at");
    cr_assert_eq(finish_one("abcdefghi", (struct sp_want){.len_bytes = 8, .ends_lease = true}), 2);
    cr_assert_eq(finish_one("abcdefghi", (struct sp_want){.packet = true, .ends_lease = true}), 2);
    cr_assert_eq(kit_stats().idle, 2);
}

KIT_TEST(pool_finish, believes_no_short_receive_of_other_transports)
{
    kit_init(1);
    kit_config.transport = &sp_transport_unix;
    kit_open();
    cr_assert_eq(kit_grow(), 2);
    atomic_store(&kit_pool->validate_after_ns, SP_NEVER);
    cr_assert_eq(finish_one("abc", (struct sp_want){.len_bytes = 3, .ends_lease = true}), 2);
    cr_assert_eq(finish_one("abcd", (struct sp_want){.len_bytes = 3, .ends_lease = true}), 2);
    cr_assert_eq(kit_stats().idle, 1);
}

KIT_TEST(pool_checkin, frees_an_empty_buffer)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    struct sp_conn *conn = conn_of(handle);

    cr_assert(fake_host.rbuf_reserve(conn, 8));
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert_null(conn->rbuf.base);
    cr_assert_eq(kit_stats().idle, 2);
}

KIT_TEST(pool_checkin, is_busy_while_armed)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    cr_assert(sp_conn_enter(handle->conn, handle->lease, kit_call()));
    cr_assert(sp_conn_arming(handle->conn, handle->lease));
    sp_conn_leave(handle->conn, kit_call());
    cr_assert_eq(kit_checkin(handle), SP_BUSY);
    cr_assert_eq(kit_stats().leased, 1);
    cr_assert_eq(kit_stats().checkins, 0);
    sp_conn_disarmed(handle->conn, handle->lease, kit_call());
    cr_assert_eq(kit_checkin(handle), SP_OK);
}

KIT_TEST(pool_discard, ends_the_lease_and_closes, .init = two)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    int fd = conn_of(handle)->fd;

    cr_assert_eq(kit_discard(handle), SP_OK);
    cr_assert_eq(kit_stats().checkins, 1);
    cr_assert_eq(kit_stats().closed, 1);
    cr_assert_eq(kit_stats().total, 1);
    cr_assert_eq(kit_grow(), 1, "the step closes it and makes another");
    cr_assert(fake_fd_open(fd), "whose descriptor has the same number");
    cr_assert_eq(fake_calls(FAKE_CLOSE), 1);
    cr_assert_eq(kit_stats().idle, 2);
}

/* ---- overflow at check-in ---- */

KIT_TEST(pool_overflow, with_ttl_0_extra_connections_close_at_checkin)
{
    struct handle *held[3];
    struct handle *attempt, *waiting;
    struct sp_plan plan;

    kit_init(1);
    kit_config.size = 1;
    kit_config.max_overflow = 2;
    kit_config.overflow_ttl_ns = 0;
    kit_open();
    cr_assert_eq(kit_grow(), 1);
    held[0] = kit_checkout(KIT_OWNER);
    waiting = kit_enqueue(KIT_OTHER);
    cr_assert_eq(kit_step(&attempt, 1, &plan), 1);
    kit_connect(attempt, KIT_OWNER);
    cr_assert(kit_adopt(waiting));
    cr_assert_eq(kit_stats().total, 2);
    cr_assert_eq(kit_checkin(waiting), SP_OK);
    cr_assert_eq(kit_stats().total, 1);
    cr_assert_eq(kit_stats().idle, 0);
    cr_assert_eq(kit_checkin(held[0]), SP_OK);
    cr_assert_eq(kit_stats().idle, 1, "the base connection stays");
}

KIT_TEST(pool_overflow, with_ttl_0_a_waiter_still_gets_the_extra_one)
{
    struct handle *first, *second;

    kit_init(1);
    kit_config.size = 0;
    kit_config.max_overflow = 1;
    kit_config.overflow_ttl_ns = 0;
    kit_open();
    cr_assert_eq(kit_grow(), 0);
    first = kit_enqueue(KIT_OWNER);
    second = kit_enqueue(KIT_OTHER);
    cr_assert_eq(kit_grow(), 1);
    cr_assert(kit_adopt(first));
    cr_assert_eq(kit_checkin(first), SP_OK);
    cr_assert(kit_adopt(second));
    cr_assert_eq(kit_stats().created, 1);
    cr_assert_eq(kit_checkin(second), SP_OK);
    cr_assert_eq(kit_stats().total, 0);
}

KIT_TEST(pool_overflow, with_a_ttl_extra_connections_stay)
{
    struct handle *base, *waiting;

    kit_start(1, 1);
    base = kit_checkout(KIT_OWNER);
    waiting = kit_enqueue(KIT_OTHER);
    cr_assert_eq(kit_grow(), 1);
    cr_assert(kit_adopt(waiting));
    cr_assert_eq(kit_checkin(waiting), SP_OK);
    cr_assert_eq(kit_checkin(base), SP_OK);
    cr_assert_eq(kit_stats().idle, 2);
}

/* ---- revoke, abandon ---- */

TestSuite(pool_revoke, .init = two);

KIT_TEST(pool_revoke, an_untouched_lease_goes_back_clean)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    cr_assert(sp_pool_revoke(kit_pool, kit_call(), handle->conn, handle->lease));
    cr_assert_eq(sp_conn_state(handle->conn), SP_CONN_IDLE);
    cr_assert_eq(kit_stats().abandoned, 1);
    cr_assert_eq(kit_stats().checkins, 0);
    cr_assert_eq(kit_stats().idle, 2);
}

KIT_TEST(pool_revoke, a_used_lease_is_closed)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    handle->conn->touched = true;
    cr_assert(sp_pool_revoke(kit_pool, kit_call(), handle->conn, handle->lease));
    cr_assert_eq(sp_conn_state(handle->conn), SP_CONN_CLOSING);
    cr_assert_eq(kit_stats().abandoned, 1);
    cr_assert_eq(kit_stats().total, 1);
}

KIT_TEST(pool_revoke, a_lease_in_a_call_is_closed_and_its_call_woken)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    cr_assert(sp_conn_enter(handle->conn, handle->lease, kit_call()));
    cr_assert(sp_pool_revoke(kit_pool, kit_call(), handle->conn, handle->lease));
    cr_assert_eq(sp_conn_state(handle->conn), SP_CONN_CLOSING);
    cr_assert_eq(fake_calls(FAKE_SHUTDOWN), 1);
    sp_conn_leave(handle->conn, kit_call());
}

KIT_TEST(pool_revoke, of_a_lease_in_a_call_makes_room_for_a_waiter_at_once)
{
    struct handle *handle = kit_checkout(KIT_OWNER), *waiting;
    unsigned wakes;

    kit_checkout(KIT_OWNER);
    waiting = kit_enqueue(KIT_OTHER);
    cr_assert(sp_conn_enter(handle->conn, handle->lease, kit_call()));
    wakes = fake_wakes();
    cr_assert(sp_pool_revoke(kit_pool, kit_call(), handle->conn, handle->lease));
    cr_assert_gt(fake_wakes(), wakes, "not only when the call is over");
    cr_assert_eq(kit_grow(), 1);
    cr_assert(kit_adopt(waiting));
    sp_conn_leave(handle->conn, kit_call());
}

KIT_TEST(pool_revoke, an_untouched_lease_goes_to_a_waiter)
{
    struct handle *first = kit_checkout(KIT_OWNER), *waiting;

    kit_checkout(KIT_OWNER);
    waiting = kit_enqueue(KIT_OTHER);
    cr_assert(sp_pool_revoke(kit_pool, kit_call(), first->conn, first->lease));
    cr_assert(kit_adopt(waiting));
    cr_assert_eq(waiting->conn, first->conn);
    cr_assert_eq(kit_checkin(first), SP_CLOSED);
}

KIT_TEST(pool_revoke, of_an_attempt_counts_as_failed_connect)
{
    struct handle *attempt;
    struct sp_plan plan;

    cr_assert_eq(kit_discard(kit_checkout(KIT_OWNER)), SP_OK);
    cr_assert_eq(kit_step(&attempt, 1, &plan), 1);
    cr_assert_eq(kit_stats().connecting, 1);
    cr_assert(sp_pool_abandon(kit_pool, kit_call(), attempt->conn, attempt->lease));
    cr_assert_eq(kit_stats().connecting, 0);
    cr_assert_eq(kit_stats().total, 1);
    cr_assert_eq(kit_stats().connect_failures, 1);
    cr_assert_eq(kit_stats().abandoned, 0);
    cr_assert_eq(kit_stats().closed, 1, "the discarded one only");
    cr_assert_not(sp_pool_abandon(kit_pool, kit_call(), attempt->conn, attempt->lease));
}

KIT_TEST(pool_abandon, disarms_before_it_ends_the_lease, .init = two)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    int fd = handle->conn->fd;

    cr_assert(sp_conn_enter(handle->conn, handle->lease, kit_call()));
    handle->conn->touched = true;
    cr_assert(sp_conn_arming(handle->conn, handle->lease));
    sp_conn_leave(handle->conn, kit_call());
    cr_assert(sp_pool_abandon(kit_pool, kit_call(), handle->conn, handle->lease));
    sp_close_work(kit_pool, kit_call());
    cr_assert_not(fake_fd_open(fd), "no pin of the dead owner is left");
}
