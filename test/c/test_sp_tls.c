/* sp_tls: the handshake, bytes both ways at every split, idle connections, the end of a stream. */
#include "sp_recv.h"
#include "sp_tls_error.h"
#include "tls_kit.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

static struct sp_tls_slot slot;
static struct tkit_server server;
static struct sp_conn conn;

static void unopened(void)
{
    struct sp_tls_options options;

    tkit_world_make();
    options = tkit_options();
    sp_tls_slot_init(&slot);
    sp_tls_slot_set(&slot, tkit_ctx(&options), 1);
    server = tkit_server_new(&tkit_world.leaf, TLS1_3_VERSION);
}

static void connect_it(void)
{
    tkit_open(&conn, &slot, "localhost");
    cr_assert_eq(tkit_shake(&conn, &server), SP_OK);
    tkit_pump(&conn, &server);
}

static void opened(void)
{
    unopened();
    connect_it();
    /* The tickets. */
    cr_assert_eq(conn.transport->validate(&conn), SP_CLEAN);
}

static void closed(void)
{
    tkit_close(&conn);
    tkit_server_free(&server);
    sp_tls_slot_destroy(&slot);
    cr_assert_eq(sp_tls_ctx_count(tkit_registry), 0);
    tkit_world_free();
    cr_assert_eq(fake_fds_open(), 0);
}

/* A connection that speaks TLS 1.2 instead. */
static void opened_12(void)
{
    unopened();
    tkit_server_free(&server);
    server = tkit_server_new(&tkit_world.leaf, TLS1_2_VERSION);
    connect_it();
}

static void server_sends(const void *data, size_t len)
{
    cr_assert_eq(SSL_write(server.ssl, data, (int)len), (int)len);
    tkit_pump(&conn, &server);
}

static int server_reads(void *buf, size_t cap)
{
    tkit_pump(&conn, &server);
    return SSL_read(server.ssl, buf, (int)cap);
}

/* ---- handshake ---- */

TestSuite(tls_handshake, .init = unopened, .fini = closed);

Test(tls_handshake, is_done_in_steps)
{
    tkit_open(&conn, &slot, "localhost");
    cr_assert_eq(conn.transport->opened(&conn), SP_OK);
    cr_assert_eq(conn.transport->handshake(&conn), SP_WANT_READ, "the hello is out");
    tkit_pump(&conn, &server);
    cr_assert_eq(conn.transport->handshake(&conn), SP_OK);
    cr_assert_eq(conn.transport->handshake(&conn), SP_OK, "again does no harm");
    tkit_pump(&conn, &server);
    cr_assert(SSL_is_init_finished(server.ssl));
    cr_assert_str_eq(SSL_get_servername(server.ssl, TLSEXT_NAMETYPE_host_name), "localhost");
}

Test(tls_handshake, in_pieces_of_one_byte)
{
    tkit_open(&conn, &slot, "localhost");
    fake_recv_slice(conn.fd, 1);
    fake_send_room(conn.fd, 1);
    cr_assert_eq(tkit_shake(&conn, &server), SP_OK);
}

Test(tls_handshake, before_it_is_opened)
{
    conn = lone_conn(&sp_transport_tls);
    cr_assert_eq(conn.transport->handshake(&conn), SP_CLOSED);
}

Test(tls_handshake, end_of_file)
{
    tkit_open(&conn, &slot, "localhost");
    cr_assert_eq(conn.transport->handshake(&conn), SP_WANT_READ);
    fake_peer_closes(conn.fd);
    cr_assert_eq(conn.transport->handshake(&conn), SP_TLS_CLOSED);
    cr_assert_eq(conn.transport->handshake(&conn), SP_TLS_CLOSED, "and stays so");
}

Test(tls_handshake, reset)
{
    tkit_open(&conn, &slot, "localhost");
    cr_assert_eq(conn.transport->handshake(&conn), SP_WANT_READ);
    fake_peer_resets(conn.fd);
    cr_assert_eq(conn.transport->handshake(&conn), -ECONNRESET);
}

Test(tls_handshake, another_protocol)
{
    static const char *const GREETINGS[] = {"220 mail ready\r\n",
                                            "HTTP/1.1 400 Bad Request\r\n\r\n",
                                            "SSH-2.0-OpenSSH_9.2p1\r\n", "+OK POP3\r\n"};

    for (size_t i = 0; i < sizeof GREETINGS / sizeof *GREETINGS; i++) {
        tkit_open(&conn, &slot, "localhost");
        fake_peer_sends(conn.fd, GREETINGS[i], strlen(GREETINGS[i]));
        fake_peer_closes(conn.fd);
        cr_expect_eq(conn.transport->handshake(&conn), SP_TLS_NOT_TLS, "%s", GREETINGS[i]);
        tkit_close(&conn);
    }
}

Test(tls_handshake, without_a_context)
{
    struct sp_tls_slot empty;
    struct sp_addr addr = {.storage.ss_family = AF_INET, .len = 16};
    struct sp_sockopts opts = {.settings = &empty};

    sp_tls_slot_init(&empty);
    conn = lone_conn(&sp_transport_tls);
    cr_assert_eq(conn.transport->open(&conn, &addr, &opts), SP_CLOSED);
    sp_tls_slot_destroy(&empty);
}

/* ---- bytes ---- */

TestSuite(tls_bytes, .init = opened, .fini = closed);

static size_t records_sent(size_t from)
{
    size_t len, count = 0;
    const uint8_t *sent = fake_sent(conn.fd, &len);

    for (size_t at = from; at + 5 <= len; count++)
        at += 5 + ((size_t)sent[at + 3] << 8 | sent[at + 4]);
    return count;
}

Test(tls_bytes, a_short_request_is_one_record)
{
    struct iovec iov[] = {{"GET", 3}, {"", 0}, {" /", 2}, {"\r\n", 2}};
    size_t before, sent;
    char buf[16];

    (void)fake_sent(conn.fd, &before);
    cr_assert_eq(conn.transport->send(&conn, iov, 4, &sent), SP_OK);
    cr_assert_eq(sent, 7);
    cr_assert_eq(records_sent(before), 1);
    cr_assert_eq(server_reads(buf, sizeof buf), 7);
    cr_assert(memcmp(buf, "GET /\r\n", 7) == 0);
}

static void fill(uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * 7 + (i >> 8));
}

/* Sends all of it as the NIF does: from where the last call stopped, in parts of every kind. */
Test(tls_bytes, much_is_sent_whatever_the_socket_takes)
{
    static uint8_t data[100000], got[sizeof data];
    size_t done = 0, sent, received = 0, wanted = 0;
    int len;

    fill(data, sizeof data);
    fake_send_room(conn.fd, 1000);
    while (done < sizeof data) {
        size_t left = sizeof data - done, first = left < 10 ? left : 10;
        size_t second = left - first < 20000 ? left - first : 20000;
        struct iovec iov[] = {{data + done, first},
                              {data + done + first, second},
                              {data + done + first + second, left - first - second}};
        sp_status status = conn.transport->send(&conn, iov, 3, &sent);
        done += sent;
        if (status == SP_OK)
            continue;
        cr_assert_eq(status, SP_WANT_WRITE);
        wanted++;
        fake_send_room(conn.fd, 7777);
    }
    cr_assert_gt(wanted, 5);
    while ((len = server_reads(got + received, sizeof got - received)) > 0)
        received += (size_t)len;
    cr_assert_eq(received, sizeof data);
    cr_assert(memcmp(data, got, sizeof data) == 0);
}

/* The bytes offered again may lie elsewhere, in other parts. */
Test(tls_bytes, a_retry_may_be_cut_differently)
{
    char copy[] = "abcdefgh", buf[16];
    struct iovec whole = {copy, 8}, parts[] = {{"abc", 3}, {"defgh", 5}};
    size_t sent;

    fake_send_room(conn.fd, 3);
    cr_assert_eq(conn.transport->send(&conn, &whole, 1, &sent), SP_WANT_WRITE);
    cr_assert_eq(sent, 0);
    fake_send_room(conn.fd, SIZE_MAX);
    cr_assert_eq(conn.transport->send(&conn, parts, 2, &sent), SP_OK);
    cr_assert_eq(sent, 8);
    cr_assert_eq(server_reads(buf, sizeof buf), 8);
}

/* After a time-out nobody offers them again: other bytes must not take their place. */
Test(tls_bytes, after_a_send_that_timed_out_it_is_closed)
{
    struct iovec first = {"first", 5}, other = {"other", 5};
    size_t sent;

    fake_send_room(conn.fd, 3);
    cr_assert_eq(conn.transport->send(&conn, &first, 1, &sent), SP_WANT_WRITE);
    conn.tainted = true;
    fake_send_room(conn.fd, SIZE_MAX);
    cr_assert_eq(conn.transport->send(&conn, &other, 1, &sent), SP_CLOSED);
}

Test(tls_bytes, a_recv_fills_what_it_may)
{
    char buf[32];
    size_t got;

    server_sends("abc", 3);
    server_sends("defgh", 5);
    cr_assert_eq(conn.transport->recv(&conn, buf, 4, &got), SP_OK);
    cr_assert_eq(got, 4, "across records");
    cr_assert_eq(conn.transport->recv(&conn, buf + 4, sizeof buf - 4, &got), SP_OK);
    cr_assert_eq(got, 4);
    cr_assert(memcmp(buf, "abcdefgh", 8) == 0);
    cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &got), SP_WANT_READ);
    cr_assert_eq(got, 0);
}

Test(tls_bytes, received_in_pieces_of_one_byte)
{
    char buf[8];
    size_t got, total = 0;

    fake_recv_slice(conn.fd, 1);
    server_sends("abcdefgh", 8);
    while (total < 8) {
        sp_status status = conn.transport->recv(&conn, buf + total, 8 - total, &got);
        cr_assert(status == SP_OK || status == SP_WANT_READ);
        total += got;
    }
    cr_assert(memcmp(buf, "abcdefgh", 8) == 0);
}

/* What OpenSSL has read ahead must not wait for the descriptor. */
Test(tls_bytes, nothing_is_left_behind_in_the_buffer)
{
    static char data[40000], buf[sizeof data];
    struct sp_want want = {.len_bytes = 30};
    struct sp_received received;
    uint8_t scratch[16];
    size_t got;

    for (int i = 0; i < 10; i++)
        server_sends("0123456789", 10);
    cr_assert_eq(conn.transport->recv(&conn, scratch, 10, &got), SP_OK);
    cr_assert_eq(fake_unread(conn.fd), 0, "read ahead");
    conn.recv_limit_bytes = 1000;
    want.len_bytes = 10;
    for (int i = 0; i < 9; i++) {
        cr_assert_eq(sp_recv(&conn, &want, scratch, sizeof scratch, &received), SP_OK);
        sp_recv_taken(&conn, &received);
    }
    cr_assert_eq(conn.transport->validate(&conn), SP_CLEAN);
    server_sends(data, 15000);
    server_sends(data, 15000);
    cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &got), SP_OK);
    cr_assert_eq(got, 30000);
}

Test(tls_bytes, close_notify_is_the_end_of_file)
{
    char buf[8];
    size_t got;

    server_sends("abc", 3);
    (void)SSL_shutdown(server.ssl);
    tkit_pump(&conn, &server);
    cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &got), SP_OK);
    cr_assert_eq(got, 3);
    cr_assert_eq(conn.fault, SP_CLOSED, "no readiness will tell of it");
    cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &got), SP_CLOSED);
}

/* A reply that is cut short by close_notify, while the socket stays open, must not wait. */
Test(tls_bytes, a_half_close_ends_a_receive)
{
    struct sp_want want = {.len_bytes = 5};
    struct sp_received received;
    uint8_t scratch[64];

    conn.recv_limit_bytes = 1000;
    server_sends("abc", 3);
    (void)SSL_shutdown(server.ssl);
    tkit_pump(&conn, &server);
    cr_assert_eq(sp_recv(&conn, &want, scratch, sizeof scratch, &received), SP_CLOSED);
}

Test(tls_bytes, end_of_file_without_close_notify_is_an_error)
{
    char buf[8];
    size_t got;

    fake_peer_closes(conn.fd);
    cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &got), SP_TLS_TRUNCATED);
    cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &got), SP_TLS_TRUNCATED,
                 "OpenSSL itself would call the second one orderly");
}

Test(tls_bytes, a_reset_in_the_middle_of_a_record)
{
    char buf[8];
    size_t got;

    fake_peer_sends(conn.fd, "\x17\x03\x03\x00\x40xxxx", 9);
    cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &got), SP_WANT_READ);
    fake_peer_resets(conn.fd);
    cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &got), -ECONNRESET);
}

Test(tls_bytes, a_forged_record)
{
    char buf[8], record[5 + 64] = "\x17\x03\x03\x00\x40";
    size_t got;

    fake_peer_sends(conn.fd, record, sizeof record);
    cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &got), SP_TLS_BAD_RECORD);
}

Test(tls_bytes, an_empty_record_is_nothing)
{
    /* OpenSSL does not write one of TLS 1.3 by itself; of TLS 1.2 see below. */
    char buf[8];
    size_t got, taken;

    (void)SSL_write_ex(server.ssl, "", 0, &taken);
    tkit_pump(&conn, &server);
    cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &got), SP_WANT_READ);
    server_sends("x", 1);
    cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &got), SP_OK);
    cr_assert_eq(got, 1);
}

Test(tls_bytes, errors_of_others_in_the_queue_do_no_harm)
{
    char buf[8];
    size_t got;

    ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
    cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &got), SP_WANT_READ);
    ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
    cr_assert_eq(conn.transport->validate(&conn), SP_CLEAN);
}

Test(tls_bytes, a_peer_that_is_gone)
{
    struct iovec iov = {"x", 1};
    size_t sent;

    fake_fail(FAKE_SEND, EPIPE);
    cr_assert_eq(conn.transport->send(&conn, &iov, 1, &sent), SP_CLOSED);
    cr_assert_eq(conn.transport->validate(&conn), SP_DEAD);
}

/* ---- idle ---- */

TestSuite(tls_idle, .init = opened, .fini = closed);

Test(tls_idle, silence_is_clean_and_cheap)
{
    unsigned before = fake_calls(FAKE_RECV);

    cr_assert_eq(conn.transport->validate(&conn), SP_CLEAN);
    cr_assert_eq(fake_calls(FAKE_RECV), before + 1);
}

Test(tls_idle, tickets_are_clean)
{
    cr_assert_eq(SSL_new_session_ticket(server.ssl), 1);
    (void)SSL_do_handshake(server.ssl);
    tkit_pump(&conn, &server);
    cr_assert_gt(fake_unread(conn.fd), 0);
    cr_assert_eq(conn.transport->validate(&conn), SP_CLEAN);
    cr_assert_eq(fake_unread(conn.fd), 0);
}

Test(tls_idle, a_key_update_is_answered)
{
    struct iovec iov = {"after", 5};
    char buf[8];
    size_t got, sent;

    cr_assert_eq(SSL_key_update(server.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    cr_assert_eq(SSL_do_handshake(server.ssl), 1);
    tkit_pump(&conn, &server);
    cr_assert_eq(conn.transport->validate(&conn), SP_CLEAN);
    cr_assert_eq(conn.transport->send(&conn, &iov, 1, &sent), SP_OK);
    cr_assert_eq(server_reads(buf, sizeof buf), 5, "under the new key");
    server_sends("back", 4);
    cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &got), SP_OK);
    cr_assert_eq(got, 4);
}

Test(tls_idle, a_key_update_while_the_socket_is_full)
{
    struct iovec iov = {"after", 5};
    char buf[8];
    size_t sent;

    fake_send_room(conn.fd, 0);
    cr_assert_eq(SSL_key_update(server.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    cr_assert_eq(SSL_do_handshake(server.ssl), 1);
    tkit_pump(&conn, &server);
    cr_assert_eq(conn.transport->validate(&conn), SP_CLEAN);
    fake_send_room(conn.fd, SIZE_MAX);
    cr_assert_eq(conn.transport->send(&conn, &iov, 1, &sent), SP_OK);
    cr_assert_eq(server_reads(buf, sizeof buf), 5);
}

Test(tls_idle, data_is_dirty)
{
    server_sends("x", 1);
    cr_assert_eq(conn.transport->validate(&conn), SP_DIRTY);
    cr_assert_eq(conn.transport->validate(&conn), SP_DIRTY, "and stays there");
}

/* Half of a record: nobody can say yet. It is found out when the rest has come. */
Test(tls_idle, data_in_pieces_is_dirty_in_the_end)
{
    char *data;
    long len;

    server.held = true;
    cr_assert_eq(SSL_write(server.ssl, "late", 4), 4);
    len = BIO_get_mem_data(SSL_get_wbio(server.ssl), &data);
    fake_peer_sends(conn.fd, data, 7);
    cr_assert_eq(conn.transport->validate(&conn), SP_CLEAN);
    fake_peer_sends(conn.fd, data + 7, (size_t)len - 7);
    cr_assert_eq(conn.transport->validate(&conn), SP_DIRTY);
}

Test(tls_idle, data_read_ahead_is_dirty)
{
    char buf[1];
    size_t got;

    server_sends("ab", 2);
    cr_assert_eq(conn.transport->recv(&conn, buf, 1, &got), SP_OK);
    cr_assert_eq(conn.transport->validate(&conn), SP_DIRTY);
}

Test(tls_idle, close_notify_is_dead)
{
    (void)SSL_shutdown(server.ssl);
    tkit_pump(&conn, &server);
    cr_assert_eq(conn.transport->validate(&conn), SP_DEAD);
    cr_assert_eq(conn.fault, SP_CLOSED);
}

Test(tls_idle, end_of_file_is_dead)
{
    fake_peer_closes(conn.fd);
    cr_assert_eq(conn.transport->validate(&conn), SP_DEAD);
    cr_assert_eq(conn.fault, SP_TLS_TRUNCATED);
}

Test(tls_idle, a_fault_is_dead_and_says_why)
{
    fake_peer_sends(conn.fd, "plain text", 10);
    cr_assert_eq(conn.transport->validate(&conn), SP_DEAD);
    cr_assert_eq(conn.fault, SP_TLS_PROTOCOL_ERROR);
}

/* So many tickets that nobody can want them: not to be looked through for ever. */
Test(tls_idle, a_flood_of_tickets_is_the_end)
{
    for (int i = 0; i < 300; i++) {
        cr_assert_eq(SSL_new_session_ticket(server.ssl), 1);
        (void)SSL_do_handshake(server.ssl);
    }
    tkit_pump(&conn, &server);
    cr_assert_eq(conn.transport->validate(&conn), SP_DEAD);
    cr_assert_eq(conn.fault, SP_TLS_PROTOCOL_ERROR);
    cr_assert_gt(fake_unread(conn.fd), 0);
}

Test(tls_idle, a_flood_of_key_updates_is_the_end)
{
    char buf[8];
    size_t got;

    for (int i = 0; i < 2000; i++) {
        cr_assert_eq(SSL_key_update(server.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        cr_assert_eq(SSL_do_handshake(server.ssl), 1);
    }
    tkit_pump(&conn, &server);
    cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &got), SP_TLS_PROTOCOL_ERROR);
    cr_assert_gt(fake_unread(conn.fd), 0);
}

/* ---- TLS 1.2 ---- */

TestSuite(tls_12, .init = opened_12, .fini = closed);

Test(tls_12, bytes_both_ways)
{
    struct iovec iov = {"ping", 4};
    char buf[8];
    size_t got, sent;

    cr_assert_eq(conn.transport->send(&conn, &iov, 1, &sent), SP_OK);
    cr_assert_eq(server_reads(buf, sizeof buf), 4);
    server_sends("pong", 4);
    cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &got), SP_OK);
    cr_assert_eq(got, 4);
}

/* Refused by an alert that is a warning; what becomes of the connection is the server's affair. */
Test(tls_12, renegotiation_is_refused)
{
    char buf[8];
    size_t got;

    cr_assert_eq(SSL_renegotiate(server.ssl), 1);
    (void)SSL_do_handshake(server.ssl);
    tkit_pump(&conn, &server);
    ERR_clear_error();
    cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &got), SP_WANT_READ);
    tkit_pump(&conn, &server);
    cr_assert_leq(SSL_read(server.ssl, buf, sizeof buf), 0);
    cr_assert_eq(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
}

/* ---- the end, and what is told ---- */

TestSuite(tls_end, .init = opened, .fini = closed);

Test(tls_end, says_goodbye)
{
    char buf[8];
    int fd = conn.fd;

    sp_conn_cleanup(&conn);
    cr_assert_null(conn.transport_state);
    cr_assert(fake_fd_open(fd), "the descriptor is its owner's");
    tkit_pump(&conn, &server);
    cr_assert_leq(SSL_read(server.ssl, buf, sizeof buf), 0);
    cr_assert_eq(SSL_get_error(server.ssl, 0), SSL_ERROR_ZERO_RETURN);
}

Test(tls_end, does_not_wait_to_say_it)
{
    fake_send_room(conn.fd, 0);
    sp_conn_cleanup(&conn);
    cr_assert_null(conn.transport_state);
}

Test(tls_end, shutdown_touches_the_descriptor_only)
{
    size_t before, after;

    (void)fake_sent(conn.fd, &before);
    conn.transport->shutdown(&conn);
    (void)fake_sent(conn.fd, &after);
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

    conn.transport->describe(&conn, hear, &told);
    cr_assert_str_eq(told.protocol, "tlsv1.3");
    cr_assert_str_eq(told.cipher, "TLS_AES_256_GCM_SHA384");
    cr_assert_eq(told.cert_len, (size_t)i2d_X509(tkit_world.leaf.cert, NULL));
    cr_assert(told.resumed_told && !told.resumed);
    cr_assert(told.ktls_told);
}

static bool resumes(void)
{
    struct told told = {0};

    tkit_close(&conn);
    tkit_server_again(&server);
    connect_it();
    conn.transport->describe(&conn, hear, &told);
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
    tkit_close(&conn);
    tkit_server_again(&server);
    tkit_open(&conn, &slot, "localhost");
    cr_assert_eq(tkit_shake(&conn, &server), SP_OK);
    tkit_pump(&conn, &server);
    cr_assert(resumes());
    cr_assert(resumes());
    cr_assert(resumes());
}

Test(tls_end, a_truncated_connection_spoils_no_ticket)
{
    char buf[8];
    size_t got;

    fake_peer_closes(conn.fd);
    cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &got), SP_TLS_TRUNCATED);
    cr_assert(resumes());
}

/* Whoever asks for another name gets no ticket of this one, though the address is the same. */
Test(tls_end, tickets_are_of_one_name)
{
    struct told told = {0};

    tkit_close(&conn);
    tkit_server_again(&server);
    tkit_open(&conn, &slot, "a.wild.example");
    cr_assert_eq(tkit_shake(&conn, &server), SP_OK);
    conn.transport->describe(&conn, hear, &told);
    cr_assert_not(told.resumed);
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
            conn.transport->shutdown(&conn); /* revoked in a call: no goodbye */
        tkit_close(&conn);
        fake_sys_reset();
        tkit_server_again(&server);
        connect_it();
        cr_assert_eq(conn.transport->send(&conn, &iov, 1, &sent), SP_OK);
        cr_assert_eq(server_reads(buf, sizeof buf), 4);
        server_sends("pong", 4);
        cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &got), SP_OK);
    }
}
