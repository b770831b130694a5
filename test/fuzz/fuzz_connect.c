/* libFuzzer over sp_dist_connect: the input in one piece and as a transport gives it, never more than
 * wanted and cut by the input itself, come to the same end with the same bytes said, and only the right
 * proof comes through. Where the first byte is odd, a right status and challenge come before the input;
 * where its next bit is set, the right proof comes after it. */
#include "core/dist/sp_dist_connect.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX 2048
#define STATUS "\0\x12snamed:\0\x05x@her\1\2\3\4"
#define CHALLENGE "\0\x1aN\0\0\0\xd\x07\xdf\x7f\xbd\0\0\0\x09\0\0\0\7\0\7b@there"
#define PROOF                                                                                      \
    "\0\x11"                                                                                       \
    "a"

struct said {
    uint8_t bytes[1024];
    size_t len;
};

static void listen_to(struct sp_dist_connect *connect, struct said *said)
{
    if (connect->out_len > sizeof connect->out || connect->out_len > sizeof said->bytes - said->len)
        abort();
    memcpy(said->bytes + said->len, connect->out, connect->out_len);
    said->len += connect->out_len;
    connect->out_len = 0;
}

static size_t add(uint8_t *bytes, size_t at, const void *data, size_t len)
{
    memcpy(bytes + at, data, len);
    return at + len;
}

static size_t compose(uint8_t *bytes, const uint8_t *data, size_t len)
{
    size_t at = 0;

    if (data[0] & 1) {
        at = add(bytes, at, STATUS, sizeof STATUS - 1);
        at = add(bytes, at, CHALLENGE, sizeof CHALLENGE - 1);
    }
    at = add(bytes, at, data + 1, len - 1);
    if (data[0] & 2) {
        at = add(bytes, at, PROOF, sizeof PROOF - 1);
        EVP_Digest("c9", 2, bytes + at, NULL, EVP_md5(), NULL);
        at += 16;
    }
    return at;
}

static void begin(struct sp_dist_connect *connect, struct said *said)
{
    said->len = 0;
    if (!sp_dist_connect_begin(connect, "b@there", "here", "c", 9, SP_DIST_HEADER_TCP))
        abort();
    listen_to(connect, said);
}

static size_t take_whole(struct sp_dist_connect *connect, struct said *said, const uint8_t *bytes,
                         size_t len)
{
    size_t all = 0, taken;

    begin(connect, said);
    do {
        taken = sp_dist_connect_take(connect, bytes + all, len - all);
        if (taken > len - all)
            abort();
        all += taken;
        listen_to(connect, said);
    } while (taken > 0);
    return all;
}

static size_t take_wanted(struct sp_dist_connect *connect, struct said *said, const uint8_t *bytes,
                          size_t len)
{
    size_t all = 0, wanted;

    begin(connect, said);
    while (all < len && (wanted = sp_dist_connect_wants(connect)) > 0) {
        size_t part = 1 + bytes[all] % 7;
        if (part > wanted)
            part = wanted;
        if (part > len - all)
            part = len - all;
        if (sp_dist_connect_take(connect, bytes + all, part) != part)
            abort();
        all += part;
        listen_to(connect, said);
    }
    return all;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct sp_dist_connect whole, wanted;
    static struct said whole_said, wanted_said;
    static const char nothing[sizeof whole.cookie];
    uint8_t bytes[INPUT_MAX + 256];
    size_t total, taken;

    if (len == 0 || len > INPUT_MAX)
        return 0;
    total = compose(bytes, data, len);
    taken = take_whole(&whole, &whole_said, bytes, total);
    if (take_wanted(&wanted, &wanted_said, bytes, total) != taken || whole.state != wanted.state ||
        whole.failure != wanted.failure || whole_said.len != wanted_said.len ||
        memcmp(whole_said.bytes, wanted_said.bytes, whole_said.len) != 0)
        abort();
    if ((whole.state == SP_DIST_DONE || whole.state == SP_DIST_FAILED) &&
        memcmp(whole.cookie, nothing, sizeof nothing) != 0)
        abort();
    if (whole.state == SP_DIST_DONE &&
        (!(data[0] & 2) || !sp_dist_is_node_name(whole.name, strlen(whole.name))))
        abort();
    return 0;
}
