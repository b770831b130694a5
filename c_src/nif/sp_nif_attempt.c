/* NIFs of a connector process: one attempt to make a connection. */
#include "sp_nif.h"

#include "core/dist/sp_node.h"
#include "core/pool/sp_lease.h"

#include <openssl/crypto.h>
#include <sched.h>
#include <string.h>

static ERL_NIF_TERM attempt_term(ErlNifEnv *env, sp_status status)
{
    if (status == SP_OK)
        return sp_atoms.ok;
    if (status == SP_HANDSHAKE)
        return sp_atoms.handshake;
    return sp_wants(status) ? sp_atoms.wait : sp_nif_error_term(env, status);
}

/* The attempt behind a handle, for its owner. False with what to return: badarg for a connection
 * that is not, or no longer, in this state of its making, as one that was checked out. */
static bool get_attempt(ErlNifEnv *env, ERL_NIF_TERM term, enum sp_conn_state expected,
                        struct sp_nif_lease **lease, ERL_NIF_TERM *error)
{
    enum sp_conn_state state;

    if (!sp_nif_get_lease(env, term, lease, error))
        return false;
    state = sp_conn_state((*lease)->conn);
    /* One that is being closed answers by its lease, which has ended. */
    if (state == expected || state == SP_CONN_CLOSING || state == SP_CONN_CLOSED)
        return true;
    *error = enif_make_badarg(env);
    return false;
}

/* Likewise, of one that is not open yet: badarg for a worker's where a stream's was meant, and the other way round. */
static bool get_connecting(ErlNifEnv *env, ERL_NIF_TERM term, bool worker,
                           struct sp_nif_lease **lease, ERL_NIF_TERM *error)
{
    if (!get_attempt(env, term, SP_CONN_CONNECTING, lease, error))
        return false;
    if (sp_is_worker((*lease)->conn->transport) == worker)
        return true;
    *error = enif_make_badarg(env);
    return false;
}

static sp_status wait_until_open(const struct sp_call *call, struct sp_nif_lease *lease,
                                 ERL_NIF_TERM ref)
{
    ErlNifPid self;
    bool armed;

    enif_self(call->env, &self);
    if (!sp_conn_enter(lease->conn, lease->lease, call))
        return SP_CLOSED;
    armed = sp_nif_arm(call, lease, true, &self, ref);
    sp_conn_leave(lease->conn, call);
    return armed ? SP_WANT_WRITE : SP_BUSY;
}

/* attempt_claim(Attempt, Pid) -> ok | {error, not_owner}. Once, before Pid may use the attempt:
 * makes it the owner, whose death the sweep then notices as well. */
SP_NIF(sp_nif_attempt_claim)
{
    struct sp_nif_lease *lease;
    uint64_t generation;
    ErlNifPid pid;
    ERL_NIF_TERM unclaimed = 0;

    (void)argc;
    if (!sp_nif_open_handle(env, argv[0], &lease, &generation) ||
        !enif_get_local_pid(env, argv[1], &pid))
        return enif_make_badarg(env);
    if (!atomic_compare_exchange_strong(&lease->owner, &unclaimed, pid.pid))
        return sp_nif_error_term(env, SP_NOT_OWNER);
    atomic_store(&lease->conn->owner, pid.pid);
    if (sp_is_worker(lease->conn->transport))
        sp_nif_worker_claim(lease->conn, &pid);
    return sp_atoms.ok;
}

/* A host name's, a node name's and a cookie's most bytes. */
#define TEXT_BYTES_MAX 255
struct text {
    char bytes[TEXT_BYTES_MAX + 1];
};

static bool get_text(ErlNifEnv *env, ERL_NIF_TERM term, struct text *text)
{
    ErlNifBinary bin;

    if (!enif_inspect_binary(env, term, &bin) || bin.size > TEXT_BYTES_MAX)
        return false;
    memcpy(text->bytes, bin.data, bin.size);
    text->bytes[bin.size] = 0;
    return true;
}

/* A binary, or a tuple of four. *target is valid with the texts. */
static bool get_host(ErlNifEnv *env, ERL_NIF_TERM term, struct text texts[4],
                     struct sp_node_target *target, struct sp_addr *addr)
{
    const ERL_NIF_TERM *items;
    int arity, got = 0;

    addr->host = texts[0].bytes;
    if (get_text(env, term, &texts[0]))
        return true;
    if (!enif_get_tuple(env, term, &arity, &items) || arity != 4)
        return false;
    while (got < 4 && get_text(env, items[got], &texts[got]))
        got++;
    *target = (struct sp_node_target){texts[1].bytes, texts[2].bytes, texts[3].bytes};
    addr->to = target;
    return got == 4;
}

static sp_status keep_host(struct sp_conn *conn, const char *host)
{
    struct sp_nif_conn *self = sp_nif_conn_of(conn);
    char *copy;

    if (!conn->transport->upgradable)
        return SP_OK;
    copy = enif_alloc(strlen(host) + 1);
    if (!copy)
        return SP_NO_MEMORY;
    strcpy(copy, host);
    enif_free(self->host);
    self->host = copy;
    return SP_OK;
}

static ERL_NIF_TERM begin(const struct sp_call *call, struct sp_nif_lease *lease,
                          const struct sp_addr *addr, ERL_NIF_TERM ref)
{
    struct sp_conn *conn = lease->conn;
    ErlNifPid self;
    sp_status status;

    enif_self(call->env, &self);
    sp_conn_disarmed(conn, lease->lease, call);
    status = keep_host(conn, addr->host);
    if (status == SP_OK)
        status = sp_control_begin(conn->pool, call, conn, &lease->lease, self.pid, addr);
    if (status == SP_WANT_WRITE)
        status = wait_until_open(call, lease, ref);
    return attempt_term(call->env, status);
}

/* attempt_begin(Attempt, Address, Port | local, Host, Ref) -> ok | wait | {error, Reason}.
 * May be called again, with another address. Host is what the address was found for; for a node
 * {Host, the node's name, the host that we are on, Cookie}. */
SP_NIF(sp_nif_attempt_begin)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    struct text texts[4];
    struct sp_node_target target;
    struct sp_addr addr;
    ERL_NIF_TERM result;

    (void)argc;
    if (!sp_nif_get_addr(env, argv[1], argv[2], &addr) ||
        !get_host(env, argv[3], texts, &target, &addr))
        result = enif_make_badarg(env);
    else if (get_connecting(env, argv[0], false, &lease, &result))
        result = begin(&call, lease, &addr, argv[4]);
    OPENSSL_cleanse(texts, sizeof texts);
    sp_nif_charge(&call);
    return result;
}

/* attempt_worker(Attempt, Pid) -> ok | {error, Reason}: this is its worker, which has begun. */
SP_NIF(sp_nif_attempt_worker)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    struct sp_nif_conn *conn;
    struct sp_addr nowhere = {0};
    ErlNifPid worker, self;
    ERL_NIF_TERM error;
    sp_status status;

    (void)argc;
    if (!enif_get_local_pid(env, argv[1], &worker))
        return enif_make_badarg(env);
    if (!get_connecting(env, argv[0], true, &lease, &error))
        return error;
    conn = sp_nif_conn_of(lease->conn);
    enif_self(env, &self);
    /* The lease keeps the connection from its close, which looks at it, too. */
    if (!sp_conn_enter(&conn->core, lease->lease, &call))
        return sp_nif_error_term(env, SP_CLOSED);
    conn->worker = worker;
    sp_conn_leave(&conn->core, &call);
    status =
        sp_control_begin(conn->core.pool, &call, &conn->core, &lease->lease, self.pid, &nowhere);
    if (status == SP_OK)
        status = sp_control_opened(&conn->core, &lease->lease, &call);
    /* Of one that is dead the check of a ready attempt knows. */
    if (status == SP_OK)
        (void)enif_monitor_process(env, conn, &worker, NULL);
    sp_nif_charge(&call);
    return attempt_term(env, status);
}

/* attempt_opened(Attempt, Ref) -> ok | wait | handshake | {error, Reason}, after ok or the ready
 * message. With ok the connection can be used by its owner; handshake: call attempt_handshake/2 until
 * that is ok, then this again. */
SP_NIF(sp_nif_attempt_opened)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    ERL_NIF_TERM error;
    sp_status status;

    (void)argc;
    if (!get_connecting(env, argv[0], false, &lease, &error))
        return error;
    sp_conn_disarmed(lease->conn, lease->lease, &call);
    status = sp_control_opened(lease->conn, &lease->lease, &call);
    if (status == SP_WANT_WRITE)
        status = wait_until_open(&call, lease, argv[1]);
    sp_nif_charge(&call);
    return attempt_term(env, status);
}

sp_status sp_nif_handshake(const struct sp_call *call, struct sp_nif_lease *lease, ERL_NIF_TERM ref)
{
    struct sp_conn *conn = lease->conn;
    uint64_t number = lease->lease;
    ErlNifPid self;
    sp_status status;
    bool ended;

    enif_self(call->env, &self);
    sp_conn_disarmed(conn, number, call);
    if (!sp_conn_enter(conn, number, call))
        return SP_CLOSED;
    status = sp_control_handshake(conn);
    if (sp_wants(status) && !sp_nif_arm(call, lease, status == SP_WANT_WRITE, &self, ref))
        status = SP_BUSY;
    /* Killed, and revoked before this armed: a shut that has been by comes no second time. It clears
     * the lease and then looks at the arm, this arms and then looks at the lease. */
    ended = atomic_load(&conn->lease) != number;
    if (ended && !enif_is_current_process_alive(call->env))
        sp_conn_disarmed(conn, number, call);
    sp_conn_leave(conn, call);
    /* Handshakes come in herds, and there are as many dirty schedulers as processors: one that goes
     * from step to step keeps a processor until the kernel's next tick, and an ordinary scheduler that
     * is due waits for that, 4 ms. */
    (void)sched_yield();
    /* Where the descriptor was shut down under it, that is not the server's doing. */
    return ended && status != SP_OK && !sp_wants(status) ? SP_CLOSED : status;
}

/* attempt_handshake(Attempt, Ref) -> ok | wait | {error, Reason}; again after the ready message. */
SP_NIF(sp_nif_attempt_handshake)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    ERL_NIF_TERM error;

    (void)argc;
    if (!get_attempt(env, argv[0], SP_CONN_CONNECTING, &lease, &error))
        return error;
    if (!lease->conn->transport->handshake)
        return enif_make_badarg(env);
    return attempt_term(env, sp_nif_handshake(&call, lease, argv[1]));
}

/* attempt_ready(Attempt) -> ok | {error, Reason}. The connection is the pool's. */
SP_NIF(sp_nif_attempt_ready)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    ERL_NIF_TERM error, result;
    sp_status status;

    (void)argc;
    if (!get_attempt(env, argv[0], SP_CONN_INITIALISING, &lease, &error))
        return error;
    if (sp_conn_armed(lease->conn, lease->lease))
        return sp_nif_error_term(env, SP_BUSY);
    status = sp_control_ready(lease->conn->pool, &call, lease->conn, lease->lease);
    result = status == SP_UNREAD
                 ? enif_make_tuple2(env, sp_atoms.error, sp_nif_words_term(env, lease->conn))
                 : attempt_term(env, status);
    sp_nif_drop_conn(lease, &call);
    sp_nif_charge(&call);
    return result;
}

static bool get_failure(ErlNifEnv *env, ERL_NIF_TERM term, enum sp_failure *why)
{
#define SP_FAILURE_WORD(name, word) #word,
    static const char *const WORDS[] = {SP_FAILURE_MAP(SP_FAILURE_WORD)};
#undef SP_FAILURE_WORD
    int which;

    if (!sp_nif_get_word(env, term, WORDS, SP_FAILURES, &which))
        return false;
    *why = (enum sp_failure)which;
    return true;
}

/* attempt_failed(Attempt, Class) -> ok. Gives the capacity back and counts for backoff; Class is a word of sp_stats.h. */
SP_NIF(sp_nif_attempt_failed)
{
    enum sp_failure why;
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    ERL_NIF_TERM error;

    (void)argc;
    if (!get_failure(env, argv[1], &why))
        return enif_make_badarg(env);
    if (!sp_nif_get_lease(env, argv[0], &lease, &error))
        return error;
    if (sp_conn_state(lease->conn) == SP_CONN_LEASED)
        return enif_make_badarg(env);
    (void)sp_pool_fail_attempt(lease->conn->pool, &call, lease->conn, lease->lease, why);
    sp_nif_drop_conn(lease, &call);
    sp_nif_charge(&call);
    return sp_atoms.ok;
}

/* attempt_abort(Attempt, Class) -> ok. By the control process, once the attempt's owner has died: as
 * attempt_failed/2, where the owner did not come to that. */
SP_NIF(sp_nif_attempt_abort)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    enum sp_failure why;

    (void)argc;
    if (!sp_nif_get_orphan(env, argv[0], &lease) || !get_failure(env, argv[1], &why))
        return enif_make_badarg(env);
    if (lease->conn && sp_conn_unready(lease->conn))
        (void)sp_pool_fail_attempt(lease->conn->pool, &call, lease->conn, lease->lease, why);
    sp_nif_charge(&call);
    return sp_atoms.ok;
}
