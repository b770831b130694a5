#include "sp_sys.h"

#include "sp_direct.h"

#include <fcntl.h>
#include <unistd.h>

#ifdef MSG_NOSIGNAL
#define SEND_FLAGS MSG_NOSIGNAL
#else
#define SEND_FLAGS 0
#endif

static int sys_socket(int family)
{
#if defined(SOCK_NONBLOCK) && defined(SOCK_CLOEXEC)
    return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
#else
    int fd = socket(family, SOCK_STREAM, 0);
    int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
    int failed = flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
                 fcntl(fd, F_SETFD, FD_CLOEXEC) < 0;
#ifdef SO_NOSIGPIPE
    int on = 1;
    failed = failed || setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on) < 0;
#endif
    if (failed && fd >= 0) {
        close(fd);
        fd = -1;
    }
    return fd;
#endif
}

#ifdef SP_DIRECT
static ssize_t sys_recv(int fd, void *buf, size_t len, int flags)
{
    return sp_direct_transfer(SYS_recvfrom, fd, buf, len, flags);
}

static ssize_t sys_send(int fd, const void *buf, size_t len, int flags)
{
    return sp_direct_transfer(SYS_sendto, fd, buf, len, flags);
}
#else
#define sys_recv recv
#define sys_send send
#endif

static ssize_t sys_sendv(int fd, const struct iovec *iov, int count)
{
    if (count == 1)
        return sys_send(fd, iov->iov_base, iov->iov_len, SEND_FLAGS);
    struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
    return sendmsg(fd, &msg, SEND_FLAGS);
}

static int sys_shutdown(int fd)
{
    return shutdown(fd, SHUT_RDWR);
}

const struct sp_sys sp_sys_posix = {
    .socket = sys_socket,
    .bind = bind,
    .connect = connect,
    .getsockopt = getsockopt,
    .setsockopt = setsockopt,
    .getsockname = getsockname,
    .getpeername = getpeername,
    .sendv = sys_sendv,
    .recv = sys_recv,
    .shutdown = sys_shutdown,
    .close = close,
};
