/* sp_tls: TLS over a connection that has been used in clear. */
#include "core/conn/sp_recv.h"
#include "core/tls/sp_tls_error.h"
#include "kit/fail_alloc.h"
#include "kit/tls_pair.h"

#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>

#define LEASE 7

/* Connected in clear, and leased. */
static void make(void)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons(443), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sp_addr addr = {.len = sizeof in, .host = "localhost"};
    struct sp_sockopts opts = {.nodelay = true};

    tpair_make();
    pair.conn = lone_conn(&sp_transport_tcp);
    memcpy(&addr.storage, &in, sizeof in);
    fake_connect_at_once(true);
    cr_assert_eq(sp_transport_tcp.open(&pair.conn, &addr, &opts), SP_OK);
    pair.conn.peer = addr;
    atomic_store(&pair.conn.state, SP_CONN_LEASED);
    atomic_store(&pair.conn.lease, LEASE);
}

static sp_status upgrade(const char *host)
{
    return sp_tls_upgrade(&pair.conn, LEASE, host, sp_tls_slot_get(&pair.slot));
}

/* Both ways; and nothing came to the descriptor since `before` bytes were sent. */
static void is_of_no_use(size_t before)
{
    struct iovec iov = {"secret", 6};
    char buf[8];
    size_t len;

    cr_assert_eq(pair.conn.transport->send(&pair.conn, &iov, 1, &len), SP_CLOSED);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &len), SP_CLOSED);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_DEAD);
    (void)fake_sent(pair.conn.fd, &len);
    cr_assert_eq(len, before);
}

TestSuite(tls_upgrade, .init = make, .fini = tpair_close);

Test(tls_upgrade, goes_on_by_tls)
{
    struct iovec iov = {"hello", 5};
    char buf[8];
    size_t len;

    fake_peer_sends(pair.conn.fd, "S", 1);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, 1, &len), SP_OK);
    pair.conn.heard = pair.conn.drained = true;
    cr_assert_eq(upgrade("localhost"), SP_OK);
    cr_assert_eq(atomic_load(&pair.conn.lease), LEASE);
    cr_assert_eq(pair.conn.transport, &sp_transport_tls);
    cr_assert_not(pair.conn.drained);
    cr_assert(pair.conn.heard);
    cr_assert(pair.conn.touched);
    cr_assert_eq(tkit_shake(&pair.conn, &pair.server), SP_OK);
    cr_assert_eq(pair.conn.transport->send(&pair.conn, &iov, 1, &len), SP_OK);
    cr_assert_eq(tpair_server_reads(buf, sizeof buf), 5);
    tpair_server_sends("world", 5);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &len), SP_OK);
    cr_assert_eq(len, 5);
    cr_assert_not(sp_conn_restore(&pair.conn), "it is a lease's");
}

Test(tls_upgrade, by_a_connector_is_for_good)
{
    atomic_store(&pair.conn.state, SP_CONN_INITIALISING);
    pair.conn.heard = true;
    cr_assert_eq(upgrade("localhost"), SP_OK);
    cr_assert_eq(tkit_shake(&pair.conn, &pair.server), SP_OK);
    cr_assert_not(pair.conn.heard, "not since then");
    cr_assert(sp_conn_restore(&pair.conn));
}

Test(tls_upgrade, verifies_the_name)
{
    cr_assert_eq(upgrade("elsewhere.example"), SP_OK);
    cr_assert_eq(tkit_shake(&pair.conn, &pair.server), SP_TLS_HOSTNAME_MISMATCH);
    cr_assert_neq(pair.conn.fault, SP_OK);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_DEAD);
}

/* OpenSSL would do it by itself. */
Test(tls_upgrade, nothing_goes_before_the_handshake)
{
    cr_assert_eq(upgrade("localhost"), SP_OK);
    is_of_no_use(0);
    cr_assert_eq(tkit_shake(&pair.conn, &pair.server), SP_OK);
}

Test(tls_upgrade, bytes_of_before_with_the_system)
{
    fake_peer_sends(pair.conn.fd, "250 \x01injected\r\n", 15);
    cr_assert_eq(upgrade("localhost"), SP_UNREAD);
    cr_assert_str_eq(pair.conn.words.text, "250 .injected");
    is_of_no_use(0);
}

Test(tls_upgrade, bytes_of_before_in_the_buffer)
{
    static uint8_t buf[] = "ok injected";

    pair.conn.rbuf = (struct sp_rbuf){.base = buf, .pos = 3, .len = 11, .cap = sizeof buf};
    cr_assert_eq(upgrade("localhost"), SP_UNREAD);
    cr_assert_str_eq(pair.conn.words.text, "injected");
    cr_assert_eq(pair.conn.rbuf.len, 0, "nobody gets them later");
    is_of_no_use(0);
}

Test(tls_upgrade, closed_by_the_peer)
{
    fake_peer_closes(pair.conn.fd);
    cr_assert_eq(upgrade("localhost"), SP_CLOSED);
    is_of_no_use(0);
}

Test(tls_upgrade, without_a_context)
{
    cr_assert_eq(sp_tls_upgrade(&pair.conn, LEASE, "localhost", NULL), SP_CLOSED);
    is_of_no_use(0);
}

Test(tls_upgrade, without_memory)
{
    struct sp_tls_ctx *ctx = sp_tls_slot_get(&pair.slot);

    fail_alloc_after(0);
    cr_assert_eq(sp_tls_upgrade(&pair.conn, LEASE, "localhost", ctx), SP_NO_MEMORY);
    is_of_no_use(0);
}

/* A stop has been faster: it closes what it has seen. */
Test(tls_upgrade, lease_has_ended)
{
    atomic_store(&pair.conn.lease, SP_LEASE_NONE);
    cr_assert_eq(upgrade("localhost"), SP_CLOSED);
    cr_assert_eq(pair.conn.transport, &sp_transport_tcp);
    cr_assert_null(pair.conn.transport_state);
    cr_assert_eq(atomic_load(&pair.conn.lease), SP_LEASE_NONE);
}
