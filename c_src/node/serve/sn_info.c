#include "sn_info.h"

#include "sn_answer.h"
#include "sn_session_end.h"
#include "node/etf/sn_value.h"
#include "core/dist/sp_node.h"
#include "core/conn/sp_tcp_info.h"

#include <limits.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

/* Enters a call of the owner; where the lease has ended it is answered, and the session is gone. */
static bool look(struct sn_session *session, struct sn_client *client,
                 const struct sn_caller *caller, const struct sp_call *call)
{
    if (sp_conn_enter(&session->conn->core, session->lease, call))
        return true;
    sn_answer_status(session->sessions->outbox, client, caller, SP_CLOSED);
    sn_session_end(session);
    return false;
}

/* ---- addresses ---- */

static void put_groups(struct sn_writer *writer, const uint8_t *bytes, unsigned groups,
                       unsigned width)
{
    sn_put_tuple(writer, groups);
    for (unsigned i = 0; i < groups; i++) {
        unsigned value = 0;

        for (unsigned j = 0; j < width; j++)
            value = value << 8 | bytes[i * width + j];
        sn_put_number(writer, value);
    }
}

static void put_address(struct sn_writer *writer, const struct sp_addr *addr)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&addr->storage;
    size_t prefix = offsetof(struct sockaddr_un, sun_path);

    sn_put_tuple(writer, 2);
    if (addr->storage.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&addr->storage;
        put_groups(writer, (const uint8_t *)&in->sin_addr, 4, 1);
        sn_put_number(writer, ntohs(in->sin_port));
    } else if (addr->storage.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&addr->storage;
        put_groups(writer, in6->sin6_addr.s6_addr, 8, 2);
        sn_put_number(writer, ntohs(in6->sin6_port));
    } else {
        sn_put_atom(writer, "local");
        sn_put_binary(writer, un->sun_path,
                      addr->len > prefix ? strnlen(un->sun_path, addr->len - prefix) : 0);
    }
}

void sn_info_address(struct sn_session *session, struct sn_client *client,
                     const struct sn_caller *caller, bool peer)
{
    struct sp_call call = sn_loop_call(session->sessions->loop);
    struct sn_outbox *outbox = session->sessions->outbox;
    struct sn_writer reply;

    if (!look(session, client, caller, &call))
        return;
    reply = sn_outbox_begin_reply(outbox, caller);
    sn_put_tuple(&reply, 2);
    sn_put_atom(&reply, "ok");
    put_address(&reply, peer ? &session->conn->core.peer : &session->conn->core.own);
    sp_conn_leave(&session->conn->core, &call);
    sn_answer_end(outbox, client, caller, &reply);
}

/* ---- all that is known ---- */

/* A transport tells one fact after the other; a map says first how many it has. */
struct facts {
    struct sn_writer *writer; /* NULL: only counts */
    long count;
};

static void put_fact(void *arg, const char *key, enum sp_fact_kind kind, const void *data,
                     size_t len)
{
    struct facts *facts = arg;

    facts->count++;
    if (!facts->writer)
        return;
    sn_put_atom(facts->writer, key);
    if (kind == SP_FACT_FLAG)
        sn_put_flag(facts->writer, len > 0);
    else if (kind == SP_FACT_NUMBER)
        sn_put_number(facts->writer, len);
    else if (kind == SP_FACT_WORD)
        sn_put_atom_len(facts->writer, data, len);
    else
        sn_put_binary(facts->writer, data, len);
}

static void put_length(struct sn_writer *writer, const struct sp_framing *framing)
{
    sn_put_tuple(writer, 2);
    sn_put_atom(writer, "length");
    sn_put_map(writer, 5);
    sn_put_atom(writer, "offset");
    sn_put_number(writer, framing->offset);
    sn_put_atom(writer, "bytes");
    sn_put_number(writer, framing->bytes);
    sn_put_atom(writer, "endian");
    sn_put_atom(writer, framing->little ? "little" : "big");
    sn_put_atom(writer, "adjust");
    sn_put_integer(writer, framing->adjust);
    sn_put_atom(writer, "header");
    sn_put_atom(writer, framing->strip ? "strip" : "keep");
}

/* As the VM has them: by the short word where there is one. */
static void put_framing(struct sn_writer *writer, const struct sp_framing *framing)
{
    switch ((enum sp_framing_kind)framing->kind) {
    case SP_FRAMING_LENGTH:
        if (sp_framing_is_width(framing))
            sn_put_number(writer, framing->bytes);
        else
            put_length(writer, framing);
        return;
    case SP_FRAMING_DELIMITER:
        if (sp_framing_is_line(framing)) {
            sn_put_atom(writer, "line");
            return;
        }
        sn_put_tuple(writer, 2);
        sn_put_atom(writer, "delimiter");
        sn_put_binary(writer, framing->delimiter, framing->delimiter_len);
        return;
    case SP_FRAMING_FIXED:
        sn_put_tuple(writer, 2);
        sn_put_atom(writer, "fixed");
        sn_put_number(writer, framing->fixed);
        return;
    case SP_FRAMING_RESP:
        sn_put_atom(writer, "resp");
        return;
    case SP_FRAMING_FUN: /* which the daemon has none of */
    case SP_FRAMING_RAW:
        break;
    }
    sn_put_atom(writer, "raw");
}

static void put_tcp(struct sn_writer *writer, const struct sp_tcp_info *info)
{
    long known = 0;

#define COUNT(field) known += info->field != SP_TCP_INFO_UNKNOWN;
    SP_TCP_INFO_MAP(COUNT)
#undef COUNT
    sn_put_atom(writer, "tcp");
    sn_put_map(writer, known);
#define PUT(field)                                                                                 \
    if (info->field != SP_TCP_INFO_UNKNOWN) {                                                      \
        sn_put_atom(writer, #field);                                                               \
        sn_put_number(writer, info->field);                                                        \
    }
    SP_TCP_INFO_MAP(PUT)
#undef PUT
}

static void put_info(struct sn_writer *writer, struct sn_session *session, uint64_t now_ns)
{
    struct sp_conn *conn = &session->conn->core;
    struct facts facts = {.count = 6};
    struct sp_tcp_info tcp;
    bool has_tcp;

    if (conn->transport->describe)
        conn->transport->describe(conn, put_fact, &facts);
    has_tcp = sp_tcp_info(conn, &tcp);
    facts.count += (session->channel != NULL) + has_tcp;
    sn_put_map(writer, facts.count);
    sn_put_atom(writer, "pool");
    sn_put_atom_len(writer, session->pool->options.name, session->pool->options.name_len);
    sn_put_atom(writer, "transport");
    sn_put_atom(writer, conn->transport->name);
    sn_put_atom(writer, "packet");
    put_framing(writer, &conn->framing);
    sn_put_atom(writer, "age");
    sn_put_number(writer, (now_ns - conn->born_ns) / SP_MS);
    sn_put_atom(writer, "peername");
    put_address(writer, &conn->peer);
    sn_put_atom(writer, "sockname");
    put_address(writer, &conn->own);
    if (session->channel) {
        sn_put_atom(writer, "max_inflight");
        sn_put_number(writer, session->pool->options.max_inflight);
    }
    if (has_tcp)
        put_tcp(writer, &tcp);
    facts.writer = writer;
    if (conn->transport->describe)
        conn->transport->describe(conn, put_fact, &facts);
}

void sn_info_all(struct sn_session *session, struct sn_client *client,
                 const struct sn_caller *caller)
{
    struct sp_call call = sn_loop_call(session->sessions->loop);
    struct sn_writer reply;

    if (!look(session, client, caller, &call))
        return;
    reply = sn_outbox_begin_reply(session->sessions->outbox, caller);
    sn_put_tuple(&reply, 2);
    sn_put_atom(&reply, "ok");
    put_info(&reply, session, call.now_ns);
    sp_take(&call, SP_PIECES_SYSCALL);
    sp_conn_leave(&session->conn->core, &call);
    sn_answer_end(session->sessions->outbox, client, caller, &reply);
}

/* ---- options ---- */

static bool get_flag(struct sn_slice value, int *flag)
{
    *flag = sn_slice_is_atom(value, "true");
    return *flag || sn_slice_is_atom(value, "false");
}

static bool get_size(struct sn_slice value, int *size)
{
    int64_t number;

    if (!sn_value_integer(value, &number) || number <= 0 || number > INT_MAX)
        return false;
    *size = (int)number;
    return true;
}

/* SP_OK, SP_BAD_DATA for what is no option, or why it could not be set. */
static sp_status set_option(struct sp_conn *conn, struct sn_slice key, struct sn_slice value)
{
    struct sp_framing framing;
    int number;

    if (sn_slice_is_atom(key, "packet")) {
        if (sp_is_node(conn->transport) || !sn_options_framing(value, &framing))
            return SP_BAD_DATA;
        sp_conn_set_framing(conn, &framing);
        return SP_OK;
    }
    if (sn_slice_is_atom(key, "nodelay"))
        return get_flag(value, &number) ? sp_conn_setopt(conn, SP_OPT_NODELAY, number)
                                        : SP_BAD_DATA;
    if (sn_slice_is_atom(key, "keepalive"))
        return get_flag(value, &number) ? sp_conn_setopt(conn, SP_OPT_KEEPALIVE, number)
                                        : SP_BAD_DATA;
    if (sn_slice_is_atom(key, "sndbuf"))
        return get_size(value, &number) ? sp_conn_setopt(conn, SP_OPT_SNDBUF, number) : SP_BAD_DATA;
    if (sn_slice_is_atom(key, "recbuf"))
        return get_size(value, &number) ? sp_conn_setopt(conn, SP_OPT_RECBUF, number) : SP_BAD_DATA;
    return SP_BAD_DATA;
}

static void answer_bad_option(struct sn_outbox *outbox, struct sn_client *client,
                              const struct sn_caller *caller, const struct sn_slice *pair)
{
    struct sn_writer reply = sn_outbox_begin_reply(outbox, caller);

    sn_put_bad(&reply, "bad_option");
    sn_put_slice(&reply, pair[0]);
    sn_put_slice(&reply, pair[1]);
    sn_answer_end(outbox, client, caller, &reply);
}

/* {error, {bad_argument, opts, Rest}}, where the rest of the list begins with something that is no pair,
 * or is no list. `before` is as it was before that was looked at. */
static void answer_bad_opts(struct sn_outbox *outbox, struct sn_client *client,
                            const struct sn_caller *caller, struct sn_slice opts,
                            const struct sn_items *before)
{
    struct sn_writer reply;

    if (before->is_string) {
        sn_answer_bad_argument(outbox, client, caller, "opts", opts);
        return;
    }
    reply = sn_outbox_begin_reply(outbox, caller);
    sn_put_bad(&reply, "bad_argument");
    sn_put_atom(&reply, "opts");
    sn_put_list(&reply, (long)before->left);
    sn_put_slice(&reply, before->rest);
    sn_answer_end(outbox, client, caller, &reply);
}

void sn_info_setopts(struct sn_session *session, struct sn_client *client,
                     const struct sn_caller *caller, struct sn_slice opts)
{
    struct sp_call call = sn_loop_call(session->sessions->loop);
    struct sn_outbox *outbox = session->sessions->outbox;
    struct sn_slice item, pair[SN_SLICE_PARTS_MAX];
    struct sn_items items, before;
    sp_status status = SP_OK;
    bool is_pair = true;

    if (!sn_items_begin(opts, &items)) {
        sn_answer_bad_argument(outbox, client, caller, "opts", opts);
        return;
    }
    if (!look(session, client, caller, &call))
        return;
    while (status == SP_OK && is_pair && (before = items, sn_items_next(&items, &item))) {
        is_pair = sn_slice_tuple(item, pair) == 2;
        if (is_pair)
            status = set_option(&session->conn->core, pair[0], pair[1]);
    }
    sp_conn_leave(&session->conn->core, &call);
    if (status == SP_BAD_DATA)
        answer_bad_option(outbox, client, caller, pair);
    else if (status == SP_OK && (!is_pair || !items.is_proper))
        answer_bad_opts(outbox, client, caller, opts, &before);
    else
        sn_answer_status(outbox, client, caller, status);
}

/* ---- time-outs ---- */

static void put_ms(struct sn_writer *writer, uint64_t ns)
{
    if (ns == SP_NEVER)
        sn_put_atom(writer, "infinity");
    else
        sn_put_number(writer, ns / SP_MS);
}

static void answer_timeouts(struct sn_outbox *outbox, struct sn_client *client,
                            const struct sn_caller *caller, const struct sn_options *options)
{
    struct sn_writer reply = sn_outbox_begin_reply(outbox, caller);

    sn_put_tuple(&reply, 2);
    sn_put_atom(&reply, "ok");
    sn_put_tuple(&reply, 2);
    put_ms(&reply, options->checkout_timeout_ns);
    put_ms(&reply, options->send_timeout_ns);
    sn_answer_end(outbox, client, caller, &reply);
}

bool sn_info_timeouts(struct sn_sessions *sessions, struct sn_pools *pools,
                      struct sn_client *client, const struct sn_caller *caller,
                      struct sn_slice target)
{
    char name[SN_ATOM_BYTES_MAX + 1];
    const struct sn_pool *pool = NULL;
    sp_status status = SP_CLOSED;
    uint64_t number;
    size_t len;

    if (sn_lease_number(sessions, target, &number)) {
        const struct sn_session *session = sn_session_by_number(sessions, number);
        pool = session ? session->pool : NULL;
    } else if (sn_value_atom(target, name, &len)) {
        pool = sn_pools_find(pools, name, len);
        status = SP_NOT_FOUND;
    } else {
        return false;
    }
    if (pool)
        answer_timeouts(sessions->outbox, client, caller, &pool->options);
    else
        sn_answer_status(sessions->outbox, client, caller, status);
    return true;
}
