/* NIFs that move bytes: send, receive, and request, which is both with check-out and check-in. */
#include "sp_nif.h"

#include "core/pool/sp_grant.h"
#include "core/pool/sp_lease.h"

#include <string.h>

/* Messages up to this size pass through the stack; longer ones through the connection's buffer. */
#define SCRATCH_BYTES (16 * 1024)
/* What has to be gone over at once, for its length or to be kept, has this many parts at most. */
#define PARTS_MAX 1024

/* ---- sending ---- */

/* What is left to send: a list of binaries, of whose first `offset` bytes are out already. */
struct outgoing {
    ERL_NIF_TERM list;
    uint64_t offset;
};

static int gather(ErlNifEnv *env, const struct outgoing *out, struct iovec *iov, size_t *offered)
{
    ERL_NIF_TERM list = out->list, head;
    uint64_t skip = out->offset;
    ErlNifBinary bin;
    int count = 0;

    *offered = 0;
    while (count < SP_IOV_MAX && enif_get_list_cell(env, list, &head, &list)) {
        if (!enif_inspect_binary(env, head, &bin))
            return -1;
        if (skip >= bin.size) {
            skip -= bin.size;
            continue;
        }
        iov[count].iov_base = bin.data + skip;
        iov[count].iov_len = bin.size - skip;
        *offered += bin.size - skip;
        skip = 0;
        count++;
    }
    return count;
}

static void advance(ErlNifEnv *env, struct outgoing *out, size_t sent)
{
    ERL_NIF_TERM head, tail;
    ErlNifBinary bin;

    out->offset += sent;
    while (enif_get_list_cell(env, out->list, &head, &tail) &&
           enif_inspect_binary(env, head, &bin) && out->offset >= bin.size) {
        out->offset -= bin.size;
        out->list = tail;
    }
}

/* SP_OK: all is out. SP_AGAIN, SP_WANT_WRITE, SP_WANT_READ: *out is what is left. */
static sp_status send_slices(const struct sp_call *call, struct sp_conn *conn, struct outgoing *out)
{
    ErlNifEnv *env = call->env;
    struct iovec iov[SP_IOV_MAX];

    conn->touched = true;
    do {
        size_t offered, sent;
        int count = gather(env, out, iov, &offered);
        sp_status status;
        if (count <= 0)
            return count == 0 ? SP_OK : SP_BAD_DATA;
        sp_conn_sends(conn);
        status = conn->transport->send(conn, iov, count, &sent);
        sp_conn_settle(conn, call);
        sp_take(call, count / SP_PARTS_PER_PIECE);
        if (status == SP_WANT_WRITE) {
            sp_status ahead = sp_recv_ahead(conn, call, &sent);
            (void)ahead; /* who receives will see it */
        }
        if (status != SP_OK) {
            if (!sp_wants(status))
                sp_conn_taint(conn, sp_why_of(status));
            return status;
        }
        if (sent == offered && count < SP_IOV_MAX) {
            out->list = enif_make_list(env, 0);
            out->offset = 0;
            return SP_OK;
        }
        advance(env, out, sent);
    } while (!sp_spent(call));
    return SP_AGAIN;
}

static bool has_many_parts(ErlNifEnv *env, ERL_NIF_TERM list)
{
    ERL_NIF_TERM head;

    for (int i = 0; i <= PARTS_MAX; i++)
        if (!enif_get_list_cell(env, list, &head, &list))
            return false;
    return true;
}

/* Puts the packet header before the list, which has all of the message. */
static sp_status add_header(ErlNifEnv *env, const struct sp_framing *framing, ERL_NIF_TERM *list)
{
    uint8_t header[SP_FRAME_HEADER_MAX];
    ERL_NIF_TERM head, tail = *list, term;
    ErlNifBinary bin;
    size_t header_len, len = 0;
    sp_status status;

    if (!sp_framing_adds_header(framing))
        return SP_OK;
    while (enif_get_list_cell(env, tail, &head, &tail))
        len += enif_inspect_binary(env, head, &bin) ? bin.size : 0;
    status = sp_frame_header(framing, len, header, &header_len);
    if (status != SP_OK)
        return status;
    memcpy(enif_make_new_binary(env, header_len, &term), header, header_len);
    *list = enif_make_list_cell(env, term, *list);
    return SP_OK;
}

/* After SP_WANT_*: has the owner told. False where another call is armed (busy) or ERTS refuses. */
static bool arm_for_self(const struct sp_call *call, struct sp_nif_lease *lease, sp_status wants,
                         ERL_NIF_TERM ref)
{
    ErlNifPid self;

    enif_self(call->env, &self);
    return sp_nif_arm(call, lease, wants == SP_WANT_WRITE, &self, ref);
}

/* Enters a call of the owner: `fired` says that the message of its armed select was received. */
static bool begin(ErlNifEnv *env, const struct sp_call *call, ERL_NIF_TERM term, ERL_NIF_TERM fired,
                  struct sp_nif_lease **lease, ERL_NIF_TERM *error)
{
    if (!sp_nif_get_lease(env, term, lease, error))
        return false;
    if (sp_is_worker((*lease)->conn->transport)) {
        *error = sp_nif_no_stream_term(env, sp_atoms.worker);
        return false;
    }
    if (enif_is_identical(fired, sp_atoms.fired))
        sp_conn_disarmed((*lease)->conn, (*lease)->lease, call);
    if (!sp_conn_enter((*lease)->conn, (*lease)->lease, call)) {
        sp_nif_drop_conn(*lease, call);
        *error = sp_nif_error_term(env, SP_CLOSED);
        return false;
    }
    if (sp_conn_armed((*lease)->conn, (*lease)->lease)) {
        sp_conn_leave((*lease)->conn, call);
        *error = sp_nif_error_term(env, SP_BUSY);
        return false;
    }
    return true;
}

/* send(Lease, [Binary], Offset, Framed, Fired, Ref) ->
 *     ok | {wait | again, [Binary], Offset} | many (nothing was done: join some of them) | {error, Reason}
 * Fired: `fired' where the message of a wait was received, else `again'.
 * Framed: the list begins with its packet header already. */
SP_NIF(sp_nif_send)
{
    struct sp_call call = sp_nif_call(env);
    struct outgoing out = {.list = argv[1]};
    struct sp_nif_lease *lease;
    ERL_NIF_TERM error;
    ErlNifUInt64 offset;
    sp_status status = SP_OK;

    (void)argc;
    if (!enif_get_uint64(env, argv[2], &offset) || !enif_is_list(env, argv[1]))
        return enif_make_badarg(env);
    if (!begin(env, &call, argv[0], argv[4], &lease, &error))
        return error;
    out.offset = offset;
    if (!enif_is_identical(argv[3], sp_atoms.true_)) {
        if (sp_framing_adds_header(&lease->conn->framing) && has_many_parts(env, out.list)) {
            sp_conn_leave(lease->conn, &call);
            return sp_atoms.many;
        }
        status = add_header(env, &lease->conn->framing, &out.list);
    }
    if (status == SP_OK)
        status = send_slices(&call, lease->conn, &out);
    if (sp_wants(status) && !arm_for_self(&call, lease, status, argv[5])) {
        lease->conn->tainted = true;
        status = SP_BUSY;
    }
    sp_conn_leave(lease->conn, &call);
    sp_nif_charge(&call);
    if (status == SP_OK)
        return sp_atoms.ok;
    if (status == SP_BAD_DATA)
        return enif_make_badarg(env);
    if (sp_wants(status) || status == SP_AGAIN)
        return enif_make_tuple3(env, status == SP_AGAIN ? sp_atoms.again : sp_atoms.wait, out.list,
                                enif_make_uint64(env, out.offset));
    return sp_nif_error_term(env, status);
}

/* recv_ahead(Lease) -> Bytes taken, or 0. For its owner, who waits to send. */
SP_NIF(sp_nif_recv_ahead)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    size_t taken = 0;
    ERL_NIF_TERM error;

    (void)argc;
    if (!sp_nif_get_lease(env, argv[0], &lease, &error))
        return error;
    if (sp_conn_enter(lease->conn, lease->lease, &call)) {
        /* A transport that waits for bytes to send more has to get them itself. */
        if (lease->waits_to_write) {
            sp_status ahead = sp_recv_ahead(lease->conn, &call, &taken);
            (void)ahead; /* who receives will see it */
        }
        sp_conn_leave(lease->conn, &call);
    }
    sp_nif_charge(&call);
    return enif_make_uint64(env, taken);
}

/* ---- receiving ---- */

bool sp_nif_get_want(ErlNifEnv *env, ERL_NIF_TERM term, struct sp_want *want)
{
    ErlNifUInt64 len = 0, shown = 0;
    const ERL_NIF_TERM *items;
    int arity;

    if (enif_get_tuple(env, term, &arity, &items)) {
        if (arity != 2 || !enif_get_uint64(env, items[1], &shown))
            return false;
        term = items[0];
    }
    if (!enif_is_identical(term, sp_atoms.packet) && !enif_get_uint64(env, term, &len))
        return false;
    *want = (struct sp_want){.packet = len == 0, .len_bytes = (size_t)len, .shown = (size_t)shown};
    return true;
}

/* Within enter/leave. SP_OK: *binary. SP_WANT_READ, SP_WANT_WRITE: armed, or not even that where it
 * is the first attempt. */
static sp_status receive(const struct sp_call *call, struct sp_nif_lease *lease,
                         const struct sp_want *want, bool first, ERL_NIF_TERM ref,
                         ERL_NIF_TERM *binary)
{
    uint8_t scratch[SCRATCH_BYTES];
    struct sp_received received;
    sp_status status;

    if (lease->conn->framing.kind == SP_FRAMING_FUN && !sp_nif_rbuf_show(lease->conn))
        return SP_NO_MEMORY;
    status = sp_recv(lease->conn, call, want, scratch, sizeof scratch, &received);
    if (status == SP_OK) {
        *binary = sp_nif_rbuf_take(call, lease->conn, &received);
        if (received.only_shown)
            status = SP_SHOWN;
    }
    if (sp_wants(status) && !first && !arm_for_self(call, lease, status, ref))
        status = SP_BUSY;
    return status;
}

static ERL_NIF_TERM received_term(ErlNifEnv *env, sp_status status, bool first, ERL_NIF_TERM binary)
{
    switch (status) {
    case SP_OK:
        return enif_make_tuple2(env, sp_atoms.ok, binary);
    case SP_WANT_READ:
    case SP_WANT_WRITE:
        return first ? sp_atoms.soon : sp_atoms.wait;
    case SP_AGAIN:
        return sp_atoms.again;
    case SP_SHOWN:
        return enif_make_tuple2(env, enif_make_atom(env, "shown"), binary);
    default:
        return sp_nif_error_term(env, status);
    }
}

/* recv(Lease, Length | packet | {packet, Shown}, first | again | fired, Ref) ->
 *     {ok, Binary} | {shown, Binary} | soon | wait | again | {error, Reason}
 * Shown, where a function says what a message is: all that is there, at least so many bytes, of which take/2 takes some.
 * Where nothing is there yet, the first attempt answers `soon' and has not armed the connection:
 * while other processes run for a round of the run queue, most replies come, and a select, its event
 * and the wake-up are saved. From the second attempt on the answer is `wait'. */
SP_NIF(sp_nif_recv)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    struct sp_want want;
    ERL_NIF_TERM error, binary = 0;
    bool first = enif_is_identical(argv[2], sp_atoms.first);
    sp_status status;

    (void)argc;
    if (!sp_nif_get_want(env, argv[1], &want))
        return enif_make_badarg(env);
    if (!begin(env, &call, argv[0], argv[2], &lease, &error))
        return error;
    status = receive(&call, lease, &want, first, argv[3], &binary);
    sp_conn_leave(lease->conn, &call);
    sp_nif_charge(&call);
    return received_term(env, status, first, binary);
}

/* take(Lease, Bytes | bad) -> ok | {error, Reason}: so many bytes of what was shown are a message; or it can be the begin
 * of none, and the connection is closed at check-in. */
SP_NIF(sp_nif_take)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    struct sp_received received = {.in_rbuf = true};
    bool bad = enif_is_identical(argv[1], enif_make_atom(env, "bad"));
    ErlNifUInt64 bytes = 0;
    ERL_NIF_TERM error;

    (void)argc;
    if (!bad && (!enif_get_uint64(env, argv[1], &bytes) || bytes == 0))
        return enif_make_badarg(env);
    if (!begin(env, &call, argv[0], sp_atoms.again, &lease, &error))
        return error;
    if (bad)
        lease->conn->tainted = true;
    received.rbuf_taken = (size_t)bytes;
    bad = bytes > lease->conn->rbuf.len - lease->conn->rbuf.pos;
    if (!bad && bytes > 0)
        sp_recv_taken(lease->conn, &received);
    sp_conn_leave(lease->conn, &call);
    return bad ? enif_make_badarg(env) : sp_atoms.ok;
}

/* finish(Lease, Length | packet, first | again | fired, Ref): as recv/4, and with {ok, Binary} the connection is
 * checked in, with an error it is closed. */
SP_NIF(sp_nif_finish)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    struct sp_want want;
    ERL_NIF_TERM error, binary = 0;
    struct sp_conn *conn;
    bool first = enif_is_identical(argv[2], sp_atoms.first);
    sp_status status, ended;

    (void)argc;
    if (!sp_nif_get_want(env, argv[1], &want))
        return enif_make_badarg(env);
    want.ends_lease = true;
    if (!begin(env, &call, argv[0], argv[2], &lease, &error))
        return error;
    conn = lease->conn;
    status = receive(&call, lease, &want, first, argv[3], &binary);
    sp_conn_leave(conn, &call);
    if (sp_wants(status) || status == SP_AGAIN || status == SP_SHOWN) {
        sp_nif_charge(&call);
        return received_term(env, status, first, binary);
    }
    /* Whatever else ended the lease meanwhile has the connection; the answer stands. */
    ended = status == SP_OK
                ? sp_pool_finish(conn->pool, &call, conn, lease->lease)
                : sp_pool_discard(conn->pool, &call, conn, lease->lease, sp_why_of(status));
    (void)ended;
    sp_nif_drop_conn(lease, &call);
    sp_nif_charge(&call);
    return received_term(env, status, first, binary);
}

/* cancelled | fired | {error, Reason} */
static ERL_NIF_TERM stop_waiting(ErlNifEnv *env, ERL_NIF_TERM term, bool taints)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    struct sp_conn *conn;
    ERL_NIF_TERM error;
    int mode, cancelled, result;

    if (!sp_nif_get_lease(env, term, &lease, &error))
        return error;
    conn = lease->conn;
    /* A connection that is being closed was shut down, so its select fires. */
    if (!sp_conn_enter(conn, lease->lease, &call))
        return sp_atoms.fired;
    mode = lease->waits_to_write ? ERL_NIF_SELECT_WRITE : ERL_NIF_SELECT_READ;
    cancelled =
        lease->waits_to_write ? ERL_NIF_SELECT_WRITE_CANCELLED : ERL_NIF_SELECT_READ_CANCELLED;
    result = enif_select(env, conn->fd, (enum ErlNifSelectFlags)(mode | ERL_NIF_SELECT_CANCEL),
                         sp_nif_conn_of(conn), NULL, sp_atoms.undefined);
    if (taints)
        sp_conn_taint(conn, SP_WHY_IO_TIMEOUT);
    if (result >= 0 && (result & cancelled))
        sp_conn_disarmed(conn, lease->lease, &call);
    sp_conn_leave(conn, &call);
    return result >= 0 && (result & cancelled) ? sp_atoms.cancelled : sp_atoms.fired;
}

/* disarm(Lease) -> cancelled: no message comes any more | fired: it is there or under way. The time
 * of a call is over: what comes late must not reach another user, so the check-in will close the
 * connection. */
SP_NIF(sp_nif_disarm)
{
    (void)argc;
    return stop_waiting(env, argv[0], true);
}

/* park(Lease) -> as disarm/1, for one who waited for nothing in particular: the connection stays
 * clean. */
SP_NIF(sp_nif_park)
{
    (void)argc;
    return stop_waiting(env, argv[0], false);
}

/* fired(Lease) -> ok. The message of an armed select was received and nothing follows it. */
SP_NIF(sp_nif_fired)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_lease *lease;
    ERL_NIF_TERM error;

    (void)argc;
    if (!sp_nif_get_lease(env, argv[0], &lease, &error))
        return error;
    sp_conn_disarmed(lease->conn, lease->lease, &call);
    if (atomic_load(&lease->conn->lease) != lease->lease)
        sp_nif_drop_conn(lease, &call);
    return sp_atoms.ok;
}

/* ---- request ---- */

/* The request on a connection that was idle. */
static ERL_NIF_TERM send_request(ErlNifEnv *env, const struct sp_call *call,
                                 struct sp_nif_lease *lease, ERL_NIF_TERM list)
{
    struct outgoing out = {.list = list};
    ERL_NIF_TERM handle = sp_nif_lease_handle(env, lease);
    struct sp_conn *conn = lease->conn;
    sp_status status, ended;

    /* A worker: the pool was started anew, as one of these, since the caller looked what it is. */
    if (sp_is_worker(conn->transport))
        (void)(sp_pool_checkin(conn->pool, call, conn, lease->lease, NULL) == SP_OK);
    if (sp_is_worker(conn->transport) || !sp_conn_enter(conn, lease->lease, call)) {
        sp_nif_drop_conn(lease, call);
        return sp_nif_error_term(env, SP_CLOSED);
    }
    status = add_header(env, &conn->framing, &out.list);
    if (status == SP_OK)
        status = send_slices(call, conn, &out);
    sp_conn_leave(conn, call);
    sp_nif_charge(call);
    if (status == SP_OK)
        return enif_make_tuple2(env, sp_atoms.sent, handle);
    if (sp_wants(status) || status == SP_AGAIN)
        return enif_make_tuple4(env, sp_atoms.partial, handle, out.list,
                                enif_make_uint64(env, out.offset));
    /* The server may have said why. */
    if (conn->touched && status != SP_BAD_DATA)
        return enif_make_tuple3(env, enif_make_atom(env, "broken"), handle,
                                sp_nif_reason_term(env, status));
    /* Untouched where the request does not fit into its frame. */
    ended = conn->touched ? sp_pool_discard(conn->pool, call, conn, lease->lease, sp_why_of(status))
                          : sp_pool_checkin(conn->pool, call, conn, lease->lease, NULL);
    (void)ended;
    sp_nif_drop_conn(lease, call);
    return status == SP_BAD_DATA ? enif_make_badarg(env) : sp_nif_error_term(env, status);
}

/* request(Pool, [Binary], Ref, ExpiryMs | infinity | false, Length | packet) ->
 *     {sent, Lease}                         finish/4 receives the reply
 *   | {wait, Lease}                         {'$sockpool', Ref, What} comes: sent (as above), the
 *                                           number of bytes sent so far, or {error, Reason}
 *   | {partial, Lease, [Binary], Offset}    send the rest by send/6, framed
 *   | {broken, Lease, Reason}               the send failed: finish/4 has what came before that
 *   | empty                                 only where the expiry is false: do not queue
 *   | again                                 likewise, and there may be some: call again
 *   | many                                  nothing was done: join some of the binaries
 *   | bad_length                            a message, of a pool without a framing: nothing tells its end
 *   | {error, Reason} */
SP_NIF(sp_nif_request)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);
    ERL_NIF_TERM list = argv[1];
    struct sp_nif_lease *lease;
    struct sp_conn *conn;
    struct sp_want want;
    struct sp_framing framing;
    uint64_t number;
    ErlNifPid self;
    void *keepsake;
    sp_status status;

    (void)argc;
    if (!pool)
        return sp_nif_error_term(env, SP_NOT_FOUND);
    if (!enif_is_list(env, argv[1]) || !enif_is_ref(env, argv[2]) ||
        !sp_nif_get_want(env, argv[4], &want))
        return enif_make_badarg(env);
    framing = sp_framing_unpack(atomic_load(&pool->header));
    if (atomic_load(&pool->grants) != SP_NIF_STREAM)
        return sp_nif_no_stream_term(
            env, atomic_load(&pool->grants) == SP_NIF_NODE ? sp_atoms.node : sp_atoms.worker);
    if (want.packet && framing.kind == SP_FRAMING_RAW)
        return sp_atoms.bad_length;
    if (want.len_bytes > atomic_load(&pool->recv_limit_bytes))
        return sp_nif_error_term(env, SP_TOO_BIG);
    if (sp_framing_adds_header(&framing) && has_many_parts(env, list))
        return sp_atoms.many;
    enif_self(env, &self);
    status = sp_pool_checkout(&pool->core, &call, self.pid, &conn, &number, &keepsake);
    if (status == SP_OK) {
        lease = sp_nif_lease_again(keepsake, &self);
        lease->conn = conn;
        lease->lease = number;
        return send_request(env, &call, lease, list);
    }
    if ((status == SP_AGAIN || status == SP_EMPTY) && enif_is_identical(argv[3], sp_atoms.false_)) {
        sp_nif_charge(&call);
        return status == SP_AGAIN ? sp_atoms.again : sp_atoms.empty;
    }
    if (status == SP_AGAIN || status == SP_EMPTY) {
        if (has_many_parts(env, list))
            return sp_atoms.many;
        status = add_header(env, &framing, &list);
    }
    if (status != SP_OK)
        return sp_nif_error_term(env, status);
    list = sp_nif_enqueue_waiter(&call, pool, argv[2], argv[3], list, false, NULL);
    sp_nif_charge(&call);
    return list;
}
