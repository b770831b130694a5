/* sp_control: the periodic tick (dead owners, max_hold, extra and cold connections), idle events.
 */
#include "kit/pool_kit.h"

#include <criterion/criterion.h>

#define FIRST 21

static void two(void)
{
    kit_start(2, 0);
}

/* ---- owners ---- */

TestSuite(sweep, .init = two);

KIT_TEST(sweep, leaves_the_living_alone)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    fake_sleep_ms(1000000);
    kit_tick();
    cr_assert_eq(kit_stats().leased, 1);
    cr_assert_eq(kit_stats().abandoned, 0);
    cr_assert_eq(kit_checkin(handle), SP_OK);
}

KIT_TEST(sweep, takes_an_untouched_lease_back_from_the_dead)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    fake_kill(KIT_OWNER);
    kit_tick();
    cr_assert_eq(kit_stats().idle, 2);
    cr_assert_eq(kit_stats().abandoned, 1);
    cr_assert_eq(kit_checkin(handle), SP_CLOSED);
}

KIT_TEST(sweep, closes_what_the_dead_have_used)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    handle->conn->touched = true;
    fake_kill(KIT_OWNER);
    kit_tick();
    cr_assert_eq(kit_stats().total, 1);
    cr_assert_eq(kit_grow(), 1);
}

KIT_TEST(sweep, closes_what_the_dead_are_armed_on)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    int fd = handle->conn->fd;

    cr_assert(sp_conn_enter(handle->conn, handle->lease, kit_call()));
    handle->conn->touched = true;
    cr_assert(sp_conn_arming(handle->conn, handle->lease));
    sp_conn_leave(handle->conn, kit_call());
    fake_kill(KIT_OWNER);
    kit_tick();
    sp_close_work(kit_pool, kit_call());
    cr_assert_not(fake_fd_open(fd));
}

KIT_TEST(sweep, serves_a_waiter_with_it)
{
    struct handle *waiting;

    kit_checkout(KIT_OWNER);
    kit_checkout(KIT_OTHER);
    waiting = kit_enqueue(FIRST);
    fake_kill(KIT_OWNER);
    kit_tick();
    cr_assert(kit_adopt(waiting));
}

KIT_TEST(sweep, judges_a_lease_by_its_new_owner)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    handle->lease = sp_conn_give_away(handle->conn, handle->lease, KIT_OTHER);
    fake_kill(KIT_OWNER);
    kit_tick();
    cr_assert_eq(kit_stats().abandoned, 0);
    fake_kill(KIT_OTHER);
    kit_tick();
    cr_assert_eq(kit_stats().abandoned, 1);
}

KIT_TEST(sweep, passes_over_a_lease_between_two_owners)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    fake_kill(KIT_OWNER);
    atomic_store(&handle->conn->lease, SP_LEASE_MOVING);
    kit_tick();
    cr_assert_eq(kit_stats().abandoned, 0);
    atomic_store(&handle->conn->lease, handle->lease);
    kit_tick();
    cr_assert_eq(kit_stats().abandoned, 1);
}

KIT_TEST(sweep, walks_in_slices_over_all)
{
    uint32_t cursor = 0;
    unsigned slices = 0;

    kit_close();
    kit_start(150, 0);
    for (unsigned i = 0; i < 150; i++)
        kit_checkout(KIT_OWNER);
    fake_kill(KIT_OWNER);
    kit_allow(50 * SP_PIECES_LOOK);
    while (sp_control_tick(kit_pool, kit_call(), &cursor))
        slices++;
    cr_assert_eq(slices, 3);
    cr_assert_eq(cursor, 0);
    cr_assert_eq(kit_stats().idle, 150);
}

/* ---- max_hold ---- */

TestSuite(max_hold, .init = two);

KIT_TEST(max_hold, ends_a_lease_held_for_longer)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    atomic_store(&kit_pool->max_hold_ns, 50 * SP_MS);
    fake_sleep_ms(50);
    kit_tick();
    cr_assert_eq(kit_stats().abandoned, 0, "50 ms are allowed");
    fake_sleep_ms(1);
    kit_tick();
    cr_assert_eq(kit_stats().abandoned, 1);
    cr_assert_eq(kit_stats().idle, 2);
    cr_assert_not(sp_conn_enter(handle->conn, handle->lease, kit_call()));
}

KIT_TEST(max_hold, closes_a_lease_that_was_used)
{
    struct handle *handle = kit_checkout(KIT_OWNER);

    atomic_store(&kit_pool->max_hold_ns, 50 * SP_MS);
    handle->conn->touched = true;
    fake_sleep_ms(51);
    kit_tick();
    cr_assert_eq(kit_stats().total, 1);
}

KIT_TEST(max_hold, wakes_a_living_owner_that_waits)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    int fd = handle->conn->fd;

    atomic_store(&kit_pool->max_hold_ns, 50 * SP_MS);
    cr_assert(sp_conn_enter(handle->conn, handle->lease, kit_call()));
    handle->conn->touched = true;
    cr_assert(sp_conn_arming(handle->conn, handle->lease));
    sp_conn_leave(handle->conn, kit_call());
    fake_sleep_ms(51);
    kit_tick();
    cr_assert_eq(fake_calls(FAKE_SHUTDOWN), 1);
    cr_assert(sp_conn_armed(handle->conn, handle->lease), "its own message disarms");
    sp_close_work(kit_pool, kit_call());
    cr_assert(fake_fd_open(fd));
    sp_conn_disarmed(handle->conn, handle->lease, kit_call());
    sp_close_work(kit_pool, kit_call());
    cr_assert_not(fake_fd_open(fd));
}

KIT_TEST(max_hold, frees_the_descriptor_of_an_owner_that_died_after_it)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    int fd = handle->conn->fd;

    atomic_store(&kit_pool->max_hold_ns, 50 * SP_MS);
    cr_assert(sp_conn_enter(handle->conn, handle->lease, kit_call()));
    handle->conn->touched = true;
    cr_assert(sp_conn_arming(handle->conn, handle->lease));
    sp_conn_leave(handle->conn, kit_call());
    fake_sleep_ms(51);
    kit_tick();
    kit_tick();
    cr_assert(sp_conn_armed(handle->conn, handle->lease), "it lives, and will say so itself");
    fake_kill(KIT_OWNER);
    kit_tick();
    sp_close_work(kit_pool, kit_call());
    cr_assert_not(fake_fd_open(fd), "though its handle lives on elsewhere");
}

KIT_TEST(max_hold, does_not_count_idle_time)
{
    atomic_store(&kit_pool->max_hold_ns, 50 * SP_MS);
    cr_assert_eq(kit_checkin(kit_checkout(KIT_OWNER)), SP_OK);
    fake_sleep_ms(500);
    kit_tick();
    cr_assert_eq(kit_stats().abandoned, 0);
    kit_checkout(KIT_OWNER);
    fake_sleep_ms(50);
    kit_tick();
    cr_assert_eq(kit_stats().abandoned, 0);
}

/* ---- overflow_ttl ---- */

/* A base of 2 and as many extra ones, all idle since now. */
static void grown(uint64_t ttl_ns)
{
    kit_init(1);
    kit_config.max_overflow = 2;
    kit_config.overflow_ttl_ns = ttl_ns;
    kit_open();
    cr_assert_eq(kit_grow(), 2);
    for (int i = 0; i < 2; i++) {
        sp_pool_want(kit_pool, kit_call());
        cr_assert_eq(kit_grow(), 1);
    }
}

KIT_TEST(overflow_ttl, closes_extra_connections_after_it)
{
    grown(300 * SP_MS);
    fake_sleep_ms(300);
    kit_tick();
    cr_assert_eq(kit_stats().idle, 4);
    fake_sleep_ms(1);
    kit_tick();
    cr_assert_eq(kit_stats().idle, 2, "the base stays");
    fake_sleep_ms(100000);
    kit_tick();
    cr_assert_eq(kit_stats().idle, 2);
    cr_assert_eq(kit_grow(), 0);
}

KIT_TEST(overflow_ttl, spares_those_that_are_used)
{
    struct handle *handle;
    struct sp_conn *used;

    grown(300 * SP_MS);
    handle = kit_checkout(KIT_OWNER);
    used = handle->conn;
    fake_sleep_ms(250);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    fake_sleep_ms(100);
    kit_tick();
    cr_assert_eq(kit_stats().idle, 2);
    cr_assert_eq(sp_conn_state(used), SP_CONN_IDLE, "the others were idle for longer");
}

KIT_TEST(overflow_ttl, finds_them_among_the_cold_too)
{
    grown(3000 * SP_MS);
    fake_sleep_ms(1500);
    kit_tick();
    cr_assert_eq(fake_watches(), 4);
    fake_sleep_ms(1600);
    kit_tick();
    cr_assert_eq(kit_stats().idle, 2);
}

KIT_TEST(overflow_ttl, infinity_keeps_them)
{
    grown(SP_NEVER);
    fake_sleep_ms(100000000);
    kit_tick();
    cr_assert_eq(kit_stats().idle, 4);
}

KIT_TEST(overflow_ttl, counts_leased_ones_as_connections)
{
    grown(300 * SP_MS);
    kit_checkout(KIT_OWNER);
    kit_checkout(KIT_OWNER);
    kit_checkout(KIT_OWNER);
    fake_sleep_ms(400);
    kit_tick();
    cr_assert_eq(kit_stats().idle, 0);
    cr_assert_eq(kit_stats().total, 3);
}

KIT_TEST(overflow_ttl, and_cold_begin_with_a_clock_that_has_just_begun)
{
    struct sp_call early;

    grown(300 * SP_MS);
    early = *kit_call();
    early.now_ns = 5 * SP_MS;
    cr_assert_not(sp_control_tick(kit_pool, &early, &(uint32_t){0}));
    cr_assert_eq(kit_stats().idle, 4);
    cr_assert_eq(fake_watches(), 0);
}

/* ---- cold connections ---- */

TestSuite(cold, .init = two);

/* The only connection that turned cold last, and its generation. */
static struct sp_conn *watched(uint32_t *generation)
{
    struct sp_conn *conn;

    *generation = fake_last_watch(&conn);
    return conn;
}

KIT_TEST(cold, connections_idle_for_a_second_are_watched_once)
{
    fake_sleep_ms(1000);
    kit_tick();
    cr_assert_eq(fake_watches(), 0);
    fake_sleep_ms(1);
    kit_tick();
    cr_assert_eq(fake_watches(), 2);
    kit_check();
    fake_sleep_ms(5000);
    kit_tick();
    cr_assert_eq(fake_watches(), 2);
    cr_assert_eq(kit_stats().idle, 2);
}

KIT_TEST(cold, those_in_use_between_are_not)
{
    fake_sleep_ms(900);
    cr_assert_eq(kit_checkin(kit_checkout(KIT_OWNER)), SP_OK);
    fake_sleep_ms(200);
    kit_tick();
    cr_assert_eq(fake_watches(), 1);
}

KIT_TEST(cold, each_watch_has_its_own_generation)
{
    uint32_t first, second;

    kit_checkout(KIT_OTHER);
    fake_sleep_ms(1500);
    kit_tick();
    watched(&first);
    cr_assert_eq(kit_checkin(kit_checkout(KIT_OWNER)), SP_OK);
    fake_sleep_ms(1500);
    kit_tick();
    watched(&second);
    cr_assert_eq(fake_watches(), 2);
    cr_assert_neq(first, second);
}

KIT_TEST(cold, one_that_cannot_be_watched_is_closed)
{
    fake_sleep_ms(1500);
    fake_refuse_watches(1);
    kit_tick();
    cr_assert_eq(kit_stats().idle, 1);
    cr_assert_eq(kit_stats().closed, 1);
}

static struct handle *came;

static void enqueue(void *arg)
{
    (void)arg;
    came = kit_enqueue(FIRST);
    cr_assert_eq(fake_notes(FIRST), 0, "the connection is out of its shard");
}

KIT_TEST(cold, a_waiter_that_looked_while_one_was_being_watched_gets_it)
{
    kit_checkout(KIT_OTHER);
    fake_sleep_ms(1500);
    fake_host_hook(FAKE_ON_WATCH, enqueue, NULL);
    kit_tick();
    cr_assert_eq(fake_notes(FIRST), 1);
    cr_assert(kit_adopt(came));
}

/* ---- idle events ---- */

TestSuite(idle_event, .init = two);

/* One of the two connections cold and watched; the other leased. */
static struct sp_conn *one_watched(uint32_t *generation)
{
    kit_checkout(KIT_OTHER);
    cr_assert_eq(kit_checkin(kit_checkout(KIT_OWNER)), SP_OK);
    fake_sleep_ms(1500);
    kit_tick();
    cr_assert_eq(fake_watches(), 1);
    return watched(generation);
}

static void event(uint32_t slot, uint32_t generation)
{
    sp_control_idle_event(kit_pool, kit_call(), slot, generation);
    kit_check();
}

KIT_TEST(idle_event, the_servers_close_is_noticed_without_traffic)
{
    uint32_t generation;
    struct sp_conn *conn = one_watched(&generation);
    unsigned wakes = fake_wakes();

    fake_peer_closes(conn->fd);
    event(conn->slot, generation);
    cr_assert_eq(kit_stats().total, 1);
    cr_assert_eq(kit_stats().closed, 1);
    cr_assert_gt(fake_wakes(), wakes);
    cr_assert_eq(kit_grow(), 1);
}

KIT_TEST(idle_event, of_one_closed_before_it_was_ever_used_slows_the_next)
{
    struct handle *attempt;
    struct sp_plan plan;
    struct sp_conn *conn;
    uint32_t generation;

    kit_checkout(KIT_OTHER);
    fake_sleep_ms(1500);
    kit_tick();
    conn = watched(&generation);
    fake_peer_sends(conn->fd, "421 full\n", 9);
    fake_peer_closes(conn->fd);
    event(conn->slot, generation);
    cr_assert_eq(fake_last_refusal(), SP_UNREAD);
    cr_assert_str_eq(conn->words.text, "421 full");
    cr_assert_eq(kit_step(&attempt, 1, &plan), 0);
    cr_assert(plan.wait_ns > 0 && plan.wait_ns <= 100 * SP_MS);
    fake_sleep_ms(101);
    cr_assert_eq(kit_grow(), 1);
}

KIT_TEST(idle_event, stray_bytes_close_it)
{
    uint32_t generation;
    struct sp_conn *conn = one_watched(&generation);

    fake_peer_sends(conn->fd, "?", 1);
    event(conn->slot, generation);
    cr_assert_eq(kit_stats().total, 1);
}

KIT_TEST(idle_event, what_the_server_says_first_is_kept_where_nobody_looks)
{
    struct sp_conn *conn;
    uint32_t generation;

    kit_checkout(KIT_OTHER);
    atomic_store(&kit_pool->validate_after_ns, SP_NEVER);
    fake_sleep_ms(1500);
    kit_tick();
    conn = watched(&generation);
    fake_peer_sends(conn->fd, "220 hello", 9);
    event(conn->slot, generation);
    fake_sleep_ms(1500);
    kit_tick();
    cr_assert_eq(fake_watches(), 1, "it would wake at once");
    cr_assert_eq(kit_stats().idle, 1);
    cr_assert_eq(kit_stats().closed, 0);
}

static enum sp_clean half_read(struct sp_conn *conn)
{
    (void)conn;
    return SP_DIRTY;
}

/* Its bytes are frames, of which the look has taken a part. */
KIT_TEST(idle_event, half_a_frame_of_a_node_is_not_kept_for_the_first_user)
{
    static struct sp_transport node;
    struct sp_conn *conn;
    uint32_t generation;

    node = sp_transport_tcp;
    node.node = true;
    node.validate = half_read;
    kit_checkout(KIT_OTHER);
    atomic_store(&kit_pool->validate_after_ns, SP_NEVER);
    fake_sleep_ms(1500);
    kit_tick();
    conn = watched(&generation);
    conn->transport = &node;
    event(conn->slot, generation);
    cr_assert_eq(kit_stats().idle, 0);
    cr_assert_eq(kit_stats().total, 1);
}

KIT_TEST(idle_event, without_a_cause_keeps_it)
{
    uint32_t generation;
    struct sp_conn *conn = one_watched(&generation);

    event(conn->slot, generation);
    cr_assert_eq(kit_stats().idle, 1);
    cr_assert_not(conn->cold, "its watch has fired, so it is watched again");
    kit_tick();
    cr_assert_eq(fake_watches(), 2);
}

KIT_TEST(idle_event, of_another_generation_is_stale)
{
    uint32_t generation;
    struct sp_conn *conn = one_watched(&generation);

    fake_peer_closes(conn->fd);
    event(conn->slot, generation - 1);
    event(conn->slot, generation + 1);
    cr_assert_eq(kit_stats().idle, 1);
}

KIT_TEST(idle_event, of_a_leased_connection_is_stale)
{
    uint32_t generation;
    struct sp_conn *conn = one_watched(&generation);
    struct handle *handle = kit_checkout(KIT_OWNER);

    cr_assert_eq(handle->conn, conn);
    fake_peer_sends(conn->fd, "the reply", 9);
    event(conn->slot, generation);
    cr_assert_eq(kit_stats().leased, 2);
    cr_assert_eq(atomic_load(&conn->lease), handle->lease);
}

KIT_TEST(idle_event, of_a_connection_fresh_again_is_stale)
{
    uint32_t generation;
    struct sp_conn *conn = one_watched(&generation);

    cr_assert_eq(kit_checkin(kit_checkout(KIT_OWNER)), SP_OK);
    fake_peer_closes(conn->fd);
    event(conn->slot, generation);
    cr_assert_eq(kit_stats().idle, 1);
}

KIT_TEST(idle_event, of_an_empty_slot_is_stale)
{
    uint32_t generation;
    struct sp_conn *conn = one_watched(&generation);
    uint32_t slot = conn->slot;

    cr_assert_eq(kit_discard(kit_checkout(KIT_OWNER)), SP_OK);
    event(slot, generation);
    event(100000, generation);
    cr_assert_eq(kit_stats().total, 1);
}

KIT_TEST(idle_event, serves_those_who_came_while_it_looked)
{
    uint32_t generation;
    struct sp_conn *conn = one_watched(&generation);

    fake_sys_hook(FAKE_RECV, enqueue, NULL);
    event(conn->slot, generation);
    cr_assert_eq(fake_notes(FIRST), 1);
    cr_assert(kit_adopt(came));
}
