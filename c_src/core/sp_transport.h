/* The operations that a connection's byte stream has, whatever carries it.
 *
 * All are non-blocking and called with the connection pinned or held exclusively. None changes
 * the connection's state or frees it. */
#ifndef SP_TRANSPORT_H
#define SP_TRANSPORT_H

#include "sp_status.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct sp_conn;

struct sp_addr {
    struct sockaddr_storage storage;
    socklen_t len;
};

/* Zero means the system's default for the sizes; bind.len is 0 for no local address. */
struct sp_sockopts {
    bool nodelay, keepalive;
    int sndbuf_bytes, recbuf_bytes;
    struct sp_addr bind;
};

enum sp_option { SP_OPT_NODELAY, SP_OPT_KEEPALIVE, SP_OPT_SNDBUF, SP_OPT_RECBUF };

enum sp_clean { SP_CLEAN, SP_DEAD, SP_DIRTY };

struct sp_transport {
    const char *name;
    /* Makes conn->fd and starts to connect it: SP_OK (connected), SP_WANT_WRITE (then `opened`
     * once writable), or -errno. On an error conn->fd may be open; the caller closes it. */
    sp_status (*open)(struct sp_conn *conn, const struct sp_addr *addr,
                      const struct sp_sockopts *opts);
    sp_status (*opened)(struct sp_conn *conn);
    sp_status (*set)(struct sp_conn *conn, enum sp_option option, int value);
    /* SP_OK with 1 or more bytes taken (*sent, fewer than offered where the socket is full),
     * SP_WANT_WRITE with none, SP_CLOSED or -errno. */
    sp_status (*send)(struct sp_conn *conn, const struct iovec *iov, int count, size_t *sent);
    /* SP_OK with 1 or more bytes, SP_WANT_READ, SP_CLOSED at end of file, or -errno. */
    sp_status (*recv)(struct sp_conn *conn, void *buf, size_t cap, size_t *got);
    /* Whether an idle connection may be handed out: nothing to read, and not closed. */
    enum sp_clean (*validate)(struct sp_conn *conn);
    /* Ends the stream both ways, so that whoever waits on the descriptor wakes. */
    void (*shutdown)(struct sp_conn *conn);
};

extern const struct sp_transport sp_transport_tcp;
extern const struct sp_transport sp_transport_unix;

/* One send or recv hands the kernel at most this many bytes, some 20 us of copying. */
#define SP_SLICE_BYTES (128 * 1024)
#define SP_IOV_MAX 64

#endif
