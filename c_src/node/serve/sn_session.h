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

/* sn_session.c says which may follow which. A checkout begins with TRYING and leads to HELD, where each `send` and
 * `recv` begins and ends; a request leads to RECEIVING or ASKING, and ends there; one on a pipe ends with PIPED, or REPLIED. */
enum sn_session_state {
    /* Without a connection. */
    SN_SESSION_TRYING,  /* not queued: just made, or would not wait, and tries what is idle */
    SN_SESSION_WAITING, /* in the pool's queue */
    SN_SESSION_TOLD,    /* not any more: it has got a connection or an error, and sees to it soon */
    SN_SESSION_PIPED,   /* a request on a pipe, or in the queue for a place there */
    SN_SESSION_REPLIED, /* not any more: its client would not read its reply now, or it goes on another one */
    /* With one: sn_session_has_connection(). */
    SN_SESSION_HELD,      /* a lease that no call is using but, with a channel, calls to the node */
    SN_SESSION_SENDING,   /* for a call: first what came with it, then what is kept */
    SN_SESSION_RECEIVING, /* for a call: waits for bytes, or for its client to read */
    SN_SESSION_ASKING,    /* a node request that its channel is doing */
};

struct sn_session {
    /* In all states. */
    struct sn_sessions *sessions;
    struct sn_hash_node by_id, by_number;
    struct sp_list_node in_owner, in_pool, in_held_up;
    struct sn_owner *owner;
    struct sn_pool *pool;
    enum sn_session_state state; /* sn_session_become() changes it */
    bool is_request;
    bool held_up;         /* in its client's list of that name */
    uint64_t number;      /* of its lease, also while it waits for that; 0: it is a request */
    size_t counted_bytes; /* all that it keeps */
    struct sn_slice id;   /* lies behind this */
    struct sn_task task;  /* goes on with the call that is under way, or with the channel */

    union {
        struct {                      /* WAITING, TOLD, PIPED, REPLIED */
            struct sn_waiter *waiter; /* not of REPLIED */
            /* TOLD: why it does not wait any more, and how much of a request is out. REPLIED: SP_OK, or SP_AGAIN. */
            sp_status told_status;
            size_t told_sent;
        };
        struct {                  /* with a connection */
            struct sn_conn *conn; /* with a reference */
            uint64_t lease;
            struct sn_channel *channel; /* to a node, from sn_channel_open() on; else NULL */
        };
    };

    /* Of the call that is under way: in any state but HELD, where there is none once a checkout is answered. */
    struct sn_promise *promise; /* NULL: it was answered at once, or memory is short */
    struct sn_limit limit;
    struct sn_node_request *request; /* of a node request, until its channel is open; else NULL */
    /* Bytes to send, of which `sent` are out; or NULL. Of a request without a connection, or SENDING. REPLIED: with SP_OK
     * the reply, behind `sent' bytes. */
    uint8_t *kept;
    size_t kept_len, sent;
    bool would_wait;     /* TRYING, for a pipe */
    struct sp_want want; /* RECEIVING; and of a request before that */
    sp_status broken;    /* RECEIVING: why a request could not be sent whole; SP_OK: it was */
};

static inline bool sn_session_has_connection(const struct sn_session *session)
{
    return session->state >= SN_SESSION_HELD;
}

/* SP_OK or SP_NO_MEMORY. The others outlive the sessions. */
SP_MUST_CHECK sp_status sn_sessions_init(struct sn_sessions *sessions, struct sn_loop *loop,
                                         struct sn_outbox *outbox);
void sn_sessions_free(struct sn_sessions *sessions);

/* A session of the process `pid` of the client; NULL where memory is short. No other has that id. */
struct sn_session *sn_session_new(struct sn_sessions *sessions, struct sn_client *client,
                                  struct sn_slice pid, struct sn_pool *pool, struct sn_slice id,
                                  bool is_request);

/* Frees it; its lease has ended, or it never had one, and it has no channel and no place in the queue. */
void sn_session_free(struct sn_session *session);

/* All changes of the state go through here. What belongs to the new one is for the caller to set, unless it
 * calls one of the two that follow. */
void sn_session_become(struct sn_session *session, enum sn_session_state state);
/* It has a connection, with the caller's reference: HELD, or, of a request, SENDING or ASKING. */
void sn_session_grant(struct sn_session *session, struct sn_conn *conn, uint64_t lease);
/* The call of a lease is over: settled, and HELD again. */
void sn_session_call_over(struct sn_session *session);

/* No answer is due any more: no time limit, no bytes kept, nothing awaited. */
void sn_session_settle(struct sn_session *session);

/* For a call whose answer comes later, or once the time is over: SP_OK or SP_NO_MEMORY. */
SP_MUST_CHECK sp_status sn_session_promise(struct sn_session *session, struct sn_client *client,
                                           const struct sn_caller *caller, uint64_t timeout_ns);

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

/* Its client does not read its answers: its task runs when that does. */
void sn_session_hold_up(struct sn_session *session);
/* The client reads again, or is gone: goes on with what was held up for it. */
void sn_sessions_resume(struct sn_sessions *sessions, struct sn_client *client);

/* The lease as a term: {'$sockpool_lease', Node, Incarnation, Number}. */
void sn_put_lease(struct sn_writer *writer, const struct sn_session *session);
/* Whether the term has the form of one; *number is 0 where it is of another incarnation. */
bool sn_lease_number(const struct sn_sessions *sessions, struct sn_slice term, uint64_t *number);

#endif
