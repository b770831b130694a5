/* The core's host on libuv: connections, waiters, descriptors. Everything runs in the loop's thread.
 *
 * A descriptor is polled from the first time that somebody waits for it, and goes on being polled for
 * bytes to read: so a wait for a reply costs no system call. Whoever waits is told once. */
#ifndef SN_UV_HOST_H
#define SN_UV_HOST_H

#include "sn_loop.h"
#include "core/pool/sp_queue.h"

/* A struct sp_pool is part of one of these: what its host has to know. */
struct sn_hosted_pool {
    struct sp_pool core;
    struct sn_loop *loop;
    /* The core wants a step of the control plane soon. */
    void (*wake)(struct sn_hosted_pool *hosted);
    void (*refused)(struct sn_hosted_pool *hosted, const struct sp_conn *conn, sp_status why,
                    bool is_outage);
    void (*stalled)(struct sn_hosted_pool *hosted, const struct sp_conn *conn,
                    const struct sp_tcp_info *info, uint64_t held_ns);
    /* As of sp_host.h. */
    void (*leak)(struct sn_hosted_pool *hosted, struct sp_conn *conn, uint64_t owner,
                 uint64_t held_ns);
    /* The last connection is gone. */
    void (*emptied)(struct sn_hosted_pool *hosted);
    size_t conns;
};

struct sn_conn {
    struct sp_conn core;
    unsigned refs;
    struct sn_poll *poll; /* of core.fd; NULL before anybody waited for it */
    /* Who waits, and for what: a lease's owner (armed), or the pool (watched). */
    int wanted; /* libuv's events; 0: nobody */
    void (*ready)(void *arg);
    void *arg;
    sp_status ahead; /* of the last sp_recv_ahead(), by sn_conn_send() */
    bool watched;
    uint32_t generation;
    /* What a pipe waits for: which one, and for what. */
    int piped;
    uint32_t pipe, pipe_generation;
};

/* A place in the queue of a pool, or on a pipe. One of `told` and `replied` is called, once, within some call of the core:
 * it may not call the core itself. */
struct sn_waiter {
    struct sp_waiter core;
    void (*told)(struct sn_waiter *waiter, sp_status status, size_t sent);
    /* Of one for a place on a pipe, once it has that: as reply_notify() of sp_host.h. */
    void (*replied)(struct sn_waiter *waiter, sp_status status, struct sp_reply *reply);
    void *arg;
    struct iovec bytes; /* of a request; somebody else's, for as long as it is queued */
};

extern const struct sp_host sn_uv_host;

/* Whose leases they are is the daemon's business, who takes them back by itself: to the core there is
 * one owner, who lives. */
#define SN_CORE_OWNER 1

static inline struct sn_conn *sn_conn_of(struct sp_conn *core)
{
    return SP_CONTAINER(core, struct sn_conn, core);
}

void sn_conn_unref(struct sn_conn *conn);

/* Within enter/leave, after SP_WANT_READ or SP_WANT_WRITE: ready(arg) is called once when it is worth
 * trying again, never within this call. SP_OK; SP_BUSY: it is armed already; or why it cannot be. */
SP_MUST_CHECK sp_status sn_conn_arm(struct sn_conn *conn, uint64_t lease, sp_status wants,
                                    void (*ready)(void *arg), void *arg);
/* The same after SP_WANT_WRITE of sn_conn_send(), which takes what comes meanwhile: so there may be more of that, too. */
SP_MUST_CHECK sp_status sn_conn_arm_to_send(struct sn_conn *conn, uint64_t lease,
                                            void (*ready)(void *arg), void *arg);
/* After ready(), or instead of it, which then does not come. Does nothing where it is not armed. */
void sn_conn_disarm(struct sn_conn *conn, uint64_t lease, const struct sp_call *call);

/* Within enter/leave. Sends as far as it goes, of two parts at most, and where it may not, takes what comes to the
 * connection's buffer (sp_recv_ahead()); *sent counts on. SP_OK: all is out.
 * SP_AGAIN: the turn has had its part. */
SP_MUST_CHECK sp_status sn_conn_send(struct sn_conn *self, const struct sp_call *call,
                                     const struct iovec *iov, int count, size_t *sent);

/* NULL where memory is short. Give it to sp_pool_enqueue(), or else to sn_uv_host.waiter_free(). */
struct sn_waiter *
sn_waiter_new(struct sp_pool *pool, struct iovec bytes,
              void (*told)(struct sn_waiter *waiter, sp_status status, size_t sent), void *arg);
/* For a place on a pipe. */
struct sn_waiter *
sn_waiter_piped(struct sp_pool *pool, struct iovec bytes, const struct sp_want *want,
                void (*told)(struct sn_waiter *waiter, sp_status status, size_t sent),
                void (*replied)(struct sn_waiter *waiter, sp_status status, struct sp_reply *reply),
                void *arg);

#endif
