/* The system calls that the core makes, as a table: the real ones, or a test's fakes.
 *
 * Each entry has its POSIX namesake's contract: -1 and errno on failure. Descriptors are made
 * non-blocking and close-on-exec by `socket`; `sendmsg` never raises SIGPIPE. */
#ifndef SP_SYS_H
#define SP_SYS_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

struct sp_sys {
    int (*socket)(int family);
    int (*bind)(int fd, const struct sockaddr *addr, socklen_t len);
    int (*connect)(int fd, const struct sockaddr *addr, socklen_t len);
    int (*getsockopt)(int fd, int level, int name, void *value, socklen_t *len);
    int (*setsockopt)(int fd, int level, int name, const void *value, socklen_t len);
    int (*getsockname)(int fd, struct sockaddr *addr, socklen_t *len);
    int (*getpeername)(int fd, struct sockaddr *addr, socklen_t *len);
    ssize_t (*sendv)(int fd, const struct iovec *iov, int count);
    ssize_t (*recv)(int fd, void *buf, size_t len, int flags);
    int (*shutdown)(int fd);
    int (*close)(int fd);
};

extern const struct sp_sys sp_sys_posix;

#endif
