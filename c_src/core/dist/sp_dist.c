#include "sp_dist.h"

#include "core/base/sp_bytes.h"
#include "core/tls/sp_tls_exit.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

bool sp_dist_is_node_name(const char *name, size_t len)
{
    size_t at = 0;

    while (at < len && is_name_char(name[at]))
        at++;
    if (at == 0 || at + 1 >= len || len > SP_DIST_NODE_NAME_MAX || name[at] != '@')
        return false;
    for (at++; at < len; at++)
        if (name[at] < '!' || name[at] > '~' || name[at] == '@')
            return false;
    return true;
}

bool sp_dist_digest(const char *cookie, uint32_t challenge, uint8_t digest[SP_DIST_DIGEST_BYTES])
{
    char text[SP_DIST_COOKIE_MAX + sizeof "4294967295"];
    int len = snprintf(text, sizeof text, "%s%u", cookie, challenge);
    bool done = false;

    if (sp_tls_enter()) {
        done = EVP_Digest(text, (size_t)len, digest, NULL, EVP_md5(), NULL) == 1;
        sp_tls_leave();
    }
    OPENSSL_cleanse(text, sizeof text);
    return done;
}

bool sp_dist_same_digest(const uint8_t *a, const uint8_t *b)
{
    return CRYPTO_memcmp(a, b, SP_DIST_DIGEST_BYTES) == 0;
}

/* Fills the message up to `len` bytes; returns how many it took. */
static size_t fill(struct sp_dist_message *message, const uint8_t *data, size_t data_len,
                   size_t len)
{
    size_t taken = message->len >= len ? 0 : len - message->len;

    if (taken > data_len)
        taken = data_len;
    if (taken)
        memcpy(message->bytes + message->len, data, taken);
    message->len += taken;
    return taken;
}

sp_status sp_dist_gather(struct sp_dist_message *message, const uint8_t *data, size_t data_len,
                         size_t *taken, size_t *len)
{
    size_t header = message->header_bytes, content = 0;

    *taken = fill(message, data, data_len, header);
    if (message->len >= header) {
        content = (size_t)sp_get(message->bytes, header);
        if (content > SP_DIST_MESSAGE_MAX)
            return SP_TOO_BIG;
        *taken += fill(message, data + *taken, data_len - *taken, header + content);
    }
    *len = header + content - message->len;
    if (*len > 0)
        return SP_WANT_READ;
    *len = content;
    message->len = 0;
    return SP_OK;
}

size_t sp_dist_missing(const struct sp_dist_message *message)
{
    size_t header = message->header_bytes;

    return message->len < header ? header - message->len
                                 : header + (size_t)sp_get(message->bytes, header) - message->len;
}
