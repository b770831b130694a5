/* What a client process has of a pool, or wants: a lease, a wait for one, or a request. A session ends with
 * its call or lease, with its process, or because it was cancelled; whatever it has then goes back to
 * its pool, by the core's rules: untouched to the next one, used to be closed. */
#ifndef SN_SESSION_H
#define SN_SESSION_H

#include "sn_owner.h"
#include "node/pool/sn_pools.h"
#include "core/conn/sp_recv.h"

/* Bytes that all sessions together may keep because they cannot be sent yet. What a client's sessions keep may be as much
 * as is left: so one alone gets half, two get a third each, and the next one always finds some. */
#define SN_KEPT_BYTES_MAX ((size_t)256 * 1024 * 1024)

#define SN_INCARNATION_BYTES 16

struct sn_sessions {
    struct sn_loop *loop;
    struct sn_outbox *outbox;
    struct sn_owners owners;
    struct sn_hash by_id, by_number;
    uint64_t numbers; /* of leases, given out so far */
    size_t kept_bytes;
    uint8_t incarnation[SN_INCARNATION_BYTES]; /* of this run of the daemon, and of no other */
};

/* What a client wants to have done on a node, by a connection of a pool: a function called, or a message
 * sent. The parts are checked terms; those of the other kind are empty. */
struct sn_node_request {
    bool is_call;
    bool is_by_default; /* its time is the pool's: first for a connection, then while it is stuck */
    struct sn_slice module, function, args; /* of a call: atoms and a proper list */
    struct sn_slice destination, message;   /* of a message: an atom or a pid */
};

enum sn_session_state {
    SN_SESSION_WAITING,   /* in the pool's queue; or told of its end, and about to hear it */
    SN_SESSION_HELD,      /* has a lease that no call is using */
    SN_SESSION_SENDING,   /* a call is sending what is kept */
    SN_SESSION_RECEIVING, /* a call waits for bytes */
    SN_SESSION_TRYING, /* would not wait, and there may be an idle connection among those that are dead */
};

struct sn_session {
    struct sn_sessions *sessions;
    struct sn_hash_node by_id, by_number;
    struct sp_list_node in_owner, in_pool, in_held_up;
    struct sn_owner *owner;
    struct sn_pool *pool;
    enum sn_session_state state;
    bool is_request;
    bool held_up;    /* in its client's list of that name */
    uint64_t number; /* of its lease; 0: it is a request */

    struct sn_waiter *waiter; /* while it waits */
    bool told;
    sp_status told_status;
    size_t told_sent;

    struct sn_conn *conn; /* with a reference, or NULL while it waits */
    uint64_t lease;

    struct sn_channel *channel; /* of a lease of a node pool, or of an request; see sn_channel.h */
    struct sn_node_request *request; /* of a request that waits for a connection to a node */
    struct sn_promise *promise;      /* of the call that is under way, or NULL */
    struct sn_limit limit;           /* of that call */
    struct sn_task task;             /* goes on with it */
    struct sp_want want;
    sp_status broken; /* why a request could not be sent whole; SP_OK: it was */
    uint8_t *kept;    /* bytes to send, of which `sent` are out; or NULL */
    size_t kept_len, sent;
    size_t counted_bytes; /* all that it keeps */

    struct sn_slice id; /* lies behind this */
};

/* SP_OK or SP_NO_MEMORY. The others outlive the sessions. */
SP_MUST_CHECK sp_status sn_sessions_init(struct sn_sessions *sessions, struct sn_loop *loop,
                                         struct sn_outbox *outbox);
void sn_sessions_free(struct sn_sessions *sessions);

/* A session of the process `pid` of the client; NULL where memory is short. No other has that id. */
struct sn_session *sn_session_new(struct sn_sessions *sessions, struct sn_client *client,
                                  struct sn_slice pid, struct sn_pool *pool, struct sn_slice id,
                                  bool is_request);

/* Frees it; its lease has ended, or it never had one, and it has no channel. */
void sn_session_free(struct sn_session *session);
/* Its call is over: no time limit, no bytes kept, nothing awaited. The lease stays. */
void sn_session_call_over(struct sn_session *session);

/* Copies bytes that are to be sent later; SP_OK or SP_NO_MEMORY. */
SP_MUST_CHECK sp_status sn_session_keep(struct sn_session *session, const struct iovec *iov,
                                        int count);
/* They are out. */
void sn_session_unkeep(struct sn_session *session);
/* Whether so many bytes more may be kept for the client. */
bool sn_sessions_may_keep(const struct sn_sessions *sessions, const struct sn_client *client,
                          size_t len);
/* The session keeps more, or less; a lease's bytes are its owner's. */
void sn_session_count_kept(struct sn_session *session, size_t more, size_t less);

struct sn_session *sn_session_by_id(const struct sn_sessions *sessions, struct sn_slice id);
struct sn_session *sn_session_by_number(const struct sn_sessions *sessions, uint64_t number);

/* Makes another process the owner of a lease; false where memory is short. */
SP_MUST_CHECK bool sn_session_give_away(struct sn_session *session, struct sn_client *client,
                                        struct sn_slice pid);

size_t sn_node_request_len(const struct sn_node_request *request);

/* Copies it for the session, which keeps it; false where memory is short. */
SP_MUST_CHECK bool sn_node_request_keep(struct sn_session *session,
                                        const struct sn_node_request *request);
/* Does nothing where there is none. */
void sn_node_request_unkeep(struct sn_session *session);

/* Whether it can be a process of the pool's node. {Name, Node} becomes its name. */
bool sn_node_request_destination(const struct sn_options *options, struct sn_slice *destination);

/* The client reads again, or is gone: goes on with what was held up for it. */
void sn_sessions_resume(struct sn_sessions *sessions, struct sn_client *client);

/* The lease as a term: {'$sockpool_lease', Node, Incarnation, Number}. */
void sn_put_lease(struct sn_writer *writer, const struct sn_session *session);
/* Whether the term has the form of one; *number is 0 where it is of another incarnation. */
bool sn_lease_number(const struct sn_sessions *sessions, struct sn_slice term, uint64_t *number);

#endif
