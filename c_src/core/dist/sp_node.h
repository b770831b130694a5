/* The node transports: a distribution connection to an Erlang node, over tcp or over tls.
 *
 * Their handshake is that of the stream below and then that of the distribution, under a hidden name
 * that the node makes for the connection. What is sent and received afterwards are the bytes of
 * frames, each after its length in 4 bytes; their user is to answer a frame of length 0, a tick, by
 * one, and what sp_dist_answer() answers by that. On an idle connection `validate` does so.
 *
 * To open one, struct sp_addr.to is a struct sp_node_target. Settings are those of the stream below.
 *
 * Thread rule: that of struct sp_transport. */
#ifndef SP_NODE_H
#define SP_NODE_H

#include "sp_dist.h"
#include "core/conn/sp_transport.h"

/* Texts that end in 0, read during the call only. */
struct sp_node_target {
    const char *name;   /* of the node */
    const char *host;   /* that we are on; the node appends it to our name */
    const char *cookie; /* kept until the handshake is over */
};

extern const struct sp_transport sp_transport_node, sp_transport_node_tls;

/* Of a connection whose handshake is done; NULL for others. Valid as long as it is not closed. */
const struct sp_node_names *sp_node_names(const struct sp_conn *conn);

#endif
