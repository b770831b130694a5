/* sp_tls: the handshake, bytes both ways at every split, idle connections. */
#include "kit/fake_host.h"
#include "core/conn/sp_recv.h"
#include "core/tls/sp_tls_error.h"
#include "kit/tls_pair.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/err.h>
#include <string.h>

/* ---- handshake ---- */

TestSuite(tls_handshake, .init = tpair_make, .fini = tpair_close);

Test(tls_handshake, is_done_in_steps)
{
    tkit_open(&pair.conn, &pair.slot, "localhost");
    cr_assert_eq(pair.conn.transport->opened(&pair.conn), SP_OK);
    cr_assert_eq(pair.conn.transport->handshake(&pair.conn), SP_WANT_READ, "the hello is out");
    tkit_pump(&pair.conn, &pair.server);
    cr_assert_eq(pair.conn.transport->handshake(&pair.conn), SP_OK);
    cr_assert_eq(pair.conn.transport->handshake(&pair.conn), SP_OK, "again does no harm");
    tkit_pump(&pair.conn, &pair.server);
    cr_assert(SSL_is_init_finished(pair.server.ssl));
    cr_assert_str_eq(SSL_get_servername(pair.server.ssl, TLSEXT_NAMETYPE_host_name), "localhost");
}

/* "localhost." is for resolvers. */
Test(tls_handshake, asks_for_a_complete_name_without_its_dot)
{
    tkit_open(&pair.conn, &pair.slot, "localhost.");
    cr_assert_eq(tkit_shake(&pair.conn, &pair.server), SP_OK);
    cr_assert_str_eq(SSL_get_servername(pair.server.ssl, TLSEXT_NAMETYPE_host_name), "localhost");
}

Test(tls_handshake, takes_the_dot_off_a_given_name)
{
    struct sp_tls_options options = tkit_options();

    options.server_name = "localhost.";
    sp_tls_slot_set(&pair.slot, tkit_ctx(&options), 2);
    tkit_open(&pair.conn, &pair.slot, "127.0.0.1");
    cr_assert_eq(tkit_shake(&pair.conn, &pair.server), SP_OK);
    cr_assert_str_eq(SSL_get_servername(pair.server.ssl, TLSEXT_NAMETYPE_host_name), "localhost");
}

Test(tls_handshake, in_pieces_of_one_byte)
{
    tkit_open(&pair.conn, &pair.slot, "localhost");
    fake_recv_slice(pair.conn.fd, 1);
    fake_send_room(pair.conn.fd, 1);
    cr_assert_eq(tkit_shake(&pair.conn, &pair.server), SP_OK);
}

Test(tls_handshake, before_it_is_opened)
{
    pair.conn = lone_conn(&sp_transport_tls);
    cr_assert_eq(pair.conn.transport->handshake(&pair.conn), SP_CLOSED);
}

Test(tls_handshake, end_of_file)
{
    tkit_open(&pair.conn, &pair.slot, "localhost");
    cr_assert_eq(pair.conn.transport->handshake(&pair.conn), SP_WANT_READ);
    fake_peer_closes(pair.conn.fd);
    cr_assert_eq(pair.conn.transport->handshake(&pair.conn), SP_TLS_CLOSED);
    cr_assert_eq(pair.conn.transport->handshake(&pair.conn), SP_TLS_CLOSED, "and stays so");
}

Test(tls_handshake, reset)
{
    tkit_open(&pair.conn, &pair.slot, "localhost");
    cr_assert_eq(pair.conn.transport->handshake(&pair.conn), SP_WANT_READ);
    fake_peer_resets(pair.conn.fd);
    cr_assert_eq(pair.conn.transport->handshake(&pair.conn), -ECONNRESET);
}

Test(tls_handshake, another_protocol)
{
    static const char *const GREETINGS[] = {"220 mail ready\r\n",
                                            "HTTP/1.1 400 Bad Request\r\n\r\n",
                                            "SSH-2.0-OpenSSH_9.2p1\r\n", "+OK POP3\r\n"};

    for (size_t i = 0; i < sizeof GREETINGS / sizeof *GREETINGS; i++) {
        tkit_open(&pair.conn, &pair.slot, "localhost");
        fake_peer_sends(pair.conn.fd, GREETINGS[i], strlen(GREETINGS[i]));
        fake_peer_closes(pair.conn.fd);
        cr_expect_eq(pair.conn.transport->handshake(&pair.conn), SP_TLS_NOT_TLS, "%s",
                     GREETINGS[i]);
        tkit_close(&pair.conn);
    }
}

Test(tls_handshake, without_a_context)
{
    struct sp_tls_slot empty;
    struct sp_addr addr = {.storage.ss_family = AF_INET, .len = 16};
    struct sp_sockopts opts = {.settings = &empty};

    sp_tls_slot_init(&empty);
    pair.conn = lone_conn(&sp_transport_tls);
    cr_assert_eq(pair.conn.transport->open(&pair.conn, &addr, &opts), SP_CLOSED);
    sp_tls_slot_destroy(&empty);
}

/* ---- bytes ---- */

TestSuite(tls_bytes, .init = tpair_open, .fini = tpair_close);

static size_t records_sent(size_t from)
{
    size_t len, count = 0;
    const uint8_t *sent = fake_sent(pair.conn.fd, &len);

    for (size_t at = from; at + 5 <= len; count++)
        at += 5 + ((size_t)sent[at + 3] << 8 | sent[at + 4]);
    return count;
}

Test(tls_bytes, a_short_request_is_one_record)
{
    struct iovec iov[] = {{"GET", 3}, {"", 0}, {" /", 2}, {"\r\n", 2}};
    size_t before, sent;
    char buf[16];

    (void)fake_sent(pair.conn.fd, &before);
    cr_assert_eq(pair.conn.transport->send(&pair.conn, iov, 4, &sent), SP_OK);
    cr_assert_eq(sent, 7);
    cr_assert_eq(records_sent(before), 1);
    cr_assert_eq(tpair_server_reads(buf, sizeof buf), 7);
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
    fake_send_room(pair.conn.fd, 1000);
    while (done < sizeof data) {
        size_t left = sizeof data - done, first = left < 10 ? left : 10;
        size_t second = left - first < 20000 ? left - first : 20000;
        struct iovec iov[] = {{data + done, first},
                              {data + done + first, second},
                              {data + done + first + second, left - first - second}};
        sp_status status = pair.conn.transport->send(&pair.conn, iov, 3, &sent);
        done += sent;
        if (status == SP_OK)
            continue;
        cr_assert_eq(status, SP_WANT_WRITE);
        wanted++;
        fake_send_room(pair.conn.fd, 7777);
    }
    cr_assert_gt(wanted, 5);
    while ((len = tpair_server_reads(got + received, sizeof got - received)) > 0)
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

    fake_send_room(pair.conn.fd, 3);
    cr_assert_eq(pair.conn.transport->send(&pair.conn, &whole, 1, &sent), SP_WANT_WRITE);
    cr_assert_eq(sent, 0);
    fake_send_room(pair.conn.fd, SIZE_MAX);
    cr_assert_eq(pair.conn.transport->send(&pair.conn, parts, 2, &sent), SP_OK);
    cr_assert_eq(sent, 8);
    cr_assert_eq(tpair_server_reads(buf, sizeof buf), 8);
}

/* After a time-out nobody offers them again: other bytes must not take their place. */
Test(tls_bytes, after_a_send_that_timed_out_it_is_closed)
{
    struct iovec first = {"first", 5}, other = {"other", 5};
    size_t sent;

    fake_send_room(pair.conn.fd, 3);
    cr_assert_eq(pair.conn.transport->send(&pair.conn, &first, 1, &sent), SP_WANT_WRITE);
    pair.conn.tainted = true;
    fake_send_room(pair.conn.fd, SIZE_MAX);
    cr_assert_eq(pair.conn.transport->send(&pair.conn, &other, 1, &sent), SP_CLOSED);
}

Test(tls_bytes, a_recv_fills_what_it_may)
{
    char buf[32];
    size_t got;

    tpair_server_sends("abc", 3);
    tpair_server_sends("defgh", 5);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, 4, &got), SP_OK);
    cr_assert_eq(got, 4, "across records");
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf + 4, sizeof buf - 4, &got), SP_OK);
    cr_assert_eq(got, 4);
    cr_assert(memcmp(buf, "abcdefgh", 8) == 0);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_WANT_READ);
    cr_assert_eq(got, 0);
}

Test(tls_bytes, received_in_pieces_of_one_byte)
{
    char buf[8];
    size_t got, total = 0;

    fake_recv_slice(pair.conn.fd, 1);
    tpair_server_sends("abcdefgh", 8);
    while (total < 8) {
        sp_status status = pair.conn.transport->recv(&pair.conn, buf + total, 8 - total, &got);
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
        tpair_server_sends("0123456789", 10);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, scratch, 10, &got), SP_OK);
    cr_assert_eq(fake_unread(pair.conn.fd), 0, "read ahead");
    pair.conn.recv_limit_bytes = 1000;
    want.len_bytes = 10;
    for (int i = 0; i < 9; i++) {
        cr_assert_eq(
            sp_recv(&pair.conn, fake_host_call(0), &want, scratch, sizeof scratch, &received),
            SP_OK);
        sp_recv_taken(&pair.conn, &received);
    }
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_CLEAN);
    tpair_server_sends(data, 15000);
    tpair_server_sends(data, 15000);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_OK);
    cr_assert_eq(got, 30000);
}

Test(tls_bytes, close_notify_is_the_end_of_file)
{
    char buf[8];
    size_t got;

    tpair_server_sends("abc", 3);
    (void)SSL_shutdown(pair.server.ssl);
    tkit_pump(&pair.conn, &pair.server);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_OK);
    cr_assert_eq(got, 3);
    cr_assert_eq(pair.conn.fault, SP_CLOSED, "no readiness will tell of it");
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_CLOSED);
}

/* A reply that is cut short by close_notify, while the socket stays open, must not wait. */
Test(tls_bytes, a_half_close_ends_a_receive)
{
    struct sp_want want = {.len_bytes = 5};
    struct sp_received received;
    uint8_t scratch[64];

    pair.conn.recv_limit_bytes = 1000;
    tpair_server_sends("abc", 3);
    (void)SSL_shutdown(pair.server.ssl);
    tkit_pump(&pair.conn, &pair.server);
    cr_assert_eq(sp_recv(&pair.conn, fake_host_call(0), &want, scratch, sizeof scratch, &received),
                 SP_CLOSED);
}

Test(tls_bytes, end_of_file_without_close_notify_is_an_error)
{
    char buf[8];
    size_t got;

    fake_peer_closes(pair.conn.fd);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_TLS_TRUNCATED);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_TLS_TRUNCATED,
                 "OpenSSL itself would call the second one orderly");
}

Test(tls_bytes, a_reset_in_the_middle_of_a_record)
{
    char buf[8];
    size_t got;

    fake_peer_sends(pair.conn.fd, "\x17\x03\x03\x00\x40xxxx", 9);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_WANT_READ);
    fake_peer_resets(pair.conn.fd);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), -ECONNRESET);
}

Test(tls_bytes, a_forged_record)
{
    char buf[8], record[5 + 64] = "\x17\x03\x03\x00\x40";
    size_t got;

    fake_peer_sends(pair.conn.fd, record, sizeof record);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_TLS_BAD_RECORD);
}

Test(tls_bytes, an_empty_record_is_nothing)
{
    /* OpenSSL does not write one of TLS 1.3 by itself; of TLS 1.2 see below. */
    char buf[8];
    size_t got, taken;

    (void)SSL_write_ex(pair.server.ssl, "", 0, &taken);
    tkit_pump(&pair.conn, &pair.server);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_WANT_READ);
    tpair_server_sends("x", 1);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_OK);
    cr_assert_eq(got, 1);
}

Test(tls_bytes, errors_of_others_in_the_queue_do_no_harm)
{
    char buf[8];
    size_t got;

    ERR_put_error(ERR_LIB_SSL, 0, SSL_R_BAD_LENGTH, __FILE__, __LINE__);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_WANT_READ);
    ERR_put_error(ERR_LIB_SSL, 0, SSL_R_BAD_LENGTH, __FILE__, __LINE__);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_CLEAN);
}

Test(tls_bytes, a_peer_that_is_gone)
{
    struct iovec iov = {"x", 1};
    size_t sent;

    fake_fail(FAKE_SEND, EPIPE);
    cr_assert_eq(pair.conn.transport->send(&pair.conn, &iov, 1, &sent), SP_CLOSED);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_DEAD);
}

/* ---- idle ---- */

TestSuite(tls_idle, .init = tpair_open, .fini = tpair_close);

Test(tls_idle, silence_is_clean_and_cheap)
{
    unsigned before = fake_calls(FAKE_RECV);

    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_CLEAN);
    cr_assert_eq(fake_calls(FAKE_RECV), before + 1);
}

/* A server's ticket when the test wants one: not before OpenSSL 3. */
#if OPENSSL_VERSION_MAJOR >= 3
Test(tls_idle, tickets_are_clean)
{
    cr_assert_eq(SSL_new_session_ticket(pair.server.ssl), 1);
    (void)SSL_do_handshake(pair.server.ssl);
    tkit_pump(&pair.conn, &pair.server);
    cr_assert_gt(fake_unread(pair.conn.fd), 0);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_CLEAN);
    cr_assert_eq(fake_unread(pair.conn.fd), 0);
}
#endif

Test(tls_idle, a_key_update_is_answered)
{
    struct iovec iov = {"after", 5};
    char buf[8];
    size_t got, sent;

    cr_assert_eq(SSL_key_update(pair.server.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    cr_assert_eq(SSL_do_handshake(pair.server.ssl), 1);
    tkit_pump(&pair.conn, &pair.server);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_CLEAN);
    cr_assert_eq(pair.conn.transport->send(&pair.conn, &iov, 1, &sent), SP_OK);
    cr_assert_eq(tpair_server_reads(buf, sizeof buf), 5, "under the new key");
    tpair_server_sends("back", 4);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_OK);
    cr_assert_eq(got, 4);
}

Test(tls_idle, a_key_update_while_the_socket_is_full)
{
    struct iovec iov = {"after", 5};
    char buf[8];
    size_t sent;

    fake_send_room(pair.conn.fd, 0);
    cr_assert_eq(SSL_key_update(pair.server.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    cr_assert_eq(SSL_do_handshake(pair.server.ssl), 1);
    tkit_pump(&pair.conn, &pair.server);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_CLEAN);
    fake_send_room(pair.conn.fd, SIZE_MAX);
    cr_assert_eq(pair.conn.transport->send(&pair.conn, &iov, 1, &sent), SP_OK);
    cr_assert_eq(tpair_server_reads(buf, sizeof buf), 5);
}

Test(tls_idle, data_is_dirty)
{
    tpair_server_sends("x", 1);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_DIRTY);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_DIRTY, "and stays there");
}

static size_t sealed(const char *text, const char **record)
{
    char *data;
    long len;

    pair.server.held = true;
    cr_assert_eq(SSL_write(pair.server.ssl, text, (int)strlen(text)), (int)strlen(text));
    len = BIO_get_mem_data(SSL_get_wbio(pair.server.ssl), &data);
    *record = data;
    return (size_t)len;
}

/* Another connection, with nothing to read. */
static void fresh(void)
{
    tkit_close(&pair.conn);
    pair.server.held = false;
    tkit_server_again(&pair.server);
    tpair_connect();
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_CLEAN);
}

/* Part of a record: nobody can say yet whose it is, but whoever gets the connection would get it. */
Test(tls_idle, a_part_of_data_is_dirty)
{
    const char *record;
    size_t len = sealed("late", &record);

    for (size_t part = 1; part < len; part++) {
        fresh();
        len = sealed("late", &record);
        fake_peer_sends(pair.conn.fd, record, part);
        cr_expect_eq(pair.conn.transport->validate(&pair.conn), SP_DIRTY, "%zu bytes", part);
        cr_expect_eq(pair.conn.transport->validate(&pair.conn), SP_DIRTY, "%zu bytes, again", part);
        fake_peer_sends(pair.conn.fd, record + part, len - part);
        cr_expect_eq(pair.conn.transport->validate(&pair.conn), SP_DIRTY, "all of it");
    }
}

/* The user's call has read ahead, so the descriptor has nothing to tell of it. */
Test(tls_idle, a_part_of_data_read_ahead_is_dirty)
{
    static const size_t PARTS[] = {1, 4, 5, 6, 15};
    const char *records;
    char buf[16];
    size_t first, got;

    for (size_t i = 0; i < sizeof PARTS / sizeof *PARTS; i++) {
        first = sealed("mine", &records);
        (void)sealed("late", &records);
        fake_peer_sends(pair.conn.fd, records, first + PARTS[i]);
        cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_OK);
        cr_assert_eq(got, 4);
        cr_assert_eq(fake_unread(pair.conn.fd), 0);
        cr_expect_eq(pair.conn.transport->validate(&pair.conn), SP_DIRTY, "%zu bytes", PARTS[i]);
        fresh();
    }
}

#if OPENSSL_VERSION_MAJOR >= 3
/* The price: it could have been data. */
Test(tls_idle, a_part_of_a_ticket_is_dirty)
{
    char *data;

    pair.server.held = true;
    cr_assert_eq(SSL_new_session_ticket(pair.server.ssl), 1);
    (void)SSL_do_handshake(pair.server.ssl);
    cr_assert_gt(BIO_get_mem_data(SSL_get_wbio(pair.server.ssl), &data), 15);
    fake_peer_sends(pair.conn.fd, data, 15);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_DIRTY);
}
#endif

Test(tls_idle, data_read_ahead_is_dirty)
{
    char buf[1];
    size_t got;

    tpair_server_sends("ab", 2);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, 1, &got), SP_OK);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_DIRTY);
}

Test(tls_idle, close_notify_is_dead)
{
    (void)SSL_shutdown(pair.server.ssl);
    tkit_pump(&pair.conn, &pair.server);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_DEAD);
    cr_assert_eq(pair.conn.fault, SP_CLOSED);
}

Test(tls_idle, end_of_file_is_dead)
{
    fake_peer_closes(pair.conn.fd);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_DEAD);
    cr_assert_eq(pair.conn.fault, SP_TLS_TRUNCATED);
}

Test(tls_idle, a_fault_is_dead_and_says_why)
{
    fake_peer_sends(pair.conn.fd, "plain text", 10);
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_DEAD);
    cr_assert_eq(pair.conn.fault, SP_TLS_PROTOCOL_ERROR);
}

/* ---- TLS 1.2 ---- */

TestSuite(tls_12, .init = tpair_open_12, .fini = tpair_close);

Test(tls_12, bytes_both_ways)
{
    struct iovec iov = {"ping", 4};
    char buf[8];
    size_t got, sent;

    cr_assert_eq(pair.conn.transport->send(&pair.conn, &iov, 1, &sent), SP_OK);
    cr_assert_eq(tpair_server_reads(buf, sizeof buf), 4);
    tpair_server_sends("pong", 4);
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_OK);
    cr_assert_eq(got, 4);
}

/* Refused by an alert that is a warning; what becomes of the connection is the server's affair. */
Test(tls_12, renegotiation_is_refused)
{
    char buf[8];
    size_t got;

    cr_assert_eq(SSL_renegotiate(pair.server.ssl), 1);
    (void)SSL_do_handshake(pair.server.ssl);
    tkit_pump(&pair.conn, &pair.server);
    ERR_clear_error();
    cr_assert_eq(pair.conn.transport->recv(&pair.conn, buf, sizeof buf, &got), SP_WANT_READ);
    tkit_pump(&pair.conn, &pair.server);
    cr_assert_leq(SSL_read(pair.server.ssl, buf, sizeof buf), 0);
    cr_assert_eq(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
}
