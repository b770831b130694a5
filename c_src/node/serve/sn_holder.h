/* The processes of other nodes that have or want something, each watched by one monitor, however much it
 * has. One that has nothing any more is still watched for a while: it will often come again. */
#ifndef SN_HOLDER_H
#define SN_HOLDER_H

#include "node/etf/sn_hash.h"
#include "sn_mail.h"

/* So many of a node are watched that have nothing. */
#define SN_HOLDERS_IDLE_MAX 1024

struct sn_holder {
    struct sn_hash_node by_pid;
    struct sp_node in_client, in_idle;
    struct sn_client *client;
    struct sp_list jobs; /* what it has; see sn_job.h */
    bool is_idle;
    uint64_t monitor;
    struct sn_slice pid; /* lies behind this */
};

struct sn_holders {
    struct sn_mail *mail;
    struct sn_hash by_pid;
    uint64_t monitors; /* made so far */
};

void sn_holders_init(struct sn_holders *holders, struct sn_mail *mail);
/* All clients are gone. */
void sn_holders_free(struct sn_holders *holders);

/* The process of that client, watched from now on; NULL where memory is short. Give it a job or
 * sn_holder_rest() it. */
struct sn_holder *sn_holder_get(struct sn_holders *holders, struct sn_client *client,
                                struct sn_slice pid);
/* NULL where it is not known. */
struct sn_holder *sn_holder_find(const struct sn_holders *holders, struct sn_slice pid);

/* It was given a job, or lost one. */
void sn_holder_stir(struct sn_holder *holder);
void sn_holder_rest(struct sn_holders *holders, struct sn_holder *holder);

/* Forgets one that has no jobs: its process, or its node, is gone. */
void sn_holder_forget(struct sn_holders *holders, struct sn_holder *holder);

#endif
