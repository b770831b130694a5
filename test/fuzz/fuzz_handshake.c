/* libFuzzer over sn_handshake: the input in one piece and byte by byte come to the same end with the
 * same bytes said, and only the right proof comes through. Where the first byte is odd, the right
 * proof follows the input. */
#include "node/dist/sn_handshake.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX 2048
#define PROOF "\0\25r\0\0\0\1"

static const struct sn_identity US = {.name = "sp@127.0.0.1", .cookie = "c", .creation = 5};

struct said {
    uint8_t bytes[2 * SN_HANDSHAKE_OUT_MAX];
    size_t len;
};

static size_t step(struct sn_handshake *handshake, struct said *said, const uint8_t *data,
                   size_t len)
{
    size_t taken = sn_handshake_take(handshake, 0, data, len);

    if (taken > len || handshake->out_len > sizeof said->bytes - said->len)
        abort();
    memcpy(said->bytes + said->len, handshake->out, handshake->out_len);
    said->len += handshake->out_len;
    handshake->out_len = 0;
    return taken;
}

/* The other side's bytes: the input and, where it is asked for, the proof. */
static size_t compose(uint8_t *bytes, const uint8_t *data, size_t len)
{
    memcpy(bytes, data, len);
    if (len == 0 || !(data[0] & 1))
        return len;
    memcpy(bytes + len, PROOF, 7);
    EVP_Digest("c9", 2, bytes + len + 7, NULL, EVP_md5(), NULL);
    return len + 23;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct sn_handshake whole, bytewise;
    struct said whole_said = {.len = 0}, bytewise_said = {.len = 0};
    uint8_t bytes[INPUT_MAX + 32];
    size_t taken, one_by_one = 0, total;

    if (len == 0 || len > INPUT_MAX)
        return 0;
    total = compose(bytes, data, len) - 1;
    sn_handshake_begin(&whole, &US, 9, 0);
    sn_handshake_begin(&bytewise, &US, 9, 0);
    taken = step(&whole, &whole_said, bytes + 1, total);
    while (one_by_one < total && step(&bytewise, &bytewise_said, bytes + 1 + one_by_one, 1))
        one_by_one++;
    if (taken != one_by_one || whole.state != bytewise.state || whole.refusal != bytewise.refusal)
        abort();
    /* A refusal also takes back what was not said yet. */
    if (whole.state != SN_HANDSHAKE_REFUSED &&
        (whole_said.len != bytewise_said.len ||
         memcmp(whole_said.bytes, bytewise_said.bytes, whole_said.len) != 0))
        abort();
    if (whole.state == SN_HANDSHAKE_DONE) {
        if (!(data[0] & 1) ||
            (whole.peer_flags & SP_DIST_FLAGS_MANDATORY) != SP_DIST_FLAGS_MANDATORY ||
            !sp_dist_is_node_name(whole.peer_name, strlen(whole.peer_name)))
            abort();
    }
    return 0;
}
