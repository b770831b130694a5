/* The operations that a connection's byte stream has, whatever carries it.
 *
 * All are non-blocking and called with the connection pinned or held exclusively. None changes
 * the connection's state or frees it. Each adds to conn->pieces what it costs (sp_allowance.h). */
#ifndef SP_TRANSPORT_H
#define SP_TRANSPORT_H

#include "core/base/sp_status.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct sp_conn;

struct sp_addr {
    struct sockaddr_storage storage;
    socklen_t len;
    const char *host; /* the name or IP address it stands for, as the user wrote it, or NULL; valid
                         during the call */
    const void *to;   /* the transport's own, or NULL; valid during the call */
};

/* When the system asks a peer that says nothing, and how often without an answer; 0: its own times. */
struct sp_keepalive {
    unsigned idle_s, interval_s, count;
};

/* Zero means the system's default for the sizes; bind.len is 0 for no local address. */
struct sp_sockopts {
    bool nodelay, keepalive;
    struct sp_keepalive times;
    unsigned
        user_timeout_ms; /* what is sent may be unconfirmed for so long; 0: for the system's time */
    int sndbuf_bytes, recbuf_bytes;
    unsigned
        silence_s; /* a peer that cannot be reached for so long is gone, unless the two above say it; 0: not looked at */
    struct sp_addr bind;
    void *settings; /* the transport's own, or NULL; outlives the pool's connections */
};

enum sp_option { SP_OPT_NODELAY, SP_OPT_KEEPALIVE, SP_OPT_SNDBUF, SP_OPT_RECBUF };

enum sp_clean { SP_CLEAN, SP_DEAD, SP_DIRTY };

/* Something that a transport knows about a connection. A text may become a word of the host's
 * language, as an atom; bytes stay as they are. */
enum sp_fact_kind { SP_FACT_FLAG, SP_FACT_NUMBER, SP_FACT_WORD, SP_FACT_TEXT, SP_FACT_BYTES };
typedef void (*sp_fact)(void *arg, const char *key, enum sp_fact_kind kind, const void *data,
                        size_t len); /* a flag is set where len is not 0, a number is len */

struct sp_transport {
    const char *name;
    /* Makes conn->fd and starts to connect it: SP_OK (connected), SP_WANT_WRITE (then `opened`
     * once writable), or -errno. On an error conn->fd may be open; the caller closes it. */
    sp_status (*open)(struct sp_conn *conn, const struct sp_addr *addr,
                      const struct sp_sockopts *opts);
    sp_status (*opened)(struct sp_conn *conn);
    /* NULL where there is nothing to do. After `opened`, before any byte: one step of what makes
     * the stream usable. It may compute for milliseconds. SP_OK (done), SP_WANT_READ or
     * SP_WANT_WRITE (call again then), or why it failed. */
    sp_status (*handshake)(struct sp_conn *conn);
    sp_status (*set)(struct sp_conn *conn, enum sp_option option, int value);
    /* SP_OK with 1 or more bytes taken (*sent, fewer than offered where the socket is full),
     * SP_WANT_WRITE or SP_WANT_READ with none: offer the same bytes again then; SP_CLOSED, -errno or
     * a status of the transport's own. */
    sp_status (*send)(struct sp_conn *conn, const struct iovec *iov, int count, size_t *sent);
    /* SP_OK with 1 or more bytes, SP_WANT_READ or SP_WANT_WRITE, SP_CLOSED at end of file, -errno or
     * a status of the transport's own. One call takes a slice at most: SP_SLICE_BYTES, or what a
     * transport has instead, which is no less than SP_FULL_RECV_BYTES, or as many records as it may.
     * Fewer bytes than asked for and than SP_FULL_RECV_BYTES mean that no more are there, and that
     * the descriptor tells of new ones, unless conn->fault or conn->more is set. */
    sp_status (*recv)(struct sp_conn *conn, void *buf, size_t cap, size_t *got);
    /* Whether an idle connection may be handed out: nothing to read, and not closed. */
    enum sp_clean (*validate)(struct sp_conn *conn);
    /* Ends the stream both ways, so that whoever waits on the descriptor wakes. The only operation
     * that may run while another thread is in one of the others. */
    void (*shutdown)(struct sp_conn *conn);
    /* NULL where there is nothing to do. Takes leave of the peer without waiting for it, and frees
     * conn->transport_state. The descriptor is still open; nobody else is in any operation. */
    void (*cleanup)(struct sp_conn *conn);
    /* NULL where there is nothing to tell. */
    void (*describe)(struct sp_conn *conn, sp_fact tell, void *arg);
    /* NULL, or whether this fault is the server's refusal of us, which may come when the handshake is
     * done on our side. */
    bool (*is_refusal)(sp_status fault);
    /* A recv that gives fewer bytes than asked for, and than SP_FULL_RECV_BYTES, proves that none are
     * left anywhere, and costs no more for having been asked for too many. */
    bool short_is_all;
    bool upgradable; /* TLS may be put over it in its course, see sp_tls_upgrade() */
    bool node;       /* of a distribution connection; see core/dist/sp_node.h */
    /* Not a stream but a process of the host's, without a descriptor: nothing is sent or received. It can end at
     * any time, of which the host tells by sp_pool_lost(); until then whoever has been given it may use it, lease
     * or not, so that what its owner leaves behind is not known to be unused. */
    bool worker;
};

/* By a flag and not by its address: after an upgrade connections have the tables of the library that
 * made them. */
static inline bool sp_is_node(const struct sp_transport *transport)
{
    return transport->node;
}

static inline bool sp_is_worker(const struct sp_transport *transport)
{
    return transport->worker;
}

extern const struct sp_transport sp_transport_tcp;
extern const struct sp_transport sp_transport_unix;

/* One send or recv moves at most this many bytes: some 20 us of copying for the kernel. */
#define SP_SLICE_BYTES (128 * 1024)
/* The shortest slice that a recv may have. */
#define SP_FULL_RECV_BYTES (64 * 1024)
#define SP_IOV_MAX 64

#endif
