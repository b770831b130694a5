/* sp_recv of framings with lengths, delimiters, fixed sizes and values of RESP: several messages as one stream that is
 * split at every byte, through scratch memory of any size, with lengths between them. */
#include "kit/pool_kit.h"

#include <criterion/criterion.h>
#include <string.h>

#define SCRATCH_MAX 512

struct message {
    const char *bytes;
    size_t len, header; /* of which so many are taken off */
};
#define MESSAGE(text)                                                                              \
    {                                                                                              \
        text, sizeof(text) - 1, 0                                                                  \
    }

static struct handle *handle;
static struct sp_conn *conn;
static struct sp_received received;

static void leased(void)
{
    kit_start(1, 0);
    handle = kit_checkout(KIT_OWNER);
    conn = handle->conn;
}

static sp_status want(const struct sp_want *want, size_t scratch_cap)
{
    static uint8_t scratch[SCRATCH_MAX];
    sp_status status;

    do
        status = sp_recv(conn, kit_call(), want, scratch, scratch_cap, &received);
    while (status == SP_AGAIN || (status == SP_WANT_READ && fake_unread(conn->fd) > 0));
    return status;
}

static sp_status packet(size_t scratch_cap)
{
    return want(&(struct sp_want){.packet = true}, scratch_cap);
}

/* As many of the messages as are whole, from the i'th on. */
static size_t take_whole(const struct message *messages, size_t i, size_t scratch_cap)
{
    sp_status status;

    for (; (status = packet(scratch_cap)) == SP_OK; i++) {
        const struct message *message = &messages[i];
        cr_assert_eq(received.len, message->len - message->header, "%s: %zu", message->bytes,
                     received.len);
        cr_assert_eq(memcmp(received.data, message->bytes + message->header, received.len), 0);
        sp_recv_taken(conn, &received);
    }
    cr_assert_eq(status, SP_WANT_READ, "%s", sp_status_name(status));
    return i;
}

static void every_split(const struct sp_framing *framing, const struct message *messages,
                        size_t count)
{
    static const size_t CAPS[] = {1, 3, 16, SCRATCH_MAX};
    char stream[2048];
    size_t total = 0;

    for (size_t i = 0; i < count; i++) {
        cr_assert_leq(total + messages[i].len, sizeof stream);
        memcpy(stream + total, messages[i].bytes, messages[i].len);
        total += messages[i].len;
    }
    conn->framing = *framing;
    for (size_t split = 0; split <= total; split++) {
        size_t cap = CAPS[split % 4], taken, whole = 0, end = 0;
        while (whole < count && end + messages[whole].len <= split)
            end += messages[whole++].len;
        fake_peer_sends(conn->fd, stream, split);
        taken = take_whole(messages, 0, cap);
        cr_assert_eq(taken, whole, "with %zu bytes", split);
        fake_peer_sends(conn->fd, stream + split, total - split);
        cr_assert_eq(take_whole(messages, taken, cap), count);
    }
    for (size_t cap = 0; cap < 4; cap++) {
        size_t taken = 0;
        for (size_t i = 0; i < total; i++) {
            fake_peer_sends(conn->fd, stream + i, 1);
            taken = take_whole(messages, taken, CAPS[cap]);
        }
        cr_assert_eq(taken, count);
    }
    cr_assert_not(conn->tainted);
}

#define EVERY_SPLIT(framing, messages)                                                             \
    every_split(&(framing), messages, sizeof(messages) / sizeof *(messages))

TestSuite(recv_framed, .init = leased);

KIT_TEST(recv_framed, lengths)
{
    static const struct sp_framing PG = {
        .kind = SP_FRAMING_LENGTH, .offset = 1, .bytes = 4, .adjust = -4};
    static const struct sp_framing MYSQL = {
        .kind = SP_FRAMING_LENGTH, .bytes = 3, .little = true, .adjust = 1};
    static const struct sp_framing STRIPPED = {
        .kind = SP_FRAMING_LENGTH, .bytes = 8, .strip = true};
    static const struct message OF_PG[] = {MESSAGE("Z\0\0\0\5I"), MESSAGE("S\0\0\0\4"),
                                           MESSAGE("D\0\0\0\16 and more ")};
    static const struct message OF_MYSQL[] = {MESSAGE("\0\0\0\1"), MESSAGE("\5\0\0\2hello")};
    static const struct message OF_STRIPPED[] = {
        {"\0\0\0\0\0\0\0\3abc", 11, 8}, {"\0\0\0\0\0\0\0\0", 8, 8}, {"\0\0\0\0\0\0\0\1x", 9, 8}};

    EVERY_SPLIT(PG, OF_PG);
    EVERY_SPLIT(MYSQL, OF_MYSQL);
    EVERY_SPLIT(STRIPPED, OF_STRIPPED);
}

KIT_TEST(recv_framed, delimiters_and_fixed_sizes)
{
    static const struct sp_framing CRLF = {
        .kind = SP_FRAMING_DELIMITER, .delimiter_len = 2, .delimiter = "\r\n"};
    static const struct sp_framing MAIL = {
        .kind = SP_FRAMING_DELIMITER, .delimiter_len = 5, .delimiter = "\r\n.\r\n"};
    static const struct sp_framing THREE = {.kind = SP_FRAMING_FIXED, .fixed = 3};
    static const struct message OF_CRLF[] = {MESSAGE("VALUE a 0 3\r\n"), MESSAGE("\r\n"),
                                             MESSAGE("\r\r\n"), MESSAGE("a\nb\r\n")};
    static const struct message OF_MAIL[] = {MESSAGE("Subject: x\r\n\r\nhello\r\n.\r\n"),
                                             MESSAGE("\r\n.\r.\r\n.\r\n"), MESSAGE("\r\n.\r\n")};
    static const struct message OF_THREE[] = {MESSAGE("abc"), MESSAGE("\r\n."), MESSAGE("\0\0\0")};

    EVERY_SPLIT(CRLF, OF_CRLF);
    EVERY_SPLIT(MAIL, OF_MAIL);
    EVERY_SPLIT(THREE, OF_THREE);
}

KIT_TEST(recv_framed, values_of_resp2)
{
    static const struct sp_framing RESP = {.kind = SP_FRAMING_RESP};
    static const struct message VALUES[] = {MESSAGE("+OK\r\n"),
                                            MESSAGE("-WRONGTYPE of key\r\n"),
                                            MESSAGE(":-42\r\n"),
                                            MESSAGE("$5\r\nhello\r\n"),
                                            MESSAGE("$0\r\n\r\n"),
                                            MESSAGE("$-1\r\n"),
                                            MESSAGE("$7\r\n\r\n$1\r\na\r\n"),
                                            MESSAGE("*3\r\n$1\r\na\r\n$-1\r\n:7\r\n"),
                                            MESSAGE("*0\r\n"),
                                            MESSAGE("*-1\r\n"),
                                            MESSAGE("*2\r\n*2\r\n+a\r\n*-1\r\n*1\r\n-E\r\n")};

    EVERY_SPLIT(RESP, VALUES);
}

KIT_TEST(recv_framed, values_of_resp3)
{
    static const struct sp_framing RESP = {.kind = SP_FRAMING_RESP};
    static const struct message VALUES[] = {
        MESSAGE("_\r\n"),
        MESSAGE("#t\r\n"),
        MESSAGE("#f\r\n"),
        MESSAGE(",-inf\r\n"),
        MESSAGE(",1.5e3\r\n"),
        MESSAGE("(-3492890328409238509324850943850943825024385\r\n"),
        MESSAGE("!10\r\nSYNTAX bad\r\n"),
        MESSAGE("!0\r\n\r\n"),
        MESSAGE("=8\r\ntxt:ab\r\n\r\n"),
        MESSAGE("%2\r\n+first\r\n:1\r\n$1\r\nk\r\n%0\r\n"),
        MESSAGE("~3\r\n+a\r\n_\r\n~1\r\n#t\r\n"),
        MESSAGE(">3\r\n+message\r\n+channel\r\n$2\r\nhi\r\n"),
        MESSAGE("|1\r\n+key-popularity\r\n%1\r\n$1\r\na\r\n,0.19\r\n*2\r\n:2\r\n:9\r\n"),
        MESSAGE("*2\r\n:1\r\n|1\r\n+ttl\r\n:3600\r\n:3\r\n"),
        MESSAGE("|0\r\n|1\r\n+a\r\n+b\r\n_\r\n")};
    static const struct message STREAMED[] = {
        MESSAGE("$?\r\n;4\r\nHell\r\n;6\r\no worl\r\n;1\r\nd\r\n;0\r\n"),
        MESSAGE("$?\r\n;0\r\n"),
        MESSAGE("*?\r\n:1\r\n*2\r\n:2\r\n:3\r\n.\r\n"),
        MESSAGE("*?\r\n.\r\n"),
        MESSAGE("%?\r\n+a\r\n:1\r\n+b\r\n$?\r\n;1\r\n.\r\n;0\r\n.\r\n"),
        MESSAGE("~?\r\n+a\r\n.\r\n"),
        MESSAGE(">?\r\n+pubsub\r\n_\r\n.\r\n"),
        MESSAGE("*1\r\n~?\r\n%?\r\n.\r\n|1\r\n+k\r\n+v\r\n*?\r\n.\r\n.\r\n")};

    EVERY_SPLIT(RESP, VALUES);
    EVERY_SPLIT(RESP, STREAMED);
}

/* memcached's: a line says how many bytes come behind it. Those may look like an end, and may be looked for while
 * nothing or a part of them has come. */
KIT_TEST(recv_framed, a_length_between_messages_at_every_split)
{
    static const struct sp_framing CRLF = {
        .kind = SP_FRAMING_DELIMITER, .delimiter_len = 2, .delimiter = "\r\n"};
    static const char STREAM[] = "VALUE a 0 5\r\n1\r\n45\r\nEND\r\n";
    static const struct {
        struct sp_want want;
        size_t len;
    } STEPS[] = {{{.packet = true}, 13}, {{.len_bytes = 7}, 7}, {{.packet = true}, 5}};

    conn->framing = CRLF;
    for (size_t split = 0; split < sizeof STREAM - 1; split++) {
        size_t at = 0, sent = split;
        fake_peer_sends(conn->fd, STREAM, split);
        for (size_t i = 0; i < 3; i++) {
            sp_status status = want(&STEPS[i].want, 1 + split % 20);
            if (at + STEPS[i].len > sent) {
                cr_assert_eq(status, SP_WANT_READ, "step %zu of split %zu", i, split);
                fake_peer_sends(conn->fd, STREAM + sent, sizeof STREAM - 1 - sent);
                sent = sizeof STREAM - 1;
                status = want(&STEPS[i].want, 1 + split % 20);
            }
            cr_assert_eq(status, SP_OK, "step %zu of split %zu", i, split);
            cr_assert_eq(received.len, STEPS[i].len);
            cr_assert_eq(memcmp(received.data, STREAM + at, received.len), 0);
            sp_recv_taken(conn, &received);
            at += STEPS[i].len;
        }
    }
    cr_assert_not(conn->tainted);
}
