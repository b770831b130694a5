/* sp_recv: lengths, whatever is there, and packets, however the bytes come. */
#include "kit/recv_kit.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

TestSuite(recv, .init = leased);

/* ---- a number of bytes ---- */

KIT_TEST(recv, exactly_so_many_byte_by_byte)
{
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(exactly(5), SP_WANT_READ);
        sends(&"hello"[i], 1);
    }
    cr_assert_eq(exactly(5), SP_WANT_READ);
    sends("o", 1);
    got(exactly(5), "hello", 5);
    cr_assert(conn->touched && !conn->tainted);
    cr_assert_eq(conn->rbuf.len, 0);
}

KIT_TEST(recv, exactly_so_many_leaves_the_rest_in_the_socket)
{
    sends("helloworld", 10);
    got(exactly(5), "hello", 5);
    cr_assert_eq(fake_unread(conn->fd), 5, "where the next validation sees it");
    got(exactly(1), "w", 1);
    got(exactly(4), "orld", 4);
}

KIT_TEST(recv, exactly_so_many_in_two_parts_leaves_the_rest_too)
{
    sends("hel", 3);
    cr_assert_eq(exactly(5), SP_WANT_READ);
    sends("loworld", 7);
    got(exactly(5), "hello", 5);
    cr_assert_eq(fake_unread(conn->fd), 5);
}

KIT_TEST(recv, more_than_the_scratch_memory_goes_through_the_buffer)
{
    static char big[SCRATCH_MAX + 100];

    memset(big, 'x', sizeof big);
    cr_assert_eq(exactly(sizeof big), SP_WANT_READ);
    sends(big, sizeof big);
    sends("rest", 4);
    cr_assert_eq(exactly(sizeof big), SP_OK);
    cr_assert(received.in_rbuf);
    cr_assert_eq(conn->rbuf.cap, sizeof big, "no more than was asked for");
    got(SP_OK, big, sizeof big);
    cr_assert_eq(fake_unread(conn->fd), 4);
}

KIT_TEST(recv, a_long_one_gives_way_when_the_allowance_is_used_up)
{
    size_t len = 5 * SP_SLICE_BYTES / 2;

    kit_allow(2 * (SP_PIECES_SYSCALL + SP_SLICE_BYTES / SP_BYTES_PER_PIECE));
    char *big = calloc(1, len);

    conn->recv_limit_bytes = len;
    sends(big, len);
    cr_assert_eq(exactly(len), SP_AGAIN);
    cr_assert_eq(fake_unread(conn->fd), SP_SLICE_BYTES / 2);
    got(exactly(len), big, len);
    free(big);
}

KIT_TEST(recv, a_request_for_more_than_the_limit_is_refused_and_harmless)
{
    conn->recv_limit_bytes = 100;
    cr_assert_eq(exactly(101), SP_TOO_BIG);
    cr_assert_not(conn->tainted);
    cr_assert_not(conn->touched);
    sends("x", 1);
    got(exactly(1), "x", 1);
    cr_assert_eq(exactly(100), SP_WANT_READ);
}

/* As memcached has a line, and so many bytes behind it; also where the search for a line has begun. */
KIT_TEST(recv, a_length_among_messages)
{
    conn->framing = sp_framing_line();
    sends("VALUE 5\nab\ncdEN", 15);
    got(packet(), "VALUE 5\n", 8);
    got(exactly(5), "ab\ncd", 5);
    cr_assert_eq(packet(), SP_WANT_READ);
    got(exactly(1), "E", 1);
    sends("D\n", 2);
    got(packet(), "ND\n", 3);
    cr_assert_eq(exactly(2), SP_WANT_READ);
    sends("xyz\n", 4);
    got(exactly(2), "xy", 2);
    got(packet(), "z\n", 2);
}

/* ---- whatever is there ---- */

KIT_TEST(recv, any_takes_what_is_there)
{
    cr_assert_eq(any(), SP_WANT_READ);
    sends("hel", 3);
    got(any(), "hel", 3);
    cr_assert_eq(any(), SP_WANT_READ);
    sends("lo", 2);
    got(packet(), "lo", 2);
}

KIT_TEST(recv, any_takes_no_more_than_the_scratch_memory_holds)
{
    scratch_cap = 4;
    sends("hello", 5);
    got(any(), "hell", 4);
    got(any(), "o", 1);
}

KIT_TEST(recv, any_after_an_exact_one_begins_with_what_was_kept)
{
    sends("hel", 3);
    cr_assert_eq(exactly(5), SP_WANT_READ);
    got(any(), "hel", 3);
    cr_assert_eq(any(), SP_WANT_READ);
}

/* ---- packets ---- */

KIT_TEST(recv, over_read_packets_are_kept_for_the_next_calls)
{
    unsigned calls;

    conn->framing = sp_framing_header(2);
    sends("\0\3abc\0\0\0\1d\0", 11);
    got(packet(), "abc", 3);
    calls = fake_calls(FAKE_RECV);
    cr_assert_eq(conn->rbuf.len - conn->rbuf.pos, 6);
    got(packet(), "", 0);
    got(packet(), "d", 1);
    cr_assert_eq(fake_calls(FAKE_RECV), calls, "no system call for those");
    cr_assert_eq(packet(), SP_WANT_READ);
    sends("\2ef", 3);
    got(packet(), "ef", 2);
    cr_assert_eq(conn->rbuf.len, 0);
}

KIT_TEST(recv, an_unread_packet_closes_the_connection_at_checkin)
{
    conn->framing = sp_framing_line();
    sends("a\nb\n", 4);
    got(packet(), "a\n", 2);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert_eq(kit_stats().total, 0);
}

KIT_TEST(recv, a_packet_above_the_limit_taints)
{
    conn->framing = sp_framing_header(4);
    conn->recv_limit_bytes = 100;
    sends("\0\0\0\x65", 4);
    cr_assert_eq(packet(), SP_TOO_BIG);
    cr_assert(conn->tainted);
}

KIT_TEST(recv, a_line_above_the_limit_taints)
{
    conn->framing = sp_framing_line();
    conn->recv_limit_bytes = 5;
    sends("123", 3);
    cr_assert_eq(packet(), SP_WANT_READ);
    cr_assert_not(conn->tainted);
    sends("45", 2);
    cr_assert_eq(packet(), SP_TOO_BIG);
    cr_assert(conn->tainted);
}

KIT_TEST(recv, the_peers_claim_of_a_length_is_not_believed_at_once)
{
    static char part[10000];
    size_t sent = 0;

    conn->framing = sp_framing_header(4);
    conn->recv_limit_bytes = 1 << 30;
    sends("\x20\0\0\0", 4);
    for (int i = 0; i < 30; i++) {
        sp_status status = packet();
        cr_assert(status == SP_WANT_READ || status == SP_AGAIN);
        cr_assert_leq(conn->rbuf.cap, 64 * 1024 + 2 * sent);
        sends(part, sizeof part);
        sent += sizeof part;
    }
}

KIT_TEST(recv, a_change_of_mode_reads_what_was_kept_in_the_new_one)
{
    conn->framing = sp_framing_line();
    sends("HTTP\n12345", 10);
    got(packet(), "HTTP\n", 5);
    sp_conn_set_framing(conn, &(struct sp_framing){0});
    got(exactly(2), "12", 2);
    got(exactly(3), "345", 3);
}

KIT_TEST(recv, a_long_line_is_searched_once)
{
    conn->framing = sp_framing_line();
    for (int i = 0; i < 1000; i++) {
        sends("x", 1);
        cr_assert_eq(packet(), SP_WANT_READ);
        cr_assert_eq(conn->search.looked, i + 1);
    }
    sends("\n", 1);
    cr_assert_eq(packet(), SP_OK);
    cr_assert_eq(received.len, 1001);
    sp_recv_taken(conn, &received);
}

/* One receive brings more of them than one call may look at. */
KIT_TEST(recv, a_message_of_very_many_values)
{
    static uint8_t wide[SP_FULL_RECV_BYTES];
    static char text[8 + 3 * 20000 + 5] = "*20000\r\n";
    unsigned calls = 1;
    sp_status status;

    for (size_t i = 0; i < 20000; i++)
        memcpy(text + 8 + 3 * i, "_\r\n", 3);
    memcpy(text + 8 + 3 * 20000, "+next", 5);
    conn->framing = (struct sp_framing){.kind = SP_FRAMING_RESP};
    sends(text, sizeof text);
    while ((status = sp_recv(conn, kit_call(), &(struct sp_want){.packet = true}, wide, sizeof wide,
                             &received)) == SP_AGAIN)
        calls++;
    got(status, text, 8 + 3 * 20000);
    cr_assert(calls > 1, "at once");
    cr_assert_not(conn->tainted);
    cr_assert_eq(packet(), SP_WANT_READ);
    sends("\r\n", 2);
    got(packet(), "+next\r\n", 7);
}

/* Messages of a mode, long and short, as one stream. */
struct stream {
    struct sp_framing mode;
    size_t lens[64], count, total;
    char bytes[64 * 320];
};

static void build(struct stream *stream, struct sp_framing mode, unsigned *rng)
{
    uint8_t header[SP_FRAME_HEADER_MAX];
    size_t header_len;

    *stream = (struct stream){.mode = mode, .count = 24};
    for (size_t i = 0; i < stream->count; i++) {
        size_t len = (size_t)rand_r(rng) % (rand_r(rng) % 3 ? 6 : 255);
        stream->lens[i] = len + (mode.kind == SP_FRAMING_DELIMITER);
        cr_assert_eq(sp_frame_header(&mode, len, header, &header_len), SP_OK);
        memcpy(stream->bytes + stream->total, header, header_len);
        stream->total += header_len;
        for (size_t j = 0; j < len; j++)
            stream->bytes[stream->total++] = (char)('a' + (i + j) % 26);
        if (mode.kind == SP_FRAMING_DELIMITER)
            stream->bytes[stream->total++] = '\n';
    }
}

static void read_message(const struct stream *stream, size_t i, size_t *fed, size_t chunk)
{
    sp_status status;

    while ((status = packet()) != SP_OK) {
        size_t len = stream->total - *fed < chunk ? stream->total - *fed : chunk;
        cr_assert(status == SP_WANT_READ || status == SP_AGAIN, "%s", sp_status_name(status));
        if (status == SP_AGAIN || fake_unread(conn->fd) > 0)
            continue;
        cr_assert_gt(len, 0, "message %zu never comes", i);
        sends(stream->bytes + *fed, len);
        *fed += len;
    }
    cr_assert_eq(received.len, stream->lens[i], "message %zu", i);
    for (size_t j = 0; j < received.len - (stream->mode.kind == SP_FRAMING_DELIMITER); j++)
        cr_assert_eq(received.data[j], 'a' + (i + j) % 26);
    sp_recv_taken(conn, &received);
}

static void every_way(struct sp_framing mode)
{
    static const size_t CHUNKS[] = {1, 2, 3, 5, 17, 100, 1000, 100000};
    static const size_t CAPS[] = {1, 2, 3, 7, 64, 300, SCRATCH_MAX};
    static struct stream stream;
    unsigned rng = 1;

    conn->framing = mode;
    for (size_t chunk = 0; chunk < sizeof CHUNKS / sizeof *CHUNKS; chunk++) {
        for (size_t cap = 0; cap < sizeof CAPS / sizeof *CAPS; cap++) {
            size_t fed = 0;
            build(&stream, mode, &rng);
            scratch_cap = CAPS[cap];
            fake_recv_slice(conn->fd, cap % 2 ? SIZE_MAX : 4);
            for (size_t i = 0; i < stream.count; i++)
                read_message(&stream, i, &fed, CHUNKS[chunk]);
            cr_assert_eq(fed, stream.total);
            cr_assert_eq(packet(), SP_WANT_READ, "nothing is left");
            cr_assert_not(conn->tainted);
        }
    }
}

KIT_TEST(recv, packet_1_however_it_comes)
{
    every_way(sp_framing_header(1));
}

KIT_TEST(recv, packet_2_however_it_comes)
{
    every_way(sp_framing_header(2));
}

KIT_TEST(recv, packet_4_however_it_comes)
{
    every_way(sp_framing_header(4));
}

KIT_TEST(recv, packet_line_however_it_comes)
{
    every_way(sp_framing_line());
}

KIT_TEST(recv, exact_lengths_however_they_come)
{
    static const char TEXT[] = "abcdefghijklmnopqrstuvwxyz";

    for (size_t split = 0; split <= 26; split++) {
        for (scratch_cap = 1; scratch_cap <= 30; scratch_cap++) {
            size_t first = split > 10 ? 10 : split;
            sends(TEXT, first);
            cr_assert_eq(split < 10 ? exactly(10) : SP_WANT_READ, SP_WANT_READ);
            sends(TEXT + first, 26 - first);
            sp_status status;
            while ((status = exactly(10)) == SP_AGAIN)
                ;
            got(status, TEXT, 10);
            got(exactly(16), TEXT + 10, 16);
        }
    }
}

/* ---- the end of the stream, errors ---- */

KIT_TEST(recv, end_of_file_taints)
{
    fake_peer_closes(conn->fd);
    cr_assert_eq(any(), SP_CLOSED);
    cr_assert(conn->tainted);
}

KIT_TEST(recv, what_came_before_the_end_of_file_is_given_first)
{
    sends("bye", 3);
    fake_peer_closes(conn->fd);
    got(any(), "bye", 3);
    cr_assert_not(conn->tainted);
    cr_assert_eq(any(), SP_CLOSED);
}

KIT_TEST(recv, end_of_file_within_a_message_is_closed)
{
    sends("hel", 3);
    fake_peer_closes(conn->fd);
    scratch_cap = 3;
    cr_assert_eq(exactly(5), SP_CLOSED);
    cr_assert(conn->tainted);
}

KIT_TEST(recv, end_of_file_after_a_part_was_kept_is_closed)
{
    conn->framing = sp_framing_line();
    sends("hel", 3);
    cr_assert_eq(packet(), SP_WANT_READ);
    fake_peer_closes(conn->fd);
    cr_assert_eq(packet(), SP_CLOSED);
    cr_assert(conn->tainted);
}

KIT_TEST(recv, errors_taint)
{
    fake_fail(FAKE_RECV, ECONNRESET);
    cr_assert_eq(any(), -ECONNRESET);
    cr_assert(conn->tainted);
}

KIT_TEST(recv, errors_while_buffering_taint)
{
    scratch_cap = 2;
    fake_fail(FAKE_RECV, ETIMEDOUT);
    cr_assert_eq(exactly(5), -ETIMEDOUT);
    cr_assert(conn->tainted);
}

/* ---- short memory ---- */

KIT_TEST(recv, without_memory_to_keep_a_part)
{
    sends("hel", 3);
    fake_refuse_rbufs(1);
    cr_assert_eq(exactly(5), SP_NO_MEMORY);
    cr_assert(conn->tainted);
}

KIT_TEST(recv, without_memory_to_keep_what_was_over_read)
{
    conn->framing = sp_framing_line();
    sends("a\nb", 3);
    fake_refuse_rbufs(1);
    cr_assert_eq(packet(), SP_NO_MEMORY);
    cr_assert(conn->tainted);
}

KIT_TEST(recv, without_memory_for_a_long_message)
{
    scratch_cap = 2;
    fake_refuse_rbufs(1);
    cr_assert_eq(exactly(5), SP_NO_MEMORY);
    cr_assert(conn->tainted);
}

KIT_TEST(recv, without_memory_for_a_message_that_grows)
{
    static char half[SCRATCH_MAX];

    conn->framing = sp_framing_line();
    scratch_cap = 2;
    sends("x", 1);
    cr_assert_eq(packet(), SP_WANT_READ);
    sends(half, sizeof half);
    fake_refuse_rbufs(1);
    cr_assert_eq(packet(), SP_NO_MEMORY);
    cr_assert(conn->tainted);
}

/* ---- transports that want something else, or end early ---- */

static struct {
    const char *bytes;
    sp_status then; /* after them; a fault where it is no want */
} scripted;

static sp_status scripted_recv(struct sp_conn *self, void *buf, size_t cap, size_t *got)
{
    *got = strlen(scripted.bytes);
    cr_assert_leq(*got, cap);
    memcpy(buf, scripted.bytes, *got);
    scripted.bytes = "";
    if (!sp_wants(scripted.then))
        self->fault = scripted.then;
    return *got > 0 ? SP_OK : scripted.then;
}

static struct sp_transport scripted_transport;

static void leased_of_script(void)
{
    leased();
    scripted_transport = sp_transport_tcp;
    scripted_transport.recv = scripted_recv;
    conn->transport = &scripted_transport;
}

TestSuite(recv_script, .init = leased_of_script);

KIT_TEST(recv_script, may_have_to_wait_until_it_can_write)
{
    scripted.bytes = "";
    scripted.then = SP_WANT_WRITE;
    cr_assert_eq(exactly(5), SP_WANT_WRITE);
    cr_assert_eq(exactly(SCRATCH_MAX + 1), SP_WANT_WRITE, "through the buffer");
    cr_assert_not(conn->tainted);
}

/* A short receive says that the descriptor is empty, and it will tell nothing more. */
KIT_TEST(recv_script, an_end_that_nothing_tells_is_found_at_once)
{
    scripted.bytes = "abc";
    scripted.then = SP_CLOSED;
    cr_assert_eq(exactly(5), SP_CLOSED);
    cr_assert(conn->tainted);
}

KIT_TEST(recv_script, what_came_before_the_end_is_received)
{
    scripted.bytes = "abc";
    scripted.then = SP_STATUS_TRANSPORT + 1;
    got(any(), "abc", 3);
    cr_assert_eq(any(), SP_STATUS_TRANSPORT + 1);
}
