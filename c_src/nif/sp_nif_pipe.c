/* NIFs of requests on connections that many have at once; and what the core's pipes ask of their host. */
#include "sp_nif.h"

#include "core/pool/sp_piped.h"

#include <string.h>

/* To give back what a reply's memory has too much would copy all of it; of most of that the system has given no memory
 * yet. */
#define SHRUNK_MAX_BYTES ((size_t)1024 * 1024)

/* ---- replies ---- */

_Static_assert(sizeof(ErlNifBinary) <= SP_REPLY_NEAR_BYTES, "it lies there");

static ErlNifBinary *far_binary(struct sp_reply *reply)
{
    return (ErlNifBinary *)(void *)reply->bytes;
}

bool sp_nif_reply_reserve(struct sp_reply *reply, size_t cap)
{
    ErlNifBinary *bin = far_binary(reply);

    if (!(reply->far ? enif_realloc_binary(bin, cap) : enif_alloc_binary(cap, bin)))
        return false;
    reply->far = bin->data;
    reply->far_cap = cap;
    return true;
}

void sp_nif_reply_free(struct sp_reply *reply)
{
    enif_release_binary(far_binary(reply));
    reply->far = NULL;
}

/* Takes it over. */
static ERL_NIF_TERM reply_term(ErlNifEnv *env, struct sp_reply *reply)
{
    ErlNifBinary *bin = far_binary(reply);
    ERL_NIF_TERM term;
    size_t used;

    if (!reply->far) {
        memcpy(enif_make_new_binary(env, reply->len, &term), reply->bytes + reply->offset,
               reply->len);
        return term;
    }
    used = reply->offset + reply->len;
    if (used < bin->size && used <= SHRUNK_MAX_BYTES)
        (void)enif_realloc_binary(bin, used);
    reply->far = NULL;
    if (reply->len == bin->size)
        return enif_make_binary(env, bin);
    return enif_make_sub_binary(env, enif_make_binary(env, bin), reply->offset, reply->len);
}

/* {ok, Binary} | retry | {error, Reason} */
static ERL_NIF_TERM answer(ErlNifEnv *env, sp_status status, struct sp_reply *reply)
{
    if (status == SP_OK)
        return enif_make_tuple2(env, sp_atoms.ok, reply_term(env, reply));
    if (status == SP_AGAIN)
        return sp_atoms.retry;
    return sp_nif_error_term(env, status);
}

/* ---- the host ---- */

static ERL_NIF_TERM message(ErlNifEnv *env, struct sp_nif_waiter *waiter, ERL_NIF_TERM what)
{
    return enif_make_tuple3(env, sp_atoms.dollar_sockpool, enif_make_copy(env, waiter->ref), what);
}

void sp_nif_reply_notify(const struct sp_call *call, struct sp_waiter *core, sp_status status,
                         struct sp_reply *reply)
{
    struct sp_nif_waiter *waiter = SP_CONTAINER(core, struct sp_nif_waiter, core);
    ErlNifPid pid = {.pid = (ERL_NIF_TERM)core->owner};

    (void)enif_send(call->env, &pid, NULL,
                    message(call->env, waiter, answer(call->env, status, reply)));
}

bool sp_nif_pipe_select(const struct sp_call *call, struct sp_conn *conn, struct sp_waiter *core,
                        uint32_t pipe, uint32_t generation, bool write)
{
    struct sp_nif_conn *self = sp_nif_conn_of(conn);
    ErlNifEnv *env = call->env;
    ERL_NIF_TERM msg;
    ErlNifPid pid;
    int result;

    if (core) {
        pid.pid = (ERL_NIF_TERM)core->owner;
        msg = message(env, SP_CONTAINER(core, struct sp_nif_waiter, core), sp_atoms.ready);
    } else {
        if (!sp_nif_get_controller(SP_CONTAINER(conn->pool, struct sp_nif_pool, core), &pid))
            return false;
        msg = enif_make_tuple4(env, sp_atoms.sockpool_pipe, enif_make_uint(env, pipe),
                               enif_make_uint(env, generation),
                               write ? sp_atoms.true_ : sp_atoms.false_);
    }
    atomic_store(&self->selected, true);
    result = write ? enif_select_write(env, conn->fd, self, &pid, msg, NULL)
                   : enif_select_read(env, conn->fd, self, &pid, msg, NULL);
    return result >= 0;
}

bool sp_nif_pipe_unselect(const struct sp_call *call, struct sp_conn *conn)
{
    int result = enif_select(call->env, conn->fd,
                             (enum ErlNifSelectFlags)(ERL_NIF_SELECT_READ | ERL_NIF_SELECT_CANCEL),
                             sp_nif_conn_of(conn), NULL, sp_atoms.undefined);

    return result >= 0 && (result & ERL_NIF_SELECT_READ_CANCELLED);
}

/* ---- requests ---- */

/* The bytes with their header; false where that is an error. */
struct bytes {
    uint8_t header[SP_FRAME_HEADER_MAX];
    struct iovec iov[2];
    size_t len;
};

static sp_status pack(struct sp_nif_pool *pool, const ErlNifBinary *data, struct bytes *bytes)
{
    struct sp_framing framing = sp_framing_unpack(atomic_load(&pool->header));
    size_t header_len = 0;
    sp_status status = SP_OK;

    if (sp_framing_adds_header(&framing))
        status = sp_frame_header(&framing, data->size, bytes->header, &header_len);
    bytes->iov[0] = (struct iovec){.iov_base = bytes->header, .iov_len = header_len};
    bytes->iov[1] = (struct iovec){.iov_base = data->data, .iov_len = data->size};
    bytes->len = header_len + data->size;
    return status;
}

/* One that goes on a connection of its own: where nobody knows its reply's end, it has no bytes of which one could
 * tell whether they are out, or too many. */
static bool is_exclusive(struct sp_nif_pool *pool, const struct bytes *bytes,
                         const struct sp_want *want)
{
    return !sp_pool_has_pipes(&pool->core) || bytes->len == 0 ||
           (want->packet && atomic_load(&pool->raw)) ||
           sp_piped_is_too_long(&pool->core, bytes->len);
}

static sp_status check(struct sp_nif_pool *pool, const ErlNifBinary *data,
                       const struct sp_want *want, struct bytes *bytes)
{
    if (want->len_bytes > atomic_load(&pool->recv_limit_bytes))
        return SP_TOO_BIG;
    return pack(pool, data, bytes);
}

/* pipe_request(Pool, Binary, Length | packet) ->
 *     Place            where pipe_look/3 finds the reply
 *   | exclusive        nothing was done: it is for request/5
 *   | empty            nowhere is room: pipe_enqueue/4
 *   | again            call again
 *   | {error, Reason} */
SP_NIF(sp_nif_pipe_request)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);
    struct bytes bytes;
    struct sp_ask ask = {.iov = bytes.iov, .count = 2};
    ErlNifBinary data;
    ErlNifPid self;
    uint64_t at;
    sp_status status;

    (void)argc;
    if (!pool)
        return sp_nif_error_term(env, SP_NOT_FOUND);
    if (!enif_inspect_binary(env, argv[1], &data) || !sp_nif_get_want(env, argv[2], &ask.want))
        return enif_make_badarg(env);
    status = check(pool, &data, &ask.want, &bytes);
    if (status != SP_OK)
        return sp_nif_error_term(env, status);
    if (is_exclusive(pool, &bytes, &ask.want))
        return sp_atoms.exclusive;
    enif_self(env, &self);
    ask.owner = self.pid;
    ask.len = bytes.len;
    status = sp_piped_request(&pool->core, &call, &ask, &at);
    sp_nif_charge(&call);
    if (status == SP_OK)
        return enif_make_uint64(env, at);
    if (status == SP_EMPTY || status == SP_AGAIN)
        return status == SP_EMPTY ? sp_atoms.empty : sp_atoms.again;
    return sp_nif_error_term(env, status);
}

/* pipe_enqueue(Pool, Ref, Binary, Length | packet) -> {wait, Lease} | {error, Reason}. Then one message {'$sockpool', Ref,
 * {ok, Reply} | retry | ready | {error, Reason}} comes, unless cancel/1 or pipe_give_up/3 says otherwise. */
SP_NIF(sp_nif_pipe_enqueue)
{
    struct sp_nif_pool *pool = sp_nif_get_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);
    struct sp_want want;
    struct bytes bytes;
    ErlNifBinary data;
    ERL_NIF_TERM list, header, result;
    sp_status status;

    (void)argc;
    if (!pool || !enif_is_ref(env, argv[1]) || !enif_inspect_binary(env, argv[2], &data) ||
        !sp_nif_get_want(env, argv[3], &want))
        return enif_make_badarg(env);
    status = check(pool, &data, &want, &bytes);
    if (status == SP_OK && is_exclusive(pool, &bytes, &want))
        status = SP_CLOSED; /* it has been opened anew meanwhile */
    if (status != SP_OK)
        return sp_nif_error_term(env, status);
    list = enif_make_list1(env, argv[2]);
    if (bytes.iov[0].iov_len > 0) {
        memcpy(enif_make_new_binary(env, bytes.iov[0].iov_len, &header), bytes.header,
               bytes.iov[0].iov_len);
        list = enif_make_list_cell(env, header, list);
    }
    result = sp_nif_enqueue_waiter(&call, pool, argv[1], sp_atoms.infinity, list, false, &want);
    if (sp_piped_step(&pool->core, &call))
        sp_pool_wake(&pool->core, &call);
    sp_nif_charge(&call);
    return result;
}

static bool get_place(ErlNifEnv *env, const ERL_NIF_TERM argv[], struct sp_nif_pool **pool,
                      uint64_t *at)
{
    ErlNifUInt64 place;

    *pool = sp_nif_get_pool(env, argv[0]);
    if (!*pool || !enif_get_uint64(env, argv[1], &place))
        return false;
    *at = place;
    return true;
}

static uint64_t self_of(ErlNifEnv *env)
{
    ErlNifPid self;

    enif_self(env, &self);
    return self.pid;
}

/* pipe_look(Pool, Place, Looks | fired) ->
 *     {ok, Reply}
 *   | soon             let others run, and look again, with one look more
 *   | arm              let others run once more, then pipe_arm/3
 *   | retry            its connection is closed, and nothing of it was written
 *   | {error, Reason}
 * Looks: how often it has looked, with this one; fired: the message `ready' was received. */
SP_NIF(sp_nif_pipe_look)
{
    struct sp_call call = sp_nif_call(env);
    bool fired = enif_is_identical(argv[2], sp_atoms.fired);
    struct sp_nif_pool *pool;
    struct sp_reply reply;
    unsigned looks = 0;
    uint64_t at;
    sp_status status;

    (void)argc;
    if (!get_place(env, argv, &pool, &at) || (!fired && !enif_get_uint(env, argv[2], &looks)))
        return enif_make_badarg(env);
    reply.far = NULL;
    status = sp_piped_look(&pool->core, &call, at, self_of(env), fired, &reply);
    sp_nif_charge(&call);
    if (status != SP_WANT_READ)
        return answer(env, status, &reply);
    return !fired && sp_piped_is_patient(&pool->core, at, looks) ? sp_atoms.soon : sp_atoms.arm;
}

/* pipe_arm(Pool, Place, Ref) -> {wait, Ms since it was placed}: one message comes, as after pipe_enqueue/4 | {ok, Reply} |
 * retry | {error, Reason} */
SP_NIF(sp_nif_pipe_arm)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_pool *pool;
    struct sp_nif_waiter *waiter;
    struct sp_reply reply;
    uint64_t at, placed_ns = 0;
    sp_status status;

    (void)argc;
    if (!get_place(env, argv, &pool, &at) || !enif_is_ref(env, argv[2]))
        return enif_make_badarg(env);
    waiter = sp_nif_waiter_new(pool, argv[2]);
    if (!waiter)
        return sp_nif_error_term(env, SP_NO_MEMORY);
    waiter->core.owner = self_of(env);
    atomic_store(&waiter->core.refs, 1);
    reply.far = NULL;
    status =
        sp_piped_arm(&pool->core, &call, at, waiter->core.owner, &waiter->core, &reply, &placed_ns);
    sp_nif_charge(&call);
    if (status == SP_WANT_READ)
        return enif_make_tuple2(env, sp_atoms.wait,
                                enif_make_uint64(env, (call.now_ns - placed_ns) / SP_MS));
    sp_waiter_unref(&waiter->core);
    return answer(env, status, &reply);
}

/* pipe_give_up(Pool, Place, Sleeps) -> {ok, Reply} | {error, Reason}: nothing comes any more, and that is how it went |
 * told: the message for which it sleeps is there or comes soon; after `ready', call again, not sleeping. */
SP_NIF(sp_nif_pipe_give_up)
{
    struct sp_call call = sp_nif_call(env);
    struct sp_nif_pool *pool;
    struct sp_reply reply;
    uint64_t at;
    sp_status status;

    (void)argc;
    if (!get_place(env, argv, &pool, &at))
        return enif_make_badarg(env);
    reply.far = NULL;
    status = sp_piped_give_up(&pool->core, &call, at, self_of(env),
                              enif_is_identical(argv[2], sp_atoms.true_), &reply);
    sp_nif_charge(&call);
    if (status == SP_WANT_READ)
        return sp_atoms.told;
    return answer(env, status == SP_AGAIN || status == SP_NOT_FOUND ? SP_TIMEOUT : status, &reply);
}

/* pipe_place(Lease) -> Place: after cancel/1 has said `piped', or a message came */
SP_NIF(sp_nif_pipe_place)
{
    struct sp_nif_lease *lease;
    uint64_t generation;

    (void)argc;
    if (!sp_nif_open_handle(env, argv[0], &lease, &generation) ||
        atomic_load(&lease->owner) != self_of(env) || !lease->waiter ||
        !lease->waiter->core.piped ||
        atomic_load(&lease->waiter->core.handoff) != SP_HANDOFF_DELIVERED)
        return enif_make_badarg(env);
    return enif_make_uint64(env, sp_piped_at(lease->waiter->core.pipe, lease->waiter->core.lease));
}

/* pipe_event(Pool, Pipe, Generation, IsWrite) -> ok. For the control process: {sockpool_pipe, Pipe, Generation, IsWrite}
 * came. */
SP_NIF(sp_nif_pipe_event)
{
    struct sp_nif_pool *pool = sp_nif_controlled_pool(env, argv[0]);
    struct sp_call call = sp_nif_call(env);
    unsigned pipe, generation;

    (void)argc;
    if (!pool || !enif_get_uint(env, argv[1], &pipe) || !enif_get_uint(env, argv[2], &generation))
        return enif_make_badarg(env);
    sp_piped_event(&pool->core, &call, pipe, generation,
                   enif_is_identical(argv[3], sp_atoms.true_));
    sp_nif_charge(&call);
    return sp_atoms.ok;
}
