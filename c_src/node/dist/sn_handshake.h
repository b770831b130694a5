/* The accepting side of the distribution handshake (version 6, OTP 23 and later), as a machine
 * without I/O: bytes in, bytes out, the time and the challenge given.
 *
 * The other side says its name, gets "sok" and a challenge, proves that it knows the cookie, and
 * gets the proof that we do. Whatever is not exactly that is refused; then the connection is to be
 * closed, which is all that the other side is told. */
#ifndef SN_HANDSHAKE_H
#define SN_HANDSHAKE_H

#include "core/dist/sp_dist.h"

#define SN_HANDSHAKE_LIMIT_NS UINT64_C(7000000000)

/* Who we are. The texts are the caller's and outlive the handshake. */
struct sn_identity {
    const char *name; /* sp@127.0.0.1 */
    const char *cookie;
    uint32_t creation;
};

enum sn_handshake_state {
    SN_HANDSHAKE_NAME,  /* waits for the other's name */
    SN_HANDSHAKE_PROOF, /* waits for its proof of the cookie */
    SN_HANDSHAKE_DONE,
    SN_HANDSHAKE_REFUSED
};

enum sn_refusal {
    SN_REFUSED_NOT, /* not refused */
    SN_REFUSED_TIMEOUT,
    SN_REFUSED_MESSAGE, /* not what the protocol says here */
    SN_REFUSED_NAME,    /* not of the form name@host, or ours */
    SN_REFUSED_FLAGS,   /* lacks something mandatory */
    SN_REFUSED_COOKIE,
    SN_REFUSED_CROWD, /* by the server: too many are under way, and this is the oldest */
    SN_REFUSED_CRYPTO /* OpenSSL will not compute MD5 */
};

/* "sok", the challenge and the proof, should all be due at once. */
#define SN_HANDSHAKE_OUT_MAX (5 + 21 + SP_DIST_NODE_NAME_MAX + 19)

struct sn_handshake {
    const struct sn_identity *us;
    enum sn_handshake_state state;
    enum sn_refusal refusal;
    uint64_t deadline_ns;
    uint32_t challenge;

    /* The other side; whole once the state is DONE, unproven before. */
    char peer_name[SP_DIST_NODE_NAME_MAX + 1];
    uint64_t peer_flags; /* with those that SP_DIST_FLAG_MANDATORY_DIGEST stands for */
    uint32_t peer_creation;

    struct sp_dist_message in;
    uint8_t out[SN_HANDSHAKE_OUT_MAX];
    size_t out_len;
};

/* Begins one; `challenge` must not be predictable. */
void sn_handshake_begin(struct sn_handshake *handshake, const struct sn_identity *us,
                        uint32_t challenge, uint64_t now_ns);

/* Takes data[0..len) as far as the handshake goes, and returns how many bytes those were: the rest,
 * after a state of DONE, belongs to the connection's frames. May be called with no bytes, to see
 * whether the time is over. Afterwards out[0..out_len) is to be sent, and out_len to be set to 0
 * before the next call. */
size_t sn_handshake_take(struct sn_handshake *handshake, uint64_t now_ns, const uint8_t *data,
                         size_t len);

/* Words for a log: "wrong cookie". */
const char *sn_refusal_text(enum sn_refusal refusal);

#endif
