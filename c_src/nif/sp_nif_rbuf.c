/* The memory of a connection's buffer, and binaries made of it.
 *
 * Mostly it is a binary of ours, which becomes the receiver's with a long message in it. Where the receiver says what a
 * message is, it is a resource, of which he is shown binaries while it fills: what they show does not change. */
#include "sp_nif.h"

#include <string.h>

/* A received message from this size on keeps its buffer instead of being copied. */
#define COPY_MAX_BYTES 1024
/* To give back what such a buffer has too much would copy all of it; of most of that the system has given
 * no memory yet. */
#define SHRUNK_MAX_BYTES ((size_t)1024 * 1024)

static ErlNifResourceType *buffer_type;

bool sp_nif_rbuf_open_type(ErlNifEnv *env, ErlNifResourceFlags flags)
{
    ErlNifResourceTypeInit buffer = {0};

    buffer_type = enif_open_resource_type_x(env, "sockpool_buffer", &buffer, flags, NULL);
    return buffer_type != NULL;
}

static void release(struct sp_conn *conn)
{
    if (conn->rbuf.base && conn->rbuf.shown)
        enif_release_resource(conn->rbuf.base);
    else if (conn->rbuf.base)
        enif_release_binary(&sp_nif_conn_of(conn)->rbin);
}

void sp_nif_rbuf_free(struct sp_conn *conn)
{
    release(conn);
    conn->rbuf = (struct sp_rbuf){0};
}

/* What is there moves to its begin. */
static bool reserve_shown(struct sp_conn *conn, size_t cap)
{
    struct sp_rbuf *rbuf = &conn->rbuf;
    size_t have = rbuf->len - rbuf->pos;
    uint8_t *base = enif_alloc_resource(buffer_type, cap);

    if (!base)
        return false;
    if (have > 0)
        memcpy(base, rbuf->base + rbuf->pos, have);
    release(conn);
    *rbuf = (struct sp_rbuf){.base = base, .len = have, .cap = cap, .shown = true};
    return true;
}

bool sp_nif_rbuf_reserve(struct sp_conn *conn, size_t cap)
{
    struct sp_nif_conn *self = sp_nif_conn_of(conn);

    if (conn->rbuf.shown || (!conn->rbuf.base && conn->framing.kind == SP_FRAMING_FUN))
        return reserve_shown(conn, cap);
    if (!(conn->rbuf.base ? enif_realloc_binary(&self->rbin, cap)
                          : enif_alloc_binary(cap, &self->rbin)))
        return false;
    conn->rbuf.base = self->rbin.data;
    conn->rbuf.cap = cap;
    return true;
}

bool sp_nif_rbuf_show(struct sp_conn *conn)
{
    return !conn->rbuf.base || conn->rbuf.shown || reserve_shown(conn, conn->rbuf.cap);
}

/* The buffer as a binary of which the message is a part; what is behind it moves to a new one, if there
 * is anything. False where memory is short for that. */
static bool give_buffer(ErlNifEnv *env, struct sp_conn *conn, const struct sp_received *received,
                        ERL_NIF_TERM *term)
{
    struct sp_nif_conn *self = sp_nif_conn_of(conn);
    struct sp_rbuf *rbuf = &conn->rbuf;
    size_t offset = (size_t)(received->data - rbuf->base);
    size_t used = rbuf->pos + received->rbuf_taken, behind = rbuf->len - used;
    ErlNifBinary rest = {0};

    if (behind > 0 && !enif_alloc_binary(behind, &rest))
        return false;
    if (behind > 0)
        memcpy(rest.data, rbuf->base + used, behind);
    if (used <= SHRUNK_MAX_BYTES && !enif_realloc_binary(&self->rbin, used)) {
        enif_release_binary(&rest);
        return false;
    }
    *term = enif_make_binary(env, &self->rbin);
    if (received->len < self->rbin.size)
        *term = enif_make_sub_binary(env, *term, offset, received->len);
    *rbuf = (struct sp_rbuf){0};
    conn->search = (struct sp_search){0};
    if (behind > 0) {
        self->rbin = rest;
        *rbuf = (struct sp_rbuf){.base = rest.data, .len = behind, .cap = behind};
    }
    return true;
}

/* Of a long message and what is behind it the shorter one is copied. Not to keep a buffer of which the
 * message is less than half. */
static ERL_NIF_TERM taken(const struct sp_call *call, struct sp_conn *conn,
                          const struct sp_received *received)
{
    size_t used = conn->rbuf.pos + received->rbuf_taken, behind = conn->rbuf.len - used;
    ERL_NIF_TERM term;

    if (received->in_rbuf && !conn->rbuf.shown && received->len >= COPY_MAX_BYTES &&
        received->len >= behind && 2 * received->len >= used &&
        give_buffer(call->env, conn, received, &term)) {
        sp_take(call, sp_pieces_of_bytes(behind));
        return term;
    }
    sp_take(call, sp_pieces_of_bytes(received->len));
    memcpy(enif_make_new_binary(call->env, received->len, &term), received->data, received->len);
    sp_recv_taken(conn, received);
    return term;
}

ERL_NIF_TERM sp_nif_rbuf_take(const struct sp_call *call, struct sp_conn *conn,
                              const struct sp_received *received)
{
    if (!received->only_shown)
        return taken(call, conn, received);
    return enif_make_resource_binary(call->env, conn->rbuf.base, received->data, received->len);
}
