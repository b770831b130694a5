/* The options of pools with transport node: the checks of sn_options.h. */
#include "sn_options.h"
#include "core/dist/sp_dist.h"

#include <openssl/crypto.h>
#include <string.h>

/* name@host of visible ASCII, with one @. */
SN_CHECK(node_name)
{
    char text[SN_ATOM_BYTES_MAX + 1];
    size_t len, at = 0;

    (void)option;
    if (!sn_value_atom(value, text, &len) || len > SP_DIST_NODE_NAME_MAX)
        return SN_WRONG;
    text[len] = '\0';
    for (size_t i = 0; i < len; i++) {
        if (text[i] <= ' ' || text[i] > '~' || (text[i] == '@' && at > 0))
            return SN_WRONG;
        if (text[i] == '@')
            at = i;
    }
    if (at == 0 || at + 1 == len)
        return SN_WRONG;
    parsed->data = sn_memory_get(memory, len + 1, 1);
    if (!parsed->data)
        return SN_NO_MEMORY;
    memcpy(parsed->data, text, len);
    return SN_RIGHT;
}

/* UTF-8 of characters below 256 to those, in place; false where there are others. */
static bool to_latin1(char *text, size_t *len)
{
    size_t to = 0;

    for (size_t i = 0; i < *len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c > 0xc3)
            return false;
        text[to++] = c < 0x80 ? (char)c : (char)((c & 3) << 6 | (text[++i] & 0x3f));
    }
    *len = to;
    return true;
}

static bool get_cookie(struct sn_slice value, char text[SN_ATOM_BYTES_MAX + 1], size_t *len)
{
    struct sn_slice bytes;

    if (sn_value_atom(value, text, len))
        return !sn_slice_is_atom(value, "undefined") && to_latin1(text, len);
    if (!sn_value_binary(value, &bytes) || bytes.len > SP_DIST_COOKIE_MAX)
        return false;
    *len = bytes.len;
    memcpy(text, bytes.data, bytes.len);
    return true;
}

SN_CHECK(cookie)
{
    char text[SN_ATOM_BYTES_MAX + 1];
    enum sn_verdict verdict = SN_WRONG;
    size_t len;

    if (get_cookie(value, text, &len) && len >= (size_t)option->min && len <= (size_t)option->max &&
        !memchr(text, 0, len)) {
        parsed->data = sn_memory_get(memory, len + 1, 1);
        verdict = parsed->data ? SN_RIGHT : SN_NO_MEMORY;
        if (parsed->data)
            memcpy(parsed->data, text, len);
    }
    OPENSSL_cleanse(text, sizeof text);
    return verdict;
}
