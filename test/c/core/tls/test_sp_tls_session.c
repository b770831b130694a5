/* sp_tls_session: bounds, expiry, single use, destinations. */
#include "kit/tls_kit.h"

#include <criterion/criterion.h>
#include <string.h>

static struct sp_tls_sessions sessions;
static SSL_SESSION *session;
static int64_t now_s;

/* As a connection of that version would have got it, good for an hour. */
static void make(int version)
{
    static const unsigned char ID[4] = "kit", KEY[48] = "secret";

    session = SSL_SESSION_new();
    cr_assert_eq(SSL_SESSION_set_protocol_version(session, version), 1);
    cr_assert_eq(SSL_SESSION_set1_id(session, ID, sizeof ID), 1);
    cr_assert_eq(SSL_SESSION_set1_master_key(session, KEY, sizeof KEY), 1);
    SSL_SESSION_set_timeout(session, 3600);
    now_s = (int64_t)SSL_SESSION_get_time_ex(session);
    sp_tls_sessions_init(&sessions);
}

static void made_13(void)
{
    make(TLS1_3_VERSION);
}

static void made_12(void)
{
    make(TLS1_2_VERSION);
}

static void done(void)
{
    SSL_SESSION_free(session);
    sp_tls_sessions_destroy(&sessions);
}

static void put(const char *destination)
{
    sp_tls_sessions_put(&sessions, destination, strlen(destination), session, INT64_MAX, now_s);
}

static bool take_at(const char *destination, int64_t at_s)
{
    int64_t until_s;
    SSL_SESSION *taken =
        sp_tls_sessions_take(&sessions, destination, strlen(destination), at_s, &until_s);
    bool any = taken != NULL;

    SSL_SESSION_free(taken);
    return any;
}

static bool take(const char *destination)
{
    return take_at(destination, now_s);
}

TestSuite(tls_session, .init = made_13, .fini = done);
TestSuite(tls_session_12, .init = made_12, .fini = done);

Test(tls_session, is_used_once)
{
    cr_assert_not(take("a"));
    put("a");
    cr_assert(take("a"));
    cr_assert_not(take("a"));
    cr_assert_eq(sessions.count, 0);
}

Test(tls_session_12, is_used_again_and_again)
{
    put("a");
    for (int i = 0; i < 5; i++)
        cr_assert(take("a"));
    cr_assert_eq(sessions.count, 1);
}

Test(tls_session, belongs_to_one_destination)
{
    put("a");
    put("ab");
    cr_assert_not(take("b"));
    cr_assert(take("a"));
    cr_assert_not(take("a"));
    cr_assert(take("ab"));
}

Test(tls_session, the_newest_goes_first)
{
    SSL_SESSION *taken;
    int64_t until_s;

    put("a");
    SSL_SESSION_set_timeout(session, 77);
    put("a");
    taken = sp_tls_sessions_take(&sessions, "a", 1, now_s, &until_s);
    cr_assert_eq(SSL_SESSION_get_timeout(taken), 77);
    SSL_SESSION_free(taken);
}

Test(tls_session, expires)
{
    put("a");
    cr_assert(take_at("a", now_s + 3599));
    put("a");
    cr_assert_not(take_at("a", now_s + 3600));
}

Test(tls_session, lives_for_a_day_at_most)
{
    SSL_SESSION_set_timeout(session, 10 * SP_TLS_SESSION_LIFE_MAX_S);
    put("a");
    cr_assert_not(take_at("a", now_s + SP_TLS_SESSION_LIFE_MAX_S));
    cr_assert(take_at("a", now_s + SP_TLS_SESSION_LIFE_MAX_S - 1));
}

Test(tls_session, is_good_as_long_as_was_said)
{
    int64_t until_s = 0;
    SSL_SESSION *taken;

    sp_tls_sessions_put(&sessions, "a", 1, session, now_s + 10, now_s);
    cr_assert_not(take_at("a", now_s + 10));
    taken = sp_tls_sessions_take(&sessions, "a", 1, now_s + 9, &until_s);
    cr_assert_not_null(taken);
    cr_assert_eq(until_s, now_s + 10);
    SSL_SESSION_free(taken);
    sp_tls_sessions_put(&sessions, "a", 1, session, now_s + 7200, now_s);
    cr_assert_not(take_at("a", now_s + 3600), "its own end comes first");
}

Test(tls_session, expired_ones_make_room)
{
    put("a");
    put("b");
    now_s += 3600;
    SSL_SESSION_set_time_ex(session, (long)now_s);
    put("c");
    cr_assert_eq(sessions.count, 1);
    cr_assert(take("c"));
}

Test(tls_session, what_cannot_be_resumed_is_not_kept)
{
    SSL_SESSION *empty = SSL_SESSION_new();

    sp_tls_sessions_put(&sessions, "a", 1, empty, INT64_MAX, now_s);
    cr_assert_eq(sessions.count, 0);
    SSL_SESSION_free(empty);
}

Test(tls_session, bounded_for_each_destination)
{
    put("b");
    for (int i = 0; i < 2 * SP_TLS_SESSIONS_PER_DESTINATION; i++)
        put("a");
    cr_assert_eq(sessions.count, SP_TLS_SESSIONS_PER_DESTINATION + 1);
    cr_assert(take("b"));
}

Test(tls_session, bounded_in_all)
{
    char destination[16];

    for (int i = 0; i < 2 * SP_TLS_SESSIONS_MAX; i++) {
        snprintf(destination, sizeof destination, "%d", i);
        put(destination);
    }
    cr_assert_eq(sessions.count, SP_TLS_SESSIONS_MAX);
    cr_assert_not(take("0"), "the oldest went");
    cr_assert(take(destination));
}
