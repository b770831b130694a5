/* NIFs that put TLS over a connection in its course. */
#include "sp_nif.h"

#include "core/tls/sp_tls.h"

/* The caller's lease, of a connection that is not, or no longer, being connected. */
static bool get_open(ErlNifEnv *env, ERL_NIF_TERM term, struct sp_nif_lease **lease,
                     ERL_NIF_TERM *error)
{
    if (!sp_nif_get_lease(env, term, lease, error))
        return false;
    if (sp_conn_state((*lease)->conn) != SP_CONN_CONNECTING)
        return true;
    *error = enif_make_badarg(env);
    return false;
}

/* starttls(Lease, Context | undefined) -> ok | {error, Reason}. With ok call starttls_handshake/2 until that is ok.
 * undefined: there is no context to be had, so that nothing may go over the connection any more. With {bad_option,
 * transport, _} and busy the connection is as it was. */
SP_NIF(sp_nif_starttls)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_tls_ctx *ctx = NULL;
    struct sp_nif_lease *lease;
    struct sp_conn *conn;
    ERL_NIF_TERM error;
    sp_status status;

    (void)argc;
    if (!get_open(env, argv[0], &lease, &error))
        return error;
    conn = lease->conn;
    if (!conn->transport->upgradable)
        return sp_nif_no_stream_term(env, enif_make_atom(env, conn->transport->name));
    if (sp_conn_armed(conn, lease->lease))
        return sp_nif_error_term(env, SP_BUSY);
    if (!enif_is_identical(argv[1], sp_atoms.undefined) &&
        !(ctx = sp_nif_context_take(env, argv[1])))
        return enif_make_badarg(env);
    if (!sp_conn_enter(conn, lease->lease, &call)) {
        sp_tls_ctx_unref(ctx);
        return sp_nif_error_term(env, SP_CLOSED);
    }
    status = sp_tls_upgrade(conn, lease->lease, sp_nif_conn_of(conn)->host, ctx);
    sp_conn_settle(conn, &call);
    error = status == SP_UNREAD
                ? enif_make_tuple2(env, sp_atoms.error, sp_nif_words_term(env, conn))
                : sp_nif_error_term(env, status);
    sp_conn_leave(conn, &call);
    sp_nif_charge(&call);
    return status == SP_OK ? sp_atoms.ok : error;
}

/* starttls_handshake(Lease, Ref) -> ok | wait | {error, Reason}; again after the ready message. */
SP_NIF(sp_nif_starttls_handshake)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    ERL_NIF_TERM error;
    sp_status status;

    (void)argc;
    if (!get_open(env, argv[0], &lease, &error))
        return error;
    if (!lease->conn->transport->handshake || lease->conn->shaken)
        return enif_make_badarg(env);
    status = sp_nif_handshake(&call, lease, argv[1]);
    if (status == SP_OK)
        return sp_atoms.ok;
    return sp_wants(status) ? sp_atoms.wait : sp_nif_error_term(env, status);
}
