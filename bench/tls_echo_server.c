/*
 * The benchmark's TLS backend: sends back every byte that it receives.
 *
 *     tls_echo_server PORT|PATH CERTIFICATES KEY
 *
 * CERTIFICATES is a PEM file with the server's certificate and then those that lead to its root;
 * KEY is the PEM file of the private key. TLS 1.2 and 1.3, with session tickets. It listens,
 * says where, and ends as echo_server does.
 */
#include "listener.h"
#include "readiness.h"

#include <err.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_BYTES = SSL3_RT_MAX_PLAIN_LENGTH };

/* handshaking -> reading <-> writing; a peer that fails or leaves is freed from any of them. */
enum phase { HANDSHAKING, READING, WRITING };

enum progress { GO_ON, WAIT, LEAVE };

struct peer {
    int fd;
    SSL *ssl;
    enum phase phase;
    enum interest armed;
    char *unsent; /* what the connection did not take yet; NULL = nothing */
    size_t unsent_bytes;
    size_t sent_bytes;
};

static char chunk[CHUNK_BYTES];

static void fail_tls(const char *what)
{
    fprintf(stderr, "tls_echo_server: %s:\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static SSL_CTX *make_context(const char *certificates, const char *key)
{
    static const unsigned char session_context[] = "sockpool_bench";
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    if (context == NULL)
        fail_tls("SSL_CTX_new");
    if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1)
        fail_tls("TLS 1.2");
    if (SSL_CTX_use_certificate_chain_file(context, certificates) != 1)
        fail_tls(certificates);
    if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        fail_tls(key);
    if (SSL_CTX_check_private_key(context) != 1)
        fail_tls("the key is not that of the certificate");
    if (SSL_CTX_set_session_id_context(context, session_context, sizeof session_context) != 1)
        fail_tls("session id context");
    /* Sessions travel in tickets: the server has none to keep. */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    return context;
}

static void drop(struct readiness *set, struct peer *peer)
{
    if (readiness_remove(set, peer->fd) != 0)
        err(1, "readiness_remove");
    SSL_free(peer->ssl);
    close(peer->fd);
    free(peer->unsent);
    free(peer);
}

static void accepted(struct readiness *set, int fd, void *context)
{
    struct peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        err(1, "calloc");
    peer->fd = fd;
    peer->phase = HANDSHAKING;
    peer->armed = WANT_READ;
    peer->ssl = SSL_new(context);
    if (peer->ssl == NULL || SSL_set_fd(peer->ssl, fd) != 1)
        fail_tls("SSL_new");
    if (readiness_add(set, fd, WANT_READ, peer) != 0)
        err(1, "readiness_add");
}

static void arm(struct readiness *set, struct peer *peer, enum interest interest)
{
    if (interest == peer->armed)
        return;
    peer->armed = interest;
    if (readiness_change(set, peer->fd, interest, peer) != 0)
        err(1, "readiness_change");
}

/* What a call that did not succeed asks for: reading may want to write, and the other way round. */
static enum progress want(struct readiness *set, struct peer *peer, int result)
{
    switch (SSL_get_error(peer->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        arm(set, peer, WANT_READ);
        return WAIT;
    case SSL_ERROR_WANT_WRITE:
        arm(set, peer, WANT_WRITE);
        return WAIT;
    case SSL_ERROR_ZERO_RETURN:
        /* Everything was sent back before this was read. Whether our own close_notify still
         * finds room does not matter to a client that has left. */
        (void)SSL_shutdown(peer->ssl);
        return LEAVE;
    default:
        return LEAVE;
    }
}

static enum progress handshake(struct readiness *set, struct peer *peer)
{
    int result = SSL_accept(peer->ssl);
    if (result != 1)
        return want(set, peer, result);
    peer->phase = READING;
    return GO_ON;
}

static void keep_unsent(struct peer *peer, const char *rest, size_t bytes)
{
    peer->unsent = malloc(bytes);
    if (peer->unsent == NULL)
        err(1, "malloc");
    memcpy(peer->unsent, rest, bytes);
    peer->unsent_bytes = bytes;
    peer->sent_bytes = 0;
    peer->phase = WRITING;
}

static enum progress echo(struct readiness *set, struct peer *peer)
{
    size_t got, sent;
    int result = SSL_read_ex(peer->ssl, chunk, sizeof chunk, &got);
    if (result != 1)
        return want(set, peer, result);
    ERR_clear_error();
    result = SSL_write_ex(peer->ssl, chunk, got, &sent);
    if (result != 1) {
        keep_unsent(peer, chunk, got);
        return want(set, peer, result);
    }
    if (sent < got)
        keep_unsent(peer, chunk + sent, got - sent);
    return GO_ON;
}

/* Nothing is read until all has gone: that is the back-pressure. */
static enum progress send_rest(struct readiness *set, struct peer *peer)
{
    size_t sent;
    int result = SSL_write_ex(peer->ssl, peer->unsent + peer->sent_bytes,
                              peer->unsent_bytes - peer->sent_bytes, &sent);
    if (result != 1)
        return want(set, peer, result);
    peer->sent_bytes += sent;
    if (peer->sent_bytes == peer->unsent_bytes) {
        free(peer->unsent);
        peer->unsent = NULL;
        peer->phase = READING;
    }
    return GO_ON;
}

static enum progress step(struct readiness *set, struct peer *peer)
{
    ERR_clear_error();
    switch (peer->phase) {
    case HANDSHAKING:
        return handshake(set, peer);
    case READING:
        return echo(set, peer);
    case WRITING:
        return send_rest(set, peer);
    }
    return LEAVE;
}

/* What OpenSSL has read ahead makes no descriptor ready: it is worked off here. */
static void advance(struct readiness *set, void *owner)
{
    struct peer *peer = owner;
    enum progress progress;
    do
        progress = step(set, peer);
    while (progress == GO_ON && (peer->phase == WRITING || SSL_has_pending(peer->ssl)));
    if (progress == LEAVE)
        drop(set, peer);
    else if (progress == GO_ON)
        arm(set, peer, WANT_READ);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: tls_echo_server PORT|PATH CERTIFICATES KEY\n");
        return 2;
    }
    SSL_CTX *context = make_context(argv[2], argv[3]);
    listener_serve(argv[1],
                   &(struct service){.accepted = accepted, .ready = advance, .context = context});
    SSL_CTX_free(context);
    return 0;
}
