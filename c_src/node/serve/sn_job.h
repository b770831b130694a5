/* What a client process has of a pool, or wants: a lease, a wait for one, or a request. A job ends with
 * its call or lease, with its process, or because it was cancelled; whatever it has then goes back to
 * its pool, by the core's rules: untouched to the next one, used to be closed. */
#ifndef SN_JOB_H
#define SN_JOB_H

#include "sn_holder.h"
#include "node/pool/sn_pools.h"
#include "core/conn/sp_recv.h"

/* Bytes that all jobs together may keep because they cannot be sent yet. What a client's jobs keep may be as much
 * as is left: so one alone gets half, two get a third each, and the next one always finds some. */
#define SN_KEPT_BYTES_MAX ((size_t)256 * 1024 * 1024)

#define SN_INCARNATION_BYTES 16

struct sn_jobs {
    struct sn_loop *loop;
    struct sn_mail *mail;
    struct sn_holders holders;
    struct sn_hash by_id, by_number;
    uint64_t numbers; /* of leases, given out so far */
    size_t kept_bytes;
    uint8_t incarnation[SN_INCARNATION_BYTES]; /* of this run of the daemon, and of no other */
};

/* What a client wants to have done on a node, by a connection of a pool: a function called, or a message
 * sent. The parts are checked terms; those of the other kind are empty. */
struct sn_errand {
    bool is_call;
    bool is_by_default; /* its time is the pool's: first for a connection, then while it is stuck */
    struct sn_slice module, function, args; /* of a call: atoms and a proper list */
    struct sn_slice destination, message;   /* of a message: an atom or a pid */
};

enum sn_job_state {
    SN_JOB_WAITING,   /* in the pool's queue; or told of its end, and about to hear it */
    SN_JOB_HELD,      /* has a lease that no call is using */
    SN_JOB_SENDING,   /* a call is sending what is kept */
    SN_JOB_RECEIVING, /* a call waits for bytes */
    SN_JOB_TRYING, /* would not wait, and there may be an idle connection among those that are dead */
};

struct sn_job {
    struct sn_jobs *jobs;
    struct sn_hash_node by_id, by_number;
    struct sp_node in_holder, in_pool, in_held_up;
    struct sn_holder *holder;
    struct sn_pool *pool;
    enum sn_job_state state;
    bool is_request;
    bool held_up;    /* in its client's list of that name */
    uint64_t number; /* of its lease; 0: it is a request */

    struct sn_waiter *waiter; /* while it waits */
    bool told;
    sp_status told_status;
    size_t told_sent;

    struct sn_conn *conn; /* with a reference, or NULL while it waits */
    uint64_t lease;

    struct sn_line *line;       /* of a lease of a node pool, or of an errand; see sn_line.h */
    struct sn_errand *errand;   /* of a request that waits for a connection to a node */
    struct sn_promise *promise; /* of the call that is under way, or NULL */
    struct sn_limit limit;      /* of that call */
    struct sn_task task;        /* goes on with it */
    struct sp_want want;
    sp_status broken; /* why a request could not be sent whole; SP_OK: it was */
    uint8_t *kept;    /* bytes to send, of which `sent` are out; or NULL */
    size_t kept_len, sent;
    size_t counted_bytes; /* all that it keeps */

    struct sn_slice id; /* lies behind this */
};

/* SP_OK or SP_NO_MEMORY. The others outlive the jobs. */
SP_MUST_CHECK sp_status sn_jobs_init(struct sn_jobs *jobs, struct sn_loop *loop,
                                     struct sn_mail *mail);
void sn_jobs_free(struct sn_jobs *jobs);

/* A job of the process `pid` of the client; NULL where memory is short. No other has that id. */
struct sn_job *sn_job_new(struct sn_jobs *jobs, struct sn_client *client, struct sn_slice pid,
                          struct sn_pool *pool, struct sn_slice id, bool is_request);

/* Frees it; its lease has ended, or it never had one, and it has no line. */
void sn_job_free(struct sn_job *job);
/* Its call is over: no time limit, no bytes kept, nothing awaited. The lease stays. */
void sn_job_rest(struct sn_job *job);

/* Copies bytes that are to be sent later; SP_OK or SP_NO_MEMORY. */
SP_MUST_CHECK sp_status sn_job_keep(struct sn_job *job, const struct iovec *iov, int count);
/* They are out. */
void sn_job_unkeep(struct sn_job *job);
/* Whether so many bytes more may be kept for the client. */
bool sn_jobs_may_keep(const struct sn_jobs *jobs, const struct sn_client *client, size_t len);
/* The job keeps more, or less; a lease's bytes are its owner's. */
void sn_job_count_kept(struct sn_job *job, size_t more, size_t less);

struct sn_job *sn_job_by_id(const struct sn_jobs *jobs, struct sn_slice id);
struct sn_job *sn_job_by_number(const struct sn_jobs *jobs, uint64_t number);

/* Makes another process the owner of a lease; false where memory is short. */
SP_MUST_CHECK bool sn_job_give_away(struct sn_job *job, struct sn_client *client,
                                    struct sn_slice pid);

size_t sn_errand_len(const struct sn_errand *errand);

/* Copies it for the job, which keeps it; false where memory is short. */
SP_MUST_CHECK bool sn_errand_keep(struct sn_job *job, const struct sn_errand *errand);
/* Does nothing where there is none. */
void sn_errand_unkeep(struct sn_job *job);

/* Whether it can be a process of the pool's node. {Name, Node} becomes its name. */
bool sn_errand_destination(const struct sn_options *options, struct sn_slice *destination);

/* The client reads again, or is gone: goes on with what was held up for it. */
void sn_jobs_resume(struct sn_jobs *jobs, struct sn_client *client);

/* The lease as a term: {'$sockpool_lease', Node, Incarnation, Number}. */
void sn_put_lease(struct sn_writer *writer, const struct sn_job *job);
/* Whether the term has the form of one; *number is 0 where it is of another incarnation. */
bool sn_lease_number(const struct sn_jobs *jobs, struct sn_slice term, uint64_t *number);

#endif
