/* sp_control: connectors, from the claim of an attempt to a connection that is ready or is not. */
#include "kit/pool_kit.h"

#include <criterion/criterion.h>
#include <errno.h>

#define CONNECTOR 31

static struct handle *attempt;
static struct sp_plan plan;
static const struct sp_addr ADDR = {.storage.ss_family = AF_INET, .len = sizeof ADDR.storage};

static sp_status begin(struct handle *handle)
{
    return sp_control_begin(kit_pool, kit_call(), handle->conn, &handle->lease, CONNECTOR, &ADDR);
}

static sp_status opened(struct handle *handle)
{
    return sp_control_opened(handle->conn, &handle->lease, kit_call());
}

static sp_status ready(struct handle *handle)
{
    return sp_control_ready(kit_pool, kit_call(), handle->conn, handle->lease);
}

static void begun_by_nobody(void)
{
    kit_init(1);
    kit_config.size = 1;
    kit_open();
    cr_assert_eq(kit_step(&attempt, 1, &plan), 1);
}

TestSuite(connector, .init = begun_by_nobody);

KIT_TEST(connector, begins_opens_and_makes_ready)
{
    uint64_t first = attempt->lease, second;

    cr_assert_eq(begin(attempt), SP_OK);
    second = attempt->lease;
    cr_assert_neq(second, first);
    cr_assert_eq(atomic_load(&attempt->conn->owner), CONNECTOR);
    cr_assert(fake_fd_open(attempt->conn->fd));
    cr_assert_eq(opened(attempt), SP_OK);
    cr_assert_neq(attempt->lease, second);
    cr_assert_eq(sp_conn_state(attempt->conn), SP_CONN_INITIALISING);
    cr_assert_eq(atomic_load(&attempt->conn->owner), CONNECTOR);
    cr_assert_eq(kit_stats().connecting, 1);
    cr_assert_eq(ready(attempt), SP_OK);
    cr_assert_eq(sp_conn_state(attempt->conn), SP_CONN_IDLE);
    cr_assert_eq(kit_stats().idle, 1);
    cr_assert_eq(kit_stats().connecting, 0);
    cr_assert_eq(kit_stats().created, 1);
    cr_assert_eq(ready(attempt), SP_CLOSED, "once");
    cr_assert_eq(kit_stats().created, 1);
}

KIT_TEST(connector, waits_until_the_connect_is_through)
{
    fake_connect_at_once(false);
    cr_assert_eq(begin(attempt), SP_WANT_WRITE);
    cr_assert_eq(opened(attempt), SP_WANT_WRITE, "a spurious wake-up");
    fake_accept(attempt->conn->fd);
    cr_assert_eq(opened(attempt), SP_OK);
    cr_assert_eq(ready(attempt), SP_OK);
}

KIT_TEST(connector, hears_why_the_connect_failed_and_tries_the_next_address)
{
    fake_connect_at_once(false);
    cr_assert_eq(begin(attempt), SP_WANT_WRITE);
    fake_refuse(attempt->conn->fd, ECONNREFUSED);
    cr_assert_eq(opened(attempt), -ECONNREFUSED);
    cr_assert_eq(sp_conn_state(attempt->conn), SP_CONN_CONNECTING);
    cr_assert_eq(begin(attempt), SP_WANT_WRITE);
    cr_assert_eq(fake_calls(FAKE_CLOSE), 1, "the first descriptor");
    cr_assert_eq(fake_fds_open(), 1);
    fake_accept(attempt->conn->fd);
    cr_assert_eq(opened(attempt), SP_OK);
    cr_assert_eq(kit_stats().connect_failures, 0, "the attempt goes on");
}

KIT_TEST(connector, keeps_its_lease_where_there_is_no_socket)
{
    fake_fail(FAKE_SOCKET, EMFILE);
    cr_assert_eq(begin(attempt), -EMFILE);
    cr_assert_eq(attempt->conn->fd, -1);
    cr_assert_eq(begin(attempt), SP_OK);
}

KIT_TEST(connector, without_its_lease_does_nothing)
{
    struct handle stale = *attempt;

    cr_assert(sp_pool_revoke(kit_pool, kit_call(), attempt->conn, attempt->lease));
    cr_assert_eq(begin(&stale), SP_CLOSED);
    cr_assert_eq(opened(&stale), SP_CLOSED);
    cr_assert_eq(ready(&stale), SP_CLOSED);
    cr_assert_eq(fake_calls(FAKE_SOCKET), 0);
    cr_assert_eq(kit_stats().created, 0);
}

static void revoke_attempt(void *arg)
{
    (void)arg;
    cr_assert(sp_pool_revoke(kit_pool, kit_call(), attempt->conn, attempt->lease));
}

KIT_TEST(connector, revoked_within_opened_keeps_the_descriptor_to_its_end)
{
    int fd;

    cr_assert_eq(begin(attempt), SP_OK);
    fd = attempt->conn->fd;
    fake_sys_hook(FAKE_GETPEERNAME, revoke_attempt, NULL);
    cr_assert_eq(opened(attempt), SP_CLOSED);
    sp_close_work(kit_pool, kit_call());
    cr_assert_not(fake_fd_open(fd));
    cr_assert_eq(kit_stats().connect_failures, 1);
}

/* What init left behind makes no connection, but a failed attempt. */
static void unfit(sp_status status)
{
    cr_assert_eq(ready(attempt), status);
    cr_assert_eq(kit_stats().total, 0);
    cr_assert_eq(kit_stats().created, 0);
    cr_assert_eq(kit_stats().closed, 0);
    cr_assert_eq(kit_stats().connect_failures, 1);
    cr_assert_eq(kit_step(&attempt, 1, &plan), 0, "the next one waits");
    fake_sleep_ms(101);
    cr_assert_eq(kit_step(&attempt, 1, &plan), 1);
}

static void opened_already(void)
{
    begun_by_nobody();
    cr_assert_eq(begin(attempt), SP_OK);
    cr_assert_eq(opened(attempt), SP_OK);
}

TestSuite(unfit, .init = opened_already);
TestSuite(init, .init = opened_already);

/* It is for who writes it to say that the connection is ready. */
KIT_TEST(init, may_end_with_a_send)
{
    sp_conn_sends(attempt->conn);
    cr_assert_eq(ready(attempt), SP_OK);
    cr_assert_eq(kit_checkin(kit_checkout(KIT_OWNER)), SP_OK);
    cr_assert_eq(kit_stats().idle, 1);
}

KIT_TEST(unfit, with_bytes_in_the_buffer)
{
    cr_assert(fake_host.rbuf_reserve(attempt->conn, 4));
    attempt->conn->rbuf.len = 2;
    unfit(SP_UNREAD);
}

KIT_TEST(unfit, with_bytes_in_the_socket)
{
    fake_peer_sends(attempt->conn->fd, "220 hello", 9);
    unfit(SP_UNREAD);
}

KIT_TEST(unfit, closed_by_the_peer)
{
    fake_peer_closes(attempt->conn->fd);
    unfit(SP_CLOSED);
}

KIT_TEST(unfit, is_not_looked_for_where_validation_is_off)
{
    atomic_store(&kit_pool->validate_after_ns, SP_NEVER);
    fake_peer_sends(attempt->conn->fd, "220 hello", 9);
    cr_assert_eq(ready(attempt), SP_OK);
    cr_assert_eq(kit_stats().idle, 1);
}

KIT_TEST(unfit, tainted)
{
    attempt->conn->tainted = true;
    unfit(SP_CLOSED);
}

KIT_TEST(connector, buffer_of_init_is_freed)
{
    cr_assert_eq(begin(attempt), SP_OK);
    cr_assert_eq(opened(attempt), SP_OK);
    cr_assert(fake_host.rbuf_reserve(attempt->conn, 4));
    cr_assert_eq(ready(attempt), SP_OK);
    cr_assert_null(attempt->conn->rbuf.base);
    cr_assert_eq(kit_stats().idle, 1);
}

KIT_TEST(connector, that_dies_gives_its_capacity_back)
{
    cr_assert_eq(begin(attempt), SP_OK);
    fake_kill(CONNECTOR);
    kit_tick();
    cr_assert_eq(kit_stats().total, 0);
    cr_assert_eq(kit_stats().connecting, 0);
    cr_assert_eq(kit_stats().connect_failures, 1);
    fake_sleep_ms(101);
    cr_assert_eq(kit_step(&attempt, 1, &plan), 1);
}

KIT_TEST(connector, not_there_yet_is_not_taken_for_dead)
{
    fake_kill(0);
    kit_tick();
    cr_assert_eq(kit_stats().connecting, 1);
}

KIT_TEST(connector, is_not_subject_to_max_hold)
{
    atomic_store(&kit_pool->max_hold_ns, 10 * SP_MS);
    cr_assert_eq(begin(attempt), SP_OK);
    fake_sleep_ms(1000);
    kit_tick();
    cr_assert_eq(opened(attempt), SP_OK);
    fake_sleep_ms(1000);
    kit_tick();
    cr_assert_eq(ready(attempt), SP_OK);
}

/* ---- a transport with a handshake ---- */

static struct {
    struct sp_transport transport;
    sp_status next; /* what the next step of the handshake says */
    unsigned cleanups;
    bool open_at_cleanup;
} shaking;

static sp_status shake(struct sp_conn *conn)
{
    if (shaking.next != SP_OK && !sp_wants(shaking.next))
        conn->fault = shaking.next;
    return shaking.next;
}

static void clean_up(struct sp_conn *conn)
{
    shaking.cleanups++;
    shaking.open_at_cleanup = conn->fd >= 0 && fake_fd_open(conn->fd);
}

static enum sp_clean find_dead(struct sp_conn *conn)
{
    conn->fault = SP_STATUS_TRANSPORT + 7;
    return SP_DEAD;
}

static void begun_with_handshake(void)
{
    shaking.transport = sp_transport_tcp;
    shaking.transport.handshake = shake;
    shaking.transport.cleanup = clean_up;
    kit_init(1);
    kit_config.size = 1;
    kit_config.transport = &shaking.transport;
    kit_open();
    cr_assert_eq(kit_step(&attempt, 1, &plan), 1);
}

TestSuite(handshake, .init = begun_with_handshake);

KIT_TEST(handshake, comes_before_the_connection_may_be_used)
{
    cr_assert_eq(begin(attempt), SP_OK);
    cr_assert_eq(opened(attempt), SP_HANDSHAKE);
    cr_assert_eq(sp_conn_state(attempt->conn), SP_CONN_CONNECTING);
    shaking.next = SP_WANT_READ;
    cr_assert_eq(sp_control_handshake(attempt->conn), SP_WANT_READ);
    cr_assert_eq(opened(attempt), SP_HANDSHAKE, "not done");
    shaking.next = SP_OK;
    cr_assert_eq(sp_control_handshake(attempt->conn), SP_OK);
    cr_assert_eq(opened(attempt), SP_OK);
    cr_assert_eq(ready(attempt), SP_OK);
    cr_assert_eq(kit_stats().idle, 1);
}

/* What the last address left does not count for the next. */
KIT_TEST(handshake, begins_anew_with_the_next_address)
{
    cr_assert_eq(begin(attempt), SP_OK);
    cr_assert_eq(sp_control_handshake(attempt->conn), SP_OK);
    shaking.cleanups = 0;
    cr_assert_eq(begin(attempt), SP_OK);
    cr_assert_eq(shaking.cleanups, 1);
    cr_assert(shaking.open_at_cleanup);
    cr_assert_eq(opened(attempt), SP_HANDSHAKE);
    shaking.next = SP_STATUS_TRANSPORT + 1;
    cr_assert_eq(sp_control_handshake(attempt->conn), SP_STATUS_TRANSPORT + 1);
    cr_assert_eq(begin(attempt), SP_OK);
    cr_assert_eq(attempt->conn->fault, SP_OK);
    shaking.next = SP_OK;
    cr_assert_eq(sp_control_handshake(attempt->conn), SP_OK);
    cr_assert_eq(opened(attempt), SP_OK);
}

/* What made it dead is the reason of the attempt's failure. */
KIT_TEST(handshake, a_fault_found_at_the_end_is_the_reason)
{
    cr_assert_eq(begin(attempt), SP_OK);
    cr_assert_eq(sp_control_handshake(attempt->conn), SP_OK);
    cr_assert_eq(opened(attempt), SP_OK);
    shaking.transport.validate = find_dead;
    cr_assert_eq(ready(attempt), SP_STATUS_TRANSPORT + 7);
    cr_assert_eq(kit_stats().connect_failures, 1);
}

KIT_TEST(handshake, is_cleaned_up_before_the_descriptor_goes)
{
    struct handle *held;

    cr_assert_eq(begin(attempt), SP_OK);
    cr_assert_eq(sp_control_handshake(attempt->conn), SP_OK);
    cr_assert_eq(opened(attempt), SP_OK);
    cr_assert_eq(ready(attempt), SP_OK);
    shaking.cleanups = 0;
    held = kit_checkout(KIT_OWNER);
    cr_assert_eq(kit_discard(held), SP_OK);
    (void)kit_step(NULL, 0, &plan);
    cr_assert_eq(shaking.cleanups, 1);
    cr_assert(shaking.open_at_cleanup);
}
