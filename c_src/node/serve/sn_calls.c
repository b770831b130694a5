#include "sn_calls.h"

#include "sn_answer.h"
#include "sn_node_calls.h"
#include "sn_info.h"
#include "sn_io.h"
#include "sn_ready.h"
#include "sn_session_end.h"
#include "sn_channel.h"
#include "node/etf/sn_tag.h"
#include "node/pool/sn_pool_term.h"
#include "core/pool/sp_lease.h"

#include <stdlib.h>

/* One call. */
struct incoming {
    struct sn_calls *calls;
    struct sn_client *client;
    const struct sn_caller *caller;
    const struct sn_request *request;
    const struct sn_slice *parts; /* the request's */
};

sp_status sn_calls_init(struct sn_calls *calls, struct sn_loop *loop, struct sn_outbox *outbox,
                        struct sn_pools *pools)
{
    *calls = (struct sn_calls){.outbox = outbox, .pools = pools};
    sp_list_init(&calls->clients);
    return sn_sessions_init(&calls->sessions, loop, outbox);
}

void sn_calls_free(struct sn_calls *calls)
{
    sn_sessions_free(&calls->sessions);
}

static void answer_status(const struct incoming *in, sp_status status)
{
    sn_answer_status(in->calls->outbox, in->client, in->caller, status);
}

static void answer_bad_argument(const struct incoming *in, const char *name, struct sn_slice value)
{
    sn_answer_bad_argument(in->calls->outbox, in->client, in->caller, name, value);
}

/* ---- arguments ---- */

/* Stands for the atom default: the pool's. */
#define DEFAULT_NS (SP_NEVER - 1)

static bool get_timeout(struct sn_slice term, bool may_be_default, uint64_t *ns)
{
    if (may_be_default && sn_slice_is_atom(term, "default")) {
        *ns = DEFAULT_NS;
        return true;
    }
    return sn_node_calls_timeout(term, ns);
}

/* A number of bytes up to 2^64-1, of which all above 2^63-1 are too many in the same way. */
static bool get_length(struct sn_slice term, bool may_be_packet, struct sp_want *want)
{
    int64_t number;

    *want = (struct sp_want){.packet = true};
    if (may_be_packet && sn_slice_is_atom(term, "packet"))
        return true;
    if (sn_value_integer(term, &number)) {
        *want = (struct sp_want){.packet = number == 0, .len_bytes = (size_t)number};
        return number >= 0;
    }
    *want = (struct sp_want){.len_bytes = SIZE_MAX};
    return term.data[0] == SN_TAG_SMALL_BIG && term.data[1] == 8 && term.data[2] == 0;
}

static struct sn_pool *find_pool(const struct incoming *in, struct sn_slice name)
{
    char text[SN_ATOM_BYTES_MAX + 1];
    size_t len;

    return sn_value_atom(name, text, &len) ? sn_pools_find(in->calls->pools, text, len) : NULL;
}

/* ---- pools ---- */

/* And restart_pool, of sockpool_node after a crash: nobody waits to hear what is wrong with the files of
 * TLS. */
static bool start_pool(const struct incoming *in)
{
    struct sn_calls *calls = in->calls;
    struct sp_tls_refusal refusal = {NULL, NULL};
    struct sn_options options;
    struct sn_bad_option bad;
    struct sn_writer reply;
    sp_status status = sn_options_parse(in->parts[1], in->parts[2], &options, &bad);
    bool is_parsed = status == SP_OK, again = sn_slice_is_atom(in->parts[0], "restart_pool");

    if (is_parsed)
        status = sn_pools_start(calls->pools, &options, again ? NULL : &refusal);
    if (is_parsed && status != SP_OK)
        sn_options_free(&options);
    if (status != SP_BAD_DATA && status != SP_BUSY) {
        answer_status(in, status);
        return true;
    }
    if (status == SP_BUSY) {
        sn_answer_error_with(calls->outbox, in->client, in->caller, "already_started",
                             sn_outbox_pid(calls->outbox));
        return true;
    }
    if (!is_parsed) {
        sn_answer_bad_option(in->calls->outbox, in->client, in->caller, &bad);
        return true;
    }
    reply = sn_outbox_begin_reply(calls->outbox, in->caller);
    sn_put_tuple(&reply, 2);
    sn_put_atom(&reply, "error");
    sn_put_tuple(&reply, 2);
    sn_put_atom(&reply, "tls");
    sn_put_tuple(&reply, 2);
    sn_put_atom(&reply, refusal.option);
    sn_put_atom(&reply, refusal.why);
    sn_answer_end(calls->outbox, in->client, in->caller, &reply);
    return true;
}

static bool update(const struct incoming *in)
{
    struct sn_pool *pool = find_pool(in, in->parts[1]);
    struct sn_bad_option bad;
    bool needs_restart;
    sp_status status = SP_NOT_FOUND;

    if (!sn_slice_is_any_atom(in->parts[1]))
        return false;
    if (pool)
        status = sn_pool_update(pool, in->parts[2], &bad, &needs_restart);
    if (status != SP_BAD_DATA)
        answer_status(in, status);
    else if (needs_restart)
        sn_answer_error_with(in->calls->outbox, in->client, in->caller, "needs_restart", bad.key);
    else
        sn_answer_bad_option(in->calls->outbox, in->client, in->caller, &bad);
    return true;
}

static bool await_ready(const struct incoming *in)
{
    return sn_ready_await(in->calls->outbox, in->calls->pools, in->client, in->caller, in->parts);
}

struct stop {
    struct sn_outbox *outbox;
    struct sn_promise *promise;
};

static void on_stopped(void *arg)
{
    struct stop *stop = arg;

    if (stop->promise->client)
        sn_answer_ok(stop->outbox, stop->promise->client, &stop->promise->caller);
    sn_promise_free(stop->promise);
    free(stop);
}

static bool stop_pool(const struct incoming *in)
{
    char name[SN_ATOM_BYTES_MAX + 1];
    size_t len;
    struct stop *stop;
    sp_status status = SP_NO_MEMORY;

    if (!sn_value_atom(in->parts[1], name, &len))
        return false;
    stop = malloc(sizeof *stop);
    if (stop) {
        stop->outbox = in->calls->outbox;
        stop->promise = sn_promise_new(in->client, in->caller);
        if (stop->promise)
            status = sn_pools_stop(in->calls->pools, name, len, on_stopped, stop);
        if (status == SP_OK)
            return true;
        if (stop->promise)
            sn_promise_free(stop->promise);
        free(stop);
    }
    answer_status(in, status);
    return true;
}

/* A list of what is said of each pool. */
static void all_pools(const struct incoming *in,
                      void (*put)(struct sn_writer *reply, struct sn_pool *pool))
{
    struct sn_calls *calls = in->calls;
    struct sn_writer reply = sn_outbox_begin_reply(calls->outbox, in->caller);

    sn_put_list(&reply, sn_pools_count(calls->pools));
    for (struct sn_pool *pool = NULL; (pool = sn_pools_next(calls->pools, pool));)
        put(&reply, pool);
    sn_put_nil(&reply);
    sn_answer_end(calls->outbox, in->client, in->caller, &reply);
}

static void put_name(struct sn_writer *reply, struct sn_pool *pool)
{
    sn_put_atom_len(reply, pool->options.name, pool->options.name_len);
}

/* {stats, Name}, {histograms, Name} */
static bool figures(const struct incoming *in)
{
    struct sn_calls *calls = in->calls;
    struct sn_pool *pool = find_pool(in, in->parts[1]);
    struct sn_writer reply;

    if (!sn_slice_is_any_atom(in->parts[1]))
        return false;
    if (!pool) {
        answer_status(in, SP_NOT_FOUND);
        return true;
    }
    reply = sn_outbox_begin_reply(calls->outbox, in->caller);
    sn_put_tuple(&reply, 2);
    sn_put_atom(&reply, "ok");
    (sn_slice_is_atom(in->parts[0], "stats") ? sn_pool_put_stats : sn_pool_put_histograms)(&reply,
                                                                                           pool);
    sn_answer_end(calls->outbox, in->client, in->caller, &reply);
    return true;
}

/* ---- calls for a connection ---- */

/* Whether the call may begin: its Id is new, its pool's name is an atom. */
static bool is_new(const struct incoming *in)
{
    return sn_slice_is_reference(in->parts[1]) && sn_slice_is_any_atom(in->parts[2]) &&
           !sn_session_by_id(&in->calls->sessions, in->parts[1]);
}

/* The pool, or NULL where the call was answered. */
static struct sn_pool *serving_pool(const struct incoming *in)
{
    struct sn_pool *pool = find_pool(in, in->parts[2]);

    if (!pool)
        answer_status(in, SP_NOT_FOUND);
    else if (in->calls->pools->draining)
        answer_status(in, SP_DRAINING);
    else
        return pool;
    return NULL;
}

static bool checkout(const struct incoming *in)
{
    uint64_t timeout_ns;
    struct sn_pool *pool;

    if (!is_new(in))
        return false;
    if (!get_timeout(in->parts[3], true, &timeout_ns)) {
        answer_bad_argument(in, "timeout", in->parts[3]);
        return true;
    }
    pool = serving_pool(in);
    if (!pool)
        return true;
    sn_io_checkout(&in->calls->sessions, in->client, in->caller, pool, in->parts[1],
                   timeout_ns == DEFAULT_NS ? pool->options.checkout_timeout_ns : timeout_ns);
    return true;
}

static bool request(const struct incoming *in)
{
    uint64_t timeout_ns;
    struct sp_want want;
    struct sn_slice data;
    struct sn_pool *pool;

    if (!is_new(in))
        return false;
    if (!get_timeout(in->parts[5], false, &timeout_ns)) {
        answer_bad_argument(in, "timeout", in->parts[5]);
        return true;
    }
    if (!get_length(in->parts[4], true, &want)) {
        answer_bad_argument(in, "length", in->parts[4]);
        return true;
    }
    pool = serving_pool(in);
    if (!pool)
        return true;
    if (pool->options.node)
        sn_node_calls_refuse_stream(in->calls->outbox, in->client, in->caller);
    else if (!sn_value_binary(in->parts[3], &data))
        answer_bad_argument(in, "data", in->parts[3]);
    else if (want.packet && pool->options.config.framing.kind == SP_FRAMING_RAW)
        answer_bad_argument(in, "length", in->parts[4]);
    else
        sn_io_request(&in->calls->sessions, in->client, in->caller, pool, in->parts[1], data, &want,
                      timeout_ns);
    return true;
}

/* ---- calls for a lease ---- */

/* The caller's lease that no call is using. False: this is no lease. *session is NULL where the call was
 * answered. */
static bool get_lease(const struct incoming *in, struct sn_session **session)
{
    struct sn_sessions *sessions = &in->calls->sessions;
    uint64_t number;

    if (!sn_lease_number(sessions, in->parts[1], &number))
        return false;
    *session = sn_session_by_number(sessions, number);
    if (!*session || !sn_session_has_connection(*session))
        answer_status(in, SP_CLOSED);
    else if (!sn_slice_equals((*session)->owner->pid, in->caller->pid))
        answer_status(in, SP_NOT_OWNER);
    else if ((*session)->state != SN_SESSION_HELD)
        answer_status(in, SP_BUSY);
    else
        return true;
    *session = NULL;
    return true;
}

enum end { CHECKIN, CHECKIN_CLEAN, DISCARD, DISCARD_AFTER_EXCEPTION };

static void end_lease(const struct incoming *in, struct sn_session *session, enum end end)
{
    struct sp_call call = sn_loop_call(in->calls->sessions.loop);
    struct sp_pool *core = &session->pool->hosted.core;
    sp_status status;

    sn_conn_disarm(session->conn, session->lease, &call);
    if (end == DISCARD || end == DISCARD_AFTER_EXCEPTION)
        status = sp_pool_discard(core, &call, &session->conn->core, session->lease,
                                 end == DISCARD ? SP_WHY_DISCARDED : SP_WHY_EXCEPTION);
    else if (session->channel && !sn_channel_is_idle(session->channel))
        status =
            sp_pool_discard(core, &call, &session->conn->core, session->lease, SP_WHY_UNANSWERED);
    else if (end == CHECKIN_CLEAN)
        status = sp_pool_checkin_clean(core, &call, &session->conn->core, session->lease, NULL);
    else
        status = sp_pool_checkin(core, &call, &session->conn->core, session->lease, NULL);
    sn_session_end(session);
    answer_status(in, status);
}

static void end_plainly(const struct incoming *in, struct sn_session *session)
{
    end_lease(in, session, sn_slice_is_atom(in->parts[0], "checkin") ? CHECKIN : DISCARD);
}

/* {checkin, Lease, clean}, {discard, Lease, exception} */
static bool end_with_word(const struct incoming *in)
{
    bool checkin = sn_slice_is_atom(in->parts[0], "checkin");
    struct sn_session *session;

    if (!sn_slice_is_atom(in->parts[2], checkin ? "clean" : "exception") ||
        !get_lease(in, &session))
        return false;
    if (session)
        end_lease(in, session, checkin ? CHECKIN_CLEAN : DISCARD_AFTER_EXCEPTION);
    return true;
}

static void send_data(const struct incoming *in, struct sn_session *session)
{
    uint64_t timeout_ns;
    struct sn_slice data;

    if (!get_timeout(in->parts[3], true, &timeout_ns))
        answer_bad_argument(in, "timeout", in->parts[3]);
    else if (!sn_value_binary(in->parts[2], &data))
        answer_bad_argument(in, "data", in->parts[2]);
    else if (session->channel)
        sn_node_calls_refuse_stream(in->calls->outbox, in->client, in->caller);
    else
        sn_io_send(session, in->client, in->caller, data,
                   timeout_ns == DEFAULT_NS ? session->pool->options.send_timeout_ns : timeout_ns);
}

static void recv_data(const struct incoming *in, struct sn_session *session)
{
    uint64_t timeout_ns;
    struct sp_want want;

    if (!get_timeout(in->parts[3], false, &timeout_ns))
        answer_bad_argument(in, "timeout", in->parts[3]);
    else if (session->channel)
        sn_node_calls_refuse_stream(in->calls->outbox, in->client, in->caller);
    else if (!get_length(in->parts[2], false, &want))
        answer_bad_argument(in, "length", in->parts[2]);
    else
        sn_io_recv(session, in->client, in->caller, &want, timeout_ns);
}

static void info(const struct incoming *in, struct sn_session *session)
{
    sn_info_all(session, in->client, in->caller);
}

static void peername(const struct incoming *in, struct sn_session *session)
{
    sn_info_address(session, in->client, in->caller, true);
}

static void sockname(const struct incoming *in, struct sn_session *session)
{
    sn_info_address(session, in->client, in->caller, false);
}

static void setopts(const struct incoming *in, struct sn_session *session)
{
    sn_info_setopts(session, in->client, in->caller, in->parts[2]);
}

/* The heir must be of a connected node: another could not be watched. */
static bool give_away(const struct incoming *in)
{
    struct sn_calls *calls = in->calls;
    struct sn_slice pid = in->parts[2], node;
    struct sn_client *client;
    struct sn_writer reply;
    struct sn_session *session;

    if (!sn_slice_is_pid(pid) || !get_lease(in, &session))
        return false;
    if (!session)
        return true;
    node = sn_slice_pid_node(pid);
    client = sn_calls_client(calls, node);
    if (client) {
        answer_status(in, sn_session_give_away(session, client, pid) ? SP_OK : SP_NO_MEMORY);
    } else if (sn_slice_is_atom(node, calls->outbox->us->name)) {
        reply = sn_outbox_begin_reply(calls->outbox, in->caller);
        sn_put_error(&reply, (struct sn_reason){.word = "noproc"});
        sn_answer_end(calls->outbox, in->client, in->caller, &reply);
    } else {
        sn_answer_error_with(calls->outbox, in->client, in->caller, "nodedown", node);
    }
    return true;
}

static bool timeouts(const struct incoming *in)
{
    return sn_info_timeouts(&in->calls->sessions, in->calls->pools, in->client, in->caller,
                            in->parts[1]);
}

/* ---- calls of a node's functions ---- */

static bool call(const struct incoming *in)
{
    return sn_node_calls_call(&in->calls->sessions, in->calls->pools, in->client, in->caller,
                              in->request);
}

static bool send_to(const struct incoming *in)
{
    return sn_node_calls_send(&in->calls->sessions, in->calls->pools, in->client, in->caller,
                              in->request);
}

/* ---- all ---- */

static const struct row {
    const char *name;
    int arity;
    int passed_on; /* the part that is not looked at, or 0 */
    /* False where the arguments are not of its kind. */
    bool (*take)(const struct incoming *in);
    /* Instead, where the first argument is a lease: that no call is using, of the caller's. */
    void (*use)(const struct incoming *in, struct sn_session *session);
} requests[] = {
    {"request", 6, 0, request, NULL},
    {"checkout", 4, 0, checkout, NULL},
    {"checkin", 2, 0, NULL, end_plainly},
    {"send", 4, 0, NULL, send_data},
    {"checkin", 3, 0, end_with_word, NULL},
    {"recv", 4, 0, NULL, recv_data},
    {"stats", 2, 0, figures, NULL},
    {"histograms", 2, 0, figures, NULL},
    {"discard", 2, 0, NULL, end_plainly},
    {"discard", 3, 0, end_with_word, NULL},
    {"info", 2, 0, NULL, info},
    {"peername", 2, 0, NULL, peername},
    {"sockname", 2, 0, NULL, sockname},
    {"setopts", 3, 0, NULL, setopts},
    {"give_away", 3, 0, give_away, NULL},
    {"stop_pool", 2, 0, stop_pool, NULL},
    {"start_pool", 3, 0, start_pool, NULL},
    {"restart_pool", 3, 0, start_pool, NULL},
    {"update", 3, 0, update, NULL},
    {"await_ready", 5, 0, await_ready, NULL},
    {"call", 7, 5, call, NULL},
    {"send_to", 6, 4, send_to, NULL},
    {"timeouts", 2, 0, timeouts, NULL},
};

static const struct row *row_of(const struct sn_request *request)
{
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
        if (request->arity == requests[i].arity &&
            sn_slice_is_atom(request->parts[0], requests[i].name))
            return &requests[i];
    return NULL;
}

/* Its parts are gone over more than once. */
static bool is_too_much(const struct sn_request *request, const struct row *row)
{
    uint64_t passed_on = row && row->passed_on ? request->terms[row->passed_on] : 0;

    return request->all_terms - passed_on > SN_REQUEST_TERMS_MAX;
}

static bool take(const struct incoming *in, const struct row *row)
{
    struct sn_session *session;

    if (row->take)
        return row->take(in);
    if (!get_lease(in, &session))
        return false;
    if (session)
        row->use(in, session);
    return true;
}

void sn_calls_take(struct sn_calls *calls, struct sn_client *client, const struct sn_caller *caller,
                   const struct sn_request *request)
{
    struct incoming in = {calls, client, caller, request, request->parts};
    const struct row *row = row_of(request);

    if (is_too_much(request, row))
        answer_status(&in, SP_TOO_BIG);
    else if (sn_slice_is_atom(request->term, "which_pools"))
        all_pools(&in, put_name);
    else if (sn_slice_is_atom(request->term, "stats"))
        all_pools(&in, sn_pool_put_stats);
    else if (!row || !take(&in, row))
        sn_answer_error_with(calls->outbox, client, caller, "bad_request", request->term);
}

/* {cancel, Id} or {cancel, Lease} */
void sn_calls_take_cast(struct sn_calls *calls, const struct sn_request *request)
{
    const struct sn_slice *parts = request->parts;
    struct sn_session *session = NULL;
    uint64_t number;

    if (request->arity != 2 || request->all_terms > SN_REQUEST_TERMS_MAX ||
        !sn_slice_is_atom(parts[0], "cancel"))
        return;
    if (sn_slice_is_reference(parts[1]))
        session = sn_session_by_id(&calls->sessions, parts[1]);
    else if (sn_lease_number(&calls->sessions, parts[1], &number))
        session = sn_session_by_number(&calls->sessions, number);
    if (session)
        sn_session_drop(session);
}

/* ---- connected nodes ---- */

void sn_calls_client_up(struct sn_calls *calls, struct sn_client *client)
{
    sp_list_push_newest(&calls->clients, &client->in_clients);
}

void sn_calls_client_down(struct sn_calls *calls, struct sn_client *client)
{
    sp_list_remove(&client->in_clients);
    sn_sessions_client_down(&calls->sessions, client);
}

struct sn_client *sn_calls_client(struct sn_calls *calls, struct sn_slice node)
{
    struct sp_list *clients = &calls->clients;

    for (struct sp_list_node *at = clients->head.next; at != &clients->head; at = at->next) {
        struct sn_client *client = SP_CONTAINER(at, struct sn_client, in_clients);

        if (sn_slice_is_atom(node, client->name))
            return client;
    }
    return NULL;
}
