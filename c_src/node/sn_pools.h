/* All pools that the daemon serves, by name. Everything runs in the loop's thread. */
#ifndef SN_POOLS_H
#define SN_POOLS_H

#include "sn_pool.h"

struct sn_pools {
    struct sn_loop *loop;
    struct sp_list list;  /* of struct sn_pool, those that are being stopped included */
    struct sp_list ghosts; /* stopped, with connections that somebody still has */
    struct sp_tls_registry *tls;
    uv_timer_t tick;
    bool draining;
};

/* SP_OK or SP_NO_MEMORY. The loop outlives the pools. */
SP_MUST_CHECK sp_status sn_pools_init(struct sn_pools *pools, struct sn_loop *loop);
/* Once there are none any more, and nobody has a connection of one. */
void sn_pools_free(struct sn_pools *pools);

/* Starts a pool. Whether its server can be reached does not matter. `name` is an atom's text without
 * zeros in it, copied; *options is moved into the pool where it is SP_OK, else it stays the caller's.
 * SP_OK; SP_BUSY: there is one of that name; SP_DRAINING: the daemon ends; SP_NO_MEMORY; SP_BAD_DATA:
 * *refusal says what is wrong with the certificates or other settings of TLS. Reads files. */
SP_MUST_CHECK sp_status sn_pools_start(struct sn_pools *pools, const char *name,
                                       struct sn_options *options, struct sp_tls_refusal *refusal);

/* Stops a pool: who waits gets `draining`, leases end, connections are closed. SP_OK: done(arg) is
 * called once that is so, never within this call; from then on the name is free. SP_NOT_FOUND: no such
 * pool, or it is being stopped already. `done` may be NULL. */
SP_MUST_CHECK sp_status sn_pools_stop(struct sn_pools *pools, const char *name,
                                      void (*done)(void *arg), void *arg);

/* The pool of that name that is not being stopped, or NULL. Good until the next turn of the loop. */
struct sn_pool *sn_pools_find(struct sn_pools *pools, const char *name);

/* The pools that are not being stopped, oldest first: the first one, and the one after another. */
struct sn_pool *sn_pools_first(struct sn_pools *pools);
struct sn_pool *sn_pools_next(struct sn_pools *pools, struct sn_pool *pool);

/* Reads the files of a TLS pool again; connections made from now on use them. SP_OK, SP_NOT_FOUND,
 * SP_NO_MEMORY, SP_BAD_DATA as above; SP_OK also for a pool without TLS. */
SP_MUST_CHECK sp_status sn_pools_reload_tls(struct sn_pools *pools, const char *name,
                                            struct sp_tls_refusal *refusal);

/* From now on nobody gets a connection, and who waits for one hears `draining`. Leases go on. */
void sn_pools_drain(struct sn_pools *pools);
/* Whether nobody has a lease or a request under way. */
bool sn_pools_unused(struct sn_pools *pools);

#endif
