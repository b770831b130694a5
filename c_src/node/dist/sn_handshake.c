#include "sn_handshake.h"

#include "core/base/sp_bytes.h"

#include <assert.h>
#include <string.h>

#define NAME_HEAD_BYTES (1 + 8 + 4 + 2)
#define PROOF_BYTES (1 + 4 + SP_DIST_DIGEST_BYTES)

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
    sp_put(message, 2, len);
    handshake->out_len += 2 + len;
    return message + 2;
}

static void say_challenge(struct sn_handshake *handshake)
{
    size_t name_len = strlen(handshake->us->name);
    uint8_t *message;

    memcpy(say(handshake, 3), "sok", 3);
    message = say(handshake, 19 + name_len);
    message[0] = 'N';
    sp_put(message + 1, 8, SP_DIST_FLAGS_OURS | SP_DIST_FLAG_ATOM_CACHE);
    sp_put(message + 9, 4, handshake->challenge);
    sp_put(message + 13, 4, handshake->us->creation);
    sp_put(message + 17, 2, name_len);
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
    flags = sp_dist_flags(sp_get(message + 1, 8));
    name_len = (size_t)sp_get(message + 13, 2);
    if (name_len > len - NAME_HEAD_BYTES) {
        refuse(handshake, SN_REFUSED_MESSAGE);
        return;
    }
    if (!sp_dist_is_node_name(name, name_len)) {
        refuse(handshake, SN_REFUSED_NAME);
        return;
    }
    memcpy(handshake->peer_name, name, name_len);
    handshake->peer_name[name_len] = '\0';
    handshake->peer_flags = flags;
    handshake->peer_creation = (uint32_t)sp_get(message + 9, 4);
    if (strcmp(handshake->peer_name, handshake->us->name) == 0) {
        refuse(handshake, SN_REFUSED_NAME);
    } else if ((flags & SP_DIST_FLAGS_MANDATORY) != SP_DIST_FLAGS_MANDATORY) {
        refuse(handshake, SN_REFUSED_FLAGS);
    } else {
        say_challenge(handshake);
        handshake->state = SN_HANDSHAKE_PROOF;
    }
}

static void take_proof(struct sn_handshake *handshake, const uint8_t *message, size_t len)
{
    uint8_t expected[SP_DIST_DIGEST_BYTES], *answer;

    if (len != PROOF_BYTES || message[0] != 'r') {
        refuse(handshake, SN_REFUSED_MESSAGE);
        return;
    }
    if (!sp_dist_digest(handshake->us->cookie, handshake->challenge, expected)) {
        refuse(handshake, SN_REFUSED_CRYPTO);
        return;
    }
    if (!sp_dist_same_digest(expected, message + 5)) {
        refuse(handshake, SN_REFUSED_COOKIE);
        return;
    }
    answer = say(handshake, 1 + SP_DIST_DIGEST_BYTES);
    answer[0] = 'a';
    if (!sp_dist_digest(handshake->us->cookie, (uint32_t)sp_get(message + 1, 4), answer + 1)) {
        refuse(handshake, SN_REFUSED_CRYPTO);
        return;
    }
    handshake->state = SN_HANDSHAKE_DONE;
}

void sn_handshake_begin(struct sn_handshake *handshake, const struct sn_identity *us,
                        uint32_t challenge, uint64_t now_ns)
{
    assert(strlen(us->name) <= SP_DIST_NODE_NAME_MAX && strlen(us->cookie) <= SP_DIST_COOKIE_MAX);
    memset(handshake, 0, sizeof *handshake);
    handshake->us = us;
    handshake->challenge = challenge;
    handshake->in.header_bytes = SP_DIST_HEADER_TCP;
    handshake->deadline_ns = now_ns + SN_HANDSHAKE_LIMIT_NS;
}

static bool is_over(const struct sn_handshake *handshake)
{
    return handshake->state == SN_HANDSHAKE_DONE || handshake->state == SN_HANDSHAKE_REFUSED;
}

size_t sn_handshake_take(struct sn_handshake *handshake, uint64_t now_ns, const uint8_t *data,
                         size_t len)
{
    size_t all = 0, taken, message_len;
    sp_status status = SP_OK;

    if (!is_over(handshake) && now_ns >= handshake->deadline_ns)
        refuse(handshake, SN_REFUSED_TIMEOUT);
    while (status == SP_OK && !is_over(handshake)) {
        const uint8_t *message = sp_dist_content(&handshake->in);
        status = sp_dist_gather(&handshake->in, data + all, len - all, &taken, &message_len);
        all += taken;
        if (status == SP_TOO_BIG)
            refuse(handshake, SN_REFUSED_MESSAGE);
        else if (status == SP_OK && handshake->state == SN_HANDSHAKE_NAME)
            take_name(handshake, message, message_len);
        else if (status == SP_OK)
            take_proof(handshake, message, message_len);
    }
    return all;
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
    case SN_REFUSED_CROWD:
        return "too many at once";
    case SN_REFUSED_COOKIE:
        return "wrong cookie";
    case SN_REFUSED_CRYPTO:
        return "MD5 cannot be computed";
    }
    return "unknown";
}
