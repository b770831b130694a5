/* The connecting side of the distribution handshake, as a machine without I/O: bytes in, bytes out,
 * the challenge given.
 *
 * We say the host that we are on and that the node is to name us: it makes a name for this
 * connection, and uses it again for others after that, so that no connection costs it an atom for
 * good. Then it says its own name and a challenge, we prove that we know the cookie, and it does. */
#ifndef SP_DIST_CONNECT_H
#define SP_DIST_CONNECT_H

#include "sp_dist.h"

/* clang-format off */
#define SP_NODE_REASON_MAP(X) \
    X(CLOSED, "closed")             /* the node ended the connection where it was to answer */ \
    X(COOKIE, "wrong_cookie")       /* it did so when it saw our proof, or its own is wrong */ \
    X(NOT_ALLOWED, "not_allowed")   /* it does not take this host's connections */ \
    X(OTHER_NODE, "other_node")     /* that answers here */ \
    X(CAPABILITY, "lacks_capability") /* older than OTP 23 */ \
    X(PROTOCOL, "protocol_error")   /* not what the protocol says here */ \
    X(CRYPTO, "no_md5")             /* OpenSSL will not compute it */
/* clang-format on */

#define SP_NODE_REASON_ENUM(name, text) SP_NODE_##name,
enum {
    SP_NODE_BASE = SP_STATUS_TRANSPORT + 0x2000,
    SP_NODE_REASON_MAP(SP_NODE_REASON_ENUM) SP_NODE_REASON_END
};
#undef SP_NODE_REASON_ENUM

/* The name of such a status; static, never NULL. */
const char *sp_node_error_name(sp_status status);

enum sp_dist_connect_state {
    SP_DIST_STATUS,    /* waits for a name for us */
    SP_DIST_CHALLENGE, /* waits for the node's name and challenge */
    SP_DIST_PROOF,     /* waits for its proof of the cookie */
    SP_DIST_DONE,
    SP_DIST_FAILED
};

struct sp_dist_connect {
    enum sp_dist_connect_state state;
    sp_status failure;
    uint32_t challenge;
    char cookie[SP_DIST_COOKIE_MAX + 1]; /* wiped when the state is DONE or FAILED */
    char peer_name[SP_DIST_NODE_NAME_MAX + 1];

    /* who we are to the node, from the state CHALLENGE on */
    char name[SP_DIST_NODE_NAME_MAX + 1];
    uint32_t creation;

    struct sp_dist_message in;
    uint8_t out[SP_DIST_HEADER_TLS + 15 + SP_DIST_NODE_NAME_MAX];
    size_t out_len;
};

/* Begins one with the node of that name; `host` is ours, `challenge` must not be predictable,
 * `header_bytes` is SP_DIST_HEADER_TCP or SP_DIST_HEADER_TLS. The texts are copied; false where one is too long or empty. Then out[0..out_len) is to be sent. */
SP_MUST_CHECK bool sp_dist_connect_begin(struct sp_dist_connect *connect, const char *peer_name,
                                         const char *host, const char *cookie, uint32_t challenge,
                                         size_t header_bytes);

/* How many bytes to read next: never more than belong to the handshake. 0 when it is over. */
size_t sp_dist_connect_wants(const struct sp_dist_connect *connect);

/* Takes data[0..len) as far as the handshake goes, and returns how many bytes those were.
 * Afterwards out[0..out_len) is to be sent, and out_len to be set to 0 before the next call. */
size_t sp_dist_connect_take(struct sp_dist_connect *connect, const uint8_t *data, size_t len);

/* The node has closed the stream: why, in this state. */
sp_status sp_dist_connect_closed(const struct sp_dist_connect *connect);

/* Wipes the cookie. */
void sp_dist_connect_end(struct sp_dist_connect *connect);

#endif
