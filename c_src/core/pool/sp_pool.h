/* The pool: idle shards, FIFO waiters, one global capacity. Here is what it consists of. What callers run
 * through, the data plane, is in sp_grant.h and sp_lease.h; what the pool's control process does in sp_control.h.
 *
 * Protocol (docs/protocol.md; model test/model/waiters.pml). `phase`, `nwait`, each shard's `top`
 * and `total` are sequentially consistent atomics; a waiter's state changes only under queue.lock;
 * no two locks are ever held together, and no host function is called under one. */
#ifndef SP_POOL_H
#define SP_POOL_H

#include "core/base/sp_backoff.h"
#include "core/conn/sp_conn.h"
#include "core/base/sp_expiry.h"
#include "core/base/sp_histogram.h"
#include "core/conn/sp_host.h"
#include "core/base/sp_list.h"
#include "core/base/sp_peak.h"
#include "sp_stats.h"

#include <pthread.h>

#define SP_SHARDS_MAX 64
#define SP_MS UINT64_C(1000000)
#define SP_NEVER UINT64_MAX
/* A connection that has been idle this long is watched for the server's close. */
#define SP_COLD_NS (1000 * SP_MS)
/* So many connections are checked at a time at most. */
#define SP_CHECKS_MAX 64

enum sp_strategy { SP_LIFO, SP_FIFO };
/* One more for each that waits, or only those that will still be needed when they are up. */
enum sp_growth { SP_GROWTH_EXPECTED, SP_GROWTH_EAGER };

/* Everything that a restart of the pool may change; sp_settings.h says what an update may. */
struct sp_config {
    const struct sp_transport *transport;
    uint32_t size, max_overflow;
    uint64_t overflow_ttl_ns; /* SP_NEVER: extra connections stay */
    uint32_t min_size;        /* so many stay, at most `size`, */
    uint32_t min_idle;        /* so many are idle, if there may be more */
    uint64_t idle_timeout_ns; /* when others are idle for so long; SP_NEVER: all stay */
    /* A connection ends when it is usable for so long, and with so many uses; SP_NEVER: it does not. */
    uint64_t lifetime_min_ns, lifetime_max_ns, max_uses;
    uint64_t validate_after_ns; /* 0: always; SP_NEVER: never */
    uint64_t max_hold_ns;       /* SP_NEVER: no limit */
    uint64_t leak_threshold_ns; /* a lease that is held for longer is reported; SP_NEVER: none is */
    uint64_t max_waiting;
    uint64_t backoff_min_ns, backoff_max_ns;
    uint64_t recv_limit_bytes;
    uint32_t connect_parallelism; /* attempts at once, while the server answers; 0: by transport */
    bool fail_fast;               /* nobody waits while nothing is up and attempts fail */
    bool replies;                 /* what is sent may be answered */
    bool reuse_abandoned;         /* workers whose owners have died, too, are handed out again */
    enum sp_strategy strategy;
    uint64_t health_interval_ns, health_timeout_ns; /* 0: idle connections are not checked */
    enum sp_growth growth;
    struct sp_framing framing;
    struct sp_sockopts sockopts;
    uint32_t pipeline; /* requests under way on a connection; 1: it is leased for each */
    uint64_t pipeline_bytes, pipeline_stall_ns;
};

/* OPEN: serves. DRAINING, DOWN (its control process died): refuses, may open again in a new epoch.
 * CLOSED: never opened, or stopped. */
enum sp_phase { SP_PHASE_CLOSED, SP_PHASE_OPEN, SP_PHASE_DRAINING, SP_PHASE_DOWN };

struct sp_shard {
    _Alignas(128) pthread_mutex_t lock;
    struct sp_list fresh;  /* idle for less than SP_COLD_NS when last looked at */
    struct sp_list cold;   /* watched; each idle for longer than any in `fresh` */
    struct sp_list aged;   /* too old, and handed out only where no other is idle */
    _Atomic uint32_t top;  /* how many in all; changed under the lock, probed without */
    _Atomic uint32_t pipe; /* that the requests of this shard are put on */
    struct sp_stats stats; /* counted by threads whose home this is */
    struct sp_sampler use;
    struct sp_histogram *_Atomic used;
    _Atomic uint64_t refused; /* who would not wait and found nothing; for estimates */
};

/* sp_forecast.c's: means, SP_NEVER where there is none yet; the counters when they were last looked at, and since when they
 * say that somebody got a connection; how many had come at some times. */
#define SP_FORECAST_SLOTS 9
struct sp_forecast {
    uint64_t connect_ns; /* under control.lock */
    uint64_t use_ns, uses, used_ns, grants, granted_ns;
    uint64_t refused_ns, refused_since_ns;
    struct sp_forecast_slot {
        uint64_t at_ns, came;
    } slots[SP_FORECAST_SLOTS];
    uint32_t at;
};

struct sp_pool {
    /* constant */
    const struct sp_host *host;
    const struct sp_sys *sys;
    uint32_t shard_count;
    struct sp_shard *shards;

    /* Set by sp_settings.h's; read without a lock, each field for itself. */
    _Atomic uint32_t size, limit; /* limit = size + max_overflow */
    /* So many are kept up: `size`, or fewer where some of these were idle for too long. The control process's. */
    _Atomic uint32_t base;
    _Atomic uint32_t aged;     /* how many are in the shards' lists of that name */
    _Atomic bool exhausted;    /* since the last tick somebody found nothing idle */
    _Atomic uint64_t max_uses; /* SP_NEVER: any number */
    _Atomic uint64_t overflow_ttl_ns, validate_after_ns, max_hold_ns, max_waiting;
    _Atomic uint64_t health_interval_ns, health_timeout_ns;
    _Atomic uint32_t strategy, min_idle;
    _Atomic bool reuse_abandoned, fail_fast, replies;
    _Atomic bool listened;  /* the host wants to hear of each connection that is closed */
    _Atomic bool shrinking; /* there are, or were just now, more connections than the limit */

    _Atomic uint32_t phase;
    _Atomic bool
        asleep; /* no tick comes before somebody rouses the control process, see sp_due.h */
    _Atomic uint64_t epoch; /* one more with each opening */
    _Atomic uint32_t total; /* connections and capacity given to connectors */
    _Atomic uint32_t connecting;
    _Atomic bool
        doubted; /* the server refused after a handshake: only what it says counts as success */
    _Atomic uint64_t retry_ns; /* 0 while connecting works, else when the next attempt is due */
    _Atomic bool lost_all;     /* with fail_fast: whoever waits is to be told, if nothing is up */
    _Atomic uint32_t
        eager; /* 1: somebody who would not wait found nothing; until an attempt may be begun */
    _Atomic uint32_t woken; /* a wake-up of the control process is under way */

    struct {
        _Alignas(128) pthread_mutex_t lock;
        struct sp_list list;
        struct sp_expiry expiry;
        uint64_t exhausted_ns, exhausted_since_ns; /* how long, or since when, somebody waits */
    } queue;
    /* Who waits, how many of these for a place on a pipe, and how many not for a check-in. */
    _Atomic uint64_t nwait, nwait_piped, nwait_growing;

    /* Many requests on a connection. What stands above has these pointers set when the pool opens. */
    _Atomic uint32_t pipeline;
    _Atomic uint64_t pipeline_bytes, pipeline_stall_ns;
    struct sp_pipes *_Atomic pipes; /* sp_piped.c's, from the first opening with a pipeline on */
    void (*start_pipe)(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                       uint64_t lease);
    void (*admit)(struct sp_pool *pool, const struct sp_call *call);

    struct sp_counts counts;
    struct sp_sampler wait;
    struct sp_histogram waited;
    struct sp_histogram *_Atomic times[SP_TIMES];

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
        struct sp_config config; /* changed by the control process only */
        bool surplus; /* idle ones beyond the size are to be closed; the control process's */
        enum sp_phase shutting_to; /* by shutting calls only, as is the cursor into the table */
        uint32_t cursor;
        uint64_t rng; /* of the ends of connections */
    } control;
    /* Of sp_stall.h: how many looks are left in this tick, and at which slot it goes on. */
    struct {
        uint32_t looks, from;
    } stall;
    /* Of sp_check.h: the control process's, but for the atomics. */
    struct {
        _Atomic uint32_t under_way; /* connections that are being checked */
        _Atomic bool alarm;         /* a check has failed: all are to be checked */
        _Atomic uint64_t alarm_ns;  /* when that was said last */
        bool walking, all; /* over the table; over all that were not heard of since all_ns */
        uint32_t cursor;
        uint64_t interval_ns; /* for which what follows is made */
        uint64_t next_ns;     /* the next round */
        uint64_t all_ns, rng;
    } check;
    /* The control process's: how many were leased at once, in overflow_ttl and in idle_timeout; and how many have
     * to be opened for those above `base` that were closed because of their age. */
    struct sp_peak leased_extra, leased_base;
    uint32_t owed;
    uint64_t due_ns; /* likewise: the first of what sp_due_at() was told since the last tick */
    struct sp_forecast forecast;
};

/* Initialises zeroed memory. SP_NO_MEMORY, or SP_OK: then sp_pool_destroy() once nobody can reach
 * the pool and it has no connections. */
SP_MUST_CHECK sp_status sp_pool_init(struct sp_pool *pool, const struct sp_host *host,
                                     const struct sp_sys *sys, uint32_t shard_count);
void sp_pool_destroy(struct sp_pool *pool);

/* The control process is to do a step; at any time, from any thread. */
void sp_pool_wake(struct sp_pool *pool, const struct sp_call *call);
/* What those are told who come in that phase. */
sp_status sp_pool_phase_status(enum sp_phase phase);
/* Somebody is told that there is no connection, which is counted; SP_NOT_FOUND is not. */
sp_status sp_pool_refuse(struct sp_pool *pool, sp_status status);

static inline enum sp_phase sp_pool_phase(struct sp_pool *pool)
{
    return (enum sp_phase)atomic_load(&pool->phase);
}

/* Whether the pool has not been closed since the connection was made. */
static inline bool sp_pool_is_current(struct sp_pool *pool, const struct sp_conn *conn)
{
    return conn->epoch == atomic_load(&pool->epoch);
}

/* Whether requests of several callers are under way on a connection. */
static inline bool sp_pool_has_pipes(struct sp_pool *pool)
{
    /* What is behind it was there before. */
    return atomic_load_explicit(&pool->pipeline, memory_order_acquire) > 1;
}

static inline struct sp_shard *sp_pool_home(struct sp_pool *pool, const struct sp_call *call)
{
    return &pool->shards[call->shard % pool->shard_count];
}

#endif
