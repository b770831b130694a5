/* sp_dist_connect: what is said and when, the handshake at every cut, everything that a node may
 * answer wrongly. The digests are computed here by OpenSSL's own MD5 of a text written out. */
#include "core/base/sp_bytes.h"
#include "core/dist/sp_dist_connect.h"

#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <string.h>

#define OUR_CHALLENGE 3000000001u
#define THEIR_CHALLENGE 4294967295u
#define FLAGS_OF_OTP_25 UINT64_C(0xd07df7fbd)
#define FLAGS_OF_OTP_27 UINT64_C(0x3f05000000) /* the mandatory ones as their digest */
#define OUR_NAME "1BV8FTZFL8WYP@here"

static struct sp_dist_connect machine;
static size_t header_bytes = SP_DIST_HEADER_TCP;

struct bytes {
    uint8_t at[2048];
    size_t len;
};

static void add(struct bytes *bytes, const void *data, size_t len)
{
    memcpy(bytes->at + bytes->len, data, len);
    bytes->len += len;
}

static void add_number(struct bytes *bytes, size_t width, uint64_t number)
{
    sp_put(bytes->at + bytes->len, width, number);
    bytes->len += width;
}

static void add_text(struct bytes *bytes, const char *text)
{
    add(bytes, text, strlen(text));
}

static void add_md5(struct bytes *bytes, const char *text)
{
    cr_assert_eq(EVP_Digest(text, strlen(text), bytes->at + bytes->len, NULL, EVP_md5(), NULL), 1);
    bytes->len += 16;
}

static void add_status(struct bytes *bytes, const char *name, size_t told_len)
{
    add_number(bytes, header_bytes, 7 + 2 + strlen(name) + 4);
    add_text(bytes, "snamed:");
    add_number(bytes, 2, told_len);
    add_text(bytes, name);
    add_number(bytes, 4, 0x01020304);
}

static void add_challenge(struct bytes *bytes, uint64_t flags, const char *name, size_t told_len)
{
    add_number(bytes, header_bytes, 19 + strlen(name));
    add_text(bytes, "N");
    add_number(bytes, 8, flags);
    add_number(bytes, 4, THEIR_CHALLENGE);
    add_number(bytes, 4, 7);
    add_number(bytes, 2, told_len);
    add_text(bytes, name);
}

static void add_proof(struct bytes *bytes, const char *secret)
{
    add_number(bytes, header_bytes, 17);
    add_text(bytes, "a");
    add_md5(bytes, secret);
}

static void begin(void)
{
    cr_assert(
        sp_dist_connect_begin(&machine, "b@there", "here", "secret", OUR_CHALLENGE, header_bytes));
}

static void expect_said(const struct bytes *expected)
{
    cr_assert_eq(machine.out_len, expected->len);
    cr_assert_arr_eq(machine.out, expected->at, expected->len);
    machine.out_len = 0;
}

static void expect_name_said(void)
{
    struct bytes name = {.len = 0};

    add_number(&name, header_bytes, 19);
    add_text(&name, "N");
    add_number(&name, 8, UINT64_C(0x607075fbc));
    add_number(&name, 4, 0);
    add_number(&name, 2, 4);
    add_text(&name, "here");
    expect_said(&name);
}

static void expect_proof_said(void)
{
    struct bytes proof = {.len = 0};

    add_number(&proof, header_bytes, 21);
    add_text(&proof, "r");
    add_number(&proof, 4, OUR_CHALLENGE);
    add_md5(&proof, "secret4294967295");
    expect_said(&proof);
}

static void expect_cookie_wiped(void)
{
    static const char nothing[sizeof machine.cookie];

    cr_assert_arr_eq(machine.cookie, nothing, sizeof nothing);
}

static void take_all(const struct bytes *bytes)
{
    cr_assert_eq(sp_dist_connect_take(&machine, bytes->at, bytes->len), bytes->len);
}

/* What the node says is said in one go each time. */
static void to_challenge(void)
{
    struct bytes status = {.len = 0};

    begin();
    expect_name_said();
    add_status(&status, OUR_NAME, strlen(OUR_NAME));
    take_all(&status);
    cr_assert_eq(machine.state, SP_DIST_CHALLENGE);
    cr_assert_eq(machine.out_len, 0);
}

static void to_proof(void)
{
    struct bytes challenge = {.len = 0};

    to_challenge();
    add_challenge(&challenge, FLAGS_OF_OTP_25, "b@there", 7);
    take_all(&challenge);
    cr_assert_eq(machine.state, SP_DIST_PROOF);
    expect_proof_said();
}

static void expect_failed(sp_status failure)
{
    cr_assert_eq(machine.state, SP_DIST_FAILED);
    cr_assert_eq(machine.failure, failure, "%s", sp_node_error_name(machine.failure));
    cr_assert_eq(machine.out_len, 0);
    cr_assert_eq(sp_dist_connect_wants(&machine), 0);
    cr_assert_eq(sp_dist_connect_take(&machine, (const uint8_t *)"\0\1x", 3), 0);
    expect_cookie_wiped();
}

Test(dist_connect, in_whole_messages)
{
    struct bytes proof = {.len = 0};

    to_proof();
    add_proof(&proof, "secret3000000001");
    add_text(&proof, "more");
    cr_assert_eq(sp_dist_connect_take(&machine, proof.at, proof.len), proof.len - 4,
                 "what follows is left");
    cr_assert_eq(machine.state, SP_DIST_DONE);
    cr_assert_eq(machine.failure, SP_OK);
    cr_assert_str_eq(machine.name, OUR_NAME);
    cr_assert_eq(machine.creation, 0x01020304);
    cr_assert_eq(machine.out_len, 0);
    cr_assert_eq(sp_dist_connect_wants(&machine), 0);
    expect_cookie_wiped();
}

/* As a transport does it: no more than what is wanted, and `slice` bytes at most. */
static void run(const struct bytes *all, size_t slice)
{
    size_t at = 0, said = 0, wanted;

    begin();
    machine.out_len = 0;
    while ((wanted = sp_dist_connect_wants(&machine)) > 0) {
        size_t part = wanted < slice ? wanted : slice;
        cr_assert_leq(at + part, all->len);
        cr_assert_eq(sp_dist_connect_take(&machine, all->at + at, part), part);
        at += part;
        said += machine.out_len > 0;
        machine.out_len = 0;
    }
    cr_assert_eq(machine.state, SP_DIST_DONE, "in slices of %zu: %s", slice,
                 sp_node_error_name(machine.failure));
    cr_assert_eq(at, all->len, "no byte of what follows was asked for");
    cr_assert_eq(said, 1);
}

Test(dist_connect, in_slices_of_any_length)
{
    struct bytes all = {.len = 0};

    add_status(&all, OUR_NAME, strlen(OUR_NAME));
    add_challenge(&all, FLAGS_OF_OTP_27, "b@there", 7);
    add_proof(&all, "secret3000000001");
    for (size_t slice = 1; slice <= all.len; slice++)
        run(&all, slice);
}

Test(dist_connect, over_tls_with_longer_lengths)
{
    struct bytes proof = {.len = 0};

    header_bytes = SP_DIST_HEADER_TLS;
    to_proof();
    add_proof(&proof, "secret3000000001");
    take_all(&proof);
    cr_assert_eq(machine.state, SP_DIST_DONE);
    begin();
    machine.out_len = 0;
    cr_assert_eq(sp_dist_connect_take(&machine, (const uint8_t *)"\1\0\0\2", 4), 4);
    expect_failed(SP_NODE_PROTOCOL);
}

/* There is room for one message, so nothing is taken while one waits to be sent. */
Test(dist_connect, says_one_thing_at_a_time)
{
    struct bytes status = {.len = 0};

    begin();
    add_status(&status, OUR_NAME, strlen(OUR_NAME));
    cr_assert_eq(sp_dist_connect_take(&machine, status.at, status.len), 0);
    expect_name_said();
    take_all(&status);
}

Test(dist_connect, texts_that_do_not_fit)
{
    char longest[SP_DIST_NODE_NAME_MAX + 1], longer[SP_DIST_NODE_NAME_MAX + 2];

    memset(longest, 'x', sizeof longest);
    memset(longer, 'x', sizeof longer);
    longest[sizeof longest - 1] = longer[sizeof longer - 1] = '\0';
    cr_assert(sp_dist_connect_begin(&machine, longest, longest, longest, 1, header_bytes));
    cr_assert_eq(machine.out_len, sizeof machine.out - 2);
    cr_assert(sp_dist_connect_begin(&machine, longest, longest, longest, 1, SP_DIST_HEADER_TLS));
    cr_assert_eq(machine.out_len, sizeof machine.out);
    cr_assert_not(sp_dist_connect_begin(&machine, longer, "h", "c", 1, header_bytes));
    cr_assert_not(sp_dist_connect_begin(&machine, "b@h", longer, "c", 1, header_bytes));
    cr_assert_not(sp_dist_connect_begin(&machine, "b@h", "", "c", 1, header_bytes));
    cr_assert_not(sp_dist_connect_begin(&machine, "b@h", "h", longer, 1, header_bytes));
}

Test(dist_connect, wrong_statuses)
{
    static const struct {
        const char *text;
        size_t len;
        sp_status failure;
    } CASES[] = {
        {"", 0, SP_NODE_PROTOCOL},
        {"s", 1, SP_NODE_PROTOCOL},
        {"sok", 3, SP_NODE_PROTOCOL},
        {"salive", 6, SP_NODE_PROTOCOL},
        {"snot_allowed", 12, SP_NODE_NOT_ALLOWED},
        {"snot_allowed!", 13, SP_NODE_PROTOCOL},
        {"Nnamed:\0\3a@b\0\0\0\1", 16, SP_NODE_PROTOCOL},
        {"snamed:", 7, SP_NODE_PROTOCOL},
        {"snamed:\0\0\0\0\0\1", 13, SP_NODE_PROTOCOL},
        {"snamed:\0\3a@b\0\0\0", 15, SP_NODE_PROTOCOL},
        {"snamed:\0\4a@b\0\0\0\1", 16, SP_NODE_PROTOCOL},
        {"snamed:\xff\xff"
         "a@b\0\0\0\1",
         16, SP_NODE_PROTOCOL},
        {"snamed:\0\3a-b\0\0\0\1", 16, SP_NODE_PROTOCOL},
        {"snamed:\0\3\0@b\0\0\0\1", 16, SP_NODE_PROTOCOL},
    };

    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct bytes message = {.len = 0};
        add_number(&message, header_bytes, CASES[i].len);
        add(&message, CASES[i].text, CASES[i].len);
        begin();
        machine.out_len = 0;
        take_all(&message);
        expect_failed(CASES[i].failure);
    }
}

Test(dist_connect, a_name_too_long_for_a_node)
{
    char name[SP_DIST_NODE_NAME_MAX + 2];
    struct bytes longest = {.len = 0}, longer = {.len = 0};

    memset(name, 'x', sizeof name);
    name[1] = '@';
    name[sizeof name - 2] = '\0';
    add_status(&longest, name, SP_DIST_NODE_NAME_MAX);
    begin();
    machine.out_len = 0;
    take_all(&longest);
    cr_assert_eq(machine.state, SP_DIST_CHALLENGE);
    name[sizeof name - 2] = 'x';
    name[sizeof name - 1] = '\0';
    add_status(&longer, name, SP_DIST_NODE_NAME_MAX + 1);
    begin();
    machine.out_len = 0;
    take_all(&longer);
    expect_failed(SP_NODE_PROTOCOL);
}

Test(dist_connect, wrong_challenges)
{
    static const struct {
        uint64_t flags;
        const char *name;
        size_t told_len;
        sp_status failure;
    } CASES[] = {
        {FLAGS_OF_OTP_25, "c@there", 7, SP_NODE_OTHER_NODE},
        {FLAGS_OF_OTP_25, "b@there", 6, SP_NODE_OTHER_NODE},
        {FLAGS_OF_OTP_25, "b@there2", 8, SP_NODE_OTHER_NODE},
        {FLAGS_OF_OTP_25, "", 0, SP_NODE_OTHER_NODE},
        {FLAGS_OF_OTP_25, "b@there", 8, SP_NODE_PROTOCOL},
        {FLAGS_OF_OTP_25, "b@there", 65535, SP_NODE_PROTOCOL},
        {0, "b@there", 7, SP_NODE_CAPABILITY},
        {FLAGS_OF_OTP_25 & ~SP_DIST_FLAG_SPAWN, "b@there", 7, SP_NODE_CAPABILITY},
        {FLAGS_OF_OTP_25 & ~(UINT64_C(0x4) | SP_DIST_FLAG_MANDATORY_DIGEST), "b@there", 7,
         SP_NODE_CAPABILITY},
    };
    struct bytes message;

    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        message.len = 0;
        add_challenge(&message, CASES[i].flags, CASES[i].name, CASES[i].told_len);
        to_challenge();
        take_all(&message);
        expect_failed(CASES[i].failure);
    }
    /* Too short, and another message. */
    message.len = 0;
    add_number(&message, header_bytes, 18);
    add(&message, "N12345678abcd1234\0", 18);
    to_challenge();
    take_all(&message);
    expect_failed(SP_NODE_PROTOCOL);
    message.len = 0;
    add_challenge(&message, FLAGS_OF_OTP_25, "b@there", 7);
    message.at[2] = 'n';
    to_challenge();
    take_all(&message);
    expect_failed(SP_NODE_PROTOCOL);
}

/* Later versions may append to the challenge. */
Test(dist_connect, more_after_the_name)
{
    struct bytes message = {.len = 0};

    to_challenge();
    add_challenge(&message, FLAGS_OF_OTP_25, "b@thereXYZ", 7);
    take_all(&message);
    cr_assert_eq(machine.state, SP_DIST_PROOF);
}

Test(dist_connect, wrong_proofs)
{
    struct bytes message = {.len = 0};

    to_proof();
    add_proof(&message, "other3000000001");
    take_all(&message);
    expect_failed(SP_NODE_COOKIE);
    for (size_t i = 0; i < 16; i++) {
        message.len = 0;
        add_proof(&message, "secret3000000001");
        message.at[3 + i] ^= 1;
        to_proof();
        take_all(&message);
        expect_failed(SP_NODE_COOKIE);
    }
    message.len = 0;
    add_proof(&message, "secret3000000001");
    message.at[2] = 'r';
    to_proof();
    take_all(&message);
    expect_failed(SP_NODE_PROTOCOL);
    message.len = 0;
    add_proof(&message, "secret3000000001");
    message.at[1] = 16;
    to_proof();
    cr_assert_eq(sp_dist_connect_take(&machine, message.at, message.len), message.len - 1);
    expect_failed(SP_NODE_PROTOCOL);
}

#if OPENSSL_VERSION_MAJOR >= 3
/* As where only what FIPS allows is to be had. */
Test(dist_connect, without_md5)
{
    struct bytes challenge = {.len = 0}, proof = {.len = 0};

    add_challenge(&challenge, FLAGS_OF_OTP_25, "b@there", 7);
    add_proof(&proof, "secret3000000001");
    to_proof();
    cr_assert_eq(EVP_set_default_properties(NULL, "fips=yes"), 1);
    take_all(&proof);
    expect_failed(SP_NODE_CRYPTO);
    to_challenge();
    take_all(&challenge);
    expect_failed(SP_NODE_CRYPTO);
}
#endif

Test(dist_connect, a_length_above_the_cap)
{
    begin();
    machine.out_len = 0;
    cr_assert_eq(sp_dist_connect_take(&machine, (const uint8_t *)"\4\0", 2), 2);
    cr_assert_eq(sp_dist_connect_wants(&machine), 1024, "the longest");
    begin();
    machine.out_len = 0;
    cr_assert_eq(sp_dist_connect_take(&machine, (const uint8_t *)"\4\1", 2), 2);
    expect_failed(SP_NODE_PROTOCOL);
}

Test(dist_connect, why_a_node_hangs_up)
{
    begin();
    cr_assert_eq(sp_dist_connect_closed(&machine), SP_NODE_CLOSED);
    to_challenge();
    cr_assert_eq(sp_dist_connect_closed(&machine), SP_NODE_CLOSED);
    to_proof();
    cr_assert_eq(sp_dist_connect_closed(&machine), SP_NODE_COOKIE);
    machine.out_len = 1;
    cr_assert_eq(sp_dist_connect_closed(&machine), SP_NODE_CLOSED, "it has not seen the proof");
}

Test(dist_connect, every_reason_has_a_name)
{
    for (sp_status status = SP_NODE_BASE + 1; status < SP_NODE_REASON_END; status++)
        cr_assert_str_neq(sp_node_error_name(status), "unknown");
    cr_assert_str_eq(sp_node_error_name(SP_NODE_COOKIE), "wrong_cookie");
    cr_assert_str_eq(sp_node_error_name(SP_NODE_BASE), "unknown");
    cr_assert_str_eq(sp_node_error_name(SP_NODE_REASON_END), "unknown");
}
