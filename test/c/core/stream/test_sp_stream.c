/* sp_stream: what tcp and unix share, with every error of every system call. */
#include "kit/lone_conn.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static struct sp_conn conn;
static const struct sp_addr ADDR = {.storage.ss_family = AF_INET, .len = 16};

static void opened(void)
{
    conn = lone_open(&sp_transport_unix);
}

static void unopened(void)
{
    fake_sys_reset();
    conn = lone_conn(&sp_transport_unix);
    conn.fd = fake_sys.socket(AF_UNIX);
}

/* ---- connect ---- */

TestSuite(stream_connect, .init = unopened);

Test(stream_connect, at_once)
{
    fake_connect_at_once(true);
    cr_assert_eq(sp_stream_connect(&conn, &ADDR), SP_OK);
    cr_assert_eq(fake_last(FAKE_CONNECT, 0)->b, 16);
    cr_assert_eq(sp_stream_opened(&conn), SP_OK);
}

Test(stream_connect, under_way)
{
    cr_assert_eq(sp_stream_connect(&conn, &ADDR), SP_WANT_WRITE);
    cr_assert_eq(sp_stream_opened(&conn), SP_WANT_WRITE, "not yet");
    fake_accept(conn.fd);
    cr_assert_eq(sp_stream_opened(&conn), SP_OK);
}

Test(stream_connect, interrupted_goes_on_under_way)
{
    fake_fail(FAKE_CONNECT, EINTR);
    cr_assert_eq(sp_stream_connect(&conn, &ADDR), SP_WANT_WRITE);
    cr_assert_eq(fake_calls(FAKE_CONNECT), 1, "a second connect would say EALREADY");
}

Test(stream_connect, every_refusal_is_told)
{
    static const int CODES[] = {
        ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, EADDRNOTAVAIL, EADDRINUSE, EAGAIN, EACCES,
        EPERM,        ENOENT,      EAFNOSUPPORT, ETIMEDOUT,     ENOBUFS,    EINVAL, ENAMETOOLONG};

    for (size_t i = 0; i < sizeof CODES / sizeof *CODES; i++) {
        fake_fail(FAKE_CONNECT, CODES[i]);
        cr_expect_eq(sp_stream_connect(&conn, &ADDR), -CODES[i]);
    }
}

Test(stream_opened, tells_why_the_connect_failed, .init = unopened)
{
    static const int CODES[] = {ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ECONNRESET};

    for (size_t i = 0; i < sizeof CODES / sizeof *CODES; i++) {
        fake_refuse(conn.fd, CODES[i]);
        cr_expect_eq(sp_stream_opened(&conn), -CODES[i]);
    }
}

Test(stream_opened, passes_errors_of_its_own_calls_on, .init = opened)
{
    fake_fail(FAKE_GETSOCKOPT, ENOBUFS);
    cr_assert_eq(sp_stream_opened(&conn), -ENOBUFS);
    fake_fail(FAKE_GETPEERNAME, ENOTCONN);
    cr_assert_eq(sp_stream_opened(&conn), SP_WANT_WRITE);
    fake_fail(FAKE_GETPEERNAME, ENOBUFS);
    cr_assert_eq(sp_stream_opened(&conn), -ENOBUFS);
    cr_assert_eq(sp_stream_opened(&conn), SP_OK);
}

/* ---- send ---- */

TestSuite(stream_send, .init = opened);

static char text[] = "abcdefghij";

static sp_status send_it(const struct iovec *iov, int count, size_t *sent)
{
    *sent = 12345;
    return sp_stream_send(&conn, iov, count, sent);
}

Test(stream_send, one_vector_and_several)
{
    struct iovec iov[] = {{text, 4}, {text + 4, 0}, {text + 4, 6}};
    size_t sent, len;

    cr_assert_eq(send_it(iov, 1, &sent), SP_OK);
    cr_assert_eq(sent, 4);
    cr_assert_eq(send_it(iov, 3, &sent), SP_OK);
    cr_assert_eq(sent, 10);
    cr_assert_eq(memcmp(fake_sent(conn.fd, &len), "abcdabcdefghij", 14), 0);
    cr_assert_eq(len, 14);
}

Test(stream_send, in_part_where_the_socket_has_little_room)
{
    struct iovec iov[] = {{text, 4}, {text + 4, 6}};
    size_t sent;

    fake_send_room(conn.fd, 7);
    cr_assert_eq(send_it(iov, 2, &sent), SP_OK);
    cr_assert_eq(sent, 7);
    cr_assert_eq(send_it(iov, 2, &sent), SP_WANT_WRITE);
    cr_assert_eq(sent, 0);
    cr_assert_eq(send_it(iov, 1, &sent), SP_WANT_WRITE);
}

Test(stream_send, is_repeated_where_interrupted)
{
    struct iovec iov[] = {{text, 4}, {text + 4, 6}};
    size_t sent;

    for (int count = 1; count <= 2; count++) {
        fake_fail(FAKE_SEND, EINTR);
        fake_fail(FAKE_SEND, EINTR);
        cr_assert_eq(send_it(iov, count, &sent), SP_OK);
        cr_assert_eq(sent, count == 1 ? 4 : 10);
    }
    cr_assert_eq(fake_calls(FAKE_SEND), 6);
}

Test(stream_send, errors)
{
    static const struct {
        int code;
        sp_status status;
    } ALL[] = {{EAGAIN, SP_WANT_WRITE},      {EWOULDBLOCK, SP_WANT_WRITE}, {EPIPE, SP_CLOSED},
               {ECONNRESET, -ECONNRESET},    {ETIMEDOUT, -ETIMEDOUT},      {ENOBUFS, -ENOBUFS},
               {EHOSTUNREACH, -EHOSTUNREACH}};
    struct iovec iov[] = {{text, 4}, {text + 4, 6}};
    size_t sent;

    for (size_t i = 0; i < sizeof ALL / sizeof *ALL; i++) {
        for (int count = 1; count <= 2; count++) {
            fake_fail(FAKE_SEND, ALL[i].code);
            cr_expect_eq(send_it(iov, count, &sent), ALL[i].status, "errno %d", ALL[i].code);
            cr_expect_eq(sent, 0);
        }
    }
}

Test(stream_send, a_long_vector_is_cut_into_slices)
{
    static char big[SP_SLICE_BYTES + 10];
    struct iovec iov[] = {{big, sizeof big}};
    size_t sent;

    cr_assert_eq(send_it(iov, 1, &sent), SP_OK);
    cr_assert_eq(sent, SP_SLICE_BYTES);
    cr_assert_eq(fake_last(FAKE_SEND, 0)->b, SP_SLICE_BYTES);
    iov[0].iov_len = SP_SLICE_BYTES;
    cr_assert_eq(send_it(iov, 1, &sent), SP_OK);
    cr_assert_eq(sent, SP_SLICE_BYTES);
}

Test(stream_send, several_vectors_make_one_slice)
{
    static char big[SP_SLICE_BYTES];
    struct iovec iov[] = {{big, 1000}, {big, SP_SLICE_BYTES - 500}, {big, 7}};
    size_t sent;

    cr_assert_eq(send_it(iov, 3, &sent), SP_OK);
    cr_assert_eq(sent, SP_SLICE_BYTES);
    cr_assert_eq(fake_last(FAKE_SEND, 0)->a, 2, "the third had no room");
}

Test(stream_send, takes_no_more_vectors_than_the_system_allows)
{
    struct iovec iov[SP_IOV_MAX + 5];
    size_t sent;

    for (int i = 0; i < SP_IOV_MAX + 5; i++)
        iov[i] = (struct iovec){text, 2};
    cr_assert_eq(send_it(iov, SP_IOV_MAX + 5, &sent), SP_OK);
    cr_assert_eq(sent, 2 * SP_IOV_MAX);
    cr_assert_eq(fake_last(FAKE_SEND, 0)->a, SP_IOV_MAX);
}

/* ---- recv ---- */

TestSuite(stream_recv, .init = opened);

static sp_status receive(void *buf, size_t cap, size_t *got)
{
    *got = 12345;
    return sp_stream_recv(&conn, buf, cap, got);
}

Test(stream_recv, takes_what_is_there)
{
    char buf[8];
    size_t got;

    cr_assert_eq(receive(buf, sizeof buf, &got), SP_WANT_READ);
    cr_assert_eq(got, 0);
    fake_peer_sends(conn.fd, "0123456789", 10);
    cr_assert_eq(receive(buf, sizeof buf, &got), SP_OK);
    cr_assert(got == 8 && memcmp(buf, "01234567", 8) == 0);
    cr_assert_eq(receive(buf, sizeof buf, &got), SP_OK);
    cr_assert(got == 2 && memcmp(buf, "89", 2) == 0);
    fake_peer_closes(conn.fd);
    cr_assert_eq(receive(buf, sizeof buf, &got), SP_CLOSED);
    cr_assert_eq(got, 0);
}

Test(stream_recv, is_repeated_where_interrupted)
{
    char buf[8];
    size_t got;

    fake_peer_sends(conn.fd, "x", 1);
    fake_fail(FAKE_RECV, EINTR);
    fake_fail(FAKE_RECV, EINTR);
    cr_assert_eq(receive(buf, sizeof buf, &got), SP_OK);
    cr_assert_eq(fake_calls(FAKE_RECV), 3);
}

Test(stream_recv, errors)
{
    static const struct {
        int code;
        sp_status status;
    } ALL[] = {{EAGAIN, SP_WANT_READ},  {EWOULDBLOCK, SP_WANT_READ}, {ECONNRESET, -ECONNRESET},
               {ETIMEDOUT, -ETIMEDOUT}, {ENOMEM, -ENOMEM},           {ENOTCONN, -ENOTCONN}};
    char buf[8];
    size_t got;

    for (size_t i = 0; i < sizeof ALL / sizeof *ALL; i++) {
        fake_fail(FAKE_RECV, ALL[i].code);
        cr_expect_eq(receive(buf, sizeof buf, &got), ALL[i].status, "errno %d", ALL[i].code);
        cr_expect_eq(got, 0);
    }
}

Test(stream_recv, asks_for_one_slice_at_most)
{
    static char big[SP_SLICE_BYTES + 100];
    size_t got;

    receive(big, sizeof big, &got);
    cr_assert_eq(fake_last(FAKE_RECV, 0)->b, SP_SLICE_BYTES);
    receive(big, 100, &got);
    cr_assert_eq(fake_last(FAKE_RECV, 0)->b, 100);
}

/* ---- validate, shutdown ---- */

TestSuite(stream_validate, .init = opened);

Test(stream_validate, clean_where_nothing_is_to_be_read)
{
    cr_assert_eq(sp_stream_validate(&conn), SP_CLEAN);
    fake_fail(FAKE_RECV, EWOULDBLOCK);
    cr_assert_eq(sp_stream_validate(&conn), SP_CLEAN);
    fake_fail(FAKE_RECV, EINTR);
    cr_assert_eq(sp_stream_validate(&conn), SP_CLEAN);
    cr_assert_eq(fake_last(FAKE_RECV, 0)->a, MSG_PEEK);
}

Test(stream_validate, dirty_where_bytes_are_unread_and_they_stay)
{
    fake_peer_sends(conn.fd, "xy", 2);
    cr_assert_eq(sp_stream_validate(&conn), SP_DIRTY);
    fake_fail(FAKE_RECV, EINTR);
    cr_assert_eq(sp_stream_validate(&conn), SP_DIRTY);
    cr_assert_eq(fake_unread(conn.fd), 2);
    fake_peer_closes(conn.fd);
    cr_assert_eq(sp_stream_validate(&conn), SP_DIRTY);
}

Test(stream_validate, dead_at_end_of_file_and_on_errors)
{
    static const int CODES[] = {ECONNRESET, ETIMEDOUT, EPIPE, ENOTCONN, EIO};

    for (size_t i = 0; i < sizeof CODES / sizeof *CODES; i++) {
        fake_fail(FAKE_RECV, CODES[i]);
        cr_expect_eq(sp_stream_validate(&conn), SP_DEAD);
    }
    fake_peer_closes(conn.fd);
    cr_assert_eq(sp_stream_validate(&conn), SP_DEAD);
}

Test(stream_shutdown, only_where_there_is_a_descriptor, .init = opened)
{
    int fd = conn.fd;

    sp_stream_shutdown(&conn);
    cr_assert_eq(fake_last(FAKE_SHUTDOWN, 0)->fd, fd);
    conn.fd = -1;
    sp_stream_shutdown(&conn);
    cr_assert_eq(fake_calls(FAKE_SHUTDOWN), 1);
}

/* ---- options ---- */

Test(stream_set, knows_the_buffers_only, .init = opened)
{
    cr_assert_eq(sp_stream_set(&conn, SP_OPT_SNDBUF, 4096), SP_OK);
    cr_assert_eq(fake_last(FAKE_SETSOCKOPT, 0)->b, SO_SNDBUF);
    cr_assert_eq(sp_stream_set(&conn, SP_OPT_RECBUF, 8192), SP_OK);
    cr_assert_eq(fake_last(FAKE_SETSOCKOPT, 0)->b, SO_RCVBUF);
    cr_assert_eq(fake_last(FAKE_SETSOCKOPT, 0)->value, 8192);
    cr_assert_eq(fake_last(FAKE_SETSOCKOPT, 0)->a, SOL_SOCKET);
    cr_assert_eq(sp_stream_set(&conn, SP_OPT_NODELAY, 1), -ENOPROTOOPT);
    cr_assert_eq(sp_stream_set(&conn, SP_OPT_KEEPALIVE, 1), -ENOPROTOOPT);
    fake_fail(FAKE_SETSOCKOPT, ENOMEM);
    cr_assert_eq(sp_stream_set(&conn, SP_OPT_SNDBUF, 4096), -ENOMEM);
}

Test(stream_buffers, sets_what_is_given, .init = opened)
{
    unsigned before = fake_calls(FAKE_SETSOCKOPT);

    cr_assert_eq(sp_stream_buffers(&conn, &(struct sp_sockopts){.nodelay = true}), SP_OK);
    cr_assert_eq(fake_calls(FAKE_SETSOCKOPT), before);
    cr_assert_eq(sp_stream_buffers(&conn, &(struct sp_sockopts){.sndbuf_bytes = 1}), SP_OK);
    cr_assert_eq(fake_calls(FAKE_SETSOCKOPT), before + 1);
    cr_assert_eq(
        sp_stream_buffers(&conn, &(struct sp_sockopts){.sndbuf_bytes = 1, .recbuf_bytes = 2}),
        SP_OK);
    cr_assert_eq(fake_calls(FAKE_SETSOCKOPT), before + 3);
    fake_fail(FAKE_SETSOCKOPT, EINVAL);
    cr_assert_eq(
        sp_stream_buffers(&conn, &(struct sp_sockopts){.sndbuf_bytes = 1, .recbuf_bytes = 2}),
        -EINVAL);
    cr_assert_eq(fake_calls(FAKE_SETSOCKOPT), before + 4, "the first error ends it");
}
