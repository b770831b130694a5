/* What every fallible core function returns.
 *
 * 0 is success, a positive value is one of sockpool's own answers, a negative value is -errno.
 * sp_status_name() gives the word that users see: the lower-case name of an own answer, or the
 * POSIX name of an errno ("econnrefused"). */
#ifndef SP_STATUS_H
#define SP_STATUS_H

#define SP_MUST_CHECK __attribute__((warn_unused_result))

#define SP_STATUS_MAP(X)                                                                           \
    X(OK, 0, "ok")                                                                                 \
    X(WANT_READ, 1, "want_read")   /* nothing lost: call again when readable */                    \
    X(WANT_WRITE, 2, "want_write") /* nothing lost: call again when writable */                    \
    X(AGAIN, 3, "again")           /* a slice is done, more is ready: call again at once */        \
    X(EMPTY, 4, "empty")           /* no idle connection */                                        \
    X(FULL, 5, "full")             /* as many waiters as max_waiting allows */                     \
    X(CLOSED, 6, "closed")         /* by the peer, by check-in, or with its pool */                \
    X(DRAINING, 7, "draining")     /* the pool is being stopped */                                 \
    X(NOT_FOUND, 8, "not_found")   /* no such pool, or it has stopped */                           \
    X(BUSY, 9, "busy")             /* another call waits on this connection */                     \
    X(NOT_OWNER, 10, "not_owner")                                                                  \
    X(NO_MEMORY, 11, "enomem")                                                                     \
    X(TOO_BIG, 12, "emsgsize")    /* a message above recv_limit or the packet header's range */    \
    X(UNREAD, 14, "unread_bytes") /* a new connection on which the server spoke unasked */         \
    X(BAD_FRAME, 13, "bad_frame") /* bytes that no message of the framing begins with */           \
    X(BAD_DATA, 15, "bad_data")   /* what is to be sent is no list of binaries */                  \
    X(TIMEOUT, 16, "timeout")     /* nothing was granted in time */                                \
    X(HANDSHAKE, 17, "handshake") /* connected; the transport's handshake comes next */            \
    X(SHOWN, 18, "shown") /* received, and still there: a function says how much is a message */   \
    X(UNAVAILABLE, 19, "unavailable") /* with fail_fast: attempts fail, and nothing is up */

#define SP_STATUS_ENUM(name, value, text) SP_##name = value,
enum { SP_STATUS_MAP(SP_STATUS_ENUM) };
#undef SP_STATUS_ENUM

typedef int sp_status;

/* From here on a status is a transport's own, with names that the transport knows. */
#define SP_STATUS_TRANSPORT 0x10000

/* Static string, never NULL; an errno without a known name gives "eunknown". */
const char *sp_status_name(sp_status status);

#endif
