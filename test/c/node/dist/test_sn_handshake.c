/* sn_handshake: the handshake in one piece and at every cut, what is refused, caps and time. The
 * other side's digests are computed here by OpenSSL's own MD5 of a text written out. */
#include "node/dist/sn_handshake.h"

#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#define START_NS UINT64_C(1000)
#define CHALLENGE 3000000001u
#define THEIR_CHALLENGE 4294967295u
#define FLAGS_OF_OTP_25 UINT64_C(0xd07df7fbd)

static const struct sn_identity US = {.name = "sp@127.0.0.1", .cookie = "secret", .creation = 77};

static struct sn_handshake handshake;

static size_t put(uint8_t *bytes, size_t at, size_t width, uint64_t number)
{
    for (size_t i = 0; i < width; i++)
        bytes[at + i] = (uint8_t)(number >> (8 * (width - 1 - i)));
    return at + width;
}

static size_t name_message(uint8_t *bytes, uint64_t flags, const char *name, size_t extra)
{
    size_t at = put(bytes, 0, 2, 15 + strlen(name) + extra);

    bytes[at++] = 'N';
    at = put(bytes, at, 8, flags);
    at = put(bytes, at, 4, 0x01020304);
    at = put(bytes, at, 2, strlen(name));
    memcpy(bytes + at, name, strlen(name));
    memset(bytes + at + strlen(name), 0xee, extra);
    return at + strlen(name) + extra;
}

static void md5(const char *text, uint8_t *result)
{
    cr_assert_eq(EVP_Digest(text, strlen(text), result, NULL, EVP_md5(), NULL), 1);
}

static size_t proof_message(uint8_t *bytes, const char *secret)
{
    size_t at = put(bytes, 0, 2, 21);

    bytes[at++] = 'r';
    at = put(bytes, at, 4, THEIR_CHALLENGE);
    md5(secret, bytes + at);
    return at + 16;
}

static void begin(void)
{
    sn_handshake_begin(&handshake, &US, CHALLENGE, START_NS);
}

static size_t take(const void *data, size_t len)
{
    return sn_handshake_take(&handshake, START_NS, data, len);
}

static void expect_refused(enum sn_refusal refusal)
{
    cr_assert_eq(handshake.state, SN_HANDSHAKE_REFUSED);
    cr_assert_eq(handshake.refusal, refusal, "%s", sn_refusal_text(handshake.refusal));
    cr_assert_eq(handshake.out_len, 0);
}

static void expect_challenge(void)
{
    static const uint8_t expected[] = "\0\3sok"
                                      "\0\x1fN\0\0\0\4\x07\x07\x6f\xbc\xb2\xd0\x5e\x01\0\0\0\x4d"
                                      "\0\x0csp@127.0.0.1";

    cr_assert_eq(handshake.state, SN_HANDSHAKE_PROOF);
    cr_assert_eq(handshake.out_len, sizeof expected - 1);
    cr_assert_arr_eq(handshake.out, expected, sizeof expected - 1);
    handshake.out_len = 0;
}

static void expect_done(void)
{
    uint8_t expected[19] = {0, 17, 'a'};

    md5("secret4294967295", expected + 3);
    cr_assert_eq(handshake.state, SN_HANDSHAKE_DONE);
    cr_assert_eq(handshake.refusal, SN_REFUSED_NOT);
    cr_assert_eq(handshake.out_len, sizeof expected);
    cr_assert_arr_eq(handshake.out, expected, sizeof expected);
}

Test(sn_handshake, in_whole_messages)
{
    uint8_t bytes[1100];
    size_t len = name_message(bytes, FLAGS_OF_OTP_25, "a@b", 0);

    begin();
    cr_assert_eq(take(bytes, len), len);
    expect_challenge();
    len = proof_message(bytes, "secret3000000001");
    memcpy(bytes + len, "\0\0\0\0", 4);
    cr_assert_eq(take(bytes, len + 4), len, "what follows is left");
    expect_done();
    cr_assert_str_eq(handshake.peer_name, "a@b");
    cr_assert_eq(handshake.peer_creation, 0x01020304);
    cr_assert_eq(handshake.peer_flags, FLAGS_OF_OTP_25 | SP_DIST_FLAGS_MANDATORY);
    cr_assert_eq(take(bytes, len), 0, "nothing is taken afterwards");
}

Test(sn_handshake, cut_anywhere)
{
    uint8_t bytes[1100];
    size_t name_len = name_message(bytes, FLAGS_OF_OTP_25, "a@b", 3);
    size_t len = name_len + proof_message(bytes + name_len, "secret3000000001");

    for (size_t cut = 0; cut <= len; cut++) {
        begin();
        cr_assert_eq(take(bytes, cut), cut);
        cr_assert_eq(take(bytes + cut, len - cut), len - cut);
        cr_assert_eq(handshake.state, SN_HANDSHAKE_DONE, "cut at %zu", cut);
    }
    begin();
    for (size_t at = 0; at < len; at++) {
        cr_assert_neq(handshake.state, SN_HANDSHAKE_DONE);
        cr_assert_eq(take(bytes + at, 1), 1);
        if (at == name_len - 1)
            expect_challenge();
    }
    expect_done();
}

Test(sn_handshake, both_at_once_fit_the_output)
{
    char name[SP_DIST_NODE_NAME_MAX + 1];
    struct sn_identity us = US;
    uint8_t bytes[1100];
    size_t len = name_message(bytes, FLAGS_OF_OTP_25, "a@b", 0);

    memset(name, 'n', sizeof name);
    name[1] = '@';
    name[SP_DIST_NODE_NAME_MAX] = '\0';
    us.name = name;
    len += proof_message(bytes + len, "secret3000000001");
    sn_handshake_begin(&handshake, &us, CHALLENGE, START_NS);
    cr_assert_eq(take(bytes, len), len);
    cr_assert_eq(handshake.state, SN_HANDSHAKE_DONE);
    cr_assert_eq(handshake.out_len, 5 + 21 + SP_DIST_NODE_NAME_MAX + 19);
}

Test(sn_handshake, a_wrong_cookie_is_refused)
{
    static const char *const wrong[] = {"secret",           "Secret3000000001", "secret3000000002",
                                        "secret4294967295", "3000000001",       ""};
    uint8_t bytes[1100];
    size_t len;

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        len = name_message(bytes, FLAGS_OF_OTP_25, "a@b", 0);
        begin();
        (void)take(bytes, len);
        len = proof_message(bytes, wrong[i]);
        (void)take(bytes, len);
        expect_refused(SN_REFUSED_COOKIE);
        cr_assert_str_eq(handshake.peer_name, "a@b");
    }
}

Test(sn_handshake, each_bit_of_the_digest_counts)
{
    uint8_t bytes[1100];
    size_t len, name_len = name_message(bytes, FLAGS_OF_OTP_25, "a@b", 0);

    len = name_len + proof_message(bytes + name_len, "secret3000000001");
    for (size_t bit = 0; bit < 128; bit++) {
        bytes[len - 16 + bit / 8] ^= (uint8_t)(1 << bit % 8);
        begin();
        (void)take(bytes, len);
        expect_refused(SN_REFUSED_COOKIE);
        bytes[len - 16 + bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

Test(sn_handshake, mandatory_flags)
{
    uint8_t bytes[1100];

    for (int bit = 0; bit < 64; bit++) {
        uint64_t flag = UINT64_C(1) << bit;
        size_t len = name_message(bytes, SP_DIST_FLAGS_MANDATORY & ~flag, "a@b", 0);

        begin();
        (void)take(bytes, len);
        if (SP_DIST_FLAGS_MANDATORY & flag)
            expect_refused(SN_REFUSED_FLAGS);
        else
            cr_assert_eq(handshake.state, SN_HANDSHAKE_PROOF);
    }
    begin();
    (void)take(bytes, name_message(bytes, SP_DIST_FLAG_MANDATORY_DIGEST, "a@b", 0));
    cr_assert_eq(handshake.state, SN_HANDSHAKE_PROOF);
    cr_assert_eq(handshake.peer_flags, SP_DIST_FLAG_MANDATORY_DIGEST | SP_DIST_FLAGS_MANDATORY);
}

Test(sn_handshake, names_of_nodes)
{
    static const char *const bad[] = {"",           "a",     "@",      "a@",          "@b",
                                      "a@b@c",      "a b@c", "a@b c",  "a@\n",        "a@b\x7f",
                                      "\xc3\xa9@b", "a.b@c", "a@\xff", "sp@127.0.0.1"};
    static const char *const good[] = {"a@b", "A-z_09@10.0.0.1", "a@::1", "a@host.example.com"};
    char longest[SP_DIST_NODE_NAME_MAX + 2];
    uint8_t bytes[1100];

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        begin();
        (void)take(bytes, name_message(bytes, FLAGS_OF_OTP_25, bad[i], 0));
        expect_refused(SN_REFUSED_NAME);
    }
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        begin();
        (void)take(bytes, name_message(bytes, FLAGS_OF_OTP_25, good[i], 0));
        cr_assert_eq(handshake.state, SN_HANDSHAKE_PROOF, "%s", good[i]);
    }
    memset(longest, 'x', sizeof longest);
    longest[3] = '@';
    longest[SP_DIST_NODE_NAME_MAX + 1] = '\0';
    begin();
    (void)take(bytes, name_message(bytes, FLAGS_OF_OTP_25, longest, 0));
    expect_refused(SN_REFUSED_NAME);
    longest[SP_DIST_NODE_NAME_MAX] = '\0';
    begin();
    (void)take(bytes, name_message(bytes, FLAGS_OF_OTP_25, longest, 0));
    cr_assert_eq(handshake.state, SN_HANDSHAKE_PROOF);
    cr_assert_str_eq(handshake.peer_name, longest);
}

Test(sn_handshake, a_nul_in_a_name_is_refused)
{
    uint8_t bytes[64];
    size_t len = name_message(bytes, FLAGS_OF_OTP_25, "a@bcd", 0);

    bytes[len - 2] = '\0';
    begin();
    (void)take(bytes, len);
    expect_refused(SN_REFUSED_NAME);
}

Test(sn_handshake, other_messages_are_refused)
{
    uint8_t bytes[1100];
    size_t len;

    begin();
    (void)take("\0\0", 2);
    expect_refused(SN_REFUSED_MESSAGE);
    begin();
    (void)take("GET / HTTP/1.0\r\n\r\n", 18);
    expect_refused(SN_REFUSED_MESSAGE);
    begin();
    (void)take("\0\7n\0\5a@bcd", 9);
    expect_refused(SN_REFUSED_MESSAGE);

    len = name_message(bytes, FLAGS_OF_OTP_25, "a@b", 0);
    bytes[2] = 'n';
    begin();
    (void)take(bytes, len);
    expect_refused(SN_REFUSED_MESSAGE);

    len = name_message(bytes, FLAGS_OF_OTP_25, "a@b", 0);
    bytes[len - 4]++; /* a name longer than its message */
    begin();
    (void)take(bytes, len);
    expect_refused(SN_REFUSED_MESSAGE);
}

Test(sn_handshake, other_proofs_are_refused)
{
    uint8_t bytes[1100], proof[32];
    size_t name_len = name_message(bytes, FLAGS_OF_OTP_25, "a@b", 0);

    for (unsigned len = 0; len <= 30; len++) {
        memset(proof, 0, sizeof proof);
        (void)proof_message(proof, "secret3000000001");
        proof[1] = (uint8_t)len;
        begin();
        (void)take(bytes, name_len);
        handshake.out_len = 0;
        (void)take(proof, len + 2);
        if (len == 21)
            expect_done();
        else
            expect_refused(SN_REFUSED_MESSAGE);
    }
    (void)proof_message(proof, "secret3000000001");
    proof[2] = 'R';
    begin();
    (void)take(bytes, name_len);
    (void)take(proof, 23);
    expect_refused(SN_REFUSED_MESSAGE);
}

Test(sn_handshake, the_longest_message)
{
    uint8_t bytes[SP_DIST_MESSAGE_MAX + 64];
    size_t len = name_message(bytes, FLAGS_OF_OTP_25, "a@b", SP_DIST_MESSAGE_MAX - 18);

    cr_assert_eq(len, SP_DIST_MESSAGE_MAX + 2);
    begin();
    cr_assert_eq(take(bytes, len), len);
    expect_challenge();
    len = name_message(bytes, FLAGS_OF_OTP_25, "a@b", SP_DIST_MESSAGE_MAX - 17);
    begin();
    cr_assert_eq(take(bytes, 2), 2);
    expect_refused(SN_REFUSED_MESSAGE);
}

Test(sn_handshake, its_time_is_limited)
{
    uint8_t bytes[1100];
    size_t len = name_message(bytes, FLAGS_OF_OTP_25, "a@b", 0);
    uint64_t end_ns = START_NS + SN_HANDSHAKE_LIMIT_NS;

    begin();
    cr_assert_eq(sn_handshake_take(&handshake, end_ns - 1, bytes, len), len);
    expect_challenge();
    cr_assert_eq(sn_handshake_take(&handshake, end_ns, NULL, 0), 0);
    expect_refused(SN_REFUSED_TIMEOUT);

    begin();
    cr_assert_eq(sn_handshake_take(&handshake, end_ns, bytes, len), 0);
    expect_refused(SN_REFUSED_TIMEOUT);

    begin();
    len += proof_message(bytes + len, "secret3000000001");
    (void)take(bytes, len);
    (void)sn_handshake_take(&handshake, end_ns, NULL, 0);
    cr_assert_eq(handshake.state, SN_HANDSHAKE_DONE, "done is done");
}

#if OPENSSL_VERSION_MAJOR >= 3
/* As where only what FIPS allows is to be had. */
Test(sn_handshake, without_md5)
{
    uint8_t name[64], proof[64];
    size_t name_len = name_message(name, FLAGS_OF_OTP_25, "a@b", 0);
    size_t len = proof_message(proof, "secret3000000001");

    begin();
    cr_assert_eq(take(name, name_len), name_len);
    expect_challenge();
    cr_assert_eq(EVP_set_default_properties(NULL, "fips=yes"), 1);
    cr_assert_eq(take(proof, len), len);
    expect_refused(SN_REFUSED_CRYPTO);
}
#endif

Test(sn_handshake, each_refusal_has_its_words)
{
    for (int a = SN_REFUSED_NOT; a <= SN_REFUSED_CRYPTO; a++)
        for (int b = SN_REFUSED_NOT; b < a; b++)
            cr_assert_str_neq(sn_refusal_text(a), sn_refusal_text(b));
}
