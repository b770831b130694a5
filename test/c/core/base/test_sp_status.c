/* sp_status: every status and errno has the word that users see. */
#include "core/base/sp_status.h"

#include <criterion/criterion.h>
#include <errno.h>

Test(status, own_answers_are_distinct_and_have_names)
{
    static const struct {
        sp_status status;
        const char *name;
    } ALL[] = {{SP_OK, "ok"},
               {SP_WANT_READ, "want_read"},
               {SP_WANT_WRITE, "want_write"},
               {SP_AGAIN, "again"},
               {SP_EMPTY, "empty"},
               {SP_FULL, "full"},
               {SP_CLOSED, "closed"},
               {SP_DRAINING, "draining"},
               {SP_NOT_FOUND, "not_found"},
               {SP_BUSY, "busy"},
               {SP_NOT_OWNER, "not_owner"},
               {SP_NO_MEMORY, "enomem"},
               {SP_TOO_BIG, "emsgsize"},
               {SP_UNREAD, "unread_bytes"},
               {SP_TIMEOUT, "timeout"},
               {SP_BAD_FRAME, "bad_frame"},
               {SP_UNAVAILABLE, "unavailable"}};
    size_t count = sizeof ALL / sizeof *ALL;

    for (size_t i = 0; i < count; i++) {
        cr_expect_str_eq(sp_status_name(ALL[i].status), ALL[i].name);
        cr_expect_geq(ALL[i].status, 0);
        for (size_t j = 0; j < i; j++)
            cr_expect_neq(ALL[i].status, ALL[j].status);
    }
}

Test(status, every_errno_of_the_system_calls_in_use_has_its_posix_name)
{
    static const struct {
        int code;
        const char *name;
    } ALL[] = {{EACCES, "eacces"},
               {EADDRINUSE, "eaddrinuse"},
               {EADDRNOTAVAIL, "eaddrnotavail"},
               {EAFNOSUPPORT, "eafnosupport"},
               {EAGAIN, "eagain"},
               {EALREADY, "ealready"},
               {EBADF, "ebadf"},
               {ECONNABORTED, "econnaborted"},
               {ECONNREFUSED, "econnrefused"},
               {ECONNRESET, "econnreset"},
               {EDESTADDRREQ, "edestaddrreq"},
               {EFAULT, "efault"},
               {EHOSTDOWN, "ehostdown"},
               {EHOSTUNREACH, "ehostunreach"},
               {EINPROGRESS, "einprogress"},
               {EINTR, "eintr"},
               {EINVAL, "einval"},
               {EIO, "eio"},
               {EISCONN, "eisconn"},
               {ELOOP, "eloop"},
               {EMFILE, "emfile"},
               {EMSGSIZE, "emsgsize"},
               {ENAMETOOLONG, "enametoolong"},
               {ENETDOWN, "enetdown"},
               {ENETRESET, "enetreset"},
               {ENETUNREACH, "enetunreach"},
               {ENFILE, "enfile"},
               {ENOBUFS, "enobufs"},
               {ENOENT, "enoent"},
               {ENOMEM, "enomem"},
               {ENOPROTOOPT, "enoprotoopt"},
               {ENOTCONN, "enotconn"},
               {ENOTDIR, "enotdir"},
               {ENOTSOCK, "enotsock"},
               {EOPNOTSUPP, "eopnotsupp"},
               {EPERM, "eperm"},
               {EPIPE, "epipe"},
               {EPROTONOSUPPORT, "eprotonosupport"},
               {EPROTOTYPE, "eprototype"},
               {ETIMEDOUT, "etimedout"}};

    for (size_t i = 0; i < sizeof ALL / sizeof *ALL; i++)
        cr_expect_str_eq(sp_status_name(-ALL[i].code), ALL[i].name);
}

Test(status, an_unknown_number_has_a_name_too)
{
    cr_assert_str_eq(sp_status_name(-999999), "eunknown");
    cr_assert_str_eq(sp_status_name(999999), "eunknown");
}
