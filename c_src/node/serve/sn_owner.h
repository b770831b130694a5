/* The processes of other nodes that have or want something, each watched by one monitor, however much it
 * has. One that has nothing any more is still watched for a while: it will often come again. */
#ifndef SN_OWNER_H
#define SN_OWNER_H

#include "node/etf/sn_hash.h"
#include "sn_outbox.h"

/* So many of a node are watched that have nothing. */
#define SN_OWNERS_IDLE_MAX 1024

struct sn_owner {
    struct sn_hash_node by_pid;
    struct sp_list_node in_client, in_idle;
    struct sn_client *client;
    struct sp_list sessions; /* what it has; see sn_session.h */
    bool is_idle;
    uint64_t monitor;
    struct sn_slice pid; /* lies behind this */
};

struct sn_owners {
    struct sn_outbox *outbox;
    struct sn_hash by_pid;
    uint64_t monitors; /* made so far */
};

void sn_owners_init(struct sn_owners *owners, struct sn_outbox *outbox);
/* All clients are gone. */
void sn_owners_free(struct sn_owners *owners);

/* The process of that client, watched from now on; NULL where memory is short. Give it a session or
 * sn_owner_mark_idle() it. */
struct sn_owner *sn_owner_get(struct sn_owners *owners, struct sn_client *client,
                              struct sn_slice pid);
/* NULL where it is not known. */
struct sn_owner *sn_owner_find(const struct sn_owners *owners, struct sn_slice pid);

/* It was given a session, or lost one. */
void sn_owner_mark_busy(struct sn_owner *owner);
void sn_owner_mark_idle(struct sn_owners *owners, struct sn_owner *owner);

/* Forgets one that has no sessions: its process, or its node, is gone. */
void sn_owner_forget(struct sn_owners *owners, struct sn_owner *owner);

#endif
