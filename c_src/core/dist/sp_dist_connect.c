#include "sp_dist_connect.h"

#include "core/base/sp_bytes.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <string.h>

#define NAME_HEAD_BYTES (1 + 8 + 4 + 2)
#define CHALLENGE_HEAD_BYTES (1 + 8 + 4 + 4 + 2)
#define NAMED "snamed:"

const char *sp_node_error_name(sp_status status)
{
    /* clang-format off */
#define REASON_CASE(name, text) case SP_NODE_##name: return text;
    /* clang-format on */
    switch (status) {
        SP_NODE_REASON_MAP(REASON_CASE)
    default:
        return "unknown";
    }
#undef REASON_CASE
}

void sp_dist_connect_end(struct sp_dist_connect *connect)
{
    OPENSSL_cleanse(connect->cookie, sizeof connect->cookie);
}

static void fail(struct sp_dist_connect *connect, sp_status failure)
{
    connect->state = SP_DIST_FAILED;
    connect->failure = failure;
    connect->out_len = 0;
    sp_dist_connect_end(connect);
}

/* A message of `len` bytes, to be filled in. */
static uint8_t *say(struct sp_dist_connect *connect, size_t len)
{
    size_t header = connect->in.header_bytes;

    assert(connect->out_len == 0 && header + len <= sizeof connect->out);
    sp_put(connect->out, header, len);
    connect->out_len = header + len;
    return connect->out + header;
}

bool sp_dist_connect_begin(struct sp_dist_connect *connect, const char *peer_name, const char *host,
                           const char *cookie, uint32_t challenge, size_t header_bytes)
{
    size_t peer_len = strlen(peer_name), host_len = strlen(host), cookie_len = strlen(cookie);
    uint8_t *message;

    memset(connect, 0, sizeof *connect);
    if (peer_len > SP_DIST_NODE_NAME_MAX || cookie_len > SP_DIST_COOKIE_MAX || host_len == 0 ||
        host_len > SP_DIST_NODE_NAME_MAX)
        return false;
    memcpy(connect->peer_name, peer_name, peer_len);
    memcpy(connect->cookie, cookie, cookie_len);
    connect->challenge = challenge;
    connect->in.header_bytes = header_bytes;
    message = say(connect, NAME_HEAD_BYTES + host_len);
    message[0] = 'N';
    sp_put(message + 1, 8, SP_DIST_FLAGS_OURS | SP_DIST_FLAG_NAME_ME | SP_DIST_FLAG_UNICODE_IO);
    sp_put(message + 9, 4, 0); /* the node says which of the name's incarnations we are */
    sp_put(message + 13, 2, host_len);
    memcpy(message + NAME_HEAD_BYTES, host, host_len);
    return true;
}

/* snamed:, the name after its length in two bytes, the creation in four. */
static void take_status(struct sp_dist_connect *connect, const uint8_t *message, size_t len)
{
    size_t prefix = sizeof NAMED - 1, name_len;

    if (len == 0 || message[0] != 's') {
        fail(connect, SP_NODE_PROTOCOL);
        return;
    }
    if (len == sizeof "snot_allowed" - 1 && memcmp(message, "snot_allowed", len) == 0) {
        fail(connect, SP_NODE_NOT_ALLOWED);
        return;
    }
    name_len = len >= prefix + 6 ? len - prefix - 6 : 0;
    if (name_len == 0 || memcmp(message, NAMED, prefix) != 0 ||
        sp_get(message + prefix, 2) != name_len ||
        !sp_dist_is_node_name((const char *)message + prefix + 2, name_len)) {
        fail(connect, SP_NODE_PROTOCOL);
        return;
    }
    memcpy(connect->name, message + prefix + 2, name_len);
    connect->creation = (uint32_t)sp_get(message + prefix + 2 + name_len, 4);
    connect->state = SP_DIST_CHALLENGE;
}

static void take_challenge(struct sp_dist_connect *connect, const uint8_t *message, size_t len)
{
    const uint64_t needed = SP_DIST_FLAGS_MANDATORY | SP_DIST_FLAG_SPAWN;
    uint8_t *answer;
    size_t name_len;

    if (len < CHALLENGE_HEAD_BYTES || message[0] != 'N' ||
        sp_get(message + 17, 2) > len - CHALLENGE_HEAD_BYTES) {
        fail(connect, SP_NODE_PROTOCOL);
        return;
    }
    name_len = (size_t)sp_get(message + 17, 2);
    if (name_len != strlen(connect->peer_name) ||
        memcmp(message + CHALLENGE_HEAD_BYTES, connect->peer_name, name_len) != 0) {
        fail(connect, SP_NODE_OTHER_NODE);
        return;
    }
    if ((sp_dist_flags(sp_get(message + 1, 8)) & needed) != needed) {
        fail(connect, SP_NODE_CAPABILITY);
        return;
    }
    answer = say(connect, 1 + 4 + SP_DIST_DIGEST_BYTES);
    answer[0] = 'r';
    sp_put(answer + 1, 4, connect->challenge);
    if (!sp_dist_digest(connect->cookie, (uint32_t)sp_get(message + 9, 4), answer + 5)) {
        fail(connect, SP_NODE_CRYPTO);
        return;
    }
    connect->state = SP_DIST_PROOF;
}

static void take_proof(struct sp_dist_connect *connect, const uint8_t *message, size_t len)
{
    uint8_t expected[SP_DIST_DIGEST_BYTES];

    if (len != 1 + SP_DIST_DIGEST_BYTES || message[0] != 'a') {
        fail(connect, SP_NODE_PROTOCOL);
        return;
    }
    if (!sp_dist_digest(connect->cookie, connect->challenge, expected)) {
        fail(connect, SP_NODE_CRYPTO);
        return;
    }
    if (!sp_dist_same_digest(expected, message + 1)) {
        fail(connect, SP_NODE_COOKIE);
        return;
    }
    connect->state = SP_DIST_DONE;
    sp_dist_connect_end(connect);
}

static bool is_over(const struct sp_dist_connect *connect)
{
    return connect->state == SP_DIST_DONE || connect->state == SP_DIST_FAILED;
}

size_t sp_dist_connect_wants(const struct sp_dist_connect *connect)
{
    return is_over(connect) ? 0 : sp_dist_missing(&connect->in);
}

size_t sp_dist_connect_take(struct sp_dist_connect *connect, const uint8_t *data, size_t len)
{
    size_t all = 0, taken, message_len;
    sp_status status = SP_OK;

    /* What is to be said comes first: there is room for one message. */
    while (status == SP_OK && !is_over(connect) && connect->out_len == 0) {
        const uint8_t *message = sp_dist_content(&connect->in);
        status = sp_dist_gather(&connect->in, data + all, len - all, &taken, &message_len);
        all += taken;
        if (status == SP_TOO_BIG)
            fail(connect, SP_NODE_PROTOCOL);
        else if (status == SP_OK && connect->state == SP_DIST_STATUS)
            take_status(connect, message, message_len);
        else if (status == SP_OK && connect->state == SP_DIST_CHALLENGE)
            take_challenge(connect, message, message_len);
        else if (status == SP_OK)
            take_proof(connect, message, message_len);
    }
    return all;
}

sp_status sp_dist_connect_closed(const struct sp_dist_connect *connect)
{
    return connect->state == SP_DIST_PROOF && connect->out_len == 0 ? SP_NODE_COOKIE
                                                                    : SP_NODE_CLOSED;
}
