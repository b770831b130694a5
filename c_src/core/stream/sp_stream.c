#include "sp_stream.h"

#include "core/conn/sp_conn.h"
#include "core/base/sp_sys.h"

#include <errno.h>

static bool would_block(int code)
{
    return code == EAGAIN || code == EWOULDBLOCK;
}

sp_status sp_stream_connect(struct sp_conn *conn, const struct sp_addr *addr)
{
    if (conn->sys->connect(conn->fd, (const struct sockaddr *)&addr->storage, addr->len) == 0)
        return SP_OK;
    /* EINTR leaves the connect under way, as EINPROGRESS does (POSIX, connect()). */
    return errno == EINPROGRESS || errno == EINTR ? SP_WANT_WRITE : -errno;
}

sp_status sp_stream_setsockopt(struct sp_conn *conn, int level, int name, int value)
{
    return conn->sys->setsockopt(conn->fd, level, name, &value, sizeof value) < 0 ? -errno : SP_OK;
}

sp_status sp_stream_set(struct sp_conn *conn, enum sp_option option, int value)
{
    switch (option) {
    case SP_OPT_SNDBUF:
        return sp_stream_setsockopt(conn, SOL_SOCKET, SO_SNDBUF, value);
    case SP_OPT_RECBUF:
        return sp_stream_setsockopt(conn, SOL_SOCKET, SO_RCVBUF, value);
    case SP_OPT_NODELAY:
    case SP_OPT_KEEPALIVE:
        break;
    }
    return -ENOPROTOOPT;
}

sp_status sp_stream_buffers(struct sp_conn *conn, const struct sp_sockopts *opts)
{
    sp_status status = SP_OK;

    if (opts->sndbuf_bytes)
        status = sp_stream_set(conn, SP_OPT_SNDBUF, opts->sndbuf_bytes);
    if (status == SP_OK && opts->recbuf_bytes)
        status = sp_stream_set(conn, SP_OPT_RECBUF, opts->recbuf_bytes);
    return status;
}

sp_status sp_stream_opened(struct sp_conn *conn)
{
    int code = 0;
    socklen_t len = sizeof code;
    struct sp_addr *peer = &conn->peer, *own = &conn->own;

    conn->pieces += 3 * SP_PIECES_SYSCALL;
    peer->len = own->len = sizeof peer->storage;
    if (conn->sys->getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0)
        return -errno;
    if (code)
        return -code;
    /* Writable without an error is not yet connected where the wake-up was spurious. */
    if (conn->sys->getpeername(conn->fd, (struct sockaddr *)&peer->storage, &peer->len) < 0)
        return errno == ENOTCONN ? SP_WANT_WRITE : -errno;
    if (conn->sys->getsockname(conn->fd, (struct sockaddr *)&own->storage, &own->len) < 0)
        return -errno;
    return SP_OK;
}

sp_status sp_stream_send(struct sp_conn *conn, const struct iovec *iov, int count, size_t *sent)
{
    struct iovec slice[SP_IOV_MAX];
    size_t room = SP_SLICE_BYTES;
    int used = 0;
    ssize_t result;

    *sent = 0;
    conn->pieces += SP_PIECES_SEND;
    if (count == 1 && iov[0].iov_len <= room) {
        do
            result = conn->sys->sendv(conn->fd, iov, 1);
        while (result < 0 && errno == EINTR);
    } else {
        for (; used < count && used < SP_IOV_MAX && room > 0; used++) {
            slice[used] = iov[used];
            if (slice[used].iov_len > room)
                slice[used].iov_len = room;
            room -= slice[used].iov_len;
        }
        do
            result = conn->sys->sendv(conn->fd, slice, used);
        while (result < 0 && errno == EINTR);
    }
    if (result < 0)
        return would_block(errno) ? SP_WANT_WRITE : errno == EPIPE ? SP_CLOSED : -errno;
    *sent = (size_t)result;
    conn->pieces += sp_pieces_of_bytes(*sent);
    return SP_OK;
}

sp_status sp_stream_recv(struct sp_conn *conn, void *buf, size_t cap, size_t *got)
{
    ssize_t result;

    *got = 0;
    conn->pieces += SP_PIECES_SYSCALL;
    do
        result = conn->sys->recv(conn->fd, buf, cap < SP_SLICE_BYTES ? cap : SP_SLICE_BYTES, 0);
    while (result < 0 && errno == EINTR);
    if (result < 0)
        return would_block(errno) ? SP_WANT_READ : -errno;
    *got = (size_t)result;
    conn->pieces += sp_pieces_of_bytes(*got);
    return result == 0 ? SP_CLOSED : SP_OK;
}

enum sp_clean sp_stream_validate(struct sp_conn *conn)
{
    char byte;
    ssize_t result;

    conn->pieces += SP_PIECES_SYSCALL;
    do
        result = conn->sys->recv(conn->fd, &byte, 1, MSG_PEEK);
    while (result < 0 && errno == EINTR);
    if (result > 0)
        return SP_DIRTY;
    return result < 0 && would_block(errno) ? SP_CLEAN : SP_DEAD;
}

void sp_stream_shutdown(struct sp_conn *conn)
{
    if (conn->fd >= 0)
        (void)conn->sys->shutdown(conn->fd);
}
