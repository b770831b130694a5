/* One attempt to make a connection: resolves names, asks epmd where a node listens, tries one address
 * after the other, does the transport's handshake, each host and each address with its share of
 * connect_timeout. */
#ifndef SN_ATTEMPT_H
#define SN_ATTEMPT_H

#include "node/uv/sn_uv_host.h"
#include "node/uv/sn_lookup.h"
#include "node/option/sn_options.h"
#include "node/uv/sn_epmd.h"
#include "sn_reason.h"
#include "core/pool/sp_control.h"
#include "core/dist/sp_node.h"

/* What the daemon tells to nodes, and asks: its host and cookie, and the port of every epmd. */
struct sn_here {
    const char *host, *cookie;
    uint16_t epmd_port;
    unsigned tick_time_s;
};

struct sn_attempt {
    struct sp_list_node node; /* for its pool's list of attempts */
    struct sn_hosted_pool *hosted;
    struct sn_lookups *lookups;
    const struct sn_options *options;
    struct sp_node_target target; /* of transport node */
    uint16_t epmd_port;
    void (*ended)(struct sn_attempt *attempt, struct sn_reason reason);

    struct sn_conn *conn; /* with a reference */
    uint64_t lease;
    struct sn_limit limit;             /* of what is under way */
    struct sn_reason reason;           /* the most telling one so far */
    struct sockaddr_storage reason_at; /* the address that it is of; AF_UNSPEC: of none */
    uint64_t deadline_ns;              /* of all */

    size_t turn, tried; /* hosts: with which to begin, how many were begun with */
    uint64_t host_deadline_ns, address_deadline_ns;
    struct sn_lookup_waiter waiter;
    uint64_t asked_ns;         /* when that began to wait */
    struct sp_addr *addresses; /* of the host */
    size_t address_count, next_address;
    struct sn_epmd_query *port; /* asked for, or NULL */
    bool reached;               /* an epmd knows the node */
    bool connecting;            /* to the address before the next */
    bool again;   /* is to begin with that one, once its port is known, or after a pause */
    bool pausing; /* its server had no room */
    uint64_t pause_ns;
    const char *step; /* in which it is, for a log */
};

/* Gives up what was made for an attempt that is not begun. */
void sn_attempt_refuse(struct sn_hosted_pool *hosted, const struct sp_attempt *made);

/* Begins. Its capacity is given back, or the connection is the pool's, and then ended() is called, once,
 * perhaps within this call: with a reason without a word where all went well. After it the attempt is
 * gone. False where memory is short: the same without ended(). `turn` says with which of several hosts
 * to begin. The pool, lookups, options and `here` outlive it. */
SP_MUST_CHECK bool
sn_attempt_start(struct sn_hosted_pool *hosted, struct sn_lookups *lookups,
                 const struct sn_options *options, const struct sn_here *here,
                 const struct sp_attempt *made, size_t turn, struct sp_list *list,
                 void (*ended)(struct sn_attempt *attempt, struct sn_reason reason));

/* Ends it, without ended(). */
void sn_attempt_abort(struct sn_attempt *attempt);

#endif
