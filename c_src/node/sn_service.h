/* What the node answers to the control messages of others: calls of the registered names, monitors
 * and links to them. No I/O: messages in, frames out. Terms are written by libei.
 *
 * There are two names. `sockpool` takes gen_server calls; `net_kernel` answers `yes` to is_auth, by
 * which net_adm:ping/1 sees that a node is there. One process, whose pid is in all answers, has both. */
#ifndef SN_SERVICE_H
#define SN_SERVICE_H

#include "sn_handshake.h"
#include "sn_queue.h"
#include "sn_reader.h"
#include "sn_watches.h"
#include "sp_status.h"

#include <ei.h>

struct sn_service {
    const struct sn_identity *us;
    ei_x_buff pid, control, payload; /* pid without a version byte; the others are used again */
};

/* A connected node, as far as this layer sees it. */
struct sn_client {
    struct sn_queue out;
    struct sn_watches watches;
    uint64_t flags; /* of the handshake */
};

/* SP_OK or SP_NO_MEMORY. `us` is the caller's and outlives the service. */
SP_MUST_CHECK sp_status sn_service_init(struct sn_service *service, const struct sn_identity *us);
void sn_service_free(struct sn_service *service);

/* Takes one message and queues the answers. SP_OK, also where nothing was understood; SP_BAD_DATA
 * for a control message that no node sends; SP_FULL, SP_NO_MEMORY: in all these the connection is to
 * be closed. */
SP_MUST_CHECK sp_status sn_service_take(struct sn_service *service, struct sn_client *client,
                                        const struct sn_message *message);

/* Tells all that watch: the names are gone, with reason `shutdown`. As above. */
SP_MUST_CHECK sp_status sn_service_stop(struct sn_service *service, struct sn_client *client);

#endif
