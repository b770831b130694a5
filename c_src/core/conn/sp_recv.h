/* Receiving for a lease: a number of bytes, whatever is there, or one packet. */
#ifndef SP_RECV_H
#define SP_RECV_H

#include "sp_conn.h"

/* `packet`: one message of the connection's framing (raw: as len_bytes 0). Otherwise len_bytes
 * bytes of a raw stream, 0 meaning any number above 0. `ends_lease`: by
 * sp_pool_finish(), which wants to know whether something follows. */
struct sp_want {
    bool packet, ends_lease;
    size_t len_bytes;
    size_t shown; /* with SP_FRAMING_FUN: so many bytes are to be there; 0 is as 1 */
};

/* Where the message is: in the caller's scratch memory, or in the connection's buffer. */
struct sp_received {
    const uint8_t *data;
    size_t len;
    bool in_rbuf;
    bool only_shown;   /* all that is there, of which none is taken: SP_FRAMING_FUN */
    size_t rbuf_taken; /* bytes that sp_recv_taken() will drop */
};

/* Called by the lease's owner within enter/leave. SP_OK: the message is in *received until
 * sp_recv_taken(), which must follow. SP_WANT_READ, SP_WANT_WRITE, SP_AGAIN (the call may do no more):
 * what came so far is kept.
 * SP_TOO_BIG, SP_BAD_FRAME: refused; SP_CLOSED, -errno, SP_NO_MEMORY: the stream is at its end.
 * Errors that leave the stream in an unknown place taint the connection. The scratch memory is of at
 * most SP_FULL_RECV_BYTES. */
SP_MUST_CHECK sp_status sp_recv(struct sp_conn *conn, const struct sp_call *call,
                                const struct sp_want *want, uint8_t *scratch, size_t scratch_cap,
                                struct sp_received *received);
void sp_recv_taken(struct sp_conn *conn, const struct sp_received *received);

/* For an owner who waits to send, within enter/leave: what is there goes to the connection's buffer, for a server that
 * answers while it reads waits for that, and its client for the server. *taken says how many bytes.
 * SP_WANT_READ: that was all; SP_AGAIN: the call may do no more; SP_TOO_BIG: there are recv_limit bytes in the buffer;
 * others as of sp_recv(), but they taint nothing: who receives will see them. */
sp_status sp_recv_ahead(struct sp_conn *conn, const struct sp_call *call, size_t *taken);

/* By the holder, or within enter/leave, of a connection that is to be closed: the begin of what is unread
 * goes to conn->words. Not of a connection to a node, whose bytes are no words. False: there are none. */
bool sp_recv_words(struct sp_conn *conn);

#endif
