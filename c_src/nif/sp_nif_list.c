/* The NIF that lists a pool's connections, for somebody who looks. */
#include "sp_nif.h"

#include "core/conn/sp_tcp_info.h"
#include "core/pool/sp_peek.h"
#include "core/pool/sp_table.h"

/* What the terms of one cost. */
#define PIECES_OF_TERMS 2

/* Nothing where the system does not tell. */
static ERL_NIF_TERM tcp_term(const struct sp_call *call, struct sp_conn *conn)
{
    ERL_NIF_TERM term = sp_atoms.undefined;
    struct sp_tcp_info info;

    if (conn->worker || !sp_conn_pin(conn))
        return term;
    if (sp_tcp_info(conn, &info) && info.rtt != SP_TCP_INFO_UNKNOWN &&
        info.total_retrans != SP_TCP_INFO_UNKNOWN)
        term = enif_make_tuple2(call->env, enif_make_uint64(call->env, info.rtt),
                                enif_make_uint64(call->env, info.total_retrans));
    sp_take(call, SP_PIECES_SYSCALL);
    sp_conn_unpin(conn, call);
    return term;
}

static ERL_NIF_TERM peer_term(ErlNifEnv *env, struct sp_conn *conn)
{
    return conn->worker ? enif_make_pid(env, &sp_nif_conn_of(conn)->worker)
                        : sp_nif_addr_term(env, &conn->peer);
}

static ERL_NIF_TERM term_of(const struct sp_call *call, struct sp_conn *conn,
                            const struct sp_peek *peek)
{
    static const char *const STATES[] = {
        [SP_PEEK_CONNECTING] = "connecting",
        [SP_PEEK_IDLE] = "idle",
        [SP_PEEK_CHECKED] = "checked",
        [SP_PEEK_LEASED] = "leased",
    };
    ErlNifEnv *env = call->env;
    ErlNifPid owner = {.pid = (ERL_NIF_TERM)peek->owner};
    bool usable = peek->state != SP_PEEK_CONNECTING;

    sp_take(call, PIECES_OF_TERMS);
    return enif_make_tuple9(
        env, enif_make_uint(env, conn->slot), enif_make_atom(env, STATES[peek->state]),
        usable ? peer_term(env, conn) : sp_atoms.undefined,
        enif_make_uint64(env, peek->age_ns / SP_MS), enif_make_uint64(env, peek->idle_ns / SP_MS),
        enif_make_uint64(env, peek->leases),
        peek->owner == SP_OWNER_POOL ? sp_atoms.undefined : enif_make_pid(env, &owner),
        enif_make_uint64(env, peek->held_ns / SP_MS),
        usable ? tcp_term(call, conn) : sp_atoms.undefined);
}

/* pool_connections(Pool, Cursor) -> {[{Slot, State, Peer, AgeMs, IdleMs, Leases, Owner, HeldMs, {Rtt, Retransmits}}],
 * Cursor}: once more with that, unless it is 0. */
SP_NIF(sp_nif_pool_connections)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);
    ERL_NIF_TERM list = enif_make_list(env, 0);
    struct sp_peek peek;
    uint32_t cursor;

    (void)argc;
    if (!pool || !enif_get_uint(env, argv[1], &cursor))
        return enif_make_badarg(env);
    do {
        struct sp_conn *conn = sp_table_next(&pool->core, &call, &cursor);
        if (conn) {
            if (sp_peek(&pool->core, &call, conn, &peek))
                list = enif_make_list_cell(env, term_of(&call, conn, &peek), list);
            pool->core.host->conn_unref(conn);
        }
    } while (cursor > 0 && !sp_spent(&call));
    sp_nif_charge(&call);
    return enif_make_tuple2(env, list, enif_make_uint(env, cursor));
}
