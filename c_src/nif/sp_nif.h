/* What the NIF's files share.
 *
 * Lifetimes (docs/lifetimes.md has the picture):
 *   pool resource    holds the sp_pool; kept by persistent_term, its connections and its waiters
 *   conn resource    holds one sp_conn; kept by the pool's table, by leases, and by ERTS while its
 *                    descriptor is selected
 *   lease resource   what Erlang code has: a wait handle that becomes a lease, or a lease at once
 */
#ifndef SP_NIF_H
#define SP_NIF_H

#include "core/pool/sp_control.h"
#include "core/pool/sp_queue.h"
#include "core/pipe/sp_reply.h"
#include "core/conn/sp_recv.h"

#include <erl_nif.h>

/* Libraries with different declarations do not take over from each other (layout.sh). To be raised where the
 * meaning of what they share has changed and no declaration has. */
#define SP_NIF_LAYOUT 8

struct sp_tls_slot;
struct sp_tls_registry;
struct sp_nif_clock;
struct sp_nif_kept; /* a term that outlives its process, reference counted */

/* The private data: what an upgrade has to find unchanged, and old and new code share. */
struct sp_nif_roots {
    unsigned layout; /* first, in every version */
    unsigned users;  /* module instances: changed by load, upgrade and unload only, which ERTS
                       serialises */
    struct sp_tls_registry *tls; /* one reference */
    struct sp_nif_clock *clock;  /* runs in the code of the library that made it */
    _Atomic uint64_t pools;      /* that there are */
    ErlNifTSDKey waiters;        /* what each thread has put by, sp_nif_waiter.c's */
};

struct sp_nif_pool {
    struct sp_pool core;
    void *resource;    /* the resource that points here */
    ERL_NIF_TERM name; /* `undefined': it has none */
    ErlNifMutex
        *transition;       /* held while the pool opens, and over one slice of a shut; outermost */
    bool shutting;         /* under transition: slices are left to do */
    bool retired;          /* under transition: it was stopped, and is never opened again */
    sp_status shut_status; /* under transition: what they tell waiters */
    ErlNifMutex *lock;     /* guards what follows, up to cut; innermost */
    bool controlled;
    ErlNifPid controller;
    ErlNifMonitor monitor;
    ErlNifPid janitor; /* does the slices after a crash; undefined where there is none */
    struct sp_nif_kept *last_error;
    struct sp_nif_kept *changes; /* to the options, by pool_update/3 */
    struct sp_nif_kept *check; /* of a pool of workers: the function that says whether one is fit */
    struct sp_nif_kept
        *cut; /* of a pool whose framing is one: the function that says where messages end */
    _Atomic uint32_t grants;          /* enum sp_nif_grant */
    _Atomic uint64_t worker_shutdown; /* ms, SP_NEVER for infinity */
    /* ms, SP_NEVER for infinity */
    _Atomic uint64_t checkout_timeout, send_timeout, slow_checkout;
    _Atomic uint64_t recv_limit_bytes;
    _Atomic uint64_t header;       /* sp_framing_pack() of the pool's framing */
    _Atomic bool raw;              /* it has none that C knows */
    _Atomic uint64_t max_inflight; /* calls on one connection; 0 but for a pool of nodes */
    struct sp_tls_slot *tls;       /* sp_nif_tls.c's */
    struct sp_tls_slot *upgrade; /* likewise; the last one of starttls, so that tickets are kept */
    struct sp_tls_registry *tls_registry; /* one reference; the roots' */
    struct sp_nif_roots *roots;
    struct sp_nif_pool *clock_next; /* sp_nif_clock.c's */
    _Atomic uint64_t
        parent; /* a number that stands for whose child it is, or was when it crashed; 0: nobody's */
    _Atomic bool clocked; /* the clock looks at it, and has a reference */
    _Atomic bool unheard; /* its control process is to be woken, and could not be */
};

struct sp_nif_conn {
    /* With transport worker; pids are 0 before they are known. */
    ErlNifPid starter;         /* whom the worker has for its parent; written by attempt_claim() */
    ErlNifPid worker;          /* written while its connector's lease holds, by the connector */
    struct sp_nif_kept *state; /* {Bytes, Term} of set_state/3; under the pool's lock */
    struct sp_conn core;       /* and of a worker only its first sp_conn_bytes() */
    _Atomic bool selected;     /* ERTS knows the descriptor: only its stop callback may close it */
    ErlNifBinary rbin;         /* the memory of core.rbuf, while that has any */
    char *host; /* of an upgradable one, what its address was found for; the connector's */
    struct sp_nif_kept *cut; /* of set_cut/2, as the pool's; under its lock */
};

static inline struct sp_nif_conn *sp_nif_conn_of(struct sp_conn *conn)
{
    return SP_CONTAINER(conn, struct sp_nif_conn, core);
}

/* What the owner of a lease is told that it has. */
enum sp_nif_grant {
    SP_NIF_STREAM,
    SP_NIF_NODE,
    SP_NIF_WORKER,
    SP_NIF_CHECK /* a worker that a function is to look at first */
};

/* A request up to this size is copied into its waiter: three allocations and their release by
 * another scheduler cost more. */
#define SP_SMALL_REQUEST_BYTES 256

struct sp_nif_waiter {
    struct sp_waiter core;
    struct sp_nif_refs *refs; /* hold ref */
    ERL_NIF_TERM ref;
    size_t len;                 /* of the request */
    ErlNifIOVec *iov;           /* of a larger one */
    struct sp_nif_waiter *next; /* while cached */
    struct iovec small_iov;     /* of a small one */
    uint8_t small[SP_SMALL_REQUEST_BYTES];
};

/* What a handle {sockpool_conn, Resource, Generation} leads to. All but `owner` belong to the
 * owner's calls and the destructor.
 *
 * At check-in it stays with the connection, and serves again where the same process takes the same
 * connection next, under the next generation: making and destroying a resource is half the cost of
 * a check-out. Never for another process, whose death would otherwise go unnoticed while an old
 * handle lives. */
struct sp_nif_lease {
    _Atomic ERL_NIF_TERM owner;
    uint64_t generation;
    struct sp_nif_waiter *waiter; /* until its grant is adopted */
    struct sp_conn *conn;         /* with a reference */
    uint64_t lease;
    bool waits_to_write; /* what is armed */
    uint32_t queued_ms;  /* when it began to wait; the lower part of a time */
};

extern ErlNifResourceType *sp_nif_pool_type, *sp_nif_conn_type, *sp_nif_lease_type;
extern const struct sp_host sp_nif_host;

/* clang-format off */
#define SP_ATOM_MAP(X) \
    X(ok) X(error) X(first) X(soon) X(undefined) X(infinity) X(ready) X(granted) X(wait) X(again) X(partial) X(sent) \
    X(empty) X(crowded) X(cancelled) X(told) X(fired) X(fifo) X(raw) X(line) X(packet) X(sockpool_conn) \
    X(local) X(bad_length) X(not_a_conn) X(sockpool_wake) X(sockpool_idle) X(unavailable) \
    X(timeout) X(name) X(already_started) X(sockpool_shut) X(handshake) X(tls) X(alert) X(node) X(many) X(worker) \
    X(check) X(length) X(delimiter) X(fixed) X(resp) X(fun) X(little) X(strip) \
    X(exclusive) X(arm) X(retry) X(piped) X(sockpool_pipe)
/* clang-format on */
#define SP_ATOM_FIELD(name) ERL_NIF_TERM name;
struct sp_nif_atoms {
    SP_ATOM_MAP(SP_ATOM_FIELD)
    ERL_NIF_TERM dollar_sockpool, true_, false_, unix_;
};
#undef SP_ATOM_FIELD
extern struct sp_nif_atoms sp_atoms;

/* sp_nif_term.c */
void sp_nif_make_atoms(ErlNifEnv *env);
ERL_NIF_TERM sp_nif_error_term(ErlNifEnv *env, sp_status status); /* {error, Reason} */
/* Why, for {error, Reason}. */
ERL_NIF_TERM sp_nif_reason_term(ErlNifEnv *env, sp_status status);
/* {error, {bad_option, transport, Transport}}: what was asked for is not done with such. */
ERL_NIF_TERM sp_nif_no_stream_term(ErlNifEnv *env, ERL_NIF_TERM transport);
/* {unread_bytes, Text} */
ERL_NIF_TERM sp_nif_words_term(ErlNifEnv *env, const struct sp_conn *conn);
ERL_NIF_TERM sp_nif_addr_term(ErlNifEnv *env, const struct sp_addr *addr);
bool sp_nif_get_addr(ErlNifEnv *env, ERL_NIF_TERM host, ERL_NIF_TERM port, struct sp_addr *addr);
bool sp_nif_get_bool(ERL_NIF_TERM term, bool *value);
ERL_NIF_TERM sp_nif_ms_term(ErlNifEnv *env, uint64_t ms); /* SP_NEVER: infinity */
/* The same of nanoseconds that somebody is to wait: not a part of a millisecond less. */
ERL_NIF_TERM sp_nif_wait_term(ErlNifEnv *env, uint64_t ns);
/* Which of the words the atom is. */
bool sp_nif_get_word(ErlNifEnv *env, ERL_NIF_TERM term, const char *const *words, int count,
                     int *which);

/* sp_nif_framing.c */
bool sp_nif_get_framing(ErlNifEnv *env, ERL_NIF_TERM term, struct sp_framing *framing);
ERL_NIF_TERM sp_nif_framing_term(ErlNifEnv *env, const struct sp_framing *framing);

/* sp_nif_rbuf.c */
SP_MUST_CHECK bool sp_nif_rbuf_open_type(ErlNifEnv *env, ErlNifResourceFlags flags);
bool sp_nif_rbuf_reserve(struct sp_conn *conn, size_t cap);
void sp_nif_rbuf_free(struct sp_conn *conn);
/* Before a receive of what is only shown. False where memory is short. */
SP_MUST_CHECK bool sp_nif_rbuf_show(struct sp_conn *conn);
/* What sp_recv() has received, as a binary, and off the buffer unless it is only shown. */
ERL_NIF_TERM sp_nif_rbuf_take(const struct sp_call *call, struct sp_conn *conn,
                              const struct sp_received *received);

/* sp_nif_host.c */
struct sp_call sp_nif_call(ErlNifEnv *env);
struct sp_nif_pool *sp_nif_get_pool(ErlNifEnv *env, ERL_NIF_TERM term);
/* The process that controls the pool, or false where none does. */
bool sp_nif_get_controller(struct sp_nif_pool *pool, ErlNifPid *pid);
/* Arms the connection for the lease's owner: {'$sockpool', Ref, ready}, once. Within enter/leave.
 */
bool sp_nif_arm(const struct sp_call *call, struct sp_nif_lease *lease, bool write,
                const ErlNifPid *pid, ERL_NIF_TERM ref);
struct sp_nif_pool *sp_nif_pool_alloc(ErlNifEnv *env, uint32_t shard_count, ERL_NIF_TERM *term);
struct sp_nif_waiter *sp_nif_waiter_new(struct sp_nif_pool *pool, ERL_NIF_TERM ref);
/* At load and upgrade: goes on with what threads have put by in the library before this one. */
void sp_nif_keep_waiters(const struct sp_nif_roots *roots);
/* The calling thread, which will end, puts no waiters by for reuse. */
void sp_nif_keep_no_waiters(void);
/* Has the waiter carry these bytes. False: not a list of binaries. */
bool sp_nif_waiter_carry(ErlNifEnv *env, struct sp_nif_waiter *waiter, ERL_NIF_TERM request);
/* The core's host: the last reference is gone. */
void sp_nif_waiter_free(struct sp_waiter *waiter);
/* At the end of a call: charges the process for what it did. Whose allowance was used up lets others run
 * before it goes on. */
void sp_nif_charge(const struct sp_call *call);
/* Under transition: one slice, where the pool is shutting. True while more is left. */
bool sp_nif_shut_slice(const struct sp_call *call, struct sp_nif_pool *pool);
/* Under transition: the pool leaves OPEN. */
void sp_nif_shut_begin(ErlNifEnv *env, struct sp_nif_pool *pool, enum sp_phase phase,
                       sp_status status);
bool sp_nif_open_types(ErlNifEnv *env, ErlNifResourceFlags flags);

/* sp_nif_event.c */
/* `undefined' of a worker. */
ERL_NIF_TERM sp_nif_peer_term(ErlNifEnv *env, const struct sp_conn *conn);
void sp_nif_tell_closed(const struct sp_call *call, const struct sp_conn *conn, uint64_t age_ns,
                        uint64_t idle_ns);

/* sp_nif_config.c: false where something is missing, or is not what it should be. */
bool sp_nif_get_config(ErlNifEnv *env, ERL_NIF_TERM map, struct sp_config *config);
/* What the data plane reads of a NIF's pool beside its core. */
struct sp_nif_limits {
    uint64_t checkout_timeout, send_timeout, slow_checkout, max_inflight, worker_shutdown;
};
bool sp_nif_get_limits(ErlNifEnv *env, ERL_NIF_TERM map, struct sp_nif_limits *limits);
void sp_nif_store_limits(struct sp_nif_pool *pool, const struct sp_nif_limits *limits);

/* sp_nif_kept.c */
/* Keeps a copy of the term at that place of the pool. False where there is no memory; what was there stays. */
bool sp_nif_keep(struct sp_nif_pool *pool, struct sp_nif_kept **place, ERL_NIF_TERM term);
/* False: none so far. Otherwise also when it was put there, in milliseconds since 1970. */
bool sp_nif_kept_get(struct sp_nif_pool *pool, struct sp_nif_kept **place, ErlNifEnv *env,
                     ERL_NIF_TERM *term, ErlNifTime *at_ms);
void sp_nif_kept_unref(struct sp_nif_kept *kept);
/* Of a connection, by its holder, without pins: nobody else looks. */
void sp_nif_state_drop(struct sp_nif_conn *conn);

/* sp_nif_worker.c */
extern const struct sp_transport sp_nif_transport_worker;
/* The attempt's connector is to start the worker. */
void sp_nif_worker_claim(struct sp_conn *conn, const ErlNifPid *connector);
/* Has the worker end, by who controls the pool or cleans up after it. */
void sp_nif_worker_stop(const struct sp_call *call, struct sp_nif_conn *conn);
/* Called when a worker has ended. */
void sp_nif_worker_down(ErlNifEnv *env, void *resource, ErlNifPid *pid, ErlNifMonitor *monitor);

/* sp_nif_clock.c */
/* NULL where there is no memory or no thread. */
struct sp_nif_clock *sp_nif_clock_start(void);
/* True for the first pool only. Its caller makes a resource that stays: then ERTS does not unload the library any more. */
bool sp_nif_clock_keep(struct sp_nif_clock *clock);
/* Somebody waits in the pool, or its control process was not to be woken: has it look after that. From any thread. */
void sp_nif_clock_watch(struct sp_nif_pool *pool);
/* Where there never was a pool. */
void sp_nif_clock_stop(struct sp_nif_clock *clock);

/* sp_nif_lease.c */
/* Never NULL; released by the caller once it has the handle. */
struct sp_nif_lease *sp_nif_lease_new(void);
/* The owner's lease of before, where the keepsake is that; else a new one. Releases the keepsake.
 */
struct sp_nif_lease *sp_nif_lease_again(void *keepsake, const ErlNifPid *owner);
/* {ok, Handle}, {node, Handle} where that is to be given to a process that reads frames, or {worker | check,
 * Handle, Pid}. */
ERL_NIF_TERM sp_nif_leased_term(ErlNifEnv *env, struct sp_conn *conn, ERL_NIF_TERM handle);
/* The message to who has waited for that. */
ERL_NIF_TERM sp_nif_granted(struct sp_nif_pool *pool);
/* Makes the handle and releases the caller's reference. */
ERL_NIF_TERM sp_nif_lease_handle(ErlNifEnv *env, struct sp_nif_lease *lease);
/* The resource and generation of a handle, whoever it belongs to. */
bool sp_nif_open_handle(ErlNifEnv *env, ERL_NIF_TERM term, struct sp_nif_lease **lease,
                        uint64_t *generation);
/* One whose owner was a process that is dead: it makes no more calls, so all of the lease is the caller's. */
bool sp_nif_get_orphan(ErlNifEnv *env, ERL_NIF_TERM term, struct sp_nif_lease **lease);
/* The lease behind a handle, for its owner. False with the {error, Reason} to return: no handle,
 * not the owner's, ended. */
bool sp_nif_get_lease(ErlNifEnv *env, ERL_NIF_TERM term, struct sp_nif_lease **lease,
                      ERL_NIF_TERM *error);
/* The same, and enters a call of the owner that does no I/O on the stream: sp_conn_leave() is to follow. */
bool sp_nif_enter(const struct sp_call *call, ERL_NIF_TERM term, struct sp_nif_lease **lease,
                  ERL_NIF_TERM *error);
/* Ends the handle's hold: the lease has ended otherwise. */
void sp_nif_drop_conn(struct sp_nif_lease *lease, const struct sp_call *call);

/* sp_nif_tls.c */
/* {tls, Reason}: a status of that transport's own. */
ERL_NIF_TERM sp_nif_tls_reason_term(ErlNifEnv *env, sp_status status);
bool sp_nif_tls_roots_init(struct sp_nif_roots *roots);
void sp_nif_tls_roots_free(struct sp_nif_roots *roots);
bool sp_nif_tls_init(ErlNifEnv *env, struct sp_nif_pool *pool);
void sp_nif_tls_free(struct sp_nif_pool *pool);
/* Under transition, by a shut: the pool's connections alone still hold its context. */
void sp_nif_tls_release(ErlNifEnv *env, struct sp_nif_pool *pool);
/* What tls_context/2 made, with a reference to the context, once: NULL where the term is none, or was taken. */
struct sp_tls_ctx *sp_nif_context_take(ErlNifEnv *env, ERL_NIF_TERM term);
bool sp_nif_tls_open_type(ErlNifEnv *env, ErlNifResourceFlags flags);

/* sp_nif_attempt.c */
/* One step of a handshake of the transport, in a dirty scheduler: its process may be killed meanwhile, and its lease
 * ended, so nothing of the lease is written but for what its arm needs. */
sp_status sp_nif_handshake(const struct sp_call *call, struct sp_nif_lease *lease,
                           ERL_NIF_TERM ref);

/* Queues the calling process. `request` is a list of binaries, the empty list for a check-out.
 * `expiry` is the time in ms after which the pool tells it that its time is over, or infinity. `growing_only` as
 * in struct sp_waiter; `piped`: what a request that is to have a place on a pipe wants, or NULL. */
ERL_NIF_TERM sp_nif_enqueue_waiter(const struct sp_call *call, struct sp_nif_pool *pool,
                                   ERL_NIF_TERM ref, ERL_NIF_TERM expiry, ERL_NIF_TERM request,
                                   bool growing_only, const struct sp_want *piped);

/* The pool behind the term, where the caller controls it; or NULL. */
struct sp_nif_pool *sp_nif_controlled_pool(ErlNifEnv *env, ERL_NIF_TERM term);

/* sp_nif_io.c */
/* Length | packet | {packet, Shown}. The length 0 means one packet where the connection has a framing, as in
 * gen_tcp:recv/2. */
bool sp_nif_get_want(ErlNifEnv *env, ERL_NIF_TERM term, struct sp_want *want);

/* sp_nif_unnamed.c: its name, or the pool itself where it has none. */
ERL_NIF_TERM sp_nif_name_term(ErlNifEnv *env, const struct sp_nif_pool *pool);

/* sp_nif_pipe.c: of the core's host */
bool sp_nif_reply_reserve(struct sp_reply *reply, size_t cap);
void sp_nif_reply_free(struct sp_reply *reply);
void sp_nif_reply_notify(const struct sp_call *call, struct sp_waiter *waiter, sp_status status,
                         struct sp_reply *reply);
bool sp_nif_pipe_select(const struct sp_call *call, struct sp_conn *conn, struct sp_waiter *waiter,
                        uint32_t pipe, uint32_t generation, bool write);
bool sp_nif_pipe_unselect(const struct sp_call *call, struct sp_conn *conn);

#define SP_NIF(name) ERL_NIF_TERM name(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])

SP_NIF(sp_nif_pool_new);
SP_NIF(sp_nif_pool_open);
SP_NIF(sp_nif_pool_update);
SP_NIF(sp_nif_pool_changes);
SP_NIF(sp_nif_pool_shut);
SP_NIF(sp_nif_pool_clean_up);
SP_NIF(sp_nif_pool_step);
SP_NIF(sp_nif_pool_tick);
SP_NIF(sp_nif_pool_idle_event);
SP_NIF(sp_nif_pool_stats);
SP_NIF(sp_nif_pool_histograms);
SP_NIF(sp_nif_pool_connections);
SP_NIF(sp_nif_attempt_resolved);
SP_NIF(sp_nif_pool_want);
SP_NIF(sp_nif_pool_note_error);
SP_NIF(sp_nif_pool_give_up);
SP_NIF(sp_nif_pool_unavailable);
SP_NIF(sp_nif_pool_ready);
SP_NIF(sp_nif_pool_checkout_timeout);
SP_NIF(sp_nif_pool_send_timeout);
SP_NIF(sp_nif_pool_controller);
SP_NIF(sp_nif_pool_check);
SP_NIF(sp_nif_pool_kind);
SP_NIF(sp_nif_pool_look);
SP_NIF(sp_nif_pool_listen);
SP_NIF(sp_nif_count);
SP_NIF(sp_nif_pool_retire);
SP_NIF(sp_nif_pool_parent);
SP_NIF(sp_nif_pool_set_parent);
SP_NIF(sp_nif_tls_configure);
SP_NIF(sp_nif_tls_context);

SP_NIF(sp_nif_pool_checks);
SP_NIF(sp_nif_check_claim);
SP_NIF(sp_nif_check_passed);
SP_NIF(sp_nif_check_failed);
SP_NIF(sp_nif_check_skipped);
SP_NIF(sp_nif_check_abort);

SP_NIF(sp_nif_attempt_claim);
SP_NIF(sp_nif_attempt_begin);
SP_NIF(sp_nif_attempt_opened);
SP_NIF(sp_nif_attempt_worker);
SP_NIF(sp_nif_attempt_handshake);
SP_NIF(sp_nif_attempt_ready);
SP_NIF(sp_nif_attempt_failed);
SP_NIF(sp_nif_attempt_abort);

SP_NIF(sp_nif_checkout);
SP_NIF(sp_nif_enqueue);
SP_NIF(sp_nif_waited);
SP_NIF(sp_nif_enqueue_growing);
SP_NIF(sp_nif_cancel);
SP_NIF(sp_nif_checkin);
SP_NIF(sp_nif_checkin_clean);
SP_NIF(sp_nif_discard);
SP_NIF(sp_nif_give_away);

SP_NIF(sp_nif_send);
SP_NIF(sp_nif_recv);
SP_NIF(sp_nif_recv_ahead);
SP_NIF(sp_nif_take);
SP_NIF(sp_nif_cut);
SP_NIF(sp_nif_set_cut);
SP_NIF(sp_nif_disarm);
SP_NIF(sp_nif_park);
SP_NIF(sp_nif_request);
SP_NIF(sp_nif_finish);
SP_NIF(sp_nif_fired);

SP_NIF(sp_nif_pipe_request);
SP_NIF(sp_nif_pipe_enqueue);
SP_NIF(sp_nif_pipe_look);
SP_NIF(sp_nif_pipe_arm);
SP_NIF(sp_nif_pipe_give_up);
SP_NIF(sp_nif_pipe_place);
SP_NIF(sp_nif_pipe_event);

SP_NIF(sp_nif_info);
SP_NIF(sp_nif_worker);
SP_NIF(sp_nif_return_worker);
SP_NIF(sp_nif_node_names);
SP_NIF(sp_nif_node_answer);
SP_NIF(sp_nif_peername);
SP_NIF(sp_nif_sockname);
SP_NIF(sp_nif_setopt);
SP_NIF(sp_nif_send_timeout);

SP_NIF(sp_nif_starttls);
SP_NIF(sp_nif_starttls_handshake);

SP_NIF(sp_nif_state);
SP_NIF(sp_nif_set_state);

#endif
