/* sp_tls: the end of a connection, what is told of it, and resumption by the next one. */
#include "core/tls/sp_tls_error.h"
#include "kit/tls_pair.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

TestSuite(tls_end, .init = tpair_open, .fini = tpair_close);

Test(tls_end, says_goodbye)
{
    char buf[8];
    int fd = pair.conn.fd;

    sp_conn_cleanup(&pair.conn);
    cr_assert_null(pair.conn.transport_state);
    cr_assert(fake_fd_open(fd), "the descriptor is its owner's");
    tkit_pump(&pair.conn, &pair.server);
    cr_assert_leq(SSL_read(pair.server.ssl, buf, sizeof buf), 0);
    cr_assert_eq(SSL_get_error(pair.server.ssl, 0), SSL_ERROR_ZERO_RETURN);
}

Test(tls_end, does_not_wait_to_say_it)
{
    fake_send_room(pair.conn.fd, 0);
    sp_conn_cleanup(&pair.conn);
    cr_assert_null(pair.conn.transport_state);
}

Test(tls_end, shutdown_touches_the_descriptor_only)
{
    size_t before, after;

    (void)fake_sent(pair.conn.fd, &before);
    pair.conn.transport->shutdown(&pair.conn);
    (void)fake_sent(pair.conn.fd, &after);
    cr_assert_eq(before, after);
    cr_assert_eq(fake_calls(FAKE_SHUTDOWN), 1);
}

struct told {
    char protocol[16], cipher[64];
    size_t cert_len;
    bool resumed, resumed_told, ktls_told;
};

static void hear(void *arg, const char *key, enum sp_fact_kind kind, const void *data, size_t len)
{
    struct told *told = arg;

    if (strcmp(key, "protocol") == 0 && kind == SP_FACT_WORD)
        memcpy(told->protocol, data, len);
    else if (strcmp(key, "cipher") == 0 && kind == SP_FACT_TEXT)
        memcpy(told->cipher, data, len);
    else if (strcmp(key, "peercert") == 0 && kind == SP_FACT_BYTES)
        told->cert_len = len;
    else if (strcmp(key, "resumed") == 0 && kind == SP_FACT_FLAG) {
        told->resumed_told = true;
        told->resumed = len != 0;
    } else if (strcmp(key, "ktls") == 0)
        told->ktls_told = kind == SP_FACT_FLAG && len == 0;
}

Test(tls_end, tells_what_was_agreed)
{
    struct told told = {0};

    pair.conn.transport->describe(&pair.conn, hear, &told);
    cr_assert_str_eq(told.protocol, "tlsv1.3");
    cr_assert_str_eq(told.cipher, "TLS_AES_256_GCM_SHA384");
    cr_assert_eq(told.cert_len, (size_t)i2d_X509(tkit_world.leaf.cert, NULL));
    cr_assert(told.resumed_told && !told.resumed);
    cr_assert(told.ktls_told);
}

static bool resumes(void)
{
    struct told told = {0};

    tkit_close(&pair.conn);
    tkit_server_again(&pair.server);
    tpair_connect();
    pair.conn.transport->describe(&pair.conn, hear, &told);
    return told.resumed;
}

Test(tls_end, the_next_connection_resumes)
{
    for (int i = 0; i < 5; i++)
        cr_assert(resumes());
}

/* Tickets that came on a connection nobody looked at before its close. */
Test(tls_end, tickets_are_taken_at_the_close_too)
{
    tkit_close(&pair.conn);
    tkit_server_again(&pair.server);
    tkit_open(&pair.conn, &pair.slot, "localhost");
    cr_assert_eq(tkit_shake(&pair.conn, &pair.server), SP_OK);
    tkit_pump(&pair.conn, &pair.server);
    cr_assert(resumes());
    cr_assert(resumes());
    cr_assert(resumes());
}

Test(tls_end, a_truncated_connection_spoils_no_ticket)
{
    char buf[8];
    size_t got;

    fake_peer_closes(pair.conn.fd);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_TLS_TRUNCATED);
    cr_assert(resumes());
}

/* Whoever asks for another name gets no ticket of this one, though the address is the same. */
Test(tls_end, tickets_are_of_one_name)
{
    struct told told = {0};

    tkit_close(&pair.conn);
    tkit_server_again(&pair.server);
    tkit_open(&pair.conn, &pair.slot, "a.wild.example");
    cr_assert_eq(tkit_shake(&pair.conn, &pair.server), SP_OK);
    pair.conn.transport->describe(&pair.conn, hear, &told);
    cr_assert_not(told.resumed);
}

/* Connects by full handshake to a server with another certificate, and perhaps one between it and the
 * authority. Verification takes place at a time at which both were good, `at_s`, so what has expired
 * gets through as well. */
static void accept_server(const struct tkit_cert *leaf, const struct tkit_cert *between,
                          int version, long at_s)
{
    struct sp_tls_ctx *ctx = sp_tls_slot_get(&pair.slot);

    tkit_close(&pair.conn);
    tkit_server_free(&pair.server);
    pair.server = tkit_server_new(leaf, version);
    if (between)
        cr_assert_eq(SSL_CTX_add1_chain_cert(pair.server.ctx, between->cert), 1);
    tkit_server_again(&pair.server);
    X509_VERIFY_PARAM_set_time(SSL_CTX_get0_param(ctx->ssl_ctx), time(NULL) + at_s);
    sp_tls_ctx_unref(ctx);
    tpair_connect();
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_CLEAN);
}

static void accept_leaf_of(long from_s, long to_s, int version)
{
    struct tkit_cert leaf =
        tkit_cert_new("kit", "DNS:localhost", false, &tkit_world.ca, from_s, to_s);

    accept_server(&leaf, NULL, version, (from_s + to_s) / 2);
    tkit_cert_free(&leaf);
}

static void accept_chain_until(long to_s, int version)
{
    struct tkit_cert between = tkit_cert_new("between", NULL, true, &tkit_world.ca, -1000, to_s);
    struct tkit_cert leaf = tkit_cert_new("kit", "DNS:localhost", false, &between, -1000, 1000);

    accept_server(&leaf, &between, version, -500);
    tkit_cert_free(&leaf);
    tkit_cert_free(&between);
}

/* A session would otherwise outlive the certificate that it was agreed on with: in a resumption no
 * certificate is looked at. */
static void ends_with_its_certificate(int version)
{
    accept_leaf_of(-1000, 1000, version);
    cr_assert(resumes());
    accept_leaf_of(-1000, -10, version);
    cr_assert_not(resumes());
    cr_assert_not(resumes());
}

Test(tls_end, a_session_ends_with_its_certificate)
{
    ends_with_its_certificate(TLS1_3_VERSION);
}

Test(tls_end, a_session_of_12_ends_with_its_certificate)
{
    ends_with_its_certificate(TLS1_2_VERSION);
}

/* However good the server's own certificate is. */
static void ends_with_its_chain(int version)
{
    accept_chain_until(1000, version);
    cr_assert(resumes());
    accept_chain_until(-10, version);
    cr_assert_not(resumes());
}

Test(tls_end, a_session_ends_with_its_chain)
{
    ends_with_its_chain(TLS1_3_VERSION);
}

Test(tls_end, a_session_of_12_ends_with_its_chain)
{
    ends_with_its_chain(TLS1_2_VERSION);
}

/* The tickets of a resumption end with the chain of the handshake that it goes back to. */
Test(tls_end, resumptions_end_with_the_chain)
{
    accept_chain_until(2, TLS1_3_VERSION);
    cr_assert(resumes());
    cr_assert(resumes());
    sleep(3);
    cr_assert_not(resumes());
}

/* Under the sanitizers and valgrind: SOCKPOOL_TLS_CONNECTS=10000 for as many connections. */
Test(tls_end, many_connections_leave_nothing_behind)
{
    const char *given = getenv("SOCKPOOL_TLS_CONNECTS");
    long count = given ? atol(given) : 200;
    struct iovec iov = {"ping", 4};
    char buf[8];
    size_t sent, got;

    for (long i = 0; i < count; i++) {
        if (i % 2)
            pair.conn.transport->shutdown(&pair.conn); /* revoked in a call: no goodbye */
        tkit_close(&pair.conn);
        fake_sys_reset();
        tkit_server_again(&pair.server);
        tpair_connect();
        cr_assert_eq(pair.conn.transport->send(&pair.conn, &iov, 1, &sent), SP_OK);
        cr_assert_eq(tpair_server_reads(buf, sizeof buf), 4);
        tpair_server_sends("pong", 4);
        cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_OK);
    }
}
