/* What the core asks of its host (the NIF, the C node, or a test).
 *
 * Every entry gets the `struct sp_call` of the core function that led to it; none but
 * conn_ref and conn_unref is called with a core lock held, and none may block. */
#ifndef SP_HOST_H
#define SP_HOST_H

#include "core/base/sp_allowance.h"
#include "core/base/sp_status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sp_conn;
struct sp_pool;
struct sp_waiter;
struct sp_reply;
struct sp_tcp_info;

/* One call into the core: what the core may not find out by itself. */
struct sp_call {
    uint64_t now_ns; /* monotonic; a coarse clock is good enough */
    unsigned shard;  /* the caller's home shard; taken modulo the pool's shard count */
    void *env;       /* the host's own, passed through */
    struct sp_allowance
        *allowance; /* what the call may still do; for the C node a turn of its loop */
};

/* Of a time that may be a step of the clock ahead. */
static inline uint64_t sp_since(const struct sp_call *call, uint64_t then_ns)
{
    return call->now_ns > then_ns ? call->now_ns - then_ns : 0;
}

static inline void sp_take(const struct sp_call *call, int pieces)
{
    sp_allowance_take(call->allowance, pieces);
}

static inline bool sp_spent(const struct sp_call *call)
{
    return sp_allowance_is_spent(call->allowance);
}

struct sp_host {
    /* A zeroed connection with one reference, or NULL where memory is short. */
    struct sp_conn *(*conn_new)(struct sp_pool *pool);
    void (*conn_ref)(struct sp_conn *conn);
    void (*conn_unref)(struct sp_conn *conn);
    /* Takes the descriptor out of the event loop and closes it, now or later; the host keeps the
     * connection referenced until it has. Of a worker, which has none (-1): has the process end, or
     * whatever its attempt has come to. */
    void (*conn_stop)(const struct sp_call *call, struct sp_conn *conn, int fd);
    /* Releases conn->keepsake, which is not NULL, and sets it to NULL. Holder only. */
    void (*keepsake_drop)(struct sp_conn *conn);
    /* Makes the connection's receive buffer hold at least `cap` bytes, its content kept. */
    bool (*rbuf_reserve)(struct sp_conn *conn, size_t cap);
    void (*rbuf_free)(struct sp_conn *conn);

    /* A clock that is exact, or NULL: that of calls is. */
    uint64_t (*exact_ns)(void);

    bool (*owner_alive)(const struct sp_call *call, uint64_t owner);
    /* Tells the waiter's owner: granted (SP_OK, `sent` bytes of its request are out), or why not.
     * False where it is known to be dead. Once for each waiter. */
    bool (*waiter_notify)(const struct sp_call *call, struct sp_waiter *waiter, sp_status status,
                          size_t sent);
    /* The last reference is gone. */
    void (*waiter_free)(struct sp_waiter *waiter);

    /* Has the control process call sp_control_idle_event(pool, slot, generation), once, when the
     * idle connection becomes readable. */
    bool (*watch)(const struct sp_call *call, struct sp_conn *conn, uint32_t generation);
    /* Has the control process call sp_control_step() soon. */
    void (*wake)(const struct sp_call *call, struct sp_pool *pool);
    /* The server has refused a connection: this is why the pool is unavailable, if it is. SP_UNREAD: the
     * connection has the words. An outage is an attempt that has failed after all; none is what servers do with
     * connections that nobody uses. */
    void (*refused)(const struct sp_call *call, const struct sp_conn *conn, sp_status why,
                    bool is_outage);

    /* NULL, or tells that what the lease's owner has sent gets through to nobody. */
    void (*stalled)(const struct sp_call *call, struct sp_conn *conn, uint64_t owner,
                    const struct sp_tcp_info *info, uint64_t held_ns);
    /* NULL, or tells, while pool->listened, that a connection which was usable is closed: conn->ended, so old, idle for so long
     * before that. */
    void (*closed)(const struct sp_call *call, const struct sp_conn *conn, uint64_t age_ns,
                   uint64_t idle_ns);
    /* NULL, or tells that a user's lease was ended since it was held for so long. */
    void (*revoked)(const struct sp_call *call, struct sp_conn *conn, uint64_t owner,
                    uint64_t held_ns);
    /* From the control process: the lease conn->leaked is held for so long by now; with the owner SP_OWNER_POOL: it has ended
     * after that. */
    void (*leak)(const struct sp_call *call, struct sp_conn *conn, uint64_t owner,
                 uint64_t held_ns);

    /* Of pools with many requests on a connection (sp_pipe.h); NULL where there are none. */

    /* Makes the reply's own memory, reply->far, hold at least `cap` bytes, its content kept. */
    bool (*reply_reserve)(struct sp_reply *reply, size_t cap);
    void (*reply_free)(struct sp_reply *reply);
    /* Tells the waiter's owner, who sleeps: SP_OK with its reply, which this takes over; SP_AGAIN: nothing of its request
     * was written; SP_TIMEOUT: it has given up, and nothing else comes; or why there is no reply. */
    void (*reply_notify)(const struct sp_call *call, struct sp_waiter *waiter, sp_status status,
                         struct sp_reply *reply);
    /* Has the waiter's owner, or without one the control process, told once when the descriptor is readable or writable:
     * that one of the pipe, of that index and generation. Pinned. */
    bool (*pipe_select)(const struct sp_call *call, struct sp_conn *conn, struct sp_waiter *waiter,
                        uint32_t pipe, uint32_t generation, bool write);
    /* Not any more, when it is readable. False: it has fired, and its message is there or comes. Pinned. NULL: of what is
     * readable the control process is told, always. */
    bool (*pipe_unselect)(const struct sp_call *call, struct sp_conn *conn);
};

#endif
