#include "sp_why.h"

#include <errno.h>

enum sp_why sp_why_of(sp_status status)
{
    switch (status) {
    case SP_CLOSED:
    case -ECONNRESET:
    case -EPIPE:
        return SP_WHY_PEER_CLOSED;
    case SP_TIMEOUT:
    case -ETIMEDOUT:
        return SP_WHY_IO_TIMEOUT;
    default:
        return SP_WHY_IO_ERROR;
    }
}
