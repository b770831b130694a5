#include "sn_handshake.h"

#include "sn_bytes.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#define DIGEST_BYTES 16
#define NAME_HEAD_BYTES (1 + 8 + 4 + 2)
#define PROOF_BYTES (1 + 4 + DIGEST_BYTES)

static void refuse(struct sn_handshake *handshake, enum sn_refusal refusal)
{
    handshake->state = SN_HANDSHAKE_REFUSED;
    handshake->refusal = refusal;
    handshake->out_len = 0;
}

/* A message of `len` bytes, to be filled in. */
static uint8_t *say(struct sn_handshake *handshake, size_t len)
{
    uint8_t *message = handshake->out + handshake->out_len;

    assert(handshake->out_len + 2 + len <= sizeof handshake->out);
    sn_put(message, 2, len);
    handshake->out_len += 2 + len;
    return message + 2;
}

static bool digest(const char *cookie, uint32_t challenge, uint8_t result[DIGEST_BYTES])
{
    char text[SN_COOKIE_MAX + sizeof "4294967295"];
    int len = snprintf(text, sizeof text, "%s%u", cookie, challenge);
    bool done = EVP_Digest(text, (size_t)len, result, NULL, EVP_md5(), NULL) == 1;

    OPENSSL_cleanse(text, sizeof text);
    return done;
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

bool sn_is_node_name(const char *name, size_t len)
{
    size_t at = 0;

    while (at < len && is_name_char(name[at]))
        at++;
    if (at == 0 || at + 1 >= len || len > SN_NODE_NAME_MAX || name[at] != '@')
        return false;
    for (at++; at < len; at++)
        if (name[at] < '!' || name[at] > '~' || name[at] == '@')
            return false;
    return true;
}

static void say_challenge(struct sn_handshake *handshake)
{
    size_t name_len = strlen(handshake->us->name);
    uint8_t *message;

    memcpy(say(handshake, 3), "sok", 3);
    message = say(handshake, 19 + name_len);
    message[0] = 'N';
    sn_put(message + 1, 8, SN_FLAGS_OURS);
    sn_put(message + 9, 4, handshake->challenge);
    sn_put(message + 13, 4, handshake->us->creation);
    sn_put(message + 17, 2, name_len);
    memcpy(message + 19, handshake->us->name, name_len);
}

/* What follows the name is for later versions of the protocol. */
static void take_name(struct sn_handshake *handshake, const uint8_t *message, size_t len)
{
    const char *name = (const char *)message + NAME_HEAD_BYTES;
    uint64_t flags;
    size_t name_len;

    if (len < NAME_HEAD_BYTES || message[0] != 'N') {
        refuse(handshake, SN_REFUSED_MESSAGE);
        return;
    }
    flags = sn_get(message + 1, 8);
    if (flags & SN_FLAG_MANDATORY_DIGEST)
        flags |= SN_FLAGS_MANDATORY;
    name_len = (size_t)sn_get(message + 13, 2);
    if (name_len > len - NAME_HEAD_BYTES) {
        refuse(handshake, SN_REFUSED_MESSAGE);
        return;
    }
    if (!sn_is_node_name(name, name_len)) {
        refuse(handshake, SN_REFUSED_NAME);
        return;
    }
    memcpy(handshake->peer_name, name, name_len);
    handshake->peer_name[name_len] = '\0';
    handshake->peer_flags = flags;
    handshake->peer_creation = (uint32_t)sn_get(message + 9, 4);
    if (strcmp(handshake->peer_name, handshake->us->name) == 0) {
        refuse(handshake, SN_REFUSED_NAME);
    } else if ((flags & SN_FLAGS_MANDATORY) != SN_FLAGS_MANDATORY) {
        refuse(handshake, SN_REFUSED_FLAGS);
    } else {
        say_challenge(handshake);
        handshake->state = SN_HANDSHAKE_PROOF;
    }
}

static void take_proof(struct sn_handshake *handshake, const uint8_t *message, size_t len)
{
    uint8_t expected[DIGEST_BYTES], *answer;

    if (len != PROOF_BYTES || message[0] != 'r') {
        refuse(handshake, SN_REFUSED_MESSAGE);
        return;
    }
    if (!digest(handshake->us->cookie, handshake->challenge, expected)) {
        refuse(handshake, SN_REFUSED_CRYPTO);
        return;
    }
    if (CRYPTO_memcmp(expected, message + 5, DIGEST_BYTES) != 0) {
        refuse(handshake, SN_REFUSED_COOKIE);
        return;
    }
    answer = say(handshake, 1 + DIGEST_BYTES);
    answer[0] = 'a';
    if (!digest(handshake->us->cookie, (uint32_t)sn_get(message + 1, 4), answer + 1)) {
        refuse(handshake, SN_REFUSED_CRYPTO);
        return;
    }
    handshake->state = SN_HANDSHAKE_DONE;
}

/* Fills `in` up to `len` bytes; returns how many it took. */
static size_t gather(struct sn_handshake *handshake, const uint8_t *data, size_t data_len,
                     size_t len)
{
    size_t taken = handshake->in_len >= len ? 0 : len - handshake->in_len;

    if (taken > data_len)
        taken = data_len;
    if (taken)
        memcpy(handshake->in + handshake->in_len, data, taken);
    handshake->in_len += taken;
    return taken;
}

void sn_handshake_begin(struct sn_handshake *handshake, const struct sn_identity *us,
                        uint32_t challenge, uint64_t now_ns)
{
    assert(strlen(us->name) <= SN_NODE_NAME_MAX && strlen(us->cookie) <= SN_COOKIE_MAX);
    memset(handshake, 0, sizeof *handshake);
    handshake->us = us;
    handshake->challenge = challenge;
    handshake->deadline_ns = now_ns + SN_HANDSHAKE_LIMIT_NS;
}

static bool is_over(const struct sn_handshake *handshake)
{
    return handshake->state == SN_HANDSHAKE_DONE || handshake->state == SN_HANDSHAKE_REFUSED;
}

size_t sn_handshake_take(struct sn_handshake *handshake, uint64_t now_ns, const uint8_t *data,
                         size_t len)
{
    size_t taken = 0, message_len;

    if (!is_over(handshake) && now_ns >= handshake->deadline_ns)
        refuse(handshake, SN_REFUSED_TIMEOUT);
    while (!is_over(handshake)) {
        taken += gather(handshake, data + taken, len - taken, 2);
        if (handshake->in_len < 2)
            break;
        message_len = (size_t)sn_get(handshake->in, 2);
        if (message_len > SN_HANDSHAKE_MESSAGE_MAX) {
            refuse(handshake, SN_REFUSED_MESSAGE);
            break;
        }
        taken += gather(handshake, data + taken, len - taken, 2 + message_len);
        if (handshake->in_len < 2 + message_len)
            break;
        handshake->in_len = 0;
        if (handshake->state == SN_HANDSHAKE_NAME)
            take_name(handshake, handshake->in + 2, message_len);
        else
            take_proof(handshake, handshake->in + 2, message_len);
    }
    return taken;
}

const char *sn_refusal_text(enum sn_refusal refusal)
{
    switch (refusal) {
    case SN_REFUSED_NOT:
        return "not refused";
    case SN_REFUSED_TIMEOUT:
        return "no handshake in time";
    case SN_REFUSED_MESSAGE:
        return "no message of the handshake";
    case SN_REFUSED_NAME:
        return "not a name for a node";
    case SN_REFUSED_FLAGS:
        return "lacks a mandatory capability";
    case SN_REFUSED_COOKIE:
        return "wrong cookie";
    case SN_REFUSED_CRYPTO:
        return "MD5 cannot be computed";
    }
    return "unknown";
}
