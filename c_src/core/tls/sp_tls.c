#include "sp_tls.h"

#include "core/conn/sp_conn.h"
#include "core/conn/sp_recv.h"
#include "core/stream/sp_stream.h"
#include "core/base/sp_sys.h"
#include "sp_tls_bio.h"
#include "sp_tls_error.h"
#include "sp_tls_exit.h"
#include "sp_tls_facts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The most that fits into a record. */
#define RECORD_BYTES 16384
/* One send or recv encrypts or decrypts at most this many bytes, some 30 us of work. */
#define SLICE_BYTES (4 * RECORD_BYTES)
_Static_assert(SLICE_BYTES >= SP_FULL_RECV_BYTES && SLICE_BYTES <= SP_SLICE_BYTES,
               "sp_transport.h");
/* What one operation may take from the descriptor. */
#define BUDGET_BYTES (SLICE_BYTES + RECORD_BYTES)
/* A server may send its bytes in records of one each. */
#define SLICE_RECORDS 64
/* What is looked through on an idle connection, or on one that is closed, where only tickets and
 * key updates should be. */
#define IDLE_BUDGET_BYTES (2 * RECORD_BYTES)
/* So many in one operation: tickets, key updates. A key update of some 30 bytes costs over 10 us. Also in
 * the whole of a handshake, which has ten or so; OpenSSL would skip requests for another for ever. */
#define MESSAGES_MAX 64
/* Who is asked for a certificate signs, for a millisecond: as much as so many other messages cost. */
#define MESSAGES_OF_A_SIGNATURE 48
/* In the last look at a connection, for its tickets: servers give two or so. Many connections may be closed
 * in one go. */
#define LAST_MESSAGES_MAX 8

struct tls {
    SSL *ssl; /* from the first step of the handshake */
    struct sp_tls_ctx *ctx;
    struct sp_tls_io io;
    struct sp_tls_destination destination;
    bool shaken;
    bool write_pending; /* a record of a send that was not accepted yet is half out */
    sp_status
        send_fault; /* why no send can succeed any more, while there may be something to receive */
    char bytes[]; /* the destination's: the address, then the name to verify, with a 0 at its end */
};

static struct tls *state(const struct sp_conn *conn)
{
    return conn->transport_state;
}

static const char *name(const struct tls *tls)
{
    return tls->bytes + SP_TLS_ADDRESS_BYTES;
}

static bool is_address(const char *host)
{
    unsigned char bytes[16];

    return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

/* ---- opening ---- */

/* The dot that tells a resolver that a name is complete is no part of it, neither in what the server is
 * asked for nor in its certificate. */
static size_t name_len(const char *host)
{
    size_t len = strlen(host);

    return len > 1 && host[len - 1] == '.' ? len - 1 : len;
}

/* Takes over the reference to the context, also where it fails. */
static struct tls *state_new(struct sp_conn *conn, const struct sp_addr *addr,
                             struct sp_tls_ctx *ctx)
{
    const char *host = ctx->server_name ? ctx->server_name : addr->host ? addr->host : "";
    size_t host_len = name_len(host), len = SP_TLS_ADDRESS_BYTES + host_len + 1;
    struct tls *tls = calloc(1, sizeof *tls + len);

    if (!tls) {
        sp_tls_ctx_unref(ctx);
        return NULL;
    }
    tls->ctx = ctx;
    tls->io.conn = conn;
    tls->io.messages_left = MESSAGES_MAX;
    tls->destination = (struct sp_tls_destination){.bytes = tls->bytes, .len = len};
    sp_tls_put_address(tls->bytes, addr);
    memcpy(tls->bytes + SP_TLS_ADDRESS_BYTES, host, host_len);
    return tls;
}

static sp_status tls_open(struct sp_conn *conn, const struct sp_addr *addr,
                          const struct sp_sockopts *opts)
{
    struct sp_tls_ctx *ctx = sp_tls_slot_get(opts->settings);

    if (!ctx)
        return SP_CLOSED;
    conn->transport_state = state_new(conn, addr, ctx);
    if (!conn->transport_state)
        return SP_NO_MEMORY;
    return sp_transport_tcp.open(conn, addr, opts);
}

static sp_status tls_set(struct sp_conn *conn, enum sp_option option, int value)
{
    return sp_transport_tcp.set(conn, option, value);
}

/* ---- outcomes ---- */

static void charge(struct sp_conn *conn, unsigned records, size_t bytes)
{
    conn->pieces += (int)records * SP_PIECES_RECORD + sp_pieces_of_bytes(bytes);
}

static void begin(struct tls *tls, size_t budget_bytes, unsigned messages_max)
{
    /* OpenSSL's verdict on a call depends on the queue, which others in this thread use as well. */
    ERR_clear_error();
    tls->io.budget_bytes = budget_bytes;
    tls->io.messages_left = messages_max;
    tls->io.error = 0;
    errno = 0;
}

/* What the outcome of an SSL call means. A failure is kept: OpenSSL itself remembers some of them as
 * an orderly close. */
static sp_status examine(struct sp_conn *conn, int result)
{
    struct tls *tls = state(conn);
    int io_errno = tls->ctx->ktls ? errno : tls->io.error;
    int error = SSL_get_error(tls->ssl, result);

    if (tls->io.flooded) {
        ERR_clear_error();
        return conn->fault = SP_TLS_PROTOCOL_ERROR;
    }
    if (error == SSL_ERROR_WANT_READ)
        return SP_WANT_READ;
    if (error == SSL_ERROR_WANT_WRITE)
        return SP_WANT_WRITE;
    conn->fault =
        sp_tls_error(tls->ssl, tls->shaken, error, error == SSL_ERROR_SYSCALL ? io_errno : 0);
    if (conn->fault == -EPIPE)
        conn->fault = SP_CLOSED;
    return conn->fault;
}

/* ---- handshake ---- */

static bool expect_name(struct tls *tls)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(tls->ssl);
    const char *host = name(tls);

    if (!*host)
        return !tls->ctx->verify_peer;
    if (is_address(host))
        return !tls->ctx->verify_peer || X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1;
    if (SSL_set_tlsext_host_name(tls->ssl, host) != 1)
        return false;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return !tls->ctx->verify_peer || X509_VERIFY_PARAM_set1_host(param, host, 0) == 1;
}

static void resume(struct tls *tls)
{
    SSL_SESSION *session = NULL;

    if (tls->ctx->session_reuse)
        session =
            sp_tls_sessions_take(&tls->ctx->sessions, tls->destination.bytes, tls->destination.len,
                                 (int64_t)time(NULL), &tls->destination.resumed_until_s);
    if (session)
        (void)SSL_set_session(tls->ssl, session);
    SSL_SESSION_free(session);
}

static bool attach(struct sp_conn *conn, struct tls *tls)
{
    BIO *bio;

    /* Only OpenSSL's own BIO of a socket can hand the keys to the kernel. */
    if (tls->ctx->ktls)
        return SSL_set_fd(tls->ssl, conn->fd) == 1;
    bio = sp_tls_bio_new(&tls->io);
    if (bio)
        SSL_set_bio(tls->ssl, bio, bio);
    return bio != NULL;
}

static void count_message(int sent, int version, int type, const void *data, size_t len, SSL *ssl,
                          void *arg)
{
    struct tls *tls = SP_CONTAINER(SSL_get_app_data(ssl), struct tls, destination);
    unsigned cost = 1;

    (void)version;
    (void)arg;
    if (sent || type != SSL3_RT_HANDSHAKE)
        return;
    tls->io.conn->pieces += SP_PIECES_RECORD;
    if (tls->io.conn->shaken && len > 0 && *(const uint8_t *)data == SSL3_MT_CERTIFICATE_REQUEST)
        cost = MESSAGES_OF_A_SIGNATURE;
    if (tls->io.messages_left >= cost) {
        tls->io.messages_left -= cost;
        return;
    }
    tls->io.flooded = true;
    /* Ends OpenSSL's own loops as well: over what it has read ahead, over messages that share a record,
     * over a descriptor that it reads without a budget (ktls). */
    SSL_set_shutdown(ssl, SSL_get_shutdown(ssl) | SSL_RECEIVED_SHUTDOWN);
}

static bool start(struct sp_conn *conn, struct tls *tls)
{
    tls->ssl = SSL_new(tls->ctx->ssl_ctx);
    if (!tls->ssl)
        return false;
    SSL_set_app_data(tls->ssl, &tls->destination);
    SSL_set_msg_callback(tls->ssl, count_message);
    SSL_set_connect_state(tls->ssl);
    if (!attach(conn, tls) || !expect_name(tls))
        return false;
    resume(tls);
    return true;
}

/* SSL_VERIFY_PEER asks nothing of a cipher without certificates, which `ciphers' can allow. */
static bool proven(const struct tls *tls)
{
    X509 *cert = SSL_get_peer_certificate(tls->ssl);

    X509_free(cert);
    return !tls->ctx->verify_peer || (cert && SSL_get_verify_result(tls->ssl) == X509_V_OK);
}

static sp_status tls_handshake(struct sp_conn *conn)
{
    struct tls *tls = state(conn);
    int result;

    if (!tls)
        return SP_CLOSED;
    if (conn->fault != SP_OK)
        return conn->fault;
    /* A certificate chain of any length comes in as many steps as it takes, but all of them together
     * have one number of messages. */
    begin(tls, BUDGET_BYTES, tls->io.messages_left);
    if (!tls->ssl && !start(conn, tls)) {
        ERR_clear_error();
        return conn->fault = SP_NO_MEMORY;
    }
    result = SSL_do_handshake(tls->ssl);
    if (result != 1)
        return examine(conn, result);
    if (!proven(tls))
        return conn->fault = SP_TLS_NO_CERTIFICATE;
    tls->shaken = true;
    return SP_OK;
}

/* ---- bytes ---- */

/* Why there are none to be had. OpenSSL would do a handshake that is not done yet by itself, and nobody would look at
 * what came of it. */
static sp_status out_of_order(const struct sp_conn *conn)
{
    const struct tls *tls = state(conn);

    if (conn->fault != SP_OK)
        return conn->fault;
    return tls && tls->shaken ? SP_OK : SP_CLOSED;
}

/* What comes after the first `skip` bytes, a record of it: where it is in one piece, itself, else
 * gathered in `record`. A short request is one record so, not one for each of its parts. */
static size_t next_record(const struct iovec *iov, int count, size_t skip, uint8_t *record,
                          const void **data)
{
    size_t len = 0;

    for (; count > 0 && skip >= iov->iov_len; iov++, count--)
        skip -= iov->iov_len;
    if (count > 0 && (count == 1 || iov->iov_len - skip >= RECORD_BYTES)) {
        *data = (const uint8_t *)iov->iov_base + skip;
        return iov->iov_len - skip < RECORD_BYTES ? iov->iov_len - skip : RECORD_BYTES;
    }
    for (; count > 0 && len < RECORD_BYTES; iov++, count--, skip = 0) {
        size_t part = iov->iov_len - skip;
        if (part > RECORD_BYTES - len)
            part = RECORD_BYTES - len;
        memcpy(record + len, (const uint8_t *)iov->iov_base + skip, part);
        len += part;
    }
    *data = record;
    return len;
}

/* Where the socket takes no more: what the peer said before it closed or reset it is still to be had. */
static sp_status examine_send(struct sp_conn *conn)
{
    sp_status status = examine(conn, 0);

    if (status < 0 || status == SP_CLOSED) {
        state(conn)->send_fault = status;
        conn->fault = SP_OK;
    }
    return status;
}

static sp_status tls_send(struct sp_conn *conn, const struct iovec *iov, int count, size_t *sent)
{
    struct tls *tls = state(conn);
    uint8_t record[RECORD_BYTES];
    const void *data;
    sp_status status = out_of_order(conn);
    size_t len, taken;

    *sent = 0;
    if (status == SP_OK)
        status = tls->send_fault;
    /* As many as any caller offers at once: a record that is offered again is the same then. */
    if (count > SP_IOV_MAX)
        count = SP_IOV_MAX;
    /* OpenSSL must be offered the same bytes again. After a time-out nobody will. */
    if (status == SP_OK && tls->write_pending && conn->tainted)
        status = SP_CLOSED;
    while (status == SP_OK && *sent < SLICE_BYTES &&
           (len = next_record(iov, count, *sent, record, &data)) > 0) {
        begin(tls, BUDGET_BYTES, MESSAGES_MAX);
        if (SSL_write_ex(tls->ssl, data, len, &taken) == 1)
            *sent += taken;
        else
            status = examine_send(conn);
        charge(conn, 1, len);
        tls->write_pending = sp_wants(status);
    }
    return *sent > 0 ? SP_OK : status;
}

static sp_status tls_recv(struct sp_conn *conn, void *buf, size_t cap, size_t *got)
{
    struct tls *tls = state(conn);
    sp_status status = out_of_order(conn);
    unsigned records;
    size_t len;

    *got = 0;
    if (cap > SLICE_BYTES)
        cap = SLICE_BYTES;
    if (status == SP_OK)
        begin(tls, BUDGET_BYTES, MESSAGES_MAX);
    /* Until the descriptor is empty: what OpenSSL has already read wakes nobody. */
    for (records = 0; status == SP_OK && *got < cap && records < SLICE_RECORDS; records++) {
        if (SSL_read_ex(tls->ssl, (uint8_t *)buf + *got, cap - *got, &len) == 1)
            *got += len;
        else
            status = examine(conn, 0);
    }
    conn->more = status == SP_OK && *got < cap;
    charge(conn, records, *got);
    return *got > 0 ? SP_OK : status;
}

/* ---- idle connections ---- */

/* Whether the descriptor has nothing at all, which takes one cheap call to see. */
static bool silent(struct sp_conn *conn)
{
    return sp_stream_validate(conn) == SP_CLEAN;
}

/* Whether OpenSSL has part of a record. Of the header alone SSL_has_pending() does not tell: it is
 * taken out of the buffer, and the state is "read body" then. */
static bool in_a_record(const SSL *ssl)
{
    return SSL_has_pending(ssl) || strcmp(SSL_rstate_string(ssl), "RB") == 0;
}

/* Takes what is not for the user, tickets and key updates, and says what else there is. */
static enum sp_clean service(struct sp_conn *conn, unsigned messages_max)
{
    struct tls *tls = state(conn);
    size_t len;
    char byte;

    begin(tls, IDLE_BUDGET_BYTES, messages_max);
    if (SSL_peek_ex(tls->ssl, &byte, 1, &len) == 1)
        return SP_DIRTY;
    if (!sp_wants(examine(conn, 0)))
        return SP_DEAD;
    /* More than any server has to say to a connection that is idle. */
    if (!tls->ctx->ktls && tls->io.budget_bytes == 0)
        return SP_DIRTY;
    /* What a part of a record will be, nobody can say yet: data for the user before, as likely as a
     * ticket. So a connection is closed now and then because half a ticket was there. */
    return in_a_record(tls->ssl) ? SP_DIRTY : SP_CLEAN;
}

static enum sp_clean tls_validate(struct sp_conn *conn)
{
    const struct tls *tls = state(conn);

    if (out_of_order(conn) != SP_OK || tls->send_fault != SP_OK)
        return SP_DEAD;
    if (!in_a_record(tls->ssl) && silent(conn))
        return SP_CLEAN;
    return service(conn, MESSAGES_MAX);
}

/* ---- the end ---- */

static void say_goodbye(struct sp_conn *conn, struct tls *tls)
{
    /* A last look, for the tickets of a connection that was not idle since they came. */
    if (tls->ctx->session_reuse && conn->fault == SP_OK &&
        (SSL_has_pending(tls->ssl) || !silent(conn)))
        (void)service(conn, LAST_MESSAGES_MAX);
    if ((conn->fault != SP_OK && conn->fault != SP_CLOSED) || tls->send_fault != SP_OK)
        return;
    begin(tls, 0, 0);
    conn->pieces += SP_PIECES_GOODBYE;
    (void)SSL_shutdown(tls->ssl);
    ERR_clear_error();
}

static void tls_cleanup(struct sp_conn *conn)
{
    struct tls *tls = state(conn);

    if (!tls)
        return;
    if (tls->shaken && conn->fd >= 0)
        say_goodbye(conn, tls);
    SSL_free(tls->ssl);
    sp_tls_ctx_unref(tls->ctx);
    free(tls);
    conn->transport_state = NULL;
}

static void tls_describe(struct sp_conn *conn, sp_fact tell, void *arg)
{
    const struct tls *tls = state(conn);

    if (tls && tls->shaken)
        sp_tls_tell(tls->ssl, tell, arg);
}

/* The alerts: of TLS 1.3 a client's certificate is refused after the client's last message. */
static bool tls_is_refusal(sp_status fault)
{
    return fault >= SP_TLS_ALERT;
}

/* ---- the same, with the end of the process in mind ---- */

static sp_status guarded_handshake(struct sp_conn *conn)
{
    sp_status status = SP_CLOSED;

    if (sp_tls_enter()) {
        status = tls_handshake(conn);
        sp_tls_leave();
    }
    return status;
}

static sp_status guarded_send(struct sp_conn *conn, const struct iovec *iov, int count,
                              size_t *sent)
{
    sp_status status = SP_CLOSED;

    *sent = 0;
    if (sp_tls_enter()) {
        status = tls_send(conn, iov, count, sent);
        sp_tls_leave();
    }
    return status;
}

static sp_status guarded_recv(struct sp_conn *conn, void *buf, size_t cap, size_t *got)
{
    sp_status status = SP_CLOSED;

    *got = 0;
    if (sp_tls_enter()) {
        status = tls_recv(conn, buf, cap, got);
        sp_tls_leave();
    }
    return status;
}

static enum sp_clean guarded_validate(struct sp_conn *conn)
{
    enum sp_clean clean = SP_DEAD;

    if (sp_tls_enter()) {
        clean = tls_validate(conn);
        sp_tls_leave();
    }
    return clean;
}

/* What is left then ends with the process. */
static void guarded_cleanup(struct sp_conn *conn)
{
    if (sp_tls_enter()) {
        tls_cleanup(conn);
        sp_tls_leave();
    }
}

static void guarded_describe(struct sp_conn *conn, sp_fact tell, void *arg)
{
    if (sp_tls_enter()) {
        tls_describe(conn, tell, arg);
        sp_tls_leave();
    }
}

const struct sp_transport sp_transport_tls = {
    .name = "tls",
    .open = tls_open,
    .opened = sp_stream_opened,
    .handshake = guarded_handshake,
    .set = tls_set,
    .send = guarded_send,
    .recv = guarded_recv,
    .validate = guarded_validate,
    .shutdown = sp_stream_shutdown,
    .cleanup = guarded_cleanup,
    .describe = guarded_describe,
    .is_refusal = tls_is_refusal,
};

/* ---- over a connection that has been in use ---- */

/* Whether all that came so far has been read. What comes from now on is OpenSSL's: it takes what is no record of TLS for
 * the fault that it is. */
static sp_status begins_clean(struct sp_conn *conn)
{
    enum sp_clean clean = conn->transport->validate(conn);

    if (conn->rbuf.len == conn->rbuf.pos && clean == SP_CLEAN)
        return SP_OK;
    return sp_recv_words(conn) ? SP_UNREAD : SP_CLOSED;
}

sp_status sp_tls_upgrade(struct sp_conn *conn, uint64_t lease, const char *host,
                         struct sp_tls_ctx *ctx)
{
    sp_status status = ctx ? begins_clean(conn) : SP_CLOSED;
    struct sp_addr addr = conn->peer;
    struct tls *tls = NULL;

    addr.host = host;
    if (status != SP_OK)
        sp_tls_ctx_unref(ctx);
    else if (!(tls = state_new(conn, &addr, ctx)))
        status = SP_NO_MEMORY;
    if (!sp_conn_still(conn, lease)) {
        if (tls)
            sp_tls_ctx_unref(tls->ctx);
        free(tls);
        return SP_CLOSED;
    }
    conn->transport = &sp_transport_tls;
    conn->transport_state = tls;
    conn->fault = status == SP_OK ? SP_OK : SP_CLOSED;
    conn->rbuf.pos = conn->rbuf.len = 0;
    conn->search = (struct sp_search){0};
    conn->drained = conn->more = false;
    conn->touched = true;
    if (sp_conn_unready(conn))
        conn->heard = false;
    else
        conn->upgraded = true;
    sp_conn_go_on(conn, lease);
    return status;
}
