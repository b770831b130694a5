/* What the node does with the control messages of others: calls and casts to the registered names,
 * monitors and links to them, and the news of processes that it watches. No I/O: messages in, frames
 * out.
 *
 * There are two names. `sockpool` takes gen_server calls; `net_kernel` answers `yes` to is_auth, by
 * which net_adm:ping/1 sees that a node is there. One process, whose pid is in all answers, has both. */
#ifndef SN_SERVICE_H
#define SN_SERVICE_H

#include "sn_calls.h"
#include "node/dist/sn_message.h"

struct sn_service {
    struct sn_outbox outbox;
    struct sn_pools pools;
    struct sn_calls calls;
};

/* SP_OK or SP_NO_MEMORY. `us`, `here` and the loop are the caller's and outlive the service. */
SP_MUST_CHECK sp_status sn_service_init(struct sn_service *service, const struct sn_identity *us,
                                        const struct sn_here *here, struct sn_loop *loop);
/* All pools and clients are gone. */
void sn_service_free(struct sn_service *service);

/* Takes one message and queues the answers. Whose request is not whole, or too long, hears that. SP_OK, also
 * where nothing was understood; SP_BAD_DATA for a
 * control message that no node sends, SP_FULL, SP_NO_MEMORY: then the connection is to be closed, as
 * where client->fault is set. */
SP_MUST_CHECK sp_status sn_service_take(struct sn_service *service, struct sn_client *client,
                                        const struct sn_message *message);

/* Tells all that watch: the names are gone, with reason `shutdown`. */
void sn_service_stop(struct sn_service *service, struct sn_client *client);

#endif
