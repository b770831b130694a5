#include "sn_epmd_message.h"

#include "core/base/sp_bytes.h"

#include <assert.h>
#include <string.h>

enum { ALIVE2_REQUEST = 120, ALIVE2_ANSWER = 121, ALIVE2_ANSWER_LONG = 118 };

#define HIDDEN_NODE 72
#define TCP_IPV4 0
#define HANDSHAKE_VERSION 6
#define FIXED_BYTES 13

size_t sn_epmd_register_request(uint8_t request[SN_EPMD_REGISTER_MAX], const char *alive,
                                size_t alive_len, uint16_t port)
{
    size_t len = FIXED_BYTES + alive_len;

    assert(2 + len <= SN_EPMD_REGISTER_MAX);
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
sp_status sn_epmd_register_answer(const uint8_t *answer, size_t len)
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

enum { PORT_PLEASE2_REQUEST = 122, PORT2_ANSWER = 119 };

size_t sn_epmd_port_request(uint8_t request[SN_EPMD_PORT_REQUEST_MAX], const char *name,
                            size_t name_len)
{
    assert(name_len <= SP_DIST_NODE_NAME_MAX);
    sp_put(request, 2, 1 + name_len);
    request[2] = PORT_PLEASE2_REQUEST;
    memcpy(request + 3, name, name_len);
    return 3 + name_len;
}

/* A tag, a result, and the port where that is 0. */
sp_status sn_epmd_port_answer(const uint8_t *answer, size_t len, uint16_t *port)
{
    if ((len > 0 && answer[0] != PORT2_ANSWER) || (len > 1 && answer[1] != 0))
        return SP_NOT_FOUND;
    if (len < SN_EPMD_PORT_ANSWER_BYTES)
        return SP_WANT_READ;
    *port = (uint16_t)sp_get(answer + 2, 2);
    return *port ? SP_OK : SP_NOT_FOUND;
}
