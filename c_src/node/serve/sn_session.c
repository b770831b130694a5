#include "sn_session.h"

#include "core/base/sp_bytes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define CREATION_BYTES 4

sp_status sn_sessions_init(struct sn_sessions *sessions, struct sn_loop *loop,
                           struct sn_outbox *outbox)
{
    size_t random = SN_INCARNATION_BYTES - CREATION_BYTES;

    *sessions = (struct sn_sessions){.loop = loop, .outbox = outbox};
    sn_owners_init(&sessions->owners, outbox);
    sn_hash_init(&sessions->by_id);
    sn_hash_init(&sessions->by_number);
    sp_put(sessions->incarnation, CREATION_BYTES, outbox->us->creation);
    return getrandom(sessions->incarnation + CREATION_BYTES, random, 0) == (ssize_t)random
               ? SP_OK
               : SP_NO_MEMORY;
}

void sn_sessions_free(struct sn_sessions *sessions)
{
    sn_owners_free(&sessions->owners);
    sn_hash_free(&sessions->by_id);
    sn_hash_free(&sessions->by_number);
}

/* ---- tables ---- */

struct sn_session *sn_session_by_id(const struct sn_sessions *sessions, struct sn_slice id)
{
    struct sn_hash_node *node = sn_hash_first(&sessions->by_id, sn_hash_bytes(id));

    for (; node; node = sn_hash_next(&sessions->by_id, node)) {
        struct sn_session *session = SP_CONTAINER(node, struct sn_session, by_id);

        if (sn_slice_equals(session->id, id))
            return session;
    }
    return NULL;
}

/* Numbers are their own hashes. */
struct sn_session *sn_session_by_number(const struct sn_sessions *sessions, uint64_t number)
{
    struct sn_hash_node *node = number ? sn_hash_first(&sessions->by_number, number) : NULL;

    return node ? SP_CONTAINER(node, struct sn_session, by_number) : NULL;
}

static bool list_session(struct sn_session *session)
{
    struct sn_sessions *sessions = session->sessions;

    if (sn_hash_add(&sessions->by_id, &session->by_id, sn_hash_bytes(session->id)) != SP_OK)
        return false;
    if (session->is_request)
        return true;
    session->number = ++sessions->numbers;
    if (sn_hash_add(&sessions->by_number, &session->by_number, session->number) == SP_OK)
        return true;
    sn_hash_remove(&sessions->by_id, &session->by_id);
    return false;
}

struct sn_session *sn_session_new(struct sn_sessions *sessions, struct sn_client *client,
                                  struct sn_slice pid, struct sn_pool *pool, struct sn_slice id,
                                  bool is_request)
{
    struct sn_owner *owner = sn_owner_get(&sessions->owners, client, pid);
    struct sn_session *session = owner ? calloc(1, sizeof *session + id.len) : NULL;

    if (session) {
        session->sessions = sessions;
        session->is_request = is_request;
        memcpy(session + 1, id.data, id.len);
        session->id = (struct sn_slice){(uint8_t *)(session + 1), id.len};
    }
    if (!session || !list_session(session)) {
        free(session);
        if (owner)
            sn_owner_mark_idle(&sessions->owners, owner);
        return NULL;
    }
    session->owner = owner;
    session->pool = pool;
    sp_list_push_newest(&owner->sessions, &session->in_owner);
    sp_list_push_newest(&pool->sessions, &session->in_pool);
    sn_owner_mark_busy(owner);
    return session;
}

/* ---- states ---- */

#define MAY(state) (1u << SN_SESSION_##state)

/* Those that may follow each. A session may end in any of them. */
static const unsigned followers[] = {
    [SN_SESSION_TRYING] = MAY(WAITING) | MAY(PIPED) | MAY(HELD) | MAY(SENDING) | MAY(ASKING),
    [SN_SESSION_WAITING] = MAY(TOLD),
    [SN_SESSION_TOLD] = MAY(HELD) | MAY(SENDING) | MAY(ASKING),
    [SN_SESSION_PIPED] = MAY(REPLIED),
    [SN_SESSION_REPLIED] = MAY(PIPED),
    [SN_SESSION_HELD] = MAY(SENDING) | MAY(RECEIVING),
    [SN_SESSION_SENDING] = MAY(RECEIVING) | MAY(HELD),
    [SN_SESSION_RECEIVING] = MAY(HELD),
    [SN_SESSION_ASKING] = 0,
};

void sn_session_become(struct sn_session *session, enum sn_session_state state)
{
    bool may = followers[session->state] & 1u << state;

    assert(may);
    (void)may;
    session->state = state;
}

void sn_session_grant(struct sn_session *session, struct sn_conn *conn, uint64_t lease)
{
    sn_session_become(session, !session->is_request          ? SN_SESSION_HELD
                               : session->pool->options.node ? SN_SESSION_ASKING
                                                             : SN_SESSION_SENDING);
    session->conn = conn;
    session->lease = lease;
    session->channel = NULL;
}

/* ---- the call that is under way ---- */

sp_status sn_session_promise(struct sn_session *session, struct sn_client *client,
                             const struct sn_caller *caller, uint64_t timeout_ns)
{
    uint64_t now_ns = sn_loop_now_ns(session->sessions->loop);

    session->promise = sn_promise_new(client, caller);
    if (!session->promise)
        return SP_NO_MEMORY;
    return sn_loop_limit(session->sessions->loop, &session->limit,
                         timeout_ns == SP_NEVER ? UINT64_MAX : now_ns + timeout_ns);
}

/* ---- what is kept ---- */

bool sn_sessions_may_keep(const struct sn_sessions *sessions, const struct sn_client *client,
                          size_t len)
{
    size_t left =
        sessions->kept_bytes < SN_KEPT_BYTES_MAX ? SN_KEPT_BYTES_MAX - sessions->kept_bytes : 0;

    return client->kept_bytes <= left && len <= left - client->kept_bytes;
}

void sn_session_count_kept(struct sn_session *session, size_t more, size_t less)
{
    session->counted_bytes += more - less;
    session->sessions->kept_bytes += more - less;
    session->owner->client->kept_bytes += more - less;
}

sp_status sn_session_keep(struct sn_session *session, const struct iovec *iov, int count)
{
    size_t len = 0;
    uint8_t *at;

    for (int i = 0; i < count; i++)
        len += iov[i].iov_len;
    at = session->kept = malloc(len ? len : 1);
    if (!at)
        return SP_NO_MEMORY;
    for (int i = 0; i < count; i++) {
        memcpy(at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    session->kept_len = len;
    session->sent = 0;
    sn_session_count_kept(session, len, 0);
    return SP_OK;
}

void sn_session_unkeep(struct sn_session *session)
{
    if (!session->kept)
        return;
    sn_session_count_kept(session, 0, session->kept_len);
    free(session->kept);
    session->kept = NULL;
}

/* ---- node requests ---- */

size_t sn_node_request_len(const struct sn_node_request *request)
{
    return request->module.len + request->function.len + request->args.len +
           request->destination.len + request->message.len;
}

static void move(struct sn_slice *slice, uint8_t **at)
{
    if (slice->len)
        memcpy(*at, slice->data, slice->len);
    slice->data = *at;
    *at += slice->len;
}

bool sn_node_request_keep(struct sn_session *session, const struct sn_node_request *request)
{
    size_t len = sn_node_request_len(request);
    struct sn_node_request *copy = malloc(sizeof *copy + len);
    uint8_t *at;

    if (!copy)
        return false;
    *copy = *request;
    at = (uint8_t *)(copy + 1);
    move(&copy->module, &at);
    move(&copy->function, &at);
    move(&copy->args, &at);
    move(&copy->destination, &at);
    move(&copy->message, &at);
    session->request = copy;
    sn_session_count_kept(session, len, 0);
    return true;
}

void sn_node_request_unkeep(struct sn_session *session)
{
    if (!session->request)
        return;
    sn_session_count_kept(session, 0, sn_node_request_len(session->request));
    free(session->request);
    session->request = NULL;
}

/* ---- ends ---- */

void sn_session_settle(struct sn_session *session)
{
    struct sp_call call = sn_loop_call(session->sessions->loop);

    sn_loop_unlimit(session->sessions->loop, &session->limit);
    sn_loop_drop(&session->task);
    if (session->held_up)
        sp_list_remove(&session->in_held_up);
    session->held_up = false;
    if (session->promise)
        sn_promise_free(session->promise);
    session->promise = NULL;
    if (sn_session_has_connection(session))
        sn_conn_disarm(session->conn, session->lease, &call);
    sn_session_unkeep(session);
}

void sn_session_call_over(struct sn_session *session)
{
    sn_session_settle(session);
    sn_session_become(session, SN_SESSION_HELD);
}

void sn_session_free(struct sn_session *session)
{
    struct sn_sessions *sessions = session->sessions;
    struct sn_owner *owner = session->owner;
    struct sn_pool *pool = session->pool;

    assert(!sn_session_has_connection(session) || !session->channel);
    sn_node_request_unkeep(session);
    sn_session_settle(session);
    if (sn_session_has_connection(session))
        sn_conn_unref(session->conn);
    sn_hash_remove(&sessions->by_id, &session->by_id);
    if (session->number)
        sn_hash_remove(&sessions->by_number, &session->by_number);
    sp_list_remove(&session->in_owner);
    sp_list_remove(&session->in_pool);
    free(session);
    sn_owner_mark_idle(&sessions->owners, owner);
    sn_pool_released(pool);
}

bool sn_session_give_away(struct sn_session *session, struct sn_client *client, struct sn_slice pid)
{
    struct sn_owners *owners = &session->sessions->owners;
    struct sn_owner *heir = sn_owner_get(owners, client, pid), *before = session->owner;

    if (!heir)
        return false;
    sp_list_remove(&session->in_owner);
    sp_list_push_newest(&heir->sessions, &session->in_owner);
    before->client->kept_bytes -= session->counted_bytes;
    heir->client->kept_bytes += session->counted_bytes;
    session->owner = heir;
    sn_owner_mark_busy(heir);
    sn_owner_mark_idle(owners, before);
    return true;
}

void sn_session_hold_up(struct sn_session *session)
{
    if (session->held_up)
        return;
    session->held_up = true;
    sp_list_push_newest(&session->promise->client->held_up, &session->in_held_up);
}

void sn_sessions_resume(struct sn_sessions *sessions, struct sn_client *client)
{
    struct sp_list_node *node;

    while ((node = sp_list_oldest(&client->held_up))) {
        struct sn_session *session = SP_CONTAINER(node, struct sn_session, in_held_up);

        sp_list_remove(node);
        session->held_up = false;
        sn_loop_defer(sessions->loop, &session->task);
    }
}

/* ---- leases as terms ---- */

void sn_put_lease(struct sn_writer *writer, const struct sn_session *session)
{
    sn_put_tuple(writer, 4);
    sn_put_atom(writer, "$sockpool_lease");
    sn_put_atom(writer, session->sessions->outbox->us->name);
    sn_put_binary(writer, session->sessions->incarnation, SN_INCARNATION_BYTES);
    sn_put_number(writer, session->number);
}

bool sn_lease_number(const struct sn_sessions *sessions, struct sn_slice term, uint64_t *number)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX], bytes;
    int64_t value;

    if (sn_slice_tuple(term, parts) != 4 || !sn_slice_is_atom(parts[0], "$sockpool_lease"))
        return false;
    *number = 0;
    if (sn_value_binary(parts[2], &bytes) && bytes.len == SN_INCARNATION_BYTES &&
        memcmp(bytes.data, sessions->incarnation, SN_INCARNATION_BYTES) == 0 &&
        sn_value_integer(parts[3], &value) && value > 0)
        *number = (uint64_t)value;
    return true;
}
