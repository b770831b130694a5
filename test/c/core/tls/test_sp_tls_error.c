/* sp_tls_error: what each failed verification and alert is called, by making it happen. */
#include "core/tls/sp_tls_error.h"
#include "kit/tls_kit.h"

#include <criterion/criterion.h>
#include <openssl/err.h>
#include <openssl/evperr.h>
#include <errno.h>
#include <string.h>

#define DAY_S 86400L

static struct sp_tls_options options;

static void made(void)
{
    tkit_world_make();
    options = tkit_options();
}

static void done(void)
{
    tkit_world_free();
    cr_assert_eq(fake_fds_open(), 0);
}

/* How a handshake ends with the server, which ends with it. */
static sp_status shaken(struct tkit_server *server, const char *host)
{
    struct sp_tls_slot slot;
    struct sp_conn conn;
    sp_status status;

    sp_tls_slot_init(&slot);
    sp_tls_slot_set(&slot, tkit_ctx(&options), 1);
    tkit_open(&conn, &slot, host);
    status = tkit_shake(&conn, server);
    tkit_close(&conn);
    tkit_server_free(server);
    sp_tls_slot_destroy(&slot);
    return status;
}

/* With a server that has this certificate and version. */
static sp_status shaken_with(const struct tkit_cert *cert, int version, const char *host)
{
    struct tkit_server server = tkit_server_new(cert, version);

    return shaken(&server, host);
}

/* With a certificate of the authority, or self-signed, valid in that time. */
static sp_status with_leaf(bool self_signed, long from_s, long to_s)
{
    struct tkit_cert leaf = tkit_cert_new("x", "DNS:localhost", false,
                                          self_signed ? NULL : &tkit_world.ca, from_s, to_s);
    sp_status status = shaken_with(&leaf, TLS1_3_VERSION, "localhost");

    tkit_cert_free(&leaf);
    return status;
}

TestSuite(tls_error, .init = made, .fini = done);

Test(tls_error, certificates_in_time)
{
    cr_expect_eq(with_leaf(false, -DAY_S, DAY_S), SP_OK);
    cr_expect_eq(with_leaf(false, -2 * DAY_S, -DAY_S), SP_TLS_CERTIFICATE_EXPIRED);
    cr_expect_eq(with_leaf(false, DAY_S, 2 * DAY_S), SP_TLS_CERTIFICATE_NOT_YET_VALID);
    cr_expect_eq(with_leaf(true, -DAY_S, DAY_S), SP_TLS_SELF_SIGNED);
}

Test(tls_error, names)
{
    const struct tkit_cert *leaf = &tkit_world.leaf;

    cr_expect_eq(shaken_with(leaf, TLS1_3_VERSION, "localhost"), SP_OK);
    cr_expect_eq(shaken_with(leaf, TLS1_2_VERSION, "127.0.0.1"), SP_OK);
    cr_expect_eq(shaken_with(leaf, TLS1_3_VERSION, "a.wild.example"), SP_OK);
    cr_expect_eq(shaken_with(leaf, TLS1_3_VERSION, "a.b.wild.example"), SP_TLS_HOSTNAME_MISMATCH);
    cr_expect_eq(shaken_with(leaf, TLS1_3_VERSION, "example"), SP_TLS_HOSTNAME_MISMATCH);
    cr_expect_eq(shaken_with(leaf, TLS1_3_VERSION, "127.0.0.2"), SP_TLS_HOSTNAME_MISMATCH);
    cr_expect_eq(shaken_with(leaf, TLS1_3_VERSION, "::1"), SP_TLS_HOSTNAME_MISMATCH);
    options.server_name = "localhost";
    cr_expect_eq(shaken_with(leaf, TLS1_3_VERSION, "127.0.0.2"), SP_OK);
}

Test(tls_error, authorities)
{
    struct tkit_cert other = tkit_cert_new("other", NULL, true, NULL, -DAY_S, DAY_S);

    options.cacertfile = tkit_pem(other.cert, NULL, NULL);
    cr_expect_eq(shaken_with(&tkit_world.leaf, TLS1_3_VERSION, "localhost"), SP_TLS_UNKNOWN_CA);
    options.verify_peer = false;
    cr_expect_eq(shaken_with(&tkit_world.leaf, TLS1_3_VERSION, "nowhere"), SP_OK);
    tkit_cert_free(&other);
}

/* A certificate that is no authority's has signed another. */
Test(tls_error, a_leaf_that_signs)
{
    struct tkit_cert false_leaf =
        tkit_cert_new("x", "DNS:localhost", false, &tkit_world.leaf, -DAY_S, DAY_S);
    sp_status status;

    options.cacertfile = tkit_pem(tkit_world.leaf.cert, NULL, NULL);
    status = shaken_with(&false_leaf, TLS1_3_VERSION, "localhost");
    cr_expect(status == SP_TLS_INVALID_CA || status == SP_TLS_UNKNOWN_CA, "%s is %d", "the status",
              status);
    tkit_cert_free(&false_leaf);
}

/* OpenSSL asks for no certificate then, whatever SSL_VERIFY_PEER says. */
Test(tls_error, ciphers_without_certificates)
{
    struct tkit_server server = tkit_server_new(&tkit_world.leaf, TLS1_2_VERSION);

    cr_assert_eq(SSL_CTX_set_cipher_list(server.ctx, "AECDH:ADH:@SECLEVEL=0"), 1);
    tkit_server_again(&server);
    options.max_version = TLS1_2_VERSION;
    options.ciphers = "HIGH:@SECLEVEL=0";
    cr_expect_eq(shaken(&server, "localhost"), SP_TLS_NO_CERTIFICATE);
}

Test(tls_error, versions)
{
    cr_expect_eq(shaken_with(&tkit_world.leaf, TLS1_1_VERSION, "localhost"),
                 SP_TLS_PROTOCOL_VERSION);
    options.min_version = TLS1_3_VERSION;
    cr_expect_eq(shaken_with(&tkit_world.leaf, TLS1_2_VERSION, "localhost"),
                 SP_TLS_PROTOCOL_VERSION);
}

Test(tls_error, alerts)
{
    options.max_version = TLS1_2_VERSION;
    options.ciphers = "ECDHE-RSA-AES128-GCM-SHA256"; /* the server's key is another kind */
    cr_expect_eq(shaken_with(&tkit_world.leaf, TLS1_2_VERSION, "localhost"), SP_TLS_ALERT + 40);
}

Test(tls_error, every_status_has_a_name)
{
    bool alert;

    for (sp_status status = SP_TLS_BASE + 1; status < SP_TLS_REASON_END; status++) {
        const char *name = sp_tls_error_name(status, &alert);
        cr_expect_not(alert);
        cr_expect_str_neq(name, "unknown");
    }
    cr_expect_str_eq(sp_tls_error_name(SP_TLS_ALERT + 40, &alert), "handshake_failure");
    cr_expect(alert);
    cr_expect_str_eq(sp_tls_error_name(SP_TLS_ALERT + 250, &alert), "unknown_alert");
    cr_expect(alert);
    cr_expect_str_eq(sp_tls_error_name(SP_TLS_REASON_END, &alert), "unknown");
}

Test(tls_error, the_queue_is_taken)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);

    ERR_put_error(ERR_LIB_SSL, 0, SSL_R_BAD_LENGTH, __FILE__, __LINE__);
    ERR_put_error(ERR_LIB_SSL, 0, SSL_R_NO_SHARED_CIPHER, __FILE__, __LINE__);
    cr_assert_eq(sp_tls_error(ssl, true, SSL_ERROR_SSL, 0), SP_TLS_PROTOCOL_ERROR, "the first");
    cr_assert_eq(ERR_peek_error(), 0);
    cr_assert_eq(sp_tls_error(ssl, true, SSL_ERROR_SYSCALL, 0), SP_TLS_TRUNCATED);
    cr_assert_eq(sp_tls_error(ssl, false, SSL_ERROR_SYSCALL, 0), SP_TLS_CLOSED);
    cr_assert_eq(sp_tls_error(ssl, true, SSL_ERROR_SYSCALL, ECONNRESET), -ECONNRESET);
    cr_assert_eq(sp_tls_error(ssl, true, SSL_ERROR_ZERO_RETURN, 0), SP_CLOSED);
    ERR_put_error(ERR_LIB_EVP, 0, EVP_R_BAD_DECRYPT, __FILE__, __LINE__);
    cr_assert_eq(sp_tls_error(ssl, true, SSL_ERROR_SSL, 0), SP_TLS_PROTOCOL_ERROR);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}
