/* sp_node: opening, the handshake over tcp and over tls, bytes, and idle connections: what a node may
 * say on them, and what is said to it. */
#include "core/base/sp_bytes.h"
#include "core/dist/sp_dist_connect.h"
#include "core/dist/sp_node.h"
#include "core/tls/sp_tls_error.h"
#include "kit/tls_pair.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#define TARGET ((struct sp_node_target){"b@there", "here", "secret"})
/* Each after the second half of its length, as it is over tcp; over tls another "\0\0" comes first. */
#define STATUS "\0\x12snamed:\0\x05x@her\1\2\3\4"
#define CHALLENGE "\0\x1aN\0\0\0\xd\x07\xdf\x7f\xbd\0\0\0\x09\0\0\0\7\0\7b@there"
/* The name, and the proof after it. */
#define NAME_SAID_BYTES 21
#define PROOF_SAID_BYTES 23

static struct sp_conn conn;
static struct sp_addr addr = {.storage.ss_family = AF_INET, .len = sizeof addr.storage};
static struct sp_sockopts opts;

static void unopened(void)
{
    fake_sys_reset();
    fake_connect_at_once(true);
    conn = lone_conn(&sp_transport_node);
}

static sp_status open_to(const struct sp_node_target *target)
{
    addr.to = target;
    return conn.transport->open(&conn, &addr, &opts);
}

static void opened(void)
{
    unopened();
    cr_assert_eq(open_to(&TARGET), SP_OK);
    cr_assert_eq(conn.transport->opened(&conn), SP_OK);
}

static void closed(void)
{
    tkit_close(&conn);
    cr_assert_null(conn.dist);
    cr_assert_eq(fake_fds_open(), 0);
}

static sp_status step(void)
{
    return conn.transport->handshake(&conn);
}

static void says(const void *data, size_t len)
{
    fake_peer_sends(conn.fd, data, len);
}

static const uint8_t *said(size_t from, size_t len)
{
    size_t all;
    const uint8_t *bytes = fake_sent(conn.fd, &all);

    cr_assert_eq(all, from + len);
    return bytes + from;
}

/* The node's proof, for the challenge that we said at `said_bytes`. */
static void make_proof(uint8_t proof[19], const uint8_t *said_bytes)
{
    char text[64];
    int len = snprintf(text, sizeof text, "secret%u", (unsigned)sp_get(said_bytes + 3, 4));

    memcpy(proof,
           "\0\x11"
           "a",
           3);
    cr_assert_eq(EVP_Digest(text, (size_t)len, proof + 3, NULL, EVP_md5(), NULL), 1);
}

static void to_proof(void)
{
    opened();
    cr_assert_eq(step(), SP_WANT_READ);
    says(STATUS, sizeof STATUS - 1);
    says(CHALLENGE, sizeof CHALLENGE - 1);
    cr_assert_eq(step(), SP_WANT_READ);
}

static void shaken(void)
{
    uint8_t proof[19];

    to_proof();
    make_proof(proof, said(NAME_SAID_BYTES, PROOF_SAID_BYTES));
    says(proof, sizeof proof);
    cr_assert_eq(step(), SP_OK);
    conn.shaken = true;
}

/* Beyond the handshake. */
static const uint8_t *said_since(size_t len)
{
    return said(NAME_SAID_BYTES + PROOF_SAID_BYTES, len);
}

static enum sp_clean validate(void)
{
    return conn.transport->validate(&conn);
}

TestSuite(node, .init = unopened, .fini = closed);

/* ---- opening ---- */

Test(node, needs_to_know_whom_to_call)
{
    cr_assert_eq(open_to(NULL), -EDESTADDRREQ);
    cr_assert_eq(conn.fd, -1);
}

Test(node, refuses_texts_that_are_too_long)
{
    char cookie[SP_DIST_COOKIE_MAX + 2];
    struct sp_node_target target = TARGET;

    memset(cookie, 'c', sizeof cookie);
    cookie[sizeof cookie - 1] = '\0';
    target.cookie = cookie;
    cr_assert_eq(open_to(&target), -EINVAL);
    cr_assert_eq(conn.fd, -1);
}

Test(node, tells_why_the_stream_below_does_not_open)
{
    fake_fail(FAKE_CONNECT, ECONNREFUSED);
    cr_assert_eq(open_to(&TARGET), -ECONNREFUSED);
}

Test(node, sets_options_of_the_stream_below)
{
    opened();
    cr_assert_eq(conn.transport->set(&conn, SP_OPT_NODELAY, 1), SP_OK);
    cr_assert_gt(fake_calls(FAKE_SETSOCKOPT), 0);
}

/* ---- handshake ---- */

struct told {
    char node[64], name[64];
    size_t creation;
    unsigned count;
};

static void tell(void *arg, const char *key, enum sp_fact_kind kind, const void *data, size_t len)
{
    struct told *told = arg;

    told->count++;
    if (strcmp(key, "node") == 0 && kind == SP_FACT_WORD)
        memcpy(told->node, data, len);
    else if (strcmp(key, "name") == 0 && kind == SP_FACT_BYTES)
        memcpy(told->name, data, len);
    else if (strcmp(key, "creation") == 0 && kind == SP_FACT_NUMBER)
        told->creation = len;
}

Test(node, shakes_hands)
{
    struct told told = {.count = 0};
    const uint8_t *bytes;
    uint8_t proof[19];

    opened();
    cr_assert_eq(step(), SP_WANT_READ);
    bytes = said(0, NAME_SAID_BYTES);
    cr_assert_eq(bytes[2], 'N');
    cr_assert_arr_eq(bytes + 17, "here", 4);
    cr_assert_eq(step(), SP_WANT_READ, "nothing came");
    said(0, NAME_SAID_BYTES);
    says(STATUS, sizeof STATUS - 1);
    says(CHALLENGE, sizeof CHALLENGE - 1);
    cr_assert_eq(step(), SP_WANT_READ);
    conn.transport->describe(&conn, tell, &told);
    cr_assert_eq(told.count, 0, "nothing is known before");
    make_proof(proof, said(NAME_SAID_BYTES, PROOF_SAID_BYTES));
    says(proof, sizeof proof);
    says("frames", 6);
    cr_assert_eq(step(), SP_OK);
    cr_assert_eq(fake_unread(conn.fd), 6, "what follows is left");
    conn.shaken = true;
    conn.transport->describe(&conn, tell, &told);
    cr_assert_str_eq(told.node, "b@there");
    cr_assert_str_eq(told.name, "x@her");
    cr_assert_eq(told.creation, 0x01020304);
    cr_assert_eq(told.count, 3);
}

Test(node, shakes_hands_bit_by_bit)
{
    uint8_t proof[19], name[NAME_SAID_BYTES];

    opened();
    cr_assert_eq(step(), SP_WANT_READ);
    memcpy(name, said(0, sizeof name), sizeof name);
    tkit_close(&conn);
    opened();
    fake_recv_slice(conn.fd, 1);
    fake_send_room(conn.fd, 0);
    cr_assert_eq(step(), SP_WANT_WRITE);
    for (int i = 0; i < NAME_SAID_BYTES - 1; i++) {
        fake_send_room(conn.fd, 1);
        cr_assert_eq(step(), SP_WANT_WRITE);
    }
    fake_send_room(conn.fd, 1);
    cr_assert_eq(step(), SP_WANT_READ);
    cr_assert_arr_eq(said(0, sizeof name), name, sizeof name);
    says(STATUS, sizeof STATUS - 1);
    says(CHALLENGE, sizeof CHALLENGE - 1);
    cr_assert_eq(step(), SP_WANT_WRITE);
    fake_send_room(conn.fd, PROOF_SAID_BYTES);
    cr_assert_eq(step(), SP_WANT_READ);
    make_proof(proof, said(NAME_SAID_BYTES, PROOF_SAID_BYTES));
    says(proof, sizeof proof);
    cr_assert_eq(step(), SP_OK);
}

Test(node, shakes_hands_once)
{
    shaken();
    cr_assert_eq(step(), SP_CLOSED, "the cookie and all that are gone");
    said_since(0);
}

static void expect_fault(sp_status status)
{
    cr_assert_eq(step(), status, "%s", sp_node_error_name(conn.fault));
    cr_assert_eq(conn.fault, status);
    cr_assert_neq(step(), SP_OK, "it stays so");
}

Test(node, is_hung_up_on)
{
    opened();
    cr_assert_eq(step(), SP_WANT_READ);
    fake_peer_closes(conn.fd);
    expect_fault(SP_NODE_CLOSED);
}

Test(node, is_refused_for_its_cookie)
{
    to_proof();
    fake_peer_closes(conn.fd);
    expect_fault(SP_NODE_COOKIE);
}

Test(node, is_refused_for_its_cookie_by_a_reset)
{
    to_proof();
    fake_peer_resets(conn.fd);
    expect_fault(SP_NODE_COOKIE);
}

Test(node, refuses_a_wrong_proof)
{
    uint8_t proof[19];

    to_proof();
    make_proof(proof, said(NAME_SAID_BYTES, PROOF_SAID_BYTES));
    proof[18] ^= 1;
    says(proof, sizeof proof);
    expect_fault(SP_NODE_COOKIE);
}

Test(node, refuses_what_is_no_handshake)
{
    opened();
    says("HTTP/1.1 400 Bad Request\r\n", 26);
    expect_fault(SP_NODE_PROTOCOL);
}

Test(node, passes_on_errors_of_the_stream_below)
{
    opened();
    cr_assert_eq(step(), SP_WANT_READ);
    fake_fail(FAKE_RECV, ETIMEDOUT);
    expect_fault(-ETIMEDOUT);
}

/* ---- bytes ---- */

Test(node, passes_bytes_through)
{
    struct iovec iov = {(void *)(uintptr_t) "abc", 3};
    char buf[8];
    size_t len;

    shaken();
    cr_assert_eq(conn.transport->send(&conn, &iov, 1, &len), SP_OK);
    cr_assert_eq(len, 3);
    cr_assert_arr_eq(said_since(3), "abc", 3);
    says("\0\0\0\0xy", 6);
    cr_assert_eq(conn.transport->recv(&conn, buf, sizeof buf, &len), SP_OK);
    cr_assert_eq(len, 6, "ticks too: they are for whoever has the lease");
    conn.transport->shutdown(&conn);
    cr_assert_eq(fake_calls(FAKE_SHUTDOWN), 1);
}

/* ---- idle connections ---- */

Test(node, idle_and_silent)
{
    shaken();
    cr_assert_eq(validate(), SP_CLEAN);
    said_since(0);
}

Test(node, idle_answers_ticks)
{
    shaken();
    says("\0\0\0\0", 4);
    cr_assert_eq(validate(), SP_CLEAN);
    cr_assert_arr_eq(said_since(4), "\0\0\0\0", 4);
    says("\0\0\0\0\0\0\0\0", 8);
    fake_recv_slice(conn.fd, 1);
    cr_assert_eq(validate(), SP_CLEAN);
    cr_assert_arr_eq(said_since(12), "\0\0\0\0\0\0\0\0\0\0\0\0", 12);
    cr_assert_eq(fake_unread(conn.fd), 0);
}

Test(node, idle_passes_over_messages)
{
    uint8_t message[10000] = {0, 0, 9996 >> 8, 9996 & 255, 112};

    shaken();
    says("\0\0\0\3pqr\0\0\0\0", 11);
    says(message, sizeof message);
    cr_assert_eq(validate(), SP_CLEAN);
    cr_assert_eq(fake_unread(conn.fd), 0);
    cr_assert_arr_eq(said_since(4), "\0\0\0\0", 4);
}

/* Of a long one the beginning is looked at. */
Test(node, idle_answers_questions)
{
#define LINK "p\x83h\3a\1Xw\3a@b\0\0\0\1\0\0\0\0\0\0\0\7Xw\3u@b\0\0\0\2\0\0\0\0\0\0\0\5"
#define EXIT "p\x83h\4a\3Xw\3u@b\0\0\0\2\0\0\0\0\0\0\0\5Xw\3a@b\0\0\0\1\0\0\0\0\0\0\0\7w\6noproc"
    uint8_t link[4 + sizeof LINK - 1] = {0, 0, 0, sizeof LINK - 1},
                                   message[5004] = {0, 0, 5000 >> 8, 5000 & 255};
    uint8_t answer[4 + sizeof EXIT - 1] = {0, 0, 0, sizeof EXIT - 1};

    memcpy(link + 4, LINK, sizeof LINK - 1);
    memcpy(message + 4, LINK, sizeof LINK - 1);
    memcpy(answer + 4, EXIT, sizeof EXIT - 1);
    shaken();
    says(link, sizeof link);
    cr_assert_eq(validate(), SP_CLEAN);
    cr_assert_arr_eq(said_since(sizeof answer), answer, sizeof answer);
    says(message, sizeof message);
    cr_assert_eq(validate(), SP_CLEAN);
    cr_assert_arr_eq(said_since(2 * sizeof answer) + sizeof answer, answer, sizeof answer);
    cr_assert_eq(fake_unread(conn.fd), 0);
}

Test(node, idle_closed)
{
    shaken();
    fake_peer_closes(conn.fd);
    cr_assert_eq(validate(), SP_DEAD);
}

Test(node, idle_closed_after_a_tick)
{
    shaken();
    says("\0\0\0\0", 4);
    fake_peer_closes(conn.fd);
    cr_assert_eq(validate(), SP_DEAD);
}

/* The rest would come to the next user. */
Test(node, idle_with_half_a_message)
{
    static const struct {
        const char *bytes;
        size_t len;
    } CASES[] = {{"\0", 1}, {"\0\0\0", 3}, {"\0\0\0\1", 4}, {"\0\0\0\3pq", 6}};

    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        shaken();
        says(CASES[i].bytes, CASES[i].len);
        cr_assert_eq(validate(), SP_DIRTY, "%zu", i);
        tkit_close(&conn);
    }
}

Test(node, idle_and_talkative)
{
    static const uint8_t claims_64k[] = {0, 0, 0xff, 0xfd}, tick[4];
    uint8_t message[10000] = {0, 0, 9996 >> 8, 9996 & 255, 112};

    shaken();
    says(claims_64k, sizeof claims_64k);
    cr_assert_eq(validate(), SP_DIRTY);
    cr_assert_eq(fake_calls(FAKE_SEND), 2, "the handshake's");
    tkit_close(&conn);
    shaken();
    for (int i = 0; i < 31; i++)
        says(tick, sizeof tick);
    cr_assert_eq(validate(), SP_CLEAN);
    for (int i = 0; i < 32; i++)
        says(tick, sizeof tick);
    cr_assert_eq(validate(), SP_DIRTY);
    tkit_close(&conn);
    shaken();
    for (int i = 0; i < 7; i++)
        says(message, sizeof message);
    cr_assert_eq(validate(), SP_DIRTY, "some 70 KB");
}

Test(node, idle_and_deaf)
{
    for (size_t room = 0; room < 4; room++) {
        shaken();
        says("\0\0\0\0", 4);
        fake_send_room(conn.fd, room);
        cr_assert_eq(validate(), SP_DIRTY);
        tkit_close(&conn);
    }
    shaken();
    says("\0\0\0\0", 4);
    fake_fail(FAKE_SEND, EPIPE);
    cr_assert_eq(validate(), SP_DEAD);
}

/* ---- over tls ---- */

static void server_says(const void *data, size_t len)
{
    cr_assert_eq(SSL_write(pair.server.ssl, data, (int)len), (int)len);
    tkit_pump(&conn, &pair.server);
}

static void server_hears(uint8_t *bytes, size_t len)
{
    tkit_pump(&conn, &pair.server);
    cr_assert_eq(SSL_read(pair.server.ssl, bytes, (int)len), (int)len);
}

static void tls_made(void)
{
    tpair_make();
    fake_connect_at_once(true);
    conn = lone_conn(&sp_transport_node_tls);
    pair.conn = (struct sp_conn){.fd = -1, .transport = &sp_transport_node_tls};
    addr.host = "localhost";
    opts.settings = &pair.slot;
}

static void tls_gone(void)
{
    tkit_close(&conn);
    tpair_close();
}

TestSuite(node_tls, .init = tls_made, .fini = tls_gone);

/* What was said last is in `bytes`. */
static void tls_to_proof(uint8_t *bytes)
{
    cr_assert_eq(open_to(&TARGET), SP_OK);
    cr_assert_eq(conn.transport->opened(&conn), SP_OK);
    cr_assert_eq(tkit_shake(&conn, &pair.server), SP_WANT_READ);
    server_hears(bytes, 2 + NAME_SAID_BYTES);
    cr_assert_arr_eq(bytes, "\0\0\0\x13N", 5);
    server_says("\0\0" STATUS, 2 + sizeof STATUS - 1);
    server_says("\0\0" CHALLENGE, 2 + sizeof CHALLENGE - 1);
    cr_assert_eq(step(), SP_WANT_READ);
    server_hears(bytes, 2 + PROOF_SAID_BYTES);
}

static void tls_shaken(void)
{
    uint8_t bytes[64], proof[19];

    tls_to_proof(bytes);
    make_proof(proof, bytes + 2);
    server_says("\0\0", 2);
    server_says(proof, sizeof proof);
    cr_assert_eq(step(), SP_OK);
    conn.shaken = true;
}

Test(node_tls, shakes_both_hands_and_answers_ticks)
{
    struct told told = {.count = 0};
    uint8_t bytes[64];

    tls_shaken();
    cr_assert_eq(validate(), SP_CLEAN);
    server_says("\0\0\0\0\0\0\0\1p", 9);
    cr_assert_eq(validate(), SP_CLEAN);
    server_hears(bytes, 4);
    cr_assert_arr_eq(bytes, "\0\0\0\0", 4);
    cr_assert_eq(validate(), SP_CLEAN);
    conn.transport->describe(&conn, tell, &told);
    cr_assert_str_eq(told.node, "b@there");
    cr_assert_gt(told.count, 5, "what tls tells, too");
    server_says("\0\0\0\2p", 5);
    cr_assert_eq(validate(), SP_DIRTY);
}

Test(node_tls, tells_why_tls_fails)
{
    addr.host = "elsewhere.example";
    cr_assert_eq(open_to(&TARGET), SP_OK);
    cr_assert_eq(tkit_shake(&conn, &pair.server), SP_TLS_HOSTNAME_MISMATCH);
    cr_assert_eq(conn.fault, SP_TLS_HOSTNAME_MISMATCH);
}

Test(node_tls, is_refused_for_its_cookie)
{
    uint8_t bytes[64];

    tls_to_proof(bytes);
    fake_peer_closes(conn.fd); /* without a close_notify */
    expect_fault(SP_NODE_COOKIE);
}
