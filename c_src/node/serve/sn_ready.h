/* Those who wait until so many connections of a pool are up. */
#ifndef SN_READY_H
#define SN_READY_H

#include "sn_outbox.h"
#include "node/pool/sn_pools.h"

/* {await_ready, Id, Name, Count, Timeout}: answered now or later, as long as the caller's node is connected. False where the
 * arguments are not of its kind. */
SP_MUST_CHECK bool sn_ready_await(struct sn_outbox *outbox, struct sn_pools *pools,
                                  struct sn_client *client, const struct sn_caller *caller,
                                  const struct sn_slice *parts);

#endif
