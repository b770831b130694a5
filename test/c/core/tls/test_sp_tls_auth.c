/* sp_tls: a server that asks for a certificate when the handshake is over (TLS 1.3). */
#include "core/tls/sp_tls_error.h"
#include "kit/tls_pair.h"

#include <criterion/criterion.h>
#include <openssl/ssl.h>

static int believe(int is_right, X509_STORE_CTX *store)
{
    (void)is_right;
    (void)store;
    return 1;
}

static void connected(bool has_certificate)
{
    struct sp_tls_options options;

    tpair_make();
    options = tkit_options();
    if (has_certificate)
        options.certfile = tkit_pem(tkit_world.leaf.cert, tkit_world.leaf.key, NULL);
    sp_tls_slot_set(&pair.slot, tkit_ctx(&options), 2);
    SSL_set_verify(pair.server.ssl, SSL_VERIFY_PEER | SSL_VERIFY_POST_HANDSHAKE, believe);
    cr_assert_eq(SSL_set_session_id_context(pair.server.ssl, (const uint8_t *)"x", 1), 1);
    tpair_connect();
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_CLEAN);
    pair.conn.shaken = true;
}

static void with(void)
{
    connected(true);
}

static void ask(void)
{
    cr_assert_eq(SSL_verify_client_post_handshake(pair.server.ssl), 1);
    cr_assert_eq(SSL_do_handshake(pair.server.ssl), 1);
    tkit_pump(&pair.conn, &pair.server);
}

static X509 *shown(void)
{
    char byte;

    (void)tpair_server_reads(&byte, 1);
    return SSL_get_peer_certificate(pair.server.ssl);
}

TestSuite(tls_auth, .init = with, .fini = tpair_close);

/* As nginx or Apache do it: the request is read, and before its answer comes the question. */
Test(tls_auth, is_given_while_an_answer_is_awaited)
{
    char buf[8];
    size_t got;
    X509 *cert;

    ask();
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_WANT_READ);
    cert = shown();
    cr_assert(cert && X509_cmp(cert, tkit_world.leaf.cert) == 0);
    X509_free(cert);
    tpair_server_sends("yes", 3);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_OK);
    cr_assert_eq(got, 3);
}

Test(tls_auth, is_given_while_nobody_uses_the_connection)
{
    X509 *cert;

    ask();
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_CLEAN);
    cert = shown();
    cr_assert(cert);
    X509_free(cert);
}

static sp_status recv_beside(int key_updates)
{
    char buf[8];
    size_t got;

    for (int i = 0; i < key_updates; i++) {
        cr_assert_eq(SSL_key_update(pair.server.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        cr_assert_eq(SSL_do_handshake(pair.server.ssl), 1);
    }
    ask();
    return pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got);
}

/* A signature costs what many messages cost. */
Test(tls_auth, and_much_else_is_a_flood)
{
    cr_assert_eq(recv_beside(20), SP_TLS_PROTOCOL_ERROR);
}

Test(tls_auth, and_a_little_else_is_none)
{
    cr_assert_eq(recv_beside(10), SP_WANT_READ);
}

static void without(void)
{
    connected(false);
}

TestSuite(tls_auth_without, .init = without, .fini = tpair_close);

/* The server knows that before it asks. */
Test(tls_auth_without, a_certificate_is_not_offered)
{
    cr_assert_eq(SSL_verify_client_post_handshake(pair.server.ssl), 0);
}
