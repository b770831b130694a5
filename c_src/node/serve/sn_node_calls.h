/* The requests `call` and `send_to` of docs/cluster.md, for pools and leases of transport node. */
#ifndef SN_NODE_CALLS_H
#define SN_NODE_CALLS_H

#include "sn_session.h"
#include "node/dist/sn_message.h"

/* {call, Id, Target, Module, Function, Args, Timeout} and {send_to, Id, Target, Destination, Message, Timeout}.
 * False where the arguments are not of their kinds; else it is answered, now or later. */
SP_MUST_CHECK bool sn_node_calls_call(struct sn_sessions *sessions, struct sn_pools *pools,
                                      struct sn_client *client, const struct sn_caller *caller,
                                      const struct sn_request *request);
SP_MUST_CHECK bool sn_node_calls_send(struct sn_sessions *sessions, struct sn_pools *pools,
                                      struct sn_client *client, const struct sn_caller *caller,
                                      const struct sn_request *request);

/* A time-out in an argument, as nanoseconds. */
SP_MUST_CHECK bool sn_node_calls_timeout(struct sn_slice term, uint64_t *ns);

/* What send, recv and request get for these: {error, {bad_option, transport, node}}. */
void sn_node_calls_refuse_stream(struct sn_outbox *outbox, struct sn_client *client,
                                 const struct sn_caller *caller);

#endif
