/* The requests of docs/cluster.md: which there are, who may make them, and what they lead to. */
#ifndef SN_CALLS_H
#define SN_CALLS_H

#include "sn_session.h"
#include "node/dist/sn_message.h"

struct sn_calls {
    struct sn_outbox *outbox;
    struct sn_pools *pools;
    struct sn_sessions sessions;
    struct sp_list clients; /* that are connected */
};

/* SP_OK or SP_NO_MEMORY. The others outlive the calls. */
SP_MUST_CHECK sp_status sn_calls_init(struct sn_calls *calls, struct sn_loop *loop,
                                      struct sn_outbox *outbox, struct sn_pools *pools);
void sn_calls_free(struct sn_calls *calls);

/* The most terms that a request may have. What is only passed on, the arguments of `call' and the message of
 * `send_to', may have as many as there are in a frame. */
#define SN_REQUEST_TERMS_MAX 16384

/* A call of a process of the client's; it is answered, now or later. */
void sn_calls_take(struct sn_calls *calls, struct sn_client *client, const struct sn_caller *caller,
                   const struct sn_request *request);
/* A cast has no answer. */
void sn_calls_take_cast(struct sn_calls *calls, const struct sn_request *request);

/* A node has come, with its name, or goes: with it goes what its processes have and wait for. */
void sn_calls_client_up(struct sn_calls *calls, struct sn_client *client);
void sn_calls_client_down(struct sn_calls *calls, struct sn_client *client);
/* The node of that name, an atom, or NULL. */
struct sn_client *sn_calls_client(struct sn_calls *calls, struct sn_slice node);

#endif
