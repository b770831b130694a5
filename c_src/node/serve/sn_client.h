/* A connected node, as those see it who answer its processes. No I/O: what is queued here is written
 * by the connection's owner. */
#ifndef SN_CLIENT_H
#define SN_CLIENT_H

#include "node/dist/sn_atoms_out.h"
#include "node/base/sn_log.h"
#include "node/dist/sn_queue.h"
#include "node/etf/sn_slice.h"
#include "sn_watches.h"
#include "core/base/sp_list.h"
#include "core/base/sp_status.h"

struct sn_client {
    struct sp_list_node in_clients; /* see sn_calls.h */
    const char *name;               /* the node's; the owner's */
    uint64_t flags;                 /* of the handshake */
    struct sn_queue out;
    struct sn_atoms_out *atoms; /* NULL: it has no atom cache */
    struct sn_watches watches;
    struct sn_log_limit refusals; /* of more of them */

    /* Something was queued, or could not be: `fault` then says why, and the connection is to end. */
    void (*wake)(struct sn_client *client);
    sp_status fault;

    struct sp_list owners; /* see sn_owner.h */
    struct sp_list idle;   /* of them, those that have nothing; the newest came last */
    unsigned idle_count;
    size_t kept_bytes;       /* of its sessions; see sn_session.h */
    struct sp_list promises; /* answers that are due */
    struct sp_list held_up;  /* sessions that have an answer for it, which it would not read now */
};

/* All zero but for name, flags, atoms (which come to belong to it) and wake: the owner sets them. */
void sn_client_init(struct sn_client *client);
/* The node is gone: no answer to it is due any more. */
void sn_client_leave(struct sn_client *client);
/* Owners and sessions are gone already. */
void sn_client_free(struct sn_client *client);

/* The connection cannot go on. */
void sn_client_fail(struct sn_client *client, sp_status status);

/* Who made a call: the tag is a reference, or [alias|Reference], which is echoed as it came. */
struct sn_caller {
    struct sn_slice pid, tag, alias; /* alias lies in tag; its len is 0 where there is none */
};

/* A call whose answer comes later. */
struct sn_promise {
    struct sp_list_node node;
    struct sn_client *client; /* NULL: the node is gone, and nobody waits */
    struct sn_caller caller;  /* copied */
};

/* NULL where memory is short. */
struct sn_promise *sn_promise_new(struct sn_client *client, const struct sn_caller *caller);
void sn_promise_free(struct sn_promise *promise);

#endif
