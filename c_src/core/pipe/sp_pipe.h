/* A pipe: many requests of different callers under way on one connection.
 *
 * Model: test/model/pipeline.pml; docs/protocol.md. A request has a place in a ring, with a number that is never used
 * twice; replies come in the order of the numbers. Nobody waits for anybody but asleep, and nobody who sleeps depends
 * on one caller to come back:
 *
 *   - Callers append their bytes under the lock, and let others run. Whoever comes back and finds that its own are not
 *     out yet writes for all; sooner whoever has appended as the one with whom it is worth a system call, or long enough
 *     after the first.
 *   - Whoever comes back and finds no reply receives for all. An owner who finds its own takes it, without a message.
 *   - After some turns without one it arms: then it sleeps, and is told. One select is pending while somebody sleeps:
 *     for the owner, where nothing else is under way, otherwise for the control process.
 *
 * Writing, receiving, telling and selects are for who holds `io` (sp_pipe_io.h): who finds it held leaves a wish, which
 * its holder then carries out. Places change under the lock:
 *
 *     FREE -> PENDING -> ARMED -> FREE      the owner was told
 *               |  ^       |
 *               |  +-------+                its select has fired: it comes by itself
 *               v
 *     FREE <- DONE                          the owner takes the reply
 *     PENDING, ARMED -> GIVEN_UP -> FREE    what comes is dropped; TOLD -> GIVEN_UP: its message is still due
 *
 * A pipe belongs to its pool, and has one connection after the other. */
#ifndef SP_PIPE_H
#define SP_PIPE_H

#include "sp_intake.h"

#include <pthread.h>

struct sp_waiter;

#define SP_PIPE_HELD 1u
#define SP_PIPE_WRITE 2u
#define SP_PIPE_READ 4u
#define SP_PIPE_SELECT 8u

#define SP_NO_NUMBER UINT64_MAX /* of a receiver: nobody */
#define SP_FOR_CONTROL (UINT64_MAX - 1)

enum sp_place_state {
    SP_PLACE_FREE,
    SP_PLACE_PENDING,
    SP_PLACE_ARMED,
    SP_PLACE_DONE,
    SP_PLACE_GIVEN_UP,
    SP_PLACE_TOLD
};

struct sp_place {
    enum sp_place_state state;
    sp_status status; /* of DONE; SP_AGAIN: nothing of it was written, and it may go elsewhere */
    struct sp_want want;
    uint64_t number, owner;
    uint64_t begin, end; /* its bytes in the stream */
    uint64_t placed_ns;
    struct sp_waiter *waiter; /* of ARMED and TOLD: who is told, with a reference */
    struct sp_reply reply;
};

struct sp_bytes {
    uint8_t *data;
    size_t len, cap;
};

/* A reply whose place was needed before its owner came. */
struct sp_leftover {
    struct sp_leftover *next;
    struct sp_place place;
};

struct sp_pipe {
    /* constant */
    const struct sp_host *host;
    void (*waiter_ref)(struct sp_waiter *waiter);
    void (*waiter_unref)(struct sp_waiter *waiter);
    uint32_t index; /* in the pool */

    _Atomic uint32_t io;          /* SP_PIPE_HELD, and what is wished for meanwhile */
    _Atomic uint32_t due;         /* wishes that the control process is to carry out */
    _Atomic bool attached;        /* has a connection; written under the lock */
    _Atomic uint32_t free_places; /* about so many; 0 where it takes nothing now; likewise */

    _Alignas(64) pthread_mutex_t lock;
    struct sp_conn *conn; /* with a reference; or NULL */
    uint64_t lease;
    uint32_t generation; /* of connections */
    bool breaking;       /* takes no more; the next round ends it */
    struct sp_place *places;
    uint32_t mask, limit;
    size_t bytes_max;
    uint64_t stall_ns;
    uint64_t first,
        stop; /* of its connection: the first number, and the first that it is not to have */
    uint64_t head, swapped,
        tail;       /* the oldest that is under way; the first that is in `filling`; the next */
    uint32_t usual; /* requests under way, on average, in USUAL_ONEs */
    uint32_t armed;
    uint32_t skip;     /* so many look without receiving: one just did, and nothing was there */
    uint32_t patience; /* how often a reply comes before its owner sleeps; to 255 */
    uint64_t progress_ns;
    uint64_t queued; /* bytes that were ever put into `filling` for this connection */
    struct sp_bytes filling;
    size_t flight_len; /* of `flight` */
    uint64_t receiver; /* a number, SP_FOR_CONTROL or SP_NO_NUMBER; changed by the holder only */
    bool receiver_fired, write_fired;
    struct sp_leftover *leftovers, **leftovers_end; /* the oldest first */
    uint64_t looked; /* the number where sp_pipe_drop_dead() goes on */

    /* the holder's */
    struct sp_bytes flight;
    size_t flown;
    uint64_t written; /* bytes */
    sp_status failed; /* why nothing more can be written */
    sp_status broken; /* what the oldest is told when it breaks */
    enum sp_why why;  /* its connection is closed then */
    bool read_pin, write_pin;
    struct sp_intake intake;
};

/* NULL where memory is short. */
struct sp_pipe *sp_pipe_new(const struct sp_host *host, void (*waiter_ref)(struct sp_waiter *),
                            void (*waiter_unref)(struct sp_waiter *), uint32_t index);
/* Without a connection. */
void sp_pipe_free(struct sp_pipe *pipe);

struct sp_pipe_limits {
    uint32_t requests; /* under way */
    size_t bytes;      /* queued */
    uint64_t stall_ns;
    uint64_t in_all; /* on this connection; UINT64_MAX: any number */
};

/* Takes over the lease and a reference. False where it has a connection already, or memory is short. */
SP_MUST_CHECK bool sp_pipe_attach(struct sp_pipe *pipe, const struct sp_call *call,
                                  struct sp_conn *conn, uint64_t lease,
                                  const struct sp_pipe_limits *limits);

struct sp_ask {
    uint64_t owner;
    const struct iovec *iov;
    int count;
    size_t len;
    struct sp_want want;
    /* Of one who sleeps already: a reference, and, called under the lock, whether it still wants it. */
    struct sp_waiter *waiter;
    bool (*claim)(struct sp_waiter *waiter, uint32_t pipe, uint64_t number);
};

/* SP_OK: *number; *wishes is what is to be done now. SP_CLOSED: no connection; SP_FULL; SP_TIMEOUT: not claimed;
 * SP_NO_MEMORY. */
SP_MUST_CHECK sp_status sp_pipe_append(struct sp_pipe *pipe, const struct sp_call *call,
                                       const struct sp_ask *ask, uint64_t *number,
                                       uint32_t *wishes);

/* For the owner of a place. SP_OK: *reply is the caller's, and the place is given back; SP_WANT_READ: nothing yet, and
 * *wishes is what to do about it; SP_AGAIN: to be asked again elsewhere; SP_NOT_FOUND: no such place; or why there is no
 * reply. `fired`: its select was told. */
SP_MUST_CHECK sp_status sp_pipe_look(struct sp_pipe *pipe, uint64_t number, uint64_t owner,
                                     bool fired, struct sp_reply *reply, uint32_t *wishes);
/* After SP_WANT_READ: whether one who has looked so many times should look again before it sleeps. */
bool sp_pipe_is_patient(struct sp_pipe *pipe, uint32_t looks);
/* As sp_pipe_look(), and with SP_WANT_READ the owner will be told, once; takes over the reference to the waiter then. */
SP_MUST_CHECK sp_status sp_pipe_arm(struct sp_pipe *pipe, uint64_t number, uint64_t owner,
                                    struct sp_waiter *waiter, struct sp_reply *reply,
                                    uint64_t *placed_ns);
/* As sp_pipe_look(); SP_TIMEOUT: given up, nothing comes; SP_WANT_READ: it is armed, and its message is there or comes
 * soon: then once more. */
SP_MUST_CHECK sp_status sp_pipe_give_up(struct sp_pipe *pipe, uint64_t number, uint64_t owner,
                                        bool sleeps, struct sp_reply *reply, uint32_t *wishes);
/* The control process was told of that connection; `write`: that there is room. */
void sp_pipe_fired(struct sp_pipe *pipe, uint32_t generation, bool write);

/* Whether its connection is too old. */
bool sp_pipe_is_over(struct sp_pipe *pipe, uint64_t now_ns);
/* Its connection takes nothing new, and is idle when what is under way is done. */
void sp_pipe_stop(struct sp_pipe *pipe);
/* Its connection, where that is of an epoch before this, is ended by the next round. */
void sp_pipe_end_before(struct sp_pipe *pipe, uint64_t epoch);
/* Drops the replies of owners who died before they took them, of those placed before then. True where the call may do no
 * more, and there is more to look at. */
bool sp_pipe_drop_dead(struct sp_pipe *pipe, const struct sp_call *call, uint64_t before_ns);
/* Whether there is a reply that nobody has taken. */
bool sp_pipe_has_untaken(struct sp_pipe *pipe);

static inline uint64_t sp_pipe_under_way(const struct sp_pipe *pipe)
{
    return pipe->tail - pipe->head;
}

static inline struct sp_place *sp_pipe_place(struct sp_pipe *pipe, uint64_t number)
{
    return &pipe->places[number & pipe->mask];
}

/* Under the lock: whether it is for longer than this that the server has neither answered nor taken anything that is the
 * oldest's, or nobody's any more. */
static inline bool sp_pipe_is_overdue(const struct sp_pipe *pipe, uint64_t now_ns,
                                      uint64_t after_ns)
{
    return (pipe->head != pipe->tail || pipe->flight_len > 0) && now_ns > pipe->progress_ns &&
           now_ns - pipe->progress_ns > after_ns;
}

/* Under the lock, after those under way have changed. */
static inline void sp_pipe_count_places(struct sp_pipe *pipe)
{
    uint64_t under_way = sp_pipe_under_way(pipe);

    atomic_store_explicit(&pipe->free_places,
                          under_way < pipe->limit && pipe->tail < pipe->stop && !pipe->breaking
                              ? pipe->limit - (uint32_t)under_way
                              : 0,
                          memory_order_relaxed);
}

#endif
