/* One connection: its state, who holds it, and what keeps its descriptor open.
 *
 * States. State equals list membership; sp_conn_set_state() is the only setter.
 *
 *     CONNECTING -> INITIALISING -> LEASED <-> IDLE
 *          |              |            |
 *          +--------------+------------+--> CLOSING -> CLOSED
 *
 *   CONNECTING, INITIALISING  held by a connector's lease; counted as connecting
 *   IDLE                      in one shard's list
 *   LEASED                    held by a lease, or by the thread that carries it between two places
 *   CLOSING                   in no list while it waits for its last pin, then in that of closes
 *   CLOSED                    its descriptor is given to the host to close
 *
 * Holding. Exactly one party holds a connection: the thread that unlinked it from its list, or
 * the lease whose number stands in `lease`. A lease ends by a compare-and-swap of that number to
 * 0; who wins holds the connection. Numbers are never used twice on a connection. Only the holder
 * changes the state or starts the close.
 *
 * Pins. Whoever makes a system call on the descriptor without being sure to be the holder for its
 * whole length pins it first, and so does an armed descriptor; closing sets a bit that lets no new
 * pin in, and the last unpin gives the connection to those who close it. So no descriptor is closed
 * under a call. A pin is taken before the lease number is read and the number is cleared before the
 * pins are read (both sequentially consistent), so a call and a revocation cannot miss each other.
 *
 * Thread rules of the fields are given by group below. */
#ifndef SP_CONN_H
#define SP_CONN_H

#include "sp_frame.h"
#include "sp_host.h"
#include "core/base/sp_list.h"
#include "sp_transport.h"
#include "sp_why.h"

#include <stdatomic.h>
#include <stddef.h>

struct sp_sys;

enum sp_conn_state {
    SP_CONN_CONNECTING,
    SP_CONN_INITIALISING,
    SP_CONN_IDLE,
    SP_CONN_LEASED,
    SP_CONN_CLOSING,
    SP_CONN_CLOSED
};

/* The owner of an attempt whose connector has not claimed it yet, and of a connection that the pool has lent to itself:
 * nobody looks whether it lives, or how long it holds. */
#define SP_OWNER_POOL 0
#define SP_LEASE_NONE 0
#define SP_LEASE_MOVING UINT64_MAX /* between two owners, for a few instructions */

/* Received bytes that were not taken yet: base[pos..len). */
struct sp_rbuf {
    uint8_t *base;
    size_t pos, len, cap;
    bool
        shown; /* somebody else sees bytes of it, which must not change: it only grows, in place or by a copy */
};

/* What a server said that nobody read, made fit to be shown: printable ASCII, no quotes, ended by a 0. */
#define SP_WORDS_MAX 64
struct sp_words {
    char text[SP_WORDS_MAX + 1];
};

struct sp_conn {
    /* constant since it was made, but for the transport: see sp_conn_still() */
    struct sp_pool *pool;
    const struct sp_host *host;
    /* Called once, closing and without pins: whoever closes connections has it then. Of the library that made
     * the connection, as its transport is. */
    void (*unpinned)(struct sp_conn *conn, const struct sp_call *call);
    const struct sp_transport *transport;
    uint32_t slot;           /* in the pool's table */
    uint32_t round;          /* the backoff's failures, when it was made */
    uint64_t epoch;          /* the pool's, when it was made */
    uint64_t born_ns;        /* since when it is usable; before that, since when it is tried */
    bool nodelay, keepalive; /* the pool's own */
    uint8_t born_leases;     /* its connector's, which are no uses; since it is usable */
    bool worker;             /* what its transport says, which others than its owner may not ask */

    bool outlived; /* its end, while attempts failed; the control process's */

    /* atomics; `gone` and `shard` are here for the sake of the struct's size */
    _Atomic bool gone; /* a worker that has ended; set by sp_pool_lost(), for good */
    _Atomic bool
        checked; /* its lease is that of a check: changed by the holder only, before and after that */
    _Atomic uint32_t pins;
    _Atomic uint32_t state;
    _Atomic uint32_t shard; /* whose list it was last put into */
    _Atomic uint64_t lease;
    _Atomic uint64_t owner;     /* the lease's; written before `lease` */
    _Atomic uint64_t leased_ns; /* likewise; see sp_times_begin() */
    _Atomic uint64_t armed;     /* the lease whose owner has a select pending; has a pin */
    _Atomic uint64_t ends_ns;   /* from then on it is too old; 0: it has been used too often */

    /* under the lock of the list that it is in */
    struct sp_list_node node;
    bool cold;   /* in the shard's cold list */
    bool aged;   /* in its list of those that are too old */
    uint8_t why; /* the holder's, here for the struct's size: of one that is tainted, enum sp_why */
    bool opened; /* likewise: of an attempt, the transport says that it is connected */
    uint32_t watch; /* generation of its idle watch */
    uint16_t early; /* how much before the interval's end it is to be checked; 0: not drawn yet */
    bool
        follows; /* the holder's, here for the struct's size: it is checked because another has failed */
    bool
        rested; /* likewise: it has been idle since its last use, for as long as since idle_since_ns */
    uint8_t
        ended; /* who closes it says why: enum sp_why; SP_WHYS: it never was usable. Its holder may still be at work. */
    uint64_t asked_ns; /* when it was checked last, or 0 */
    uint64_t
        idle_since_ns; /* of an attempt, since when it does what it does now: its connector's */

    /* written by the control process: the lease that was reported for being held so long, or 0; and since when it was */
    _Atomic uint64_t leaked, leaked_since_ns;

    /* the holder's */
    int fd;
    uint32_t uses;
    uint64_t lease_seq;
    bool used;            /* has been leased to a user */
    bool touched;         /* the lease has done I/O */
    bool unanswered;      /* it has sent, and received nothing since */
    bool tainted;         /* must not be used by the next */
    bool drained;         /* the last receive has taken all that was there */
    bool buffers_changed; /* sndbuf or recbuf are not the pool's, and cannot be put back */
    bool flags_changed;   /* nodelay or keepalive are not the pool's */
    bool framing_changed;
    bool upgraded;     /* the lease has put TLS over it */
    bool shaken;       /* the transport's handshake is done */
    bool heard;        /* the peer has sent something after that */
    bool more;         /* the transport's: its last receive has left something that it holds */
    sp_status fault;   /* the transport's: why no further call can succeed, or SP_OK */
    int pieces;        /* what its operations cost, until sp_conn_settle() */
    uint32_t uses_end; /* with so many it is too old; 0: with none */
    void *keepsake;    /* the host's, from its last check-in */

    /* A stream's, and last: a host may leave a worker without, see sp_conn_bytes(). */
    const struct sp_sys *sys; /* constant */
    void *transport_state;
    struct sp_node_state *dist; /* sp_node.c's, over that */
    struct sp_rbuf rbuf;
    struct sp_addr peer, own;  /* since `opened`; after a reset the system knows them no more */
    struct sp_words words;     /* once sp_recv_words() has looked */
    uint64_t recv_limit_bytes; /* constant */
    struct sp_framing pool_framing; /* constant: the pool's own, which `framing` goes back to */
    struct sp_framing framing;
    struct sp_search search; /* of the message with which rbuf begins */
    uint64_t
        stalled; /* the control process's: the lease of which it was told that nothing gets through */
};

/* How much of the struct a connection with that transport has; the rest, more than half of it, is never touched. */
static inline size_t sp_conn_bytes(const struct sp_transport *transport)
{
    return sp_is_worker(transport) ? offsetof(struct sp_conn, sys) : sizeof(struct sp_conn);
}

/* Bytes that came for a lease, and that nobody took. */
static inline bool sp_conn_has_unread(const struct sp_conn *conn)
{
    return !sp_is_worker(conn->transport) && conn->rbuf.len > conn->rbuf.pos;
}

/* These are gone. */
static inline void sp_conn_forget(struct sp_conn *conn)
{
    if (!sp_is_worker(conn->transport) && conn->rbuf.base)
        conn->host->rbuf_free(conn);
}

/* Only the holder; asserts that the pictured transition is allowed. */
void sp_conn_set_state(struct sp_conn *conn, enum sp_conn_state to);
enum sp_conn_state sp_conn_state(const struct sp_conn *conn);
/* Not usable yet: its connector has it. */
static inline bool sp_conn_unready(const struct sp_conn *conn)
{
    return sp_conn_state(conn) == SP_CONN_CONNECTING || sp_conn_state(conn) == SP_CONN_INITIALISING;
}

/* Whether that is the lease of a check: not a user's, who could give it back. */
static inline bool sp_conn_is_checked_by(const struct sp_conn *conn, uint64_t lease)
{
    return atomic_load(&conn->checked) && atomic_load(&conn->lease) == lease;
}

/* Whether it is too old, by time or by uses. */
static inline bool sp_conn_is_over(const struct sp_conn *conn, uint64_t now_ns)
{
    return now_ns >= atomic_load_explicit(&conn->ends_ns, memory_order_relaxed);
}
/* So many uses more; by who holds it, or its lease. */
void sp_conn_used(struct sp_conn *conn, uint64_t uses);

static inline bool sp_wants(sp_status status)
{
    return status == SP_WANT_READ || status == SP_WANT_WRITE;
}

/* False once closing. The last unpin after closing calls conn->unpinned(). */
SP_MUST_CHECK bool sp_conn_pin(struct sp_conn *conn);
void sp_conn_unpin(struct sp_conn *conn, const struct sp_call *call);
/* Holder only, once: no new pins; wakes whoever waits on the descriptor. */
void sp_conn_begin_close(struct sp_conn *conn, const struct sp_call *call);
bool sp_conn_pinned(const struct sp_conn *conn);
/* Holder only, without pins: the transport's cleanup. The descriptor stays open. */
void sp_conn_cleanup(struct sp_conn *conn);
/* Takes from the call what the transport's operations have cost. After each, by who made it. */
static inline void sp_conn_settle(struct sp_conn *conn, const struct sp_call *call)
{
    sp_take(call, conn->pieces);
    conn->pieces = 0;
}

/* Before the lease's owner, or who does it for the owner, sends at least a byte. */
static inline void sp_conn_sends(struct sp_conn *conn)
{
    conn->touched = true;
    conn->unanswered = true;
}

/* The connection must not be used by the next; the first to say so tells why. */
static inline void sp_conn_taint(struct sp_conn *conn, enum sp_why why)
{
    if (!conn->tainted)
        conn->why = (uint8_t)why;
    conn->tainted = true;
}

/* Holder only: makes a lease for the owner and gives its number. */
uint64_t sp_conn_lease(struct sp_conn *conn, uint64_t owner, uint64_t now_ns);
/* True where this call ended the lease: the caller is the holder now. */
SP_MUST_CHECK bool sp_conn_unlease(struct sp_conn *conn, uint64_t lease);
/* The lease's owner only: another owner, under a new lease number. 0 where the lease has ended. */
SP_MUST_CHECK uint64_t sp_conn_give_away(struct sp_conn *conn, uint64_t lease, uint64_t owner);
/* The lease's owner only, for a few instructions: nobody ends the lease meanwhile, so nobody looks at what is the
 * connection's nature. False where it has ended. */
SP_MUST_CHECK bool sp_conn_still(struct sp_conn *conn, uint64_t lease);
void sp_conn_go_on(struct sp_conn *conn, uint64_t lease);
/* Brackets a call of the lease's owner: pinned, and the lease known to hold at its start. */
SP_MUST_CHECK bool sp_conn_enter(struct sp_conn *conn, uint64_t lease, const struct sp_call *call);
static inline void sp_conn_leave(struct sp_conn *conn, const struct sp_call *call)
{
    sp_conn_unpin(conn, call);
}

/* Called pinned, before the host arms its event loop for the lease's owner: false where it is
 * armed already. The arm holds a pin until sp_conn_disarmed() for the same lease, which may be
 * called at any time and more than once. */
SP_MUST_CHECK bool sp_conn_arming(struct sp_conn *conn, uint64_t lease);
void sp_conn_disarmed(struct sp_conn *conn, uint64_t lease, const struct sp_call *call);
static inline bool sp_conn_armed(struct sp_conn *conn, uint64_t lease)
{
    return atomic_load(&conn->armed) == lease;
}

/* For the lease's owner, within enter/leave; sp_conn_restore() undoes it. */
SP_MUST_CHECK sp_status sp_conn_setopt(struct sp_conn *conn, enum sp_option option, int value);
void sp_conn_set_framing(struct sp_conn *conn, const struct sp_framing *framing);
/* Holder only: the pool's own options again. False where that is not possible. */
SP_MUST_CHECK bool sp_conn_restore(struct sp_conn *conn);

#endif
