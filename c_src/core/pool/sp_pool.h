/* The pool: idle shards, FIFO waiters, one global capacity. The data plane; sp_control.h has what
 * the pool's control process does.
 *
 * Protocol (docs/protocol.md; model test/model/waiters.pml). `phase`, `nwait`, each shard's `top`
 * and `total` are sequentially consistent atomics; a waiter's state changes only under queue.lock;
 * no two locks are ever held together, and no host function is called under one.
 *
 * Thread rule: every function here may be called from any thread at any time, unless it says
 * otherwise. Functions that take a lease number act only if that lease still holds. */
#ifndef SP_POOL_H
#define SP_POOL_H

#include "core/base/sp_backoff.h"
#include "core/conn/sp_conn.h"
#include "core/base/sp_expiry.h"
#include "core/conn/sp_host.h"
#include "core/base/sp_list.h"
#include "sp_stats.h"

#include <pthread.h>

#define SP_SHARDS_MAX 64
#define SP_MS UINT64_C(1000000)
#define SP_NEVER UINT64_MAX
/* A connection that has been idle this long is watched for the server's close. */
#define SP_COLD_NS (1000 * SP_MS)

enum sp_strategy { SP_LIFO, SP_FIFO };

/* Everything that a restart of the pool may change. */
struct sp_config {
    const struct sp_transport *transport;
    uint32_t size, max_overflow;
    uint64_t overflow_ttl_ns;   /* SP_NEVER: extra connections stay */
    uint64_t validate_after_ns; /* 0: always; SP_NEVER: never */
    uint64_t max_hold_ns;       /* SP_NEVER: no limit */
    uint64_t max_waiting;
    uint64_t backoff_min_ns, backoff_max_ns;
    uint64_t recv_limit_bytes;
    enum sp_strategy strategy;
    enum sp_packet packet;
    struct sp_sockopts sockopts;
};

/* OPEN: serves. DRAINING, DOWN (its control process died): refuses, may open again in a new epoch.
 * CLOSED: never opened, or stopped. */
enum sp_phase { SP_PHASE_CLOSED, SP_PHASE_OPEN, SP_PHASE_DRAINING, SP_PHASE_DOWN };

struct sp_shard {
    _Alignas(128) pthread_mutex_t lock;
    struct sp_list fresh;  /* idle for less than SP_COLD_NS when last looked at */
    struct sp_list cold;   /* watched; each idle for longer than any in `fresh` */
    _Atomic uint32_t top;  /* how many in both; changed under the lock, probed without */
    struct sp_stats stats; /* counted by threads whose home this is */
};

enum sp_waiter_state { SP_WAITING, SP_GRANTED, SP_CANCELLED, SP_FAILED };
enum sp_handoff { SP_HANDOFF_OPEN, SP_HANDOFF_DELIVERED, SP_HANDOFF_ABANDONED };

/* A process in the queue. Core memory that its face allocates around it, with one reference for
 * the queue (or the thread that grants) and one for the owner's handle. A waiter with iov_count > 0
 * carries a request: who grants also sends it. */
struct sp_waiter {
    /* constant while queued */
    struct sp_pool *pool;
    uint64_t owner;
    const struct iovec *iov;
    int iov_count;
    uint64_t expires_ns; /* 0: its owner has a timer of its own, and cancels */

    _Atomic uint32_t refs;
    /* under queue.lock */
    struct sp_node node;
    struct sp_deadline deadline;
    enum sp_waiter_state state;
    /* Who comes second of the granter (DELIVERED) and the handle's destructor (ABANDONED) sees the
     * other's mark. conn and lease are written before DELIVERED; from then on they, with one
     * reference to conn, are the handle's. */
    _Atomic uint32_t handoff;
    struct sp_conn *conn;
    uint64_t lease;
};

struct sp_pool {
    /* constant */
    const struct sp_host *host;
    const struct sp_sys *sys;
    uint32_t shard_count;
    struct sp_shard *shards;

    /* Set by sp_control_open(); read without a lock, each field for itself. */
    _Atomic uint32_t size, limit; /* limit = size + max_overflow */
    _Atomic uint64_t overflow_ttl_ns, validate_after_ns, max_hold_ns, max_waiting;
    _Atomic uint32_t strategy;

    _Atomic uint32_t phase;
    _Atomic uint64_t epoch; /* one more with each opening */
    _Atomic uint32_t total; /* connections and capacity given to connectors */
    _Atomic uint32_t connecting;
    _Atomic bool
        doubted; /* the server refused after a handshake: only what it says counts as success */
    _Atomic uint32_t eager; /* 1: somebody who would not wait found nothing; until the next step */
    _Atomic uint32_t woken; /* a wake-up of the control process is under way */

    struct {
        _Alignas(128) pthread_mutex_t lock;
        struct sp_list list;
        struct sp_expiry expiry;
    } queue;
    _Atomic uint64_t nwait;

    /* Control plane. */
    struct {
        pthread_mutex_t lock;
        struct sp_conn **slots; /* each holds one reference */
        uint32_t count;         /* slots that exist */
        uint32_t free_hint;
    } table;
    struct {
        pthread_mutex_t lock;
        struct sp_list list;
    } closing;
    struct {
        pthread_mutex_t lock;
        struct sp_backoff state;
        struct sp_config config;   /* changed while not open only */
        enum sp_phase shutting_to; /* by shutting calls only, as is the cursor into the table */
        uint32_t cursor;
    } control;
};

/* Initialises zeroed memory. SP_NO_MEMORY, or SP_OK: then sp_pool_destroy() once nobody can reach
 * the pool and it has no connections. */
SP_MUST_CHECK sp_status sp_pool_init(struct sp_pool *pool, const struct sp_host *host,
                                     const struct sp_sys *sys, uint32_t shard_count);
void sp_pool_destroy(struct sp_pool *pool);

/* An idle, clean connection, leased to the owner; the caller gets a reference to it, and what its
 * last check-in left (or NULL). SP_EMPTY where there is none or others wait already; SP_AGAIN where so
 * many were found closed that the call has to end: call again, or queue; SP_CLOSED, SP_DRAINING,
 * SP_NOT_FOUND by the phase. */
SP_MUST_CHECK sp_status sp_pool_checkout(struct sp_pool *pool, const struct sp_call *call,
                                         uint64_t owner, struct sp_conn **conn, uint64_t *lease,
                                         void **keepsake);
/* Says that a connection was wanted that nobody waits for. */
void sp_pool_want(struct sp_pool *pool, const struct sp_call *call);

/* After SP_EMPTY: the pool is as large as it may be, and fewer wait than it has connections.
 * Holders that were merely preempted may then give back as soon as they run, and who queues at once
 * starts a convoy: from then on every check-in must wake a waiter, whose next check-out must wait
 * as well. */
bool sp_pool_crowded(struct sp_pool *pool);
/* Queues the waiter (zeroed but for its constant group). On SP_OK it has two references, and
 * sooner or later exactly one waiter_notify(), unless it is cancelled.
 * On an error (SP_FULL, SP_CLOSED, ...) it has none: the caller frees it. */
SP_MUST_CHECK sp_status sp_pool_enqueue(struct sp_pool *pool, const struct sp_call *call,
                                        struct sp_waiter *waiter);
/* Tells waiters whose time is over that it is (SP_TIMEOUT), as many as the call may; true where there
 * may be more of them. */
SP_MUST_CHECK bool sp_pool_expire(struct sp_pool *pool, const struct sp_call *call);
/* The owner waits no longer. SP_CANCELLED: nothing will come. SP_GRANTED, SP_FAILED: it is told. */
enum sp_waiter_state sp_waiter_cancel(struct sp_waiter *waiter, const struct sp_call *call);
/* The handle is gone: whatever the waiter has or would get goes back. Drops the handle's reference.
 */
void sp_waiter_abandon(struct sp_waiter *waiter, const struct sp_call *call);
/* After a grant: what it brought, with a reference to the connection. Drops the handle's reference.
 * False where the grant was taken back by an abandon (never for a live handle). */
SP_MUST_CHECK bool sp_waiter_adopt(struct sp_waiter *waiter, struct sp_conn **conn,
                                   uint64_t *lease);
void sp_waiter_unref(struct sp_waiter *waiter);

/* Ends the lease and gives the connection to the next: SP_OK; SP_CLOSED where the lease had ended;
 * SP_BUSY while a call waits on it. A tainted connection, or one with unread bytes, is closed: what
 * a lease leaves behind is not for the next one, whatever `validate' says of idle connections.
 * On SP_OK the keepsake stays with the connection: its next lease's face finds it there. */
SP_MUST_CHECK sp_status sp_pool_checkin(struct sp_pool *pool, const struct sp_call *call,
                                        struct sp_conn *conn, uint64_t lease, void *keepsake);
/* As sp_pool_checkin(), in one go with a last receive of the lease, which may have been the look
 * already. */
SP_MUST_CHECK sp_status sp_pool_finish(struct sp_pool *pool, const struct sp_call *call,
                                       struct sp_conn *conn, uint64_t lease);
/* Ends the lease and closes the connection; SP_OK or SP_CLOSED. */
sp_status sp_pool_discard(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                          uint64_t lease);
/* Takes the lease from its owner, who may be waiting in a call: untouched the connection goes to
 * the next, used it is closed, and the owner's call returns. True where this call ended it. */
bool sp_pool_revoke(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                    uint64_t lease);
/* Likewise where the owner is dead or lost the handle, and no call of it waits any more. */
bool sp_pool_abandon(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                     uint64_t lease);

/* For sp_control.c: */

/* Holder only: hands the connection (NULL: any idle one) to waiters, or makes it idle. Where the call
 * may do no more while there are both, the control process is woken to go on. */
void sp_pool_serve(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn);
/* Holder only, after a lease that used it: serves it, or closes it where it is not clean. */
void sp_pool_accept(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn);
/* Holder only: takes the connection out of the pool and starts its close. */
void sp_pool_retire(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn);
/* Holder only: as retire, for one that was to be handed out and is not fit for it. */
void sp_pool_retire_unusable(struct sp_pool *pool, const struct sp_call *call,
                             struct sp_conn *conn);
/* Holder only: as retire, but only where the pool has more connections than its size. */
SP_MUST_CHECK bool sp_pool_retire_surplus(struct sp_pool *pool, const struct sp_call *call,
                                          struct sp_conn *conn);
void sp_pool_wake(struct sp_pool *pool, const struct sp_call *call);
/* After the phase has left OPEN; false where there is none: tells the oldest waiter the status,
 * closes one idle connection. */
bool sp_pool_fail_waiter(struct sp_pool *pool, const struct sp_call *call, sp_status status);
bool sp_pool_close_idle(struct sp_pool *pool, const struct sp_call *call);

static inline enum sp_phase sp_pool_phase(struct sp_pool *pool)
{
    return (enum sp_phase)atomic_load(&pool->phase);
}

static inline struct sp_shard *sp_pool_home(struct sp_pool *pool, const struct sp_call *call)
{
    return &pool->shards[call->shard % pool->shard_count];
}

#endif
