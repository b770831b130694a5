/* What is taken of a stream beside receiving: ahead, for who waits to send; and the last words of a server. */
#include "kit/recv_kit.h"

TestSuite(recv_ahead, .init = leased);
TestSuite(recv_words, .init = leased);

static sp_status ahead(size_t expected)
{
    size_t taken;
    sp_status status = sp_recv_ahead(conn, kit_call(), &taken);

    cr_assert_eq(taken, expected);
    return status;
}

KIT_TEST(recv_ahead, ahead_is_kept_for_who_receives)
{
    cr_assert_eq(ahead(0), SP_WANT_READ);
    sends("hel", 3);
    cr_assert_eq(ahead(3), SP_WANT_READ);
    cr_assert_eq(exactly(5), SP_WANT_READ);
    sends("lowor", 5);
    cr_assert_eq(ahead(5), SP_WANT_READ);
    sends("ld", 2);
    got(exactly(5), "hello", 5);
    got(exactly(5), "world", 5);
    cr_assert_not(conn->tainted);
}

KIT_TEST(recv_ahead, ahead_up_to_the_limit)
{
    conn->recv_limit_bytes = 10;
    sends("hello", 5);
    cr_assert_eq(ahead(5), SP_WANT_READ);
    sends("hello", 5);
    cr_assert_eq(ahead(5), SP_TOO_BIG);
    sends("x", 1);
    cr_assert_eq(ahead(0), SP_TOO_BIG);
    got(exactly(10), "hellohello", 10);
    cr_assert_eq(ahead(1), SP_WANT_READ);
}

KIT_TEST(recv_ahead, ahead_within_the_allowance)
{
    static char big[(SP_ALLOWANCE_PIECES + 100) * SP_BYTES_PER_PIECE];
    sp_status status;
    size_t taken;

    memset(big, 'x', sizeof big);
    conn->recv_limit_bytes = 2 * sizeof big;
    sends(big, sizeof big);
    cr_assert_eq(sp_recv_ahead(conn, kit_call(), &taken), SP_AGAIN);
    cr_assert(taken > 0 && taken < sizeof big);
    for (status = SP_AGAIN; status == SP_AGAIN;)
        status = exactly(sizeof big);
    got(status, big, sizeof big);
}

KIT_TEST(recv_ahead, ahead_of_an_end_that_who_receives_sees)
{
    sends("abc", 3);
    fake_peer_closes(conn->fd);
    cr_assert_eq(ahead(3), SP_CLOSED);
    cr_assert_not(conn->tainted);
    got(any(), "abc", 3);
    cr_assert_eq(any(), SP_CLOSED);
}

/* ---- words ---- */

static void says(const char *bytes, size_t len, const char *text)
{
    sends(bytes, len);
    cr_assert_eq(sp_recv_words(conn), text[0] != 0);
    cr_assert_str_eq(conn->words.text, text);
}

KIT_TEST(recv_words, words_are_printable_and_few)
{
    says("", 0, "");
    says("\r\n", 2, "");
    says("220 hello\r\n", 11, "220 hello");
    says("a\"b\\c\x1b[1m\xff\0z\n ", 14, "a.b.c.[1m..z. ");
    says("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef and more", 73,
         "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
}

KIT_TEST(recv_words, words_begin_with_what_the_buffer_has)
{
    sends("-ERR m", 6);
    cr_assert_eq(exactly(20), SP_WANT_READ);
    says("ax clients", 10, "-ERR max clients");
}
