#include "sp_status.h"

#include <errno.h>
#include <stddef.h>

/* clang-format off */
#define ERRNO_MAP(X) \
    X(EACCES, "eacces") X(EADDRINUSE, "eaddrinuse") X(EADDRNOTAVAIL, "eaddrnotavail") \
    X(EAFNOSUPPORT, "eafnosupport") X(EALREADY, "ealready") X(EBADF, "ebadf") \
    X(ECONNABORTED, "econnaborted") X(ECONNREFUSED, "econnrefused") X(ECONNRESET, "econnreset") \
    X(EDESTADDRREQ, "edestaddrreq") X(EFAULT, "efault") X(EHOSTDOWN, "ehostdown") \
    X(EHOSTUNREACH, "ehostunreach") X(EINPROGRESS, "einprogress") X(EINTR, "eintr") \
    X(EINVAL, "einval") X(EIO, "eio") X(EISCONN, "eisconn") X(ELOOP, "eloop") \
    X(EMFILE, "emfile") X(EMSGSIZE, "emsgsize") X(ENAMETOOLONG, "enametoolong") \
    X(ENETDOWN, "enetdown") X(ENETRESET, "enetreset") X(ENETUNREACH, "enetunreach") \
    X(ENFILE, "enfile") X(ENOBUFS, "enobufs") X(ENODEV, "enodev") X(ENOENT, "enoent") \
    X(ENOMEM, "enomem") X(ENOPROTOOPT, "enoprotoopt") X(ENOTCONN, "enotconn") \
    X(ENOTDIR, "enotdir") X(ENOTSOCK, "enotsock") X(ENXIO, "enxio") X(EOPNOTSUPP, "eopnotsupp") \
    X(EPERM, "eperm") X(EPIPE, "epipe") X(EPROTO, "eproto") \
    X(EPROTONOSUPPORT, "eprotonosupport") X(EPROTOTYPE, "eprototype") X(EROFS, "erofs") \
    X(ESHUTDOWN, "eshutdown") X(ETIMEDOUT, "etimedout")
/* clang-format on */

const char *sp_status_name(sp_status status)
{
#define OWN_CASE(name, value, text)                                                                \
    case SP_##name:                                                                                \
        return text;
#define ERRNO_CASE(code, text)                                                                     \
    case -code:                                                                                    \
        return text;
    switch (status) {
        SP_STATUS_MAP(OWN_CASE)
        ERRNO_MAP(ERRNO_CASE)
    default:
        return status == -EAGAIN ? "eagain" : "eunknown";
    }
#undef OWN_CASE
#undef ERRNO_CASE
}
