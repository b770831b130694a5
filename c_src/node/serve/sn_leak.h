/* Leases that are held for longer than their pool's `leak_threshold': who has them, in the log. */
#ifndef SN_LEAK_H
#define SN_LEAK_H

#include "node/pool/sn_pool.h"

/* As pool->leaked() of sn_pool.h. */
void sn_leak_tell(struct sn_pool *pool, const struct sp_conn *conn, uint64_t held_ns, bool ended);

#endif
