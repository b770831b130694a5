#include "sn_please.h"

#include "core/base/sp_bytes.h"

#include <assert.h>
#include <string.h>

enum { PORT_PLEASE2_REQUEST = 122, PORT2_ANSWER = 119 };

size_t sn_please_request(uint8_t request[SN_PLEASE_MAX], const char *name, size_t name_len)
{
    assert(name_len <= SP_DIST_NODE_NAME_MAX);
    sp_put(request, 2, 1 + name_len);
    request[2] = PORT_PLEASE2_REQUEST;
    memcpy(request + 3, name, name_len);
    return 3 + name_len;
}

/* A tag, a result, and the port where that is 0. */
sp_status sn_please_answer(const uint8_t *answer, size_t len, uint16_t *port)
{
    if ((len > 0 && answer[0] != PORT2_ANSWER) || (len > 1 && answer[1] != 0))
        return SP_NOT_FOUND;
    if (len < SN_PLEASE_ANSWER_BYTES)
        return SP_WANT_READ;
    *port = (uint16_t)sp_get(answer + 2, 2);
    return *port ? SP_OK : SP_NOT_FOUND;
}
