#include "sn_attempt.h"

#include "core/pool/sp_lease.h"
#include "core/pool/sp_times.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Between two looks at whether a server has room. */
#define FIRST_PAUSE_NS SP_MS
#define LONGEST_PAUSE_NS (32 * SP_MS)

enum progress { FAILED, PENDING, DONE };

static void go_on(struct sn_attempt *attempt);

static struct sp_call call_of(const struct sn_attempt *attempt)
{
    return sn_loop_call(attempt->hosted->loop);
}

static void addresses_free(struct sn_attempt *attempt)
{
    free(attempt->addresses);
    attempt->addresses = NULL;
    attempt->address_count = attempt->next_address = 0;
}

static void drop_port(struct sn_attempt *attempt)
{
    if (attempt->port)
        sn_epmd_drop(attempt->port);
    attempt->port = NULL;
}

static void attempt_free(struct sn_attempt *attempt)
{
    sn_loop_unlimit(attempt->hosted->loop, &attempt->limit);
    sn_lookup_waiter_leave(&attempt->waiter);
    drop_port(attempt);
    addresses_free(attempt);
    sp_list_remove(&attempt->node);
    sn_conn_unref(attempt->conn);
    free(attempt);
}

static enum sp_failure failure_of(struct sn_reason reason)
{
    static const struct {
        const char *word;
        enum sp_failure failure;
    } FAILURES[] = {{"econnrefused", SP_FAILURE_REFUSED}, {"timeout", SP_FAILURE_TIMEOUT},
                    {"etimedout", SP_FAILURE_TIMEOUT},    {"eagain", SP_FAILURE_TIMEOUT},
                    {"nxdomain", SP_FAILURE_DNS},         {"closed", SP_FAILURE_OTHER}};

    if (reason.kind)
        return strcmp(reason.kind, "tls") == 0 ? SP_FAILURE_TLS : SP_FAILURE_OTHER;
    for (size_t i = 0; reason.word && i < sizeof FAILURES / sizeof *FAILURES; i++)
        if (strcmp(reason.word, FAILURES[i].word) == 0)
            return FAILURES[i].failure;
    return SP_FAILURE_OTHER;
}

static void give_back(struct sn_attempt *attempt, enum sp_failure why)
{
    struct sp_call call = call_of(attempt);

    sn_conn_disarm(attempt->conn, attempt->lease, &call);
    (void)sp_pool_fail_attempt(&attempt->hosted->core, &call, &attempt->conn->core, attempt->lease,
                               why);
}

void sn_attempt_abort(struct sn_attempt *attempt)
{
    give_back(attempt, SP_FAILURE_OTHER);
    attempt_free(attempt);
}

/* The reason first: whoever sees that the capacity is back finds it. */
static void end(struct sn_attempt *attempt, struct sn_reason reason)
{
    attempt->ended(attempt, reason);
    give_back(attempt, failure_of(reason));
    attempt_free(attempt);
}

static int telling(struct sn_reason reason)
{
    static const char *const untelling[] = {"enetunreach",   "ehostunreach", "enetdown",
                                            "eaddrnotavail", "eafnosupport", "einval",
                                            "nxdomain"};

    if (!reason.word)
        return -1;
    if (reason.kind)
        return 2;
    for (size_t i = 0; i < sizeof untelling / sizeof *untelling; i++)
        if (strcmp(reason.word, untelling[i]) == 0)
            return 0;
    return 1;
}

/* Who answered and refused says more than an address where nobody listens, and that more than one to
 * which there is no way from here, or a name that stands for none. */
static void note(struct sn_attempt *attempt, struct sn_reason reason)
{
    if (telling(reason) < telling(attempt->reason))
        return;
    attempt->reason = reason;
    attempt->reason_at = attempt->next_address > 0
                             ? attempt->addresses[attempt->next_address - 1].storage
                             : (struct sockaddr_storage){.ss_family = AF_UNSPEC};
}

static void fail(struct sn_attempt *attempt, sp_status status)
{
    note(attempt, sn_reason_of(status));
}

static void not_found(struct sn_attempt *attempt, bool for_want_of_memory)
{
    note(attempt, (struct sn_reason){.word = for_want_of_memory ? "enomem" : "nxdomain"});
}

/* The first of so many that are left has its part of the time, so that one which does not answer leaves
 * time for those after it. */
static uint64_t share(uint64_t deadline_ns, uint64_t now_ns, size_t left)
{
    return deadline_ns > now_ns ? now_ns + (deadline_ns - now_ns) / left : now_ns;
}

/* ---- one address ---- */

static void on_ready(void *arg)
{
    go_on(arg);
}

/* Where the transport would not go on: waits for the descriptor. */
static enum progress wait_for(struct sn_attempt *attempt, sp_status status)
{
    if (sp_wants(status)) {
        status = sn_conn_arm(attempt->conn, attempt->lease, status, on_ready, attempt);
        if (status == SP_OK)
            return PENDING;
    }
    fail(attempt, status);
    return FAILED;
}

static enum progress shake_hands(struct sn_attempt *attempt, const struct sp_call *call)
{
    enum progress progress = DONE;
    sp_status status;

    attempt->step = "handshake";
    if (!sp_conn_enter(&attempt->conn->core, attempt->lease, call)) {
        fail(attempt, SP_CLOSED);
        return FAILED;
    }
    status = sp_control_handshake(&attempt->conn->core);
    if (status != SP_OK)
        progress = wait_for(attempt, status);
    sp_conn_leave(&attempt->conn->core, call);
    return progress;
}

static enum progress await_writable(struct sn_attempt *attempt, const struct sp_call *call)
{
    enum progress progress;

    if (!sp_conn_enter(&attempt->conn->core, attempt->lease, call)) {
        fail(attempt, SP_CLOSED);
        return FAILED;
    }
    progress = wait_for(attempt, SP_WANT_WRITE);
    sp_conn_leave(&attempt->conn->core, call);
    return progress;
}

/* The connection to this address, as far as it goes. */
static enum progress advance(struct sn_attempt *attempt)
{
    struct sp_call call = call_of(attempt);
    struct sp_conn *conn = &attempt->conn->core;
    sp_status status;

    sn_conn_disarm(attempt->conn, attempt->lease, &call);
    status = sp_control_opened(conn, &attempt->lease, &call);
    if (status == SP_HANDSHAKE) {
        enum progress progress = shake_hands(attempt, &call);

        if (progress != DONE)
            return progress;
        status = sp_control_opened(conn, &attempt->lease, &call);
    }
    if (status == SP_WANT_WRITE)
        return await_writable(attempt, &call);
    if (status == SP_OK)
        return DONE;
    fail(attempt, status);
    return FAILED;
}

static bool set_limit(struct sn_attempt *attempt, uint64_t at_ns)
{
    if (sn_loop_limit(attempt->hosted->loop, &attempt->limit, at_ns) == SP_OK)
        return true;
    fail(attempt, SP_NO_MEMORY);
    return false;
}

/* As many clients as it keeps have connected to a Unix socket, and its server has not accepted them yet.
 * Nothing tells when there is room again. */
static enum progress await_room(struct sn_attempt *attempt, uint64_t now_ns)
{
    attempt->step = "backlog";
    attempt->connecting = false;
    attempt->pausing = set_limit(attempt, now_ns + attempt->pause_ns);
    if (attempt->pause_ns < LONGEST_PAUSE_NS)
        attempt->pause_ns *= 2;
    return attempt->pausing ? PENDING : FAILED;
}

static enum progress begin(struct sn_attempt *attempt, const struct sp_addr *address)
{
    struct sp_call call = call_of(attempt);
    sp_status status = sp_control_begin(&attempt->hosted->core, &call, &attempt->conn->core,
                                        &attempt->lease, SN_CORE_OWNER, address);

    attempt->step = "connect";
    if (status == SP_WANT_WRITE)
        return await_writable(attempt, &call);
    if (status == SP_OK)
        return advance(attempt);
    if (status == -EAGAIN && attempt->options->transport == SN_UNIX &&
        call.now_ns + attempt->pause_ns < attempt->address_deadline_ns)
        return await_room(attempt, call.now_ns);
    fail(attempt, status);
    return FAILED;
}

/* ---- hosts and their addresses ---- */

static void on_over(struct sn_limit *limit)
{
    struct sn_attempt *attempt = SP_CONTAINER(limit, struct sn_attempt, limit);
    struct sp_call call = call_of(attempt);

    if (attempt->pausing) {
        attempt->pausing = false;
        attempt->again = set_limit(attempt, attempt->address_deadline_ns);
        go_on(attempt);
        return;
    }
    fail(attempt, SP_TIMEOUT);
    sn_lookup_waiter_leave(&attempt->waiter);
    drop_port(attempt);
    sn_conn_disarm(attempt->conn, attempt->lease, &call);
    attempt->connecting = false;
    go_on(attempt);
}

static void set_port(struct sockaddr_storage *address, uint16_t port)
{
    if (address->ss_family == AF_INET)
        ((struct sockaddr_in *)address)->sin_port = htons(port);
    else
        ((struct sockaddr_in6 *)address)->sin6_port = htons(port);
}

/* Those of this family, after those that there are. */
static void take_found(struct sn_attempt *attempt, const struct addrinfo *found, int family)
{
    const char *host = attempt->addresses[0].host;

    for (; found; found = found->ai_next) {
        struct sp_addr *address = &attempt->addresses[attempt->address_count];

        if (found->ai_family != family)
            continue;
        *address = (struct sp_addr){.len = found->ai_addrlen, .host = host};
        memcpy(&address->storage, found->ai_addr, found->ai_addrlen);
        set_port(&address->storage, attempt->options->port);
        attempt->address_count++;
    }
}

/* IPv4 first, as an Erlang node tries them. */
static void on_found(struct sn_lookup_waiter *waiter, int status, const struct addrinfo *found)
{
    struct sn_attempt *attempt = SP_CONTAINER(waiter, struct sn_attempt, waiter);
    struct sp_addr *addresses;
    size_t count = 1;

    for (const struct addrinfo *at = found; at; at = at->ai_next)
        count++;
    addresses = realloc(attempt->addresses, count * sizeof *addresses);
    if (addresses) {
        attempt->addresses = addresses;
        take_found(attempt, found, AF_INET);
        take_found(attempt, found, AF_INET6);
    } else {
        fail(attempt, SP_NO_MEMORY);
    }
    if (attempt->address_count == 0)
        not_found(attempt, status == UV_EAI_MEMORY);
    else
        sp_times_note(&attempt->hosted->core, SP_TIME_RESOLVE,
                      sn_loop_now_ns(attempt->hosted->loop) - attempt->asked_ns);
    go_on(attempt);
}

/* Half of the host's time at most: the other half is for its addresses. */
static enum progress look_up(struct sn_attempt *attempt, const char *name, uint64_t now_ns)
{
    int status;

    attempt->step = "look_up";
    attempt->asked_ns = now_ns;
    if (!set_limit(attempt, share(attempt->host_deadline_ns, now_ns, 2)))
        return FAILED;
    attempt->waiter.answer = on_found;
    status = sn_lookups_ask(attempt->lookups, name, &attempt->waiter);
    if (status == 0)
        return PENDING;
    not_found(attempt, status == UV_ENOMEM);
    return FAILED;
}

/* One address of the node's host may have an epmd and another none. */
static void on_port(void *arg, uint16_t port)
{
    struct sn_attempt *attempt = arg;

    attempt->port = NULL;
    if (!port && !attempt->reached)
        note(attempt, (struct sn_reason){.kind = "no_such_node", .word = attempt->options->node});
    else if (!attempt->reached)
        attempt->reason = (struct sn_reason){0};
    attempt->reached = attempt->reached || port;
    if (port) {
        set_port(&attempt->addresses[attempt->next_address - 1].storage, port);
        attempt->again = set_limit(attempt, attempt->address_deadline_ns);
    }
    go_on(attempt);
}

/* Half of the address's time at most: the other half is for the connect. */
static enum progress ask_port(struct sn_attempt *attempt, const struct sp_addr *address,
                              uint64_t now_ns)
{
    struct sockaddr_storage epmd = address->storage;

    attempt->step = "epmd";
    if (!set_limit(attempt, share(attempt->address_deadline_ns, now_ns, 2)))
        return FAILED;
    set_port(&epmd, attempt->epmd_port);
    attempt->port =
        sn_epmd_ask(attempt->hosted->loop->uv, &epmd, attempt->target.name, on_port, attempt);
    if (attempt->port)
        return PENDING;
    fail(attempt, SP_NO_MEMORY);
    return FAILED;
}

static enum progress try_address(struct sn_attempt *attempt)
{
    uint64_t now_ns = sn_loop_now_ns(attempt->hosted->loop);
    size_t left = attempt->address_count - attempt->next_address;
    struct sp_addr *address = &attempt->addresses[attempt->next_address++];

    attempt->address_deadline_ns = share(attempt->host_deadline_ns, now_ns, left);
    attempt->pause_ns = FIRST_PAUSE_NS;
    if (!set_limit(attempt, attempt->address_deadline_ns))
        return FAILED;
    address->to = attempt->options->node ? &attempt->target : NULL;
    if (attempt->options->node && attempt->options->port == 0)
        return ask_port(attempt, address, now_ns);
    attempt->connecting = true;
    return begin(attempt, address);
}

static enum progress try_again(struct sn_attempt *attempt)
{
    attempt->again = false;
    attempt->connecting = true;
    return begin(attempt, &attempt->addresses[attempt->next_address - 1]);
}

static size_t host_count(const struct sn_attempt *attempt)
{
    return attempt->options->transport == SN_UNIX ? 1 : attempt->options->host_count;
}

static enum progress try_host(struct sn_attempt *attempt)
{
    size_t count = host_count(attempt), i = (attempt->turn + attempt->tried) % count;
    uint64_t now_ns = sn_loop_now_ns(attempt->hosted->loop);

    addresses_free(attempt);
    attempt->host_deadline_ns = share(attempt->deadline_ns, now_ns, count - attempt->tried);
    attempt->tried++;
    attempt->addresses = calloc(1, sizeof *attempt->addresses);
    if (!attempt->addresses) {
        fail(attempt, SP_NO_MEMORY);
        return FAILED;
    }
    if (sn_options_address(attempt->options, i, &attempt->addresses[0])) {
        attempt->address_count = 1;
        return try_address(attempt);
    }
    attempt->addresses[0].host = attempt->options->hosts[i].text;
    return look_up(attempt, attempt->options->hosts[i].text, now_ns);
}

/* ---- all of it ---- */

static void succeed(struct sn_attempt *attempt)
{
    struct sp_call call = call_of(attempt);
    sp_status status =
        sp_control_ready(&attempt->hosted->core, &call, &attempt->conn->core, attempt->lease);

    end(attempt,
        status == SP_OK ? (struct sn_reason){0} : sn_reason_of_conn(&attempt->conn->core, status));
}

static void go_on(struct sn_attempt *attempt)
{
    enum progress progress = attempt->connecting ? advance(attempt) : FAILED;

    while (progress == FAILED) {
        attempt->connecting = false;
        if (attempt->again) {
            progress = try_again(attempt);
        } else if (attempt->next_address < attempt->address_count) {
            progress = try_address(attempt);
        } else if (attempt->tried < host_count(attempt)) {
            progress = try_host(attempt);
        } else {
            end(attempt, attempt->reason);
            return;
        }
    }
    if (progress == DONE)
        succeed(attempt);
}

void sn_attempt_refuse(struct sn_hosted_pool *hosted, const struct sp_attempt *made)
{
    struct sp_call call = sn_loop_call(hosted->loop);

    (void)sp_pool_abandon(&hosted->core, &call, made->conn, made->lease);
    sn_conn_unref(sn_conn_of(made->conn));
}

bool sn_attempt_start(struct sn_hosted_pool *hosted, struct sn_lookups *lookups,
                      const struct sn_options *options, const struct sn_here *here,
                      const struct sp_attempt *made, size_t turn, struct sp_list *list,
                      void (*ended)(struct sn_attempt *attempt, struct sn_reason reason))
{
    struct sn_attempt *attempt = calloc(1, sizeof *attempt);
    struct sp_call call = sn_loop_call(hosted->loop);

    if (!attempt) {
        sn_attempt_refuse(hosted, made);
        return false;
    }
    attempt->hosted = hosted;
    attempt->lookups = lookups;
    attempt->options = options;
    attempt->target = (struct sp_node_target){options->node, here->host,
                                              options->cookie ? options->cookie : here->cookie};
    attempt->epmd_port = here->epmd_port;
    attempt->ended = ended;
    attempt->conn = sn_conn_of(made->conn);
    attempt->lease = made->lease;
    attempt->limit.over = on_over;
    attempt->turn = turn;
    attempt->deadline_ns = call.now_ns + options->connect_timeout_ns;
    sp_list_push_newest(list, &attempt->node);
    go_on(attempt);
    return true;
}
