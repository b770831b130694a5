/* What both sides of the distribution handshake (version 6, OTP 23 and later) have in common. */
#ifndef SP_DIST_H
#define SP_DIST_H

#include "core/base/sp_status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a node's name, and of a cookie: an atom's most characters. */
#define SP_DIST_NODE_NAME_MAX 255
#define SP_DIST_COOKIE_MAX 255
#define SP_DIST_DIGEST_BYTES 16
/* Of any message. */
#define SP_DIST_MESSAGE_MAX 1024

/* What we can do everywhere. Not fragments, exit payloads, spawn requests or senders: a node that is told
 * of them would use them. Not PUBLISHED: we are a hidden node. */
#define SP_DIST_FLAGS_OURS UINT64_C(0x407074fbc)
/* What a node must be able to do, and the bit that says so shortly. */
#define SP_DIST_FLAGS_MANDATORY UINT64_C(0x1070f94)
#define SP_DIST_FLAG_MANDATORY_DIGEST UINT64_C(0x4000000)
/* What goes over the connection has headers for atoms, if both sides say this. */
#define SP_DIST_FLAG_ATOM_CACHE UINT64_C(0x2000)
/* What it prints by the io protocol may be Unicode. */
#define SP_DIST_FLAG_UNICODE_IO UINT64_C(0x1000)
/* It starts processes for others. */
#define SP_DIST_FLAG_SPAWN UINT64_C(0x100000000)
/* Its name is for the other side to choose. */
#define SP_DIST_FLAG_NAME_ME UINT64_C(0x200000000)
/* It knows aliases, so replies may go to them. */
#define SP_DIST_FLAG_ALIAS UINT64_C(0x800000000)

/* The flags that a node told, with those that SP_DIST_FLAG_MANDATORY_DIGEST stands for. */
static inline uint64_t sp_dist_flags(uint64_t told)
{
    return told & SP_DIST_FLAG_MANDATORY_DIGEST ? told | SP_DIST_FLAGS_MANDATORY : told;
}

/* Who is who on a connection that we have made. */
struct sp_node_names {
    uint32_t creation;                    /* ours there */
    char name[SP_DIST_NODE_NAME_MAX + 1]; /* likewise */
    char peer_name[SP_DIST_NODE_NAME_MAX + 1];
};

/* name@host, of printable ASCII, with one @ and letters, digits, _ or - before it. */
bool sp_dist_is_node_name(const char *name, size_t len);

/* The proof that one who was asked `challenge` knows the cookie. False where OpenSSL will not compute
 * MD5. */
SP_MUST_CHECK bool sp_dist_digest(const char *cookie, uint32_t challenge,
                                  uint8_t digest[SP_DIST_DIGEST_BYTES]);
/* In a time that tells nothing of where they differ. */
SP_MUST_CHECK bool sp_dist_same_digest(const uint8_t *a, const uint8_t *b);

/* Bytes of the length before each message: over TCP, and over TLS, where they are those of a frame from
 * the start. */
#define SP_DIST_HEADER_TCP 2
#define SP_DIST_HEADER_TLS 4

/* Gathers one message after the other, each behind its length. */
struct sp_dist_message {
    size_t header_bytes; /* one of these */
    size_t len;          /* gathered so far, the length's bytes included */
    uint8_t bytes[SP_DIST_HEADER_TLS + SP_DIST_MESSAGE_MAX];
};

/* Takes from data[0..data_len), *taken bytes. SP_OK: a whole message, *len bytes at
 * sp_dist_content(); the next call begins another. SP_WANT_READ: *len more bytes, at least, must come.
 * SP_TOO_BIG. */
SP_MUST_CHECK sp_status sp_dist_gather(struct sp_dist_message *message, const uint8_t *data,
                                       size_t data_len, size_t *taken, size_t *len);
/* How many bytes to read next: no more than belong to this message. */
size_t sp_dist_missing(const struct sp_dist_message *message);

static inline const uint8_t *sp_dist_content(const struct sp_dist_message *message)
{
    return message->bytes + message->header_bytes;
}

#endif
