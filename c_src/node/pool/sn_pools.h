/* All pools that the daemon serves, by name. Everything runs in the loop's thread. */
#ifndef SN_POOLS_H
#define SN_POOLS_H

#include "node/etf/sn_hash.h"
#include "sn_pool.h"

struct sn_pools {
    struct sn_loop *loop;
    const struct sn_here *here;
    struct sp_list list; /* of struct sn_pool, also those that are being stopped; the newest last */
    struct sn_hash by_name; /* the same */
    struct sp_tls_registry *tls;
    struct sn_lookups lookups;
    uint64_t seed;
    void (*ended_leases)(struct sn_pool *pool); /* for each pool; see sn_pool.h */
    void (*leaked)(struct sn_pool *pool, const struct sp_conn *conn, uint64_t held_ns,
                   bool ended); /* likewise; set before there is one */
    bool draining;
    /* What is called next when a condition holds: nobody has anything, or no pool is left. */
    struct sn_task task;
    bool (*awaited)(struct sn_pools *pools);
    void (*reached)(void *arg);
    void *arg;
};

/* SP_OK or SP_NO_MEMORY. The loop and `here` outlive the pools. */
SP_MUST_CHECK sp_status sn_pools_init(struct sn_pools *pools, struct sn_loop *loop,
                                      const struct sn_here *here,
                                      void (*ended_leases)(struct sn_pool *pool));
void sn_pools_free(struct sn_pools *pools);

/* Starts the pool options->name. Whether its server can be reached does not matter. SP_OK: *options was
 * moved into the pool; else it stays the caller's. SP_BUSY: there is one of that name; SP_DRAINING: the
 * daemon ends; SP_NO_MEMORY; SP_BAD_DATA: *refusal says what is wrong with the certificates or other
 * settings of TLS. Reads their files. `refusal' may be NULL, see sn_pool_open(). */
SP_MUST_CHECK sp_status sn_pools_start(struct sn_pools *pools, struct sn_options *options,
                                       struct sp_tls_refusal *refusal);

/* Stops a pool: who waits gets `draining`, leases end, connections are closed. SP_OK: done(arg) is
 * called once that is so, never within this call; then the name is free. SP_NOT_FOUND: no such pool,
 * or it is being stopped already. `done` may be NULL. */
SP_MUST_CHECK sp_status sn_pools_stop(struct sn_pools *pools, const char *name, size_t name_len,
                                      void (*done)(void *arg), void *arg);

/* The pool of that name (in UTF-8) that is not being stopped, or NULL. */
struct sn_pool *sn_pools_find(struct sn_pools *pools, const char *name, size_t name_len);

/* The pools that are not being stopped, oldest first; NULL gives the first, and is the end. */
struct sn_pool *sn_pools_next(struct sn_pools *pools, struct sn_pool *pool);
/* How many these are. */
long sn_pools_count(struct sn_pools *pools);

/* The daemon is about to end. From now on nobody gets a connection, and who waits for one hears
 * `draining`. Leases and requests go on; drained(arg) is called, never within this call, once there are
 * none. */
void sn_pools_drain(struct sn_pools *pools, void (*drained)(void *arg), void *arg);

/* Nobody has a lease, waits for one, or has a request under way. */
bool sn_pools_are_unused(struct sn_pools *pools);

/* Stops all pools, drained or not. closed(arg) is called, never within this call, when it is done; the
 * loop must go on until it ends by itself before sn_pools_free(). */
void sn_pools_close(struct sn_pools *pools, void (*closed)(void *arg), void *arg);

#endif
