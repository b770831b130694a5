#include "sn_alive.h"

#include "core/base/sp_bytes.h"

#include <assert.h>
#include <string.h>

enum { ALIVE2_REQUEST = 120, ALIVE2_ANSWER = 121, ALIVE2_ANSWER_LONG = 118 };

#define HIDDEN_NODE 72
#define TCP_IPV4 0
#define HANDSHAKE_VERSION 6
#define FIXED_BYTES 13

size_t sn_alive_request(uint8_t request[SN_ALIVE_MAX], const char *alive, size_t alive_len,
                        uint16_t port)
{
    size_t len = FIXED_BYTES + alive_len;

    assert(2 + len <= SN_ALIVE_MAX);
    sp_put(request, 2, len);
    request[2] = ALIVE2_REQUEST;
    sp_put(request + 3, 2, port);
    request[5] = HIDDEN_NODE;
    request[6] = TCP_IPV4;
    sp_put(request + 7, 2, HANDSHAKE_VERSION);
    sp_put(request + 9, 2, HANDSHAKE_VERSION);
    sp_put(request + 11, 2, alive_len);
    memcpy(request + 13, alive, alive_len);
    sp_put(request + 13 + alive_len, 2, 0);
    return 2 + len;
}

/* After the tag: a result, and a creation of 2 bytes or of 4, which is not needed: ours is random. */
sp_status sn_alive_answer(const uint8_t *answer, size_t len)
{
    if (len == 0)
        return SP_WANT_READ;
    if (answer[0] != ALIVE2_ANSWER && answer[0] != ALIVE2_ANSWER_LONG)
        return SP_BAD_DATA;
    if (len < 2)
        return SP_WANT_READ;
    if (answer[1] != 0)
        return SP_BUSY;
    return len < (answer[0] == ALIVE2_ANSWER ? 4 : 6) ? SP_WANT_READ : SP_OK;
}
