/* How much work one call into the core may do before it ends, in pieces of about a microsecond.
 *
 * Everything that may come in numbers (waiters to tell, connections to close, records, slots) takes
 * what it costs from the allowance of its call, and goes on only while something is left. The last
 * piece may overdraw, so every call gets on by one. What is left undone then belongs to somebody who
 * is told: the caller, by the function's answer, or the control process, by a wake-up. */
#ifndef SP_ALLOWANCE_H
#define SP_ALLOWANCE_H

#include <stdbool.h>

struct sp_allowance {
    int left; /* pieces */
};

/* With what a slow machine and the last piece add, a call stays below a millisecond. */
#define SP_ALLOWANCE_PIECES 400

/* What things cost. A message to a process, and the end of its wait. */
#define SP_PIECES_TELL 7
/* A look at whether a process lives, at a connection's lease, or at SP_LOOKS_PER_PIECE places. */
#define SP_PIECES_LOOK 1
#define SP_LOOKS_PER_PIECE 64
/* So many parts of what is to be sent, or members of a list. */
#define SP_PARTS_PER_PIECE 64
/* An idle connection given to the event loop to watch. */
#define SP_PIECES_WATCH 4
/* A descriptor given up and closed; with a session of TLS, what ends that. */
#define SP_PIECES_CLOSE 50
#define SP_PIECES_GOODBYE 20
/* A stream ended both ways under somebody who waits on it. */
#define SP_PIECES_SHUTDOWN 10
/* A connection made, to be connected; and its socket opened, with its options and the connect. */
#define SP_PIECES_ATTEMPT 5
#define SP_PIECES_OPEN 30
/* A connection taken out of the pool. */
#define SP_PIECES_RETIRE 2
/* A system call on a socket; one that sends, which on a loopback does the receiving as well. */
#define SP_PIECES_SYSCALL 3
#define SP_PIECES_SEND 5
/* So many bytes that are moved or encrypted, into memory that is touched for the first time; and so many
 * that are searched. */
#define SP_BYTES_PER_PIECE 256
#define SP_BYTES_SEARCHED_PER_PIECE 8192
/* All that a pool has counted, or its histograms, as terms. */
#define SP_PIECES_COUNTERS 20
/* A record or a handshake message of TLS, beside its bytes. */
#define SP_PIECES_RECORD 1

static inline int sp_pieces_of_bytes(unsigned long bytes)
{
    return (int)(bytes / SP_BYTES_PER_PIECE);
}

static inline void sp_allowance_fill(struct sp_allowance *allowance)
{
    allowance->left = SP_ALLOWANCE_PIECES;
}

static inline void sp_allowance_take(struct sp_allowance *allowance, int pieces)
{
    allowance->left -= pieces;
}

static inline bool sp_allowance_is_spent(const struct sp_allowance *allowance)
{
    return allowance->left <= 0;
}

#endif
