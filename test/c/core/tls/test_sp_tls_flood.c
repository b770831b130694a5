/* sp_tls: a server that says more than it should, which must not keep a call for long. */
#include "kit/fake_host.h"
#include "core/conn/sp_recv.h"
#include "core/tls/sp_tls_error.h"
#include "kit/tls_pair.h"

#include <criterion/criterion.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <unistd.h>

/* OpenSSL tells of three steps with each message. */
#define STEPS_MAX (3 * (64 + 1))
#define LAST_STEPS_MAX (3 * (8 + 1))

static unsigned steps;

static void see(const SSL *ssl, int where, int result)
{
    (void)ssl;
    (void)result;
    steps += where == SSL_CB_CONNECT_LOOP;
}

static void watch(void)
{
    struct sp_tls_ctx *ctx = sp_tls_slot_get(&pair.slot);

    SSL_CTX_set_info_callback(ctx->ssl_ctx, see);
    sp_tls_ctx_unref(ctx);
}

static void make(void)
{
    tpair_make();
    watch();
}

static void open_pair(void)
{
    make();
    tpair_connect();
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_CLEAN);
    steps = 0;
}

static void key_updates(int count)
{
    for (int i = 0; i < count; i++) {
        cr_assert_eq(SSL_key_update(pair.server.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        cr_assert_eq(SSL_do_handshake(pair.server.ssl), 1);
    }
}

TestSuite(tls_flood, .init = open_pair, .fini = tpair_close);

#if OPENSSL_VERSION_MAJOR >= 3
/* So many tickets that nobody can want them: not to be looked through for ever. */
Test(tls_flood, of_tickets_is_the_end)
{
    for (int i = 0; i < 300; i++) {
        cr_assert_eq(SSL_new_session_ticket(pair.server.ssl), 1);
        (void)SSL_do_handshake(pair.server.ssl);
    }
    tkit_pump(&pair.conn, &pair.server);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_DEAD);
    cr_assert_eq(pair.conn.fault, SP_TLS_PROTOCOL_ERROR);
    cr_assert_gt(fake_unread(pair.conn.fd), 0);
}
#endif

Test(tls_flood, of_key_updates_is_the_end)
{
    char buf[8];
    size_t got;

    key_updates(2000);
    tkit_pump(&pair.conn, &pair.server);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got),
                 SP_TLS_PROTOCOL_ERROR);
    cr_assert_gt(fake_unread(pair.conn.fd), 0);
    cr_assert_leq(steps, STEPS_MAX, "%u, what was read ahead as well", steps);
}

/* Fewer than that do no harm. */
Test(tls_flood, of_few_is_none)
{
    char buf[8];
    size_t got;

    key_updates(60);
    tpair_server_sends("data", 4);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_OK);
    cr_assert_eq(got, 4);
    cr_assert_geq(steps, 60);
}

/* Many connections may be closed in one go. */
Test(tls_flood, costs_little_at_the_close)
{
    key_updates(60);
    tkit_pump(&pair.conn, &pair.server);
    tkit_close(&pair.conn);
    cr_assert_leq(steps, LAST_STEPS_MAX, "%u", steps);
    cr_assert_gt(steps, 0);
}

/* ---- records of one byte ---- */

#define RECORDS 1000

static void records_of_one_byte(void)
{
    for (int i = 0; i < RECORDS; i++)
        tpair_server_sends("x", 1);
}

Test(tls_flood, of_short_records_comes_in_slices)
{
    static char buf[SP_FULL_RECV_BYTES];
    size_t got, all = 0;

    records_of_one_byte();
    for (int calls = 1; all < RECORDS; calls++) {
        pair.conn.pieces = 0;
        cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_OK);
        cr_assert_leq(pair.conn.pieces, SP_ALLOWANCE_PIECES / 2);
        all += got;
        cr_assert(all == RECORDS || pair.conn.more, "%zu of them would wake nobody", RECORDS - all);
        cr_assert(all < RECORDS || calls >= 10, "%d calls", calls);
    }
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_WANT_READ);
    cr_assert_not(pair.conn.more);
}

/* No call says that there is nothing while OpenSSL has read something ahead. */
Test(tls_flood, of_short_records_makes_a_message)
{
    static uint8_t scratch[SP_FULL_RECV_BYTES];
    const struct sp_want want = {.len_bytes = RECORDS};
    struct sp_received received;
    sp_status status;

    pair.conn.host = &fake_host;
    pair.conn.recv_limit_bytes = RECORDS;
    records_of_one_byte();
    do {
        status = sp_recv(&pair.conn, fake_host_call(0), &want, scratch, sizeof scratch, &received);
        cr_assert(status == SP_AGAIN || status == SP_OK, "%s", sp_status_name(status));
        cr_assert_geq(fake_pieces_left(), -SP_ALLOWANCE_PIECES / 2);
    } while (status == SP_AGAIN);
    cr_assert_eq(received.len, RECORDS);
    sp_recv_taken(&pair.conn, &received);
    fake_host.rbuf_free(&pair.conn);
}

/* ---- a descriptor that OpenSSL reads itself ---- */

static int ends[2];

/* The kernel need not be able to encrypt: the configuration alone makes OpenSSL read by itself. */
static void open_ktls(void)
{
    struct sp_tls_options options = tkit_options();
    int theirs = 0;
    sp_status ours = SP_WANT_READ;

    options.ktls = true;
    sp_tls_slot_set(&pair.slot, tkit_ctx(&options), 2);
    watch();
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    tkit_open(&pair.conn, &pair.slot, "localhost");
    cr_assert_eq(fake_sys.close(pair.conn.fd), 0);
    pair.conn.sys = &sp_sys_posix;
    pair.conn.fd = ends[0];
    cr_assert_eq(SSL_set_fd(pair.server.ssl, ends[1]), 1);
    for (int i = 0; i < 10 && (theirs != 1 || sp_wants(ours)); i++) {
        ours = pair.conn.transport->handshake(&pair.conn);
        theirs = SSL_do_handshake(pair.server.ssl);
        ERR_clear_error();
    }
    cr_assert_eq(ours, SP_OK);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_CLEAN);
    steps = 0;
}

TestSuite(tls_flood_ktls, .init = make, .fini = tpair_close);

Test(tls_flood_ktls, of_key_updates_is_the_end)
{
    open_ktls();
    key_updates(200);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_DEAD);
    cr_assert_eq(pair.conn.fault, SP_TLS_PROTOCOL_ERROR);
    cr_assert_leq(steps, STEPS_MAX, "%u", steps);
}

Test(tls_flood_ktls, a_part_of_data_is_dirty)
{
    BIO *memory = BIO_new(BIO_s_mem());
    char *record;

    open_ktls();
    SSL_set0_wbio(pair.server.ssl, memory);
    cr_assert_eq(SSL_write(pair.server.ssl, "late", 4), 4);
    cr_assert_gt(BIO_get_mem_data(memory, &record), 15);
    cr_assert_eq(write(ends[1], record, 5), 5);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_DIRTY);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_DIRTY);
    cr_assert_eq(write(ends[1], record + 5, 10), 10);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_DIRTY);
}

/* ---- during the handshake ---- */

TestSuite(tls_flood_shaking, .init = make, .fini = tpair_close);

/* Of TLS 1.2, in clear, so anybody can send them. OpenSSL skips them one by one. */
Test(tls_flood_shaking, of_requests_for_another_is_the_end)
{
    static const uint8_t RECORD[5 + 4 * 4096] = {22, 3, 3, 4 * 4096 >> 8, 4 * 4096 & 255};

    tkit_open(&pair.conn, &pair.slot, "localhost");
    cr_assert_eq(pair.conn.transport->handshake(&pair.conn), SP_WANT_READ);
    for (int i = 0; i < 100; i++)
        fake_peer_sends(pair.conn.fd, RECORD, sizeof RECORD);
    cr_assert_eq(pair.conn.transport->handshake(&pair.conn), SP_TLS_PROTOCOL_ERROR);
    cr_assert_gt(fake_unread(pair.conn.fd), 90 * sizeof RECORD);
}

/* One in each step. */
Test(tls_flood_shaking, may_come_slowly)
{
    static const uint8_t RECORD[] = {22, 3, 3, 0, 4, 0, 0, 0, 0};
    unsigned rounds = 0;

    tkit_open(&pair.conn, &pair.slot, "localhost");
    while (pair.conn.transport->handshake(&pair.conn) == SP_WANT_READ && rounds++ < 1000)
        fake_peer_sends(pair.conn.fd, RECORD, sizeof RECORD);
    cr_assert_eq(pair.conn.fault, SP_TLS_PROTOCOL_ERROR);
    cr_assert_leq(rounds, 64 + 1);
}

/* More than one step may read, as long as OpenSSL takes it. */
Test(tls_flood_shaking, a_long_chain_is_none)
{
    enum { NAMES = 8500, EACH = 14 };
    char *names = malloc(NAMES * EACH + 1);
    struct tkit_cert big;
    unsigned unfinished = 0;
    sp_status status;

    for (int i = 0; i < NAMES; i++)
        sprintf(names + (size_t)i * EACH, "DNS:%07d.a,", i);
    names[NAMES * EACH - 1] = 0;
    big = tkit_cert_new("big", names, false, &tkit_world.ca, -1000, 1000);
    cr_assert_gt(i2d_X509(big.cert, NULL), 90000);
    cr_assert_eq(SSL_add1_chain_cert(pair.server.ssl, big.cert), 1);
    tkit_open(&pair.conn, &pair.slot, "localhost");
    do {
        status = pair.conn.transport->handshake(&pair.conn);
        unfinished += status == SP_WANT_READ && fake_unread(pair.conn.fd) > 0;
        tkit_pump(&pair.conn, &pair.server);
    } while (sp_wants(status) && unfinished < 1000);
    cr_assert_eq(status, SP_OK, "%s", sp_tls_error_name(status, &(bool){false}));
    cr_assert_gt(unfinished, 0, "it was too short");
    tkit_cert_free(&big);
    free(names);
}
