/* The queue of those who wait for a connection, first come, first served. A waiter's state changes only
 * under queue.lock. */
#ifndef SP_QUEUE_H
#define SP_QUEUE_H

#include "sp_pool.h"
#include "core/conn/sp_recv.h"

enum sp_waiter_state { SP_WAITING, SP_GRANTED, SP_CANCELLED, SP_FAILED };
enum sp_handoff { SP_HANDOFF_OPEN, SP_HANDOFF_DELIVERED, SP_HANDOFF_ABANDONED };

/* A process in the queue. Core memory that its host allocates around it, with one reference for
 * the queue (or the thread that grants) and one for the owner's handle. A waiter with iov_count > 0
 * carries a request: who grants also sends it. */
struct sp_waiter {
    /* constant while queued */
    struct sp_pool *pool;
    uint64_t owner;
    const struct iovec *iov;
    int iov_count;
    uint64_t since_ns;   /* it waits */
    uint64_t queued_ns;  /* see sp_times_begin() */
    uint64_t expires_ns; /* 0: its owner has a timer of its own, and cancels */
    bool growing_only;   /* not for a check-in: for a connection that is made, or can be */
    bool piped;          /* for a place on a pipe, which then tells it of the reply */
    struct sp_want want; /* of one that is piped */

    _Atomic uint32_t refs;
    /* under queue.lock */
    struct sp_list_node node;
    struct sp_deadline deadline;
    enum sp_waiter_state state;
    /* Who comes second of the granter (DELIVERED) and the handle's destructor (ABANDONED) sees the
     * other's mark. conn and lease are written before DELIVERED; from then on they, with one
     * reference to conn, are the handle's. */
    _Atomic uint32_t handoff;
    struct sp_conn *conn; /* NULL with a place on a pipe: */
    uint64_t lease;       /* its number there */
    uint32_t pipe;
};

/* The owner waits no longer. SP_CANCELLED: nothing will come. SP_GRANTED, SP_FAILED: it is told. */
enum sp_waiter_state sp_waiter_cancel(struct sp_waiter *waiter, const struct sp_call *call);
/* After a grant: what it brought, with a reference to the connection. Drops the handle's reference.
 * False where the grant was taken back by an abandon (never for a live handle). */
SP_MUST_CHECK bool sp_waiter_adopt(struct sp_waiter *waiter, struct sp_conn **conn,
                                   uint64_t *lease);
void sp_waiter_ref(struct sp_waiter *waiter);
void sp_waiter_unref(struct sp_waiter *waiter);
/* Tells waiters whose time is over that it is (SP_TIMEOUT), as many as the call may; true where there
 * may be more of them. */
SP_MUST_CHECK bool sp_pool_expire(struct sp_pool *pool, const struct sp_call *call);
/* Tells the oldest waiter that it gets nothing; false where there is none. */
bool sp_pool_fail_waiter(struct sp_pool *pool, const struct sp_call *call, sp_status status);

/* Under queue.lock. */
void sp_queue_push(struct sp_pool *pool, struct sp_waiter *waiter, uint64_t now_ns);
/* For how many connections those wait who wait: one is enough for as many requests as may be under way on it. */
uint64_t sp_queue_demand(struct sp_pool *pool);
/* How many of those who wait, but for the oldest `skip', have done so since `before_ns' or longer; no more than `most' are counted.
 * *next_ns: since when the next one does, or SP_NEVER. */
uint64_t sp_queue_late(struct sp_pool *pool, const struct sp_call *call, uint64_t skip,
                       uint64_t most, uint64_t before_ns, uint64_t *next_ns);

/* For those who grant: */

/* The oldest waiter, out of the queue, with the queue's reference, if it is one for a lease. GRANTED, or FAILED
 * where its time was over. */
struct sp_waiter *sp_queue_take(struct sp_pool *pool, uint64_t now_ns);
/* Likewise, if it is piped. */
struct sp_waiter *sp_queue_take_piped(struct sp_pool *pool, uint64_t now_ns);
bool sp_queue_first_is_piped(struct sp_pool *pool);
/* One that was taken is the oldest again; not after the phase has left OPEN, or its owner has taken it back. */
SP_MUST_CHECK bool sp_queue_put_back(struct sp_pool *pool, const struct sp_call *call,
                                     struct sp_waiter *waiter);
/* Tells one that was taken why it gets nothing; takes over the queue's reference. */
void sp_queue_fail(const struct sp_call *call, struct sp_waiter *waiter, sp_status status);
/* Likewise, unless its owner has taken it back: one that was granted. */
void sp_queue_refuse(const struct sp_call *call, struct sp_waiter *waiter, sp_status status);
/* Tells one that was taken that its time is over; takes over the queue's reference. */
void sp_queue_expire(struct sp_pool *pool, const struct sp_call *call, struct sp_waiter *waiter);
/* Its state, which is CANCELLED where it waited until now. */
enum sp_waiter_state sp_queue_leave(struct sp_waiter *waiter, const struct sp_call *call);
/* For how long the oldest has waited; in how much of the time since the pool was made somebody did. */
uint64_t sp_queue_oldest_wait(struct sp_pool *pool, uint64_t now_ns);
uint64_t sp_queue_exhausted(struct sp_pool *pool, uint64_t now_ns);

#endif
