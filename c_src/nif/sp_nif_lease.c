/* NIFs that begin, move and end a lease. */
#include "sp_nif.h"

#include "core/dist/sp_node.h"
#include "core/pool/sp_grant.h"
#include "core/pool/sp_lease.h"

#include <string.h>

struct sp_nif_lease *sp_nif_lease_new(void)
{
    /* ERTS ends the VM itself where memory for a resource is short. */
    return memset(enif_alloc_resource(sp_nif_lease_type, sizeof(struct sp_nif_lease)), 0,
                  sizeof(struct sp_nif_lease));
}

ERL_NIF_TERM sp_nif_lease_handle(ErlNifEnv *env, struct sp_nif_lease *lease)
{
    ERL_NIF_TERM resource = enif_make_resource(env, lease);

    enif_release_resource(lease);
    return enif_make_tuple3(env, sp_atoms.sockpool_conn, resource,
                            enif_make_uint64(env, lease->generation));
}

ERL_NIF_TERM sp_nif_leased_term(ErlNifEnv *env, struct sp_conn *conn, ERL_NIF_TERM handle)
{
    struct sp_nif_pool *pool = SP_CONTAINER(conn->pool, struct sp_nif_pool, core);
    enum sp_nif_grant grants =
        (enum sp_nif_grant)atomic_load_explicit(&pool->grants, memory_order_relaxed);

    if (sp_is_worker(conn->transport)) {
        struct sp_nif_conn *self = sp_nif_conn_of(conn);
        return enif_make_tuple3(env, grants == SP_NIF_CHECK ? sp_atoms.check : sp_atoms.worker,
                                handle, enif_make_pid(env, &self->worker));
    }
    return enif_make_tuple2(env, sp_is_node(conn->transport) ? sp_atoms.node : sp_atoms.ok, handle);
}

ERL_NIF_TERM sp_nif_granted(struct sp_nif_pool *pool)
{
    switch ((enum sp_nif_grant)atomic_load_explicit(&pool->grants, memory_order_relaxed)) {
    case SP_NIF_NODE:
        return sp_atoms.node;
    case SP_NIF_WORKER:
        return sp_atoms.worker;
    case SP_NIF_CHECK:
        return sp_atoms.check;
    case SP_NIF_STREAM:
        break;
    }
    return sp_atoms.granted;
}

bool sp_nif_open_handle(ErlNifEnv *env, ERL_NIF_TERM term, struct sp_nif_lease **lease,
                        uint64_t *generation)
{
    const ERL_NIF_TERM *items;
    ErlNifUInt64 number;
    void *resource;
    int arity;

    if (!enif_get_tuple(env, term, &arity, &items) || arity != 3 ||
        !enif_is_identical(items[0], sp_atoms.sockpool_conn) ||
        !enif_get_resource(env, items[1], sp_nif_lease_type, &resource) ||
        !enif_get_uint64(env, items[2], &number))
        return false;
    *lease = resource;
    *generation = number;
    return true;
}

bool sp_nif_get_orphan(ErlNifEnv *env, ERL_NIF_TERM term, struct sp_nif_lease **lease)
{
    uint64_t generation;
    ErlNifPid owner;

    if (!sp_nif_open_handle(env, term, lease, &generation))
        return false;
    owner.pid = atomic_load(&(*lease)->owner);
    return owner.pid && !enif_is_process_alive(env, &owner);
}

void sp_nif_drop_conn(struct sp_nif_lease *lease, const struct sp_call *call)
{
    struct sp_conn *conn = lease->conn;

    if (!conn)
        return;
    sp_conn_disarmed(conn, lease->lease, call);
    lease->conn = NULL;
    conn->pool->host->conn_unref(conn);
}

static bool is_owner(ErlNifEnv *env, struct sp_nif_lease *lease)
{
    ErlNifPid self;

    enif_self(env, &self);
    return atomic_load(&lease->owner) == self.pid;
}

static bool adopt(struct sp_nif_lease *lease)
{
    if (lease->waiter && !lease->waiter->core.piped &&
        sp_waiter_adopt(&lease->waiter->core, &lease->conn, &lease->lease))
        lease->waiter = NULL;
    return lease->conn != NULL;
}

bool sp_nif_get_lease(ErlNifEnv *env, ERL_NIF_TERM term, struct sp_nif_lease **lease,
                      ERL_NIF_TERM *error)
{
    uint64_t generation;

    if (!sp_nif_open_handle(env, term, lease, &generation))
        *error = sp_atoms.not_a_conn;
    else if (!is_owner(env, *lease))
        *error = sp_nif_error_term(env, SP_NOT_OWNER);
    else if ((*lease)->generation != generation || !adopt(*lease))
        *error = sp_nif_error_term(env, SP_CLOSED);
    else
        return true;
    return false;
}

bool sp_nif_enter(const struct sp_call *call, ERL_NIF_TERM term, struct sp_nif_lease **lease,
                  ERL_NIF_TERM *error)
{
    if (!sp_nif_get_lease(call->env, term, lease, error))
        return false;
    if (sp_conn_enter((*lease)->conn, (*lease)->lease, call))
        return true;
    *error = sp_nif_error_term(call->env, SP_CLOSED);
    return false;
}

struct sp_nif_lease *sp_nif_lease_again(void *keepsake, const ErlNifPid *owner)
{
    struct sp_nif_lease *lease = keepsake;

    if (lease && atomic_load_explicit(&lease->owner, memory_order_relaxed) == owner->pid)
        return lease;
    if (lease)
        enif_release_resource(lease);
    lease = sp_nif_lease_new();
    atomic_store_explicit(&lease->owner, owner->pid, memory_order_relaxed);
    return lease;
}

/* Of 3 per cent of a timeslice each on average: so many, with forty reductions or so of the caller's own, end before
 * the timeslice does. */
#define CHECKOUTS_PER_TIMESLICE 20

/* True where the caller's timeslice is to end. A process that is preempted while it holds a
 * connection keeps it for a round of the run queue; with many more processes than connections that
 * alone fills the queue of waiters, which then never empties, because from then on each check-in
 * must wake somebody. So one that does nothing else ends its timeslice here, where it holds nothing. For the others,
 * ERTS tells what is left of a timeslice only in exchange for a part of it. The part varies, or a loop whose
 * length happens to divide the timeslice badly would be preempted as a holder every time. */
static bool timeslice_over(ErlNifEnv *env, const ErlNifPid *self)
{
    static __thread ERL_NIF_TERM last;
    static __thread unsigned checkouts, turn;

    if (last != self->pid) {
        last = self->pid;
        checkouts = 0;
    } else if (++checkouts == CHECKOUTS_PER_TIMESLICE) {
        checkouts = 0;
        return enif_consume_timeslice(env, 100);
    }
    return enif_consume_timeslice(env, 1 + (int)(turn++ % 5));
}

/* checkout(Pool) -> {ok, Lease} | {node, Lease} | {worker | check, Lease, Pid} | again (in the next timeslice) | crowded (sp_pool_crowded()) |
 * empty | {error, Reason} */
SP_NIF(sp_nif_checkout)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    struct sp_conn *conn;
    uint64_t number;
    ErlNifPid self;
    void *keepsake;
    sp_status status;

    (void)argc;
    if (!pool)
        return sp_nif_error_term(env, SP_NOT_FOUND);
    enif_self(env, &self);
    if (timeslice_over(env, &self))
        return sp_atoms.again;
    status = sp_pool_checkout(&pool->core, &call, self.pid, &conn, &number, &keepsake);
    sp_nif_charge(&call);
    if (status == SP_AGAIN)
        return sp_atoms.again;
    if (status == SP_EMPTY)
        return sp_pool_crowded(&pool->core) ? sp_atoms.crowded : sp_atoms.empty;
    if (status != SP_OK)
        return sp_nif_error_term(env, status);
    lease = sp_nif_lease_again(keepsake, &self);
    lease->conn = conn;
    lease->lease = number;
    return sp_nif_leased_term(env, conn, sp_nif_lease_handle(env, lease));
}

static ERL_NIF_TERM enqueue(ErlNifEnv *env, const ERL_NIF_TERM argv[], bool growing_only)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);

    ERL_NIF_TERM result;

    if (!pool || !enif_is_ref(env, argv[1]))
        return enif_make_badarg(env);
    result = sp_nif_enqueue_waiter(&call, pool, argv[1], argv[2], enif_make_list(env, 0),
                                   growing_only, NULL);
    sp_nif_charge(&call);
    return result;
}

/* enqueue(Pool, Ref, ExpiryMs | infinity) -> {wait, Lease} | {error, Reason}. Then {'$sockpool', Ref,
 * granted | node | worker | check | {error, Reason}} comes, unless cancel/1 says otherwise; {error, timeout} at the next tick
 * after the expiry. */
SP_NIF(sp_nif_enqueue)
{
    (void)argc;
    return enqueue(env, argv, false);
}

/* enqueue_growing(Pool, Ref, ExpiryMs | infinity) -> likewise, but {error, full} where it would be for a check-in that
 * the caller waits. */
SP_NIF(sp_nif_enqueue_growing)
{
    (void)argc;
    return enqueue(env, argv, true);
}

ERL_NIF_TERM sp_nif_enqueue_waiter(const struct sp_call *call, struct sp_nif_pool *pool,
                                   ERL_NIF_TERM ref, ERL_NIF_TERM expiry, ERL_NIF_TERM request,
                                   bool growing_only, const struct sp_want *piped)
{
    ErlNifEnv *env = call->env;
    struct sp_nif_waiter *waiter = sp_nif_waiter_new(pool, ref);
    struct sp_nif_lease *lease;
    ERL_NIF_TERM handle;
    ErlNifUInt64 expiry_ms = 0;
    ErlNifPid self;
    sp_status status;

    if (!waiter)
        return sp_nif_error_term(env, SP_NO_MEMORY);
    if (!sp_nif_waiter_carry(env, waiter, request) ||
        !(enif_is_identical(expiry, sp_atoms.infinity) ||
          enif_get_uint64(env, expiry, &expiry_ms))) {
        pool->core.host->waiter_free(&waiter->core);
        return enif_make_badarg(env);
    }
    enif_self(env, &self);
    waiter->core.owner = self.pid;
    waiter->core.growing_only = growing_only;
    waiter->core.piped = piped != NULL;
    if (piped)
        waiter->core.want = *piped;
    waiter->core.expires_ns = expiry_ms ? call->now_ns + expiry_ms * SP_MS : 0;
    lease = sp_nif_lease_again(NULL, &self);
    handle = sp_nif_lease_handle(env, lease);
    status = sp_pool_enqueue(&pool->core, call, &waiter->core);
    if (status == SP_OK && expiry_ms)
        sp_nif_clock_watch(pool);
    if (status != SP_OK) {
        pool->core.host->waiter_free(&waiter->core);
        return sp_nif_error_term(env, status);
    }
    lease->waiter = waiter;
    lease->queued_ms = (uint32_t)(call->now_ns / SP_MS);
    return enif_make_tuple2(env, sp_atoms.wait, handle);
}

/* waited(Lease) -> Ms, since enqueue/3 */
SP_NIF(sp_nif_waited)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    uint64_t generation;

    (void)argc;
    if (!sp_nif_open_handle(env, argv[0], &lease, &generation) || !is_owner(env, lease))
        return enif_make_badarg(env);
    return enif_make_uint(env, (uint32_t)(call.now_ns / SP_MS) - lease->queued_ms);
}

/* cancel(Lease) -> cancelled: nothing comes any more | told: the message is there or under way | piped: it has a place,
 * which pipe_place/1 says.
 * A request that was sent already is given up, its connection closed. */
SP_NIF(sp_nif_cancel)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    uint64_t generation;
    bool request = true;

    (void)argc;
    if (!sp_nif_open_handle(env, argv[0], &lease, &generation) || !is_owner(env, lease) ||
        lease->generation != generation)
        return enif_make_badarg(env);
    if (lease->waiter) {
        request = lease->waiter->core.iov_count > 0;
        if (sp_waiter_cancel(&lease->waiter->core, &call) == SP_CANCELLED)
            return sp_atoms.cancelled;
        if (lease->waiter->core.piped &&
            atomic_load(&lease->waiter->core.handoff) == SP_HANDOFF_DELIVERED)
            return sp_atoms.piped;
        request = request && !lease->waiter->core.piped;
    }
    if (request && adopt(lease))
        (void)sp_pool_discard(lease->conn->pool, &call, lease->conn, lease->lease,
                              SP_WHY_IO_TIMEOUT);
    sp_nif_charge(&call);
    return sp_atoms.told;
}

/* Whoever ended the lease, the handle's hold on the connection is over. */
static ERL_NIF_TERM ended(ErlNifEnv *env, struct sp_nif_lease *lease, const struct sp_call *call,
                          sp_status status)
{
    if (status != SP_BUSY) {
        lease->generation++;
        sp_nif_drop_conn(lease, call);
    }
    sp_nif_charge(call);
    return status == SP_OK ? sp_atoms.ok : sp_nif_error_term(env, status);
}

/* To its connector, or to who checks it: not theirs to give back. */
static bool is_lent(const struct sp_nif_lease *lease)
{
    return sp_conn_unready(lease->conn) || sp_conn_is_checked_by(lease->conn, lease->lease);
}

static ERL_NIF_TERM checkin(ErlNifEnv *env, ERL_NIF_TERM handle, bool clean)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    ERL_NIF_TERM error;
    sp_status status;

    if (!sp_nif_get_lease(env, handle, &lease, &error))
        return error;
    if (is_lent(lease))
        return sp_nif_error_term(env, SP_BUSY);
    /* The argument holds a reference as long as this call lasts; this one goes to the keepsake. */
    enif_keep_resource(lease);
    status = clean
                 ? sp_pool_checkin_clean(lease->conn->pool, &call, lease->conn, lease->lease, lease)
                 : sp_pool_checkin(lease->conn->pool, &call, lease->conn, lease->lease, lease);
    if (status != SP_OK)
        enif_release_resource(lease);
    return ended(env, lease, &call, status);
}

/* checkin(Lease) -> ok | {error, Reason} */
SP_NIF(sp_nif_checkin)
{
    (void)argc;
    return checkin(env, argv[0], false);
}

/* checkin_clean(Lease) -> ok | {error, Reason}, see sp_pool_checkin_clean() */
SP_NIF(sp_nif_checkin_clean)
{
    (void)argc;
    return checkin(env, argv[0], true);
}

static bool get_why(ErlNifEnv *env, ERL_NIF_TERM term, enum sp_why *why)
{
#define SP_WHY_WORD(name, word) #word,
    static const char *const WORDS[] = {SP_WHY_MAP(SP_WHY_WORD)};
#undef SP_WHY_WORD
    int which;

    if (!sp_nif_get_word(env, term, WORDS, SP_WHYS, &which))
        return false;
    *why = (enum sp_why)which;
    return true;
}

/* discard(Lease, Why) -> ok | {error, Reason}; Why is a word of sp_why.h */
SP_NIF(sp_nif_discard)
{
    enum sp_why why;
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    ERL_NIF_TERM error;

    (void)argc;
    if (!get_why(env, argv[1], &why))
        return enif_make_badarg(env);
    if (!sp_nif_get_lease(env, argv[0], &lease, &error))
        return error;
    if (sp_conn_armed(lease->conn, lease->lease) || is_lent(lease))
        return sp_nif_error_term(env, SP_BUSY);
    return ended(env, lease, &call,
                 sp_pool_discard(lease->conn->pool, &call, lease->conn, lease->lease, why));
}

/* give_away(Lease, Pid) -> ok | {error, Reason} */
SP_NIF(sp_nif_give_away)
{
    struct sp_nif_lease *lease;
    ERL_NIF_TERM error;
    ErlNifPid to;
    uint64_t number;

    (void)argc;
    if (!enif_get_local_pid(env, argv[1], &to))
        return enif_make_badarg(env);
    if (!sp_nif_get_lease(env, argv[0], &lease, &error))
        return error;
    if (sp_conn_armed(lease->conn, lease->lease) || is_lent(lease))
        return sp_nif_error_term(env, SP_BUSY);
    if (!enif_is_process_alive(env, &to))
        return enif_make_tuple2(env, sp_atoms.error, enif_make_atom(env, "noproc"));
    number = sp_conn_give_away(lease->conn, lease->lease, to.pid);
    if (number == SP_LEASE_NONE)
        return sp_nif_error_term(env, SP_CLOSED);
    lease->lease = number;
    /* Last: from here on the new owner may be using the handle. */
    atomic_store(&lease->owner, to.pid);
    return sp_atoms.ok;
}
