/* NIFs that look at a connection, and setopts. */
#include "sp_nif.h"

#include "core/dist/sp_dist_answer.h"

#include "core/dist/sp_node.h"

#include <string.h>

static bool look_at_stream(ErlNifEnv *env, const struct sp_call *call, ERL_NIF_TERM term,
                           struct sp_nif_lease **lease, ERL_NIF_TERM *error)
{
    if (!sp_nif_enter(call, term, lease, error))
        return false;
    if (!sp_is_worker((*lease)->conn->transport))
        return true;
    sp_conn_leave((*lease)->conn, call);
    *error = sp_nif_no_stream_term(env, sp_atoms.worker);
    return false;
}

static ERL_NIF_TERM name(ErlNifEnv *env, ERL_NIF_TERM term, bool peer)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    ERL_NIF_TERM result;

    if (!look_at_stream(env, &call, term, &lease, &result))
        return result;
    result = sp_nif_addr_term(env, peer ? &lease->conn->peer : &lease->conn->own);
    sp_conn_leave(lease->conn, &call);
    return enif_make_tuple2(env, sp_atoms.ok, result);
}

/* peername(Lease) -> {ok, {Address, Port} | {local, Path}} | {error, Reason} */
SP_NIF(sp_nif_peername)
{
    (void)argc;
    return name(env, argv[0], true);
}

/* sockname(Lease) -> likewise */
SP_NIF(sp_nif_sockname)
{
    (void)argc;
    return name(env, argv[0], false);
}

struct facts {
    ErlNifEnv *env;
    ERL_NIF_TERM map;
};

static void put_fact(void *arg, const char *key, enum sp_fact_kind kind, const void *data,
                     size_t len)
{
    struct facts *facts = arg;
    ERL_NIF_TERM value;

    if (kind == SP_FACT_FLAG)
        value = len ? sp_atoms.true_ : sp_atoms.false_;
    else if (kind == SP_FACT_NUMBER)
        value = enif_make_uint64(facts->env, len);
    else if (kind == SP_FACT_WORD)
        value = enif_make_atom_len(facts->env, data, len);
    else
        memcpy(enif_make_new_binary(facts->env, len, &value), data, len);
    enif_make_map_put(facts->env, facts->map, enif_make_atom(facts->env, key), value, &facts->map);
}

static ERL_NIF_TERM worker_term(ErlNifEnv *env, struct sp_conn *conn)
{
    const struct sp_nif_conn *self = sp_nif_conn_of(conn);

    /* Its connector may ask before there is one. */
    return self->worker.pid ? enif_make_pid(env, &self->worker) : sp_atoms.undefined;
}

/* worker(Lease) -> Pid | {error, Reason} */
SP_NIF(sp_nif_worker)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    ERL_NIF_TERM result;

    (void)argc;
    if (!sp_nif_enter(&call, argv[0], &lease, &result))
        return result;
    result = sp_is_worker(lease->conn->transport)
                 ? worker_term(env, lease->conn)
                 : sp_nif_no_stream_term(env, enif_make_atom(env, lease->conn->transport->name));
    sp_conn_leave(lease->conn, &call);
    return result;
}

/* info(Lease) -> {ok, #{pool, transport, age, packet, peername, sockname, and what the transport
 * tells}}, or {ok, #{pool, transport, age, worker}} | {error, Reason} */
SP_NIF(sp_nif_info)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    struct sp_nif_pool *pool;
    struct sp_conn *conn;
    ERL_NIF_TERM error, map = enif_make_new_map(env);

    (void)argc;
    if (!sp_nif_enter(&call, argv[0], &lease, &error))
        return error;
    conn = lease->conn;
    pool = SP_CONTAINER(conn->pool, struct sp_nif_pool, core);
    enif_make_map_put(env, map, enif_make_atom(env, "pool"), pool->name, &map);
    enif_make_map_put(env, map, enif_make_atom(env, "transport"),
                      enif_make_atom(env, conn->transport->name), &map);
    enif_make_map_put(env, map, enif_make_atom(env, "age"),
                      enif_make_uint64(env, call.now_ns > conn->born_ns
                                                ? (call.now_ns - conn->born_ns) / SP_MS
                                                : 0),
                      &map);
    if (sp_is_worker(conn->transport)) {
        enif_make_map_put(env, map, sp_atoms.worker, worker_term(env, conn), &map);
        sp_conn_leave(conn, &call);
        return enif_make_tuple2(env, sp_atoms.ok, map);
    }
    enif_make_map_put(env, map, sp_atoms.packet, sp_nif_framing_term(env, &conn->framing), &map);
    if (sp_is_node(conn->transport))
        enif_make_map_put(env, map, enif_make_atom(env, "max_inflight"),
                          enif_make_uint64(env, atomic_load(&pool->max_inflight)), &map);
    enif_make_map_put(env, map, enif_make_atom(env, "peername"), sp_nif_addr_term(env, &conn->peer),
                      &map);
    enif_make_map_put(env, map, enif_make_atom(env, "sockname"), sp_nif_addr_term(env, &conn->own),
                      &map);
    if (conn->transport->describe) {
        struct facts facts = {env, map};
        conn->transport->describe(conn, put_fact, &facts);
        map = facts.map;
    }
    sp_conn_leave(conn, &call);
    return enif_make_tuple2(env, sp_atoms.ok, map);
}

/* node_names(Lease) -> {ok, Node, Name, Creation, MaxInflight} | {error, Reason}: what calls over a
 * connection to a node need to know. Name is ours there, a binary. */
SP_NIF(sp_nif_node_names)
{
    struct sp_call call = sp_nif_call(env);
    const struct sp_node_names *names;
    struct sp_nif_pool *pool;
    struct sp_nif_lease *lease;
    ERL_NIF_TERM result, own;

    (void)argc;
    if (!sp_nif_enter(&call, argv[0], &lease, &result))
        return result;
    pool = SP_CONTAINER(lease->conn->pool, struct sp_nif_pool, core);
    names = sp_node_names(lease->conn);
    if (names) {
        memcpy(enif_make_new_binary(env, strlen(names->name), &own), names->name,
               strlen(names->name));
        result = enif_make_tuple5(env, sp_atoms.ok, enif_make_atom(env, names->peer_name), own,
                                  enif_make_uint(env, names->creation),
                                  enif_make_uint64(env, atomic_load(&pool->max_inflight)));
    } else {
        result = sp_nif_error_term(env, SP_CLOSED);
    }
    sp_conn_leave(lease->conn, &call);
    return result;
}

static bool get_option(ErlNifEnv *env, ERL_NIF_TERM key, ERL_NIF_TERM term, enum sp_option *option,
                       int *value)
{
    char word[16];
    bool flag;

    if (!enif_get_atom(env, key, word, sizeof word, ERL_NIF_LATIN1))
        return false;
    if (strcmp(word, "nodelay") == 0 || strcmp(word, "keepalive") == 0) {
        *option = word[0] == 'n' ? SP_OPT_NODELAY : SP_OPT_KEEPALIVE;
        if (!sp_nif_get_bool(term, &flag))
            return false;
        *value = flag;
        return true;
    }
    *option = strcmp(word, "sndbuf") == 0 ? SP_OPT_SNDBUF : SP_OPT_RECBUF;
    return (*option == SP_OPT_SNDBUF || strcmp(word, "recbuf") == 0) &&
           enif_get_int(env, term, value) && *value > 0;
}

/* setopt(Lease, Key, Value) -> ok | {error, Reason}. The pool's own values come back at check-in.
 */
SP_NIF(sp_nif_setopt)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    enum sp_option option = SP_OPT_NODELAY;
    struct sp_framing framing;
    bool is_packet = enif_is_identical(argv[1], sp_atoms.packet);
    ERL_NIF_TERM error;
    int value = 0;
    sp_status status = SP_OK;

    (void)argc;
    if (is_packet ? !sp_nif_get_framing(env, argv[2], &framing)
                  : !get_option(env, argv[1], argv[2], &option, &value))
        return enif_make_badarg(env);
    if (!look_at_stream(env, &call, argv[0], &lease, &error))
        return error;
    if (is_packet)
        sp_conn_set_framing(lease->conn, &framing);
    else
        status = sp_conn_setopt(lease->conn, option, value);
    sp_conn_leave(lease->conn, &call);
    return status == SP_OK ? sp_atoms.ok : sp_nif_error_term(env, status);
}

/* node_answer(Frame, User) -> Frame | undefined: see sp_dist_answer() */
SP_NIF(sp_nif_node_answer)
{
    uint8_t answer[SP_DIST_ANSWER_MAX];
    ErlNifBinary frame, user;
    ERL_NIF_TERM term;
    size_t len;

    (void)argc;
    if (!enif_inspect_binary(env, argv[0], &frame) || !enif_inspect_binary(env, argv[1], &user) ||
        user.size != SP_DIST_PID_NUMBERS)
        return enif_make_badarg(env);
    len = sp_dist_answer(frame.data, frame.size, user.data, answer);
    if (len == 0)
        return sp_atoms.undefined;
    memcpy(enif_make_new_binary(env, len, &term), answer, len);
    return term;
}

/* send_timeout(Lease) -> Ms | infinity: the pool's */
SP_NIF(sp_nif_send_timeout)
{
    struct sp_nif_lease *lease;
    ERL_NIF_TERM error;

    (void)argc;
    if (!sp_nif_get_lease(env, argv[0], &lease, &error))
        return error;
    return sp_nif_ms_term(
        env, atomic_load(&SP_CONTAINER(lease->conn->pool, struct sp_nif_pool, core)->send_timeout));
}
