/* sp_control and sp_pool: servers that refuse after the handshake, servers that die. */
#include "kit/pool_kit.h"

#include <criterion/criterion.h>
#include <errno.h>

#define CONNECTOR 31

static struct handle *attempts[32];
static struct sp_plan plan;

static size_t step(size_t max)
{
    return kit_step(attempts, max, &plan);
}

/* ---- a server that refuses after the handshake ---- */

enum { REFUSAL = SP_STATUS_TRANSPORT + 7, OTHER_FAULT };

static struct sp_transport refusing;

static bool is_refusal(sp_status fault)
{
    return fault == REFUSAL;
}

static void open_refusing(uint32_t size)
{
    refusing = sp_transport_tcp;
    refusing.is_refusal = is_refusal;
    kit_init(1);
    kit_config.size = size;
    kit_config.transport = &refusing;
    kit_open();
}

/* The next attempt, once the backoff allows it, becomes a connection, and then this happens to it. */
static void used_until(sp_status fault)
{
    struct handle *handle;

    if (step(32) == 0) {
        cr_assert_neq(plan.wait_ns, SP_NEVER);
        fake_sleep_ms(plan.wait_ns / SP_MS + 1);
        cr_assert_eq(step(32), 1);
    }
    kit_connect(attempts[0], CONNECTOR);
    handle = kit_checkout(KIT_OWNER);
    handle->conn->shaken = true;
    handle->conn->fault = fault;
    cr_assert_eq(kit_discard(handle), SP_OK);
    step(0);
}

KIT_TEST(refusal, lengthens_the_delay_although_every_attempt_succeeds)
{
    open_refusing(1);
    for (unsigned i = 1; i <= 5; i++) {
        used_until(REFUSAL);
        cr_assert_eq(kit_pool->control.state.failures, i);
        cr_assert_eq(fake_last_refusal(), (sp_status)REFUSAL);
        cr_assert(sp_health_unavailable(kit_pool));
    }
    cr_assert_eq(kit_stats().created, 5);
    cr_assert_eq(kit_stats().connect_failures, 0);
}

/* Where many are to be closed the step does not come to this one, and begins attempts before. */
KIT_TEST(refusal, is_known_before_the_next_attempt_begins)
{
    struct handle *handle;

    open_refusing(1);
    cr_assert_eq(kit_grow(), 1);
    handle = kit_checkout(KIT_OWNER);
    handle->conn->shaken = true;
    handle->conn->fault = REFUSAL;
    cr_assert_eq(kit_discard(handle), SP_OK);
    cr_assert(sp_health_unavailable(kit_pool));
    cr_assert_eq(step(32), 0);
    cr_assert_neq(plan.wait_ns, SP_NEVER);
}

KIT_TEST(refusal, of_one_round_counts_once)
{
    struct handle *held[3];

    open_refusing(3);
    cr_assert_eq(kit_grow(), 3);
    for (int i = 0; i < 3; i++)
        held[i] = kit_checkout(KIT_OWNER);
    for (int i = 0; i < 3; i++) {
        held[i]->conn->shaken = true;
        held[i]->conn->fault = REFUSAL;
        cr_assert_eq(kit_discard(held[i]), SP_OK);
    }
    step(0);
    cr_assert_eq(kit_pool->control.state.failures, 1);
}

KIT_TEST(refusal, is_over_once_the_server_says_something)
{
    uint8_t scratch[16];
    struct sp_received received;
    struct handle *handle;

    open_refusing(1);
    used_until(REFUSAL);
    fake_sleep_ms(101);
    cr_assert_eq(step(32), 1);
    kit_connect(attempts[0], CONNECTOR);
    cr_assert_eq(kit_pool->control.state.failures, 1, "to be ready is not enough");
    handle = kit_checkout(KIT_OWNER);
    fake_peer_sends(handle->conn->fd, "x", 1);
    cr_assert_eq(sp_recv(handle->conn, kit_call(), &(struct sp_want){.len_bytes = 1}, scratch,
                         sizeof scratch, &received),
                 SP_OK);
    sp_recv_taken(handle->conn, &received);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert_eq(kit_pool->control.state.failures, 0);
    handle = kit_checkout(KIT_OWNER);
    handle->conn->shaken = true;
    handle->conn->fault = REFUSAL;
    cr_assert_eq(kit_discard(handle), SP_OK);
    cr_assert_eq(step(32), 1);
    cr_assert_eq(kit_pool->control.state.failures, 0, "it was accepted before");
}

KIT_TEST(refusal, is_no_other_fault_and_not_of_a_life_before)
{
    struct handle *handle;

    open_refusing(1);
    used_until(OTHER_FAULT);
    cr_assert_eq(kit_pool->control.state.failures, 0);
    cr_assert_eq(kit_grow(), 1);
    handle = kit_checkout(KIT_OWNER);
    atomic_fetch_add(&kit_pool->epoch, 1);
    handle->conn->shaken = true;
    handle->conn->fault = REFUSAL;
    cr_assert_eq(kit_discard(handle), SP_OK);
    step(0);
    cr_assert_eq(kit_pool->control.state.failures, 0);
}

static unsigned opens;

static sp_status opened_once(struct sp_conn *conn)
{
    (void)conn;
    return opens++ == 0 ? SP_OK : -ECONNRESET;
}

static sp_status handshake_done(struct sp_conn *conn)
{
    (void)conn;
    return SP_OK;
}

/* The reset that follows a refusal would hide it. */
KIT_TEST(opening, does_not_ask_the_socket_again_after_the_handshake)
{
    static const struct sp_addr addr = {.storage.ss_family = AF_INET,
                                        .len = sizeof(struct sockaddr_storage)};
    struct handle *attempt;

    opens = 0;
    open_refusing(1);
    refusing.opened = opened_once;
    refusing.handshake = handshake_done;
    cr_assert_eq(step(32), 1);
    attempt = attempts[0];
    cr_assert_eq(
        sp_control_begin(kit_pool, kit_call(), attempt->conn, &attempt->lease, CONNECTOR, &addr),
        SP_OK);
    cr_assert_eq(sp_control_opened(attempt->conn, &attempt->lease, kit_call()), SP_HANDSHAKE);
    cr_assert_eq(sp_control_handshake(attempt->conn), SP_OK);
    cr_assert_eq(sp_control_opened(attempt->conn, &attempt->lease, kit_call()), SP_OK);
    cr_assert_eq(opens, 1);
}

KIT_TEST(accepting, not_with_a_fault_that_no_readiness_will_tell)
{
    struct handle *handle;

    open_refusing(1);
    cr_assert_eq(kit_grow(), 1);
    handle = kit_checkout(KIT_OWNER);
    handle->conn->fault = SP_CLOSED;
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert_eq(kit_stats().idle, 0);
    cr_assert_eq(kit_stats().closed, 1);
}

/* ---- a server that dies with many idle connections ---- */

static void open_idle_and_dead(unsigned count)
{
    kit_start(count, 0);
    for (unsigned i = 0; i < count; i++)
        fake_peer_closes(fake_last(FAKE_CONNECT, i)->fd);
    kit_allow(16 * (SP_PIECES_SYSCALL + SP_PIECES_RETIRE));
}

KIT_TEST(many_dead, a_checkout_gets_rid_of_some)
{
    sp_status status;

    open_idle_and_dead(40);
    for (int left = 24; left > 0; left -= 16) {
        cr_assert_null(kit_try_checkout(KIT_OWNER, &status));
        cr_assert_eq(status, SP_AGAIN);
        cr_assert_eq(kit_stats().idle, (uint64_t)left);
    }
    cr_assert_null(kit_try_checkout(KIT_OWNER, &status));
    cr_assert_eq(status, SP_EMPTY);
    cr_assert_eq(kit_stats().idle, 0);
}

KIT_TEST(many_dead, whoever_waits_is_served_by_the_step)
{
    unsigned wakes;

    open_idle_and_dead(40);
    wakes = fake_wakes();
    kit_enqueue(KIT_OWNER);
    cr_assert_eq(kit_stats().idle, 24);
    cr_assert_gt(fake_wakes(), wakes);
    step(0);
    cr_assert_eq(kit_stats().idle, 8);
    cr_assert_gt(fake_wakes(), wakes + 1);
    step(0);
    cr_assert_eq(kit_stats().idle, 0);
}
