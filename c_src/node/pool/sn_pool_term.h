/* What is told of a pool, as terms. */
#ifndef SN_POOL_TERM_H
#define SN_POOL_TERM_H

#include "sn_pool.h"

/* What somebody hears whose time is over: {error, timeout}, or {error, {unavailable, Last}}. */
void sn_pool_put_give_up(struct sn_writer *writer, struct sn_pool *pool);
/* Likewise who has waited for connections to be up: the second where attempts fail. */
void sn_pool_put_not_ready(struct sn_writer *writer, struct sn_pool *pool);
/* What somebody hears who gets no connection: {error, Status}, where that is SP_UNAVAILABLE with why. */
void sn_pool_put_refusal(struct sn_writer *writer, struct sn_pool *pool, sp_status status);
/* Gauges and counters, as a map. */
void sn_pool_put_stats(struct sn_writer *writer, struct sn_pool *pool);
void sn_pool_put_histograms(struct sn_writer *writer, struct sn_pool *pool);

#endif
