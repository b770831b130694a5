#include "tls_kit.h"

#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILES_MAX 32
#define DAY_S 86400L

struct tkit_world tkit_world;
struct sp_tls_registry *tkit_registry;

static char files[FILES_MAX][32];
static unsigned file_count;

static void must(bool ok, const char *what)
{
    if (!ok) {
        ERR_print_errors_fp(stderr);
        fake_die("%s", what);
    }
}

/* ---- certificates ---- */

static EVP_PKEY *new_key(void)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
    EVP_PKEY *key = NULL;

    must(EVP_PKEY_keygen_init(ctx) == 1 &&
             EVP_PKEY_CTX_set_ec_paramgen_curve_nid(ctx, NID_X9_62_prime256v1) == 1 &&
             EVP_PKEY_keygen(ctx, &key) == 1,
         "key");
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static void extend(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    must(extension && X509_add_ext(cert, extension, -1) == 1, value);
    X509_EXTENSION_free(extension);
}

struct tkit_cert tkit_cert_new(const char *name, const char *names, bool ca,
                               const struct tkit_cert *issuer, long from_s, long to_s)
{
    static long serial = 1;
    struct tkit_cert made = {X509_new(), new_key()};
    X509_NAME *subject = X509_get_subject_name(made.cert);

    X509_set_version(made.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made.cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(made.cert), from_s);
    X509_gmtime_adj(X509_getm_notAfter(made.cert), to_s);
    X509_set_pubkey(made.cert, made.key);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(made.cert, issuer ? X509_get_subject_name(issuer->cert) : subject);
    extend(made.cert, NID_basic_constraints, ca ? "critical,CA:TRUE" : "CA:FALSE");
    if (names)
        extend(made.cert, NID_subject_alt_name, names);
    must(X509_sign(made.cert, issuer ? issuer->key : made.key, EVP_sha256()) > 0, "sign");
    return made;
}

void tkit_cert_free(struct tkit_cert *cert)
{
    X509_free(cert->cert);
    EVP_PKEY_free(cert->key);
    *cert = (struct tkit_cert){0};
}

static void remove_files(void)
{
    while (file_count > 0)
        unlink(files[--file_count]);
}

const char *tkit_file(const void *data, size_t len)
{
    char *path = files[file_count];
    int fd;

    if (file_count == FILES_MAX)
        fake_die("too many files");
    if (file_count == 0)
        atexit(remove_files);
    strcpy(path, "/tmp/sockpool-tls-XXXXXX");
    fd = mkstemp(path);
    must(fd >= 0 && write(fd, data, len) == (ssize_t)len, "file");
    close(fd);
    file_count++;
    return path;
}

const char *tkit_pem(const X509 *cert, EVP_PKEY *key, const char *password)
{
    BIO *bio = BIO_new(BIO_s_mem());
    const char *path;
    char *data;
    long len;

    if (cert)
        must(PEM_write_bio_X509(bio, (X509 *)(uintptr_t)cert) == 1, "certificate to PEM");
    if (key)
        must(PEM_write_bio_PrivateKey(bio, key, password ? EVP_aes_128_cbc() : NULL,
                                      (unsigned char *)(uintptr_t)password,
                                      password ? (int)strlen(password) : 0, NULL, NULL) == 1,
             "key to PEM");
    len = BIO_get_mem_data(bio, &data);
    path = tkit_file(data, (size_t)len);
    BIO_free(bio);
    return path;
}

const char *tkit_encrypted(const X509 *first, const X509 *second, const char *password)
{
    BIO *bio = BIO_new(BIO_s_mem());
    const char *path;
    char *data;
    long len;

    if (first)
        must(PEM_write_bio_X509(bio, (X509 *)(uintptr_t)first) == 1, "certificate to PEM");
    must(PEM_ASN1_write_bio((i2d_of_void *)i2d_X509, PEM_STRING_X509, bio,
                            (void *)(uintptr_t)second, EVP_aes_128_cbc(),
                            (unsigned char *)(uintptr_t)password, (int)strlen(password), NULL,
                            NULL) == 1,
         "encrypted certificate to PEM");
    len = BIO_get_mem_data(bio, &data);
    path = tkit_file(data, (size_t)len);
    BIO_free(bio);
    return path;
}

void tkit_world_make(void)
{
    fake_sys_reset();
    tkit_registry = sp_tls_registry_new();
    must(tkit_registry != NULL, "registry");
    tkit_world.ca = tkit_cert_new("kit authority", NULL, true, NULL, -DAY_S, DAY_S);
    tkit_world.leaf = tkit_cert_new("kit", "DNS:localhost,DNS:*.wild.example,IP:127.0.0.1", false,
                                    &tkit_world.ca, -DAY_S, DAY_S);
    tkit_world.ca_file = tkit_pem(tkit_world.ca.cert, NULL, NULL);
}

void tkit_world_free(void)
{
    tkit_cert_free(&tkit_world.ca);
    tkit_cert_free(&tkit_world.leaf);
    sp_tls_registry_unref(tkit_registry);
}

struct sp_tls_options tkit_options(void)
{
    return (struct sp_tls_options){.verify_peer = true,
                                   .session_reuse = true,
                                   .min_version = TLS1_2_VERSION,
                                   .max_version = TLS1_3_VERSION,
                                   .cacertfile = tkit_world.ca_file};
}

struct sp_tls_ctx *tkit_ctx(const struct sp_tls_options *options)
{
    struct sp_tls_refusal refusal;
    struct sp_tls_ctx *ctx = sp_tls_ctx_get(tkit_registry, options, &refusal);

    if (!ctx)
        fake_die("refused: %s, %s", refusal.option, refusal.why);
    return ctx;
}

/* ---- the server ---- */

struct tkit_server tkit_server_new(const struct tkit_cert *cert, int version)
{
    struct tkit_server server = {.ctx = SSL_CTX_new(TLS_server_method())};

    /* Old versions need a lower security level. */
    SSL_CTX_set_security_level(server.ctx, version < TLS1_2_VERSION ? 0 : 1);
    must(SSL_CTX_set_min_proto_version(server.ctx, version) == 1 &&
             SSL_CTX_set_max_proto_version(server.ctx, version) == 1 &&
             SSL_CTX_use_certificate(server.ctx, cert->cert) == 1 &&
             SSL_CTX_use_PrivateKey(server.ctx, cert->key) == 1 &&
             SSL_CTX_set_session_id_context(server.ctx, (const unsigned char *)"kit", 3) == 1,
         "server");
    SSL_CTX_set_mode(server.ctx, SSL_MODE_ENABLE_PARTIAL_WRITE);
    tkit_server_again(&server);
    return server;
}

void tkit_server_again(struct tkit_server *server)
{
    SSL_free(server->ssl);
    server->ssl = SSL_new(server->ctx);
    must(server->ssl != NULL, "server's connection");
    SSL_set_accept_state(server->ssl);
    SSL_set_bio(server->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    /* An empty memory is no end of file. */
    BIO_set_mem_eof_return(SSL_get_rbio(server->ssl), -1);
    server->taken = 0;
}

void tkit_server_free(struct tkit_server *server)
{
    SSL_free(server->ssl);
    SSL_CTX_free(server->ctx);
}

static bool client_to_server(struct sp_conn *conn, struct tkit_server *server)
{
    size_t len;
    const uint8_t *sent = fake_sent(conn->fd, &len);
    size_t fresh = len - server->taken;

    if (fresh > 0)
        must(BIO_write(SSL_get_rbio(server->ssl), sent + server->taken, (int)fresh) == (int)fresh,
             "to the server");
    server->taken = len;
    return fresh > 0;
}

static bool server_to_client(struct sp_conn *conn, struct tkit_server *server)
{
    char *data;
    long len = BIO_get_mem_data(SSL_get_wbio(server->ssl), &data);

    if (server->held || len <= 0)
        return false;
    fake_peer_sends(conn->fd, data, (size_t)len);
    (void)BIO_reset(SSL_get_wbio(server->ssl));
    return true;
}

void tkit_pump(struct sp_conn *conn, struct tkit_server *server)
{
    bool moved;

    do {
        moved = client_to_server(conn, server);
        ERR_clear_error();
        if (!SSL_is_init_finished(server->ssl))
            (void)SSL_do_handshake(server->ssl);
        moved = server_to_client(conn, server) || moved;
        ERR_clear_error();
    } while (moved);
}

/* ---- the client ---- */

void tkit_open(struct sp_conn *conn, struct sp_tls_slot *slot, const char *host)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons(443), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sp_addr addr = {.len = sizeof in, .host = host};
    struct sp_sockopts opts = {.settings = slot};

    *conn = lone_conn(&sp_transport_tls);
    memcpy(&addr.storage, &in, sizeof in);
    fake_connect_at_once(true);
    if (sp_transport_tls.open(conn, &addr, &opts) != SP_OK)
        fake_die("open");
}

void tkit_close(struct sp_conn *conn)
{
    sp_conn_cleanup(conn);
    if (conn->fd >= 0)
        (void)conn->sys->close(conn->fd);
    conn->fd = -1;
}

sp_status tkit_shake(struct sp_conn *conn, struct tkit_server *server)
{
    sp_status status;

    for (int steps = 0; steps < 100000; steps++) {
        size_t before, after;
        (void)fake_sent(conn->fd, &before);
        status = conn->transport->handshake(conn);
        if (!sp_wants(status))
            return status;
        if (status == SP_WANT_WRITE)
            fake_send_room(conn->fd, 1);
        (void)fake_sent(conn->fd, &after);
        tkit_pump(conn, server);
        if (after == before && fake_unread(conn->fd) == 0 && status == SP_WANT_READ)
            return status; /* nothing more to come */
    }
    fake_die("a handshake without end");
}
