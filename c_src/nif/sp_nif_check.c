/* NIFs of active checks: what the control process is to begin, and what the process says that asks. */
#include "sp_nif.h"

#include "core/pool/sp_check.h"

#define CHECKS_PER_CALL 32

static ERL_NIF_TERM check_term(ErlNifEnv *env, const struct sp_check *check)
{
    struct sp_nif_lease *lease = sp_nif_lease_new();

    lease->conn = check->conn;
    lease->lease = check->lease;
    return sp_nif_lease_handle(env, lease);
}

/* pool_checks(Pool) -> {[Check], More :: boolean(), WaitMs | infinity}, after each pool_step/1 */
SP_NIF(sp_nif_pool_checks)
{
    struct sp_nif_pool *pool = sp_nif_controlled_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);
    struct sp_check checks[CHECKS_PER_CALL];
    struct sp_check_plan plan;
    ERL_NIF_TERM list = enif_make_list(env, 0);

    (void)argc;
    if (!pool)
        return enif_make_badarg(env);
    sp_check_step(&pool->core, &call, checks, CHECKS_PER_CALL, &plan);
    for (size_t i = plan.count; i-- > 0;)
        list = enif_make_list_cell(env, check_term(env, &checks[i]), list);
    sp_nif_charge(&call);
    return enif_make_tuple3(env, list, plan.more ? sp_atoms.true_ : sp_atoms.false_,
                            sp_nif_wait_term(env, plan.wait_ns));
}

/* check_claim(Check, Pid) -> ok | {error, not_owner}: once, before Pid may use it. */
SP_NIF(sp_nif_check_claim)
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
    /* Where the lease has ended, that is another's owner. */
    if (lease->conn && sp_conn_still(lease->conn, lease->lease)) {
        atomic_store(&lease->conn->owner, pid.pid);
        sp_conn_go_on(lease->conn, lease->lease);
    }
    return sp_atoms.ok;
}

/* False with what to return: badarg for a connection that is not being checked. */
static bool get_check(ErlNifEnv *env, ERL_NIF_TERM term, struct sp_nif_lease **lease,
                      ERL_NIF_TERM *error)
{
    if (!sp_nif_get_lease(env, term, lease, error))
        return false;
    if (sp_conn_is_checked_by((*lease)->conn, (*lease)->lease))
        return true;
    *error = atomic_load(&(*lease)->conn->lease) == (*lease)->lease
                 ? enif_make_badarg(env)
                 : sp_nif_error_term(env, SP_CLOSED);
    return false;
}

static ERL_NIF_TERM ended(ErlNifEnv *env, const struct sp_call *call, struct sp_nif_lease *lease,
                          sp_status status)
{
    sp_nif_drop_conn(lease, call);
    sp_nif_charge(call);
    return status == SP_OK ? sp_atoms.ok : sp_nif_error_term(env, status);
}

/* check_passed(Check) -> ok | {error, Reason}, where it has not after all */
SP_NIF(sp_nif_check_passed)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    ERL_NIF_TERM error, words;
    sp_status status;

    (void)argc;
    if (!get_check(env, argv[0], &lease, &error))
        return error;
    status = sp_check_passed(lease->conn->pool, &call, lease->conn, lease->lease);
    if (status != SP_UNREAD)
        return ended(env, &call, lease, status);
    words = enif_make_tuple2(env, sp_atoms.error, enif_make_atom(env, "unread_bytes"));
    (void)ended(env, &call, lease, SP_OK);
    return words;
}

static ERL_NIF_TERM end_check(ErlNifEnv *env, ERL_NIF_TERM check,
                              void (*end)(struct sp_pool *, const struct sp_call *,
                                          struct sp_conn *, uint64_t))
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    ERL_NIF_TERM error;

    if (!get_check(env, check, &lease, &error))
        return error;
    end(lease->conn->pool, &call, lease->conn, lease->lease);
    return ended(env, &call, lease, SP_OK);
}

/* check_failed(Check) -> ok | {error, Reason} */
SP_NIF(sp_nif_check_failed)
{
    (void)argc;
    return end_check(env, argv[0], sp_check_failed);
}

/* check_skipped(Check) -> ok | {error, Reason}: nobody has asked anything. */
SP_NIF(sp_nif_check_skipped)
{
    (void)argc;
    return end_check(env, argv[0], sp_check_skipped);
}

/* check_abort(Check) -> ok. By the control process, once the check's owner has died: as check_failed/1, where the owner
 * did not come to that. */
SP_NIF(sp_nif_check_abort)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;

    (void)argc;
    if (!sp_nif_get_orphan(env, argv[0], &lease))
        return enif_make_badarg(env);
    if (lease->conn && sp_conn_is_checked_by(lease->conn, lease->lease))
        sp_check_failed(lease->conn->pool, &call, lease->conn, lease->lease);
    sp_nif_charge(&call);
    return sp_atoms.ok;
}
