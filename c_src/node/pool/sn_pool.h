/* One pool: the core's, with what its control plane does on the loop. Everything runs in the loop's
 * thread. */
#ifndef SN_POOL_H
#define SN_POOL_H

#include "sn_attempt.h"
#include "sn_check.h"
#include "node/uv/sn_uv_host.h"
#include "node/etf/sn_hash.h"
#include "node/option/sn_options.h"
#include "sn_reason.h"
#include "core/tls/sp_tls_ctx.h"

struct sn_pools;

struct sn_pool {
    struct sn_hosted_pool hosted;
    struct sn_pools *pools;
    const struct sn_here *here;
    struct sp_list_node node; /* in the list of all pools */
    struct sn_hash_node by_name;
    struct sn_options options;
    struct sp_tls_registry *registry;
    struct sp_tls_slot tls;
    int64_t tls_turn;
    unsigned tls_round; /* of sn_reload.h, in which its files were read last */

    struct sn_task task;        /* a step, or a slice of the stop */
    struct sn_limit retry;      /* the next step without a wake-up */
    struct sn_task linger;      /* a step in the next turn: in this one it has not, or */
    bool lingers;               /* has let others run */
    struct sn_limit tick;       /* the next tick; at rest there is none */
    struct sn_task tick_task;   /* the next slice */
    bool ticking;               /* there are slices left */
    uint32_t tick_cursor;       /* where they go on */
    struct sn_lookups *lookups; /* of all pools; set before the loop turns */
    struct sp_list attempts, checks;
    struct sn_limit check_limit; /* when the next check may be due */
    uint64_t check_logged_ns;    /* when one that failed was logged last, */
    unsigned check_failures;     /* and how many were not since */
    size_t turn;
    struct sn_reason last_error; /* why the last attempt failed, */
    uint64_t last_error_ms;      /* and when: milliseconds since 1970 */
    /* Of an outage, which begins with a failure, and has ended when connecting worked again and did not
     * fail since for a while. Failures: 0 where there is none; the time: 0 where the last one failed. */
    unsigned failures;
    uint64_t outage_ends_ns;
    bool lacks_tls; /* its files of TLS could not be used so far */
    bool of_file;   /* it was started by the configuration file */

    struct sp_list sessions;                /* what clients have of it; see sn_session.h */
    void (*released)(struct sn_pool *pool); /* one of them is gone */
    /* The core may have ended leases: by max_hold, or because the pool was stopped. */
    void (*ended_leases)(struct sn_pool *pool);
    /* A lease is held for longer than `leak_threshold', and goes on; or has ended after that. */
    void (*leaked)(struct sn_pool *pool, const struct sp_conn *conn, uint64_t held_ns, bool ended);

    /* Who waits for connections to be up: sn_ready.c's, which sets what is called when there may be enough, or `stopping'. */
    struct sp_list readying;
    unsigned readying_count;
    void (*readied)(struct sn_pool *pool);

    bool stopping, stopped;
    void (*on_stopped)(struct sn_pool *pool);
    void (*done)(void *arg); /* the caller's of the stop */
    void *done_arg;
};

/* Opens a pool; *options is moved into it where it is SP_OK. `here` outlives it. SP_NO_MEMORY; SP_BAD_DATA: *refusal says
 * what is wrong with the settings of TLS. Reads their files. Where `refusal' is NULL a pool whose files cannot be used is
 * opened all the same: it cannot connect, says why, and reads them again whenever it tries to. */
SP_MUST_CHECK sp_status sn_pool_open(struct sn_pool **made, struct sn_loop *loop,
                                     const struct sn_here *here, struct sp_tls_registry *registry,
                                     struct sn_options *options, uint64_t seed,
                                     struct sp_tls_refusal *refusal);

/* Waiters hear SP_DRAINING, leases end, connections are closed, in slices. Then pool->on_stopped();
 * the pool is freed once nobody has a connection or a session of it any more. */
void sn_pool_stop(struct sn_pool *pool);
/* A step is due for the bytes of requests, to which more may come (sp_piped_request_asleep()). */
void sn_pool_linger(struct sn_pool *pool);
/* A session of the pool is gone: it may be time to free the pool. */
void sn_pool_released(struct sn_pool *pool);

/* As sn_options_change(); from now on the pool is so. */
SP_MUST_CHECK sp_status sn_pool_update(struct sn_pool *pool, struct sn_slice terms,
                                       struct sn_bad_option *bad, bool *needs_restart);
/* Reads the files of a TLS pool again; connections made from now on use them. SP_OK, also for a pool
 * without TLS; SP_BAD_DATA as above: then nothing changes. */
SP_MUST_CHECK sp_status sn_pool_reload_tls(struct sn_pool *pool, struct sp_tls_refusal *refusal);
/* The same with what somebody has made of the files; takes the reference over. */
void sn_pool_set_tls(struct sn_pool *pool, struct sp_tls_ctx *ctx);

#endif
