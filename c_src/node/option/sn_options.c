#include "sn_options.h"

#include "core/dist/sp_node.h"
#include "core/pool/sp_piped.h"
#include "core/tls/sp_tls.h"

#include <arpa/inet.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

/* Linux has room for 107 bytes and a 0, others for less. */
#define SUN_PATH_BYTES (sizeof((struct sockaddr_un){0}.sun_path) - 1)

#include "pool_rows.h" /* made by the build */
_Static_assert(ROWS <= SN_OPTION_ROWS_MAX, "all rows have room");
_Static_assert((int)TRANSPORT_TCP == SN_TCP && (int)TRANSPORT_TLS == SN_TLS &&
                   (int)TRANSPORT_UNIX == SN_UNIX && (int)TRANSPORT_NODE == SN_NODE,
               "a transport's number is that of its word");

/* ---- checks of one option ---- */

SN_CHECK(pool_name)
{
    (void)option;
    (void)memory;
    (void)parsed;
    return sn_slice_is_any_atom(value) && !sn_slice_is_atom(value, "undefined") ? SN_RIGHT
                                                                                : SN_WRONG;
}

SN_CHECK(ip_address)
{
    sa_family_t family;
    uint8_t bytes[16];

    (void)option;
    if (!sn_options_ip(value, &family, bytes))
        return SN_WRONG;
    parsed->number = family;
    parsed->data = sn_memory_get(memory, 1, sizeof bytes);
    if (!parsed->data)
        return SN_NO_MEMORY;
    memcpy(parsed->data, bytes, sizeof bytes);
    return SN_RIGHT;
}

SN_CHECK(path)
{
    enum sn_verdict verdict = sn_check_text(option, value, memory, parsed);

    return verdict == SN_RIGHT && parsed->len > SUN_PATH_BYTES ? SN_WRONG : verdict;
}

/* Only what it is: what is in it, sn_options_parse_tls() checks. */
SN_CHECK(tls)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX], item;
    struct sn_items items;

    (void)option;
    (void)memory;
    (void)parsed;
    if (sn_kind_of(value.data[0]) == SN_KIND_MAP)
        return SN_RIGHT;
    if (!sn_items_begin(value, &items))
        return SN_WRONG;
    while (sn_items_next(&items, &item))
        if (sn_slice_tuple(item, parts) != 2)
            return SN_WRONG;
    return items.is_proper ? SN_RIGHT : SN_WRONG;
}

const struct sn_option *sn_options_table(size_t *count)
{
    *count = ROWS;
    return ROW;
}

/* ---- several options together ---- */

static bool wrong(int row, struct sn_slice value, struct sn_bad_option *bad)
{
    bad->key = sn_option_key(&ROW[row]);
    bad->value = value;
    return false;
}

static struct sn_slice given_or_default(const struct sn_given *given, int row)
{
    return given->values[row].data ? given->values[row] : sn_option_default(&ROW[row]);
}

static bool is_absent(const struct sn_given *given, int row)
{
    return sn_slice_is_atom(given_or_default(given, row), "undefined");
}

/* What the transport has no use for may be given as `undefined', which is none of its values otherwise. */
static void drop_refused(struct sn_given *given, unsigned transport)
{
    for (int row = 0; row < ROWS; row++)
        if (ROW[row].refused & 1u << transport && is_absent(given, row))
            given->values[row] = (struct sn_slice){0};
}

static void drop_unused(struct sn_given *given)
{
    for (unsigned transport = SN_TCP; transport <= SN_NODE; transport++)
        if (sn_slice_is_atom(given_or_default(given, TRANSPORT), ROW[TRANSPORT].words[transport]))
            drop_refused(given, transport);
}

/* It need not be given. */
static bool is_framing_of_nodes(const struct sp_framing *framing)
{
    const struct sp_framing four = sp_framing_header(4);

    return framing->kind == SP_FRAMING_RAW || sp_framing_equal(framing, &four);
}

/* What a pool has already, or its default, may be as much to blame as what is given. */
static bool wrong_number(int row, uint32_t number, struct sn_bad_option *bad)
{
    bool is_small = number <= UINT8_MAX;
    uint32_t bytes = htonl(number);

    bad->shown[0] = is_small ? SN_TAG_SMALL_INTEGER : SN_TAG_INTEGER;
    if (is_small)
        bad->shown[1] = (uint8_t)number;
    else
        memcpy(bad->shown + 1, &bytes, sizeof bytes);
    return wrong(row, (struct sn_slice){bad->shown, is_small ? 2 : 1 + sizeof bytes}, bad);
}

static bool check_sizes(uint32_t size, uint32_t max_overflow, uint32_t pipeline,
                        struct sn_bad_option *bad)
{
    uint64_t limit = (uint64_t)size + max_overflow;

    if (limit < 1 || limit > (uint64_t)ROW[SIZE].max)
        return wrong_number(SIZE, size, bad);
    /* Each connection may be a pipe. */
    if (pipeline > 1 && limit > SP_PIPES_MAX)
        return wrong_number(PIPELINE, pipeline, bad);
    return true;
}

/* What is given; a smaller size lowers what was given before. */
static bool check_min_size(const struct sn_given *given, const struct sn_parsed *parsed,
                           uint32_t size, struct sn_bad_option *bad)
{
    if (!given->values[MIN_SIZE].data || parsed[MIN_SIZE].also || parsed[MIN_SIZE].number <= size)
        return true;
    return wrong(MIN_SIZE, given->values[MIN_SIZE], bad);
}

static bool check_refused(const struct sn_given *given, unsigned transport,
                          struct sn_bad_option *bad)
{
    for (int row = 0; row < ROWS; row++)
        if (ROW[row].refused & transport && given->values[row].data)
            return wrong(row, given->values[row], bad);
    return true;
}

/* Elsewhere a socket has no such option. */
static bool check_user_timeout(const struct sn_given *given, struct sn_bad_option *bad)
{
#ifndef TCP_USER_TIMEOUT
    if (!is_absent(given, USER_TIMEOUT))
        return wrong(USER_TIMEOUT, given->values[USER_TIMEOUT], bad);
#endif
    (void)given;
    (void)bad;
    return true;
}

static bool check_together(const struct sn_given *given, const struct sn_parsed *parsed,
                           struct sn_bad_option *bad)
{
    unsigned transport = 1u << parsed[TRANSPORT].number;

    for (int row = 0; row < ROWS; row++)
        if (ROW[row].required & transport && is_absent(given, row))
            return wrong(row, given_or_default(given, row), bad);
    if (!check_refused(given, transport, bad) || !check_user_timeout(given, bad) ||
        !check_sizes((uint32_t)parsed[SIZE].number, (uint32_t)parsed[MAX_OVERFLOW].number,
                     (uint32_t)parsed[PIPELINE].number, bad) ||
        !check_min_size(given, parsed, (uint32_t)parsed[SIZE].number, bad))
        return false;
    if (transport == 1u << SN_NODE && !is_framing_of_nodes(parsed[PACKET].data))
        return wrong(PACKET, given_or_default(given, PACKET), bad);
    return true;
}

static bool same_name(const struct sn_options *options, struct sn_slice value)
{
    char text[SN_ATOM_BYTES_MAX + 1];
    size_t len;

    return sn_value_atom(value, text, &len) && len == options->name_len &&
           memcmp(text, options->name, len) == 0;
}

/* ---- all ---- */

static void set_address(struct sp_addr *addr, sa_family_t family, const uint8_t *bytes,
                        uint16_t port)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&addr->storage;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&addr->storage;

    memset(addr, 0, sizeof *addr);
    addr->storage.ss_family = family;
    if (family == AF_INET) {
        v4->sin_port = htons(port);
        memcpy(&v4->sin_addr, bytes, sizeof v4->sin_addr);
        addr->len = sizeof *v4;
    } else {
        v6->sin6_port = htons(port);
        memcpy(&v6->sin6_addr, bytes, sizeof v6->sin6_addr);
        addr->len = sizeof *v6;
    }
}

/* Whether it is one of these: what comes and goes by itself. */
static bool set_age(struct sp_config *config, int row, const struct sn_parsed *parsed)
{
    switch (row) {
    case OVERFLOW_TTL:
        config->overflow_ttl_ns = parsed->number;
        return true;
    case MIN_SIZE:
        config->min_size = parsed->also ? UINT32_MAX : (uint32_t)parsed->number;
        return true;
    case IDLE_TIMEOUT:
        config->idle_timeout_ns = parsed->number;
        return true;
    case MAX_LIFETIME:
        config->lifetime_min_ns = parsed->number;
        config->lifetime_max_ns = parsed->also ? SP_NEVER : parsed->other;
        return true;
    case MAX_USES:
        config->max_uses = parsed->number;
        return true;
    case MIN_IDLE:
        config->min_idle = (uint32_t)parsed->number;
        return true;
    case GROWTH:
        config->growth = parsed->number == GROWTH_EAGER ? SP_GROWTH_EAGER : SP_GROWTH_EXPECTED;
        return true;
    default:
        return false;
    }
}

static void set_sockopt(struct sp_sockopts *sockopts, int row, const struct sn_parsed *parsed)
{
    switch (row) {
    case NODELAY:
        sockopts->nodelay = parsed->number == NODELAY_TRUE;
        break;
    case KEEPALIVE:
        sn_options_keepalive(parsed->number, sockopts);
        break;
    case USER_TIMEOUT:
        sockopts->user_timeout_ms = (unsigned)parsed->number;
        break;
    case SNDBUF:
        sockopts->sndbuf_bytes = (int)parsed->number;
        break;
    case RECBUF:
        sockopts->recbuf_bytes = (int)parsed->number;
        break;
    case BIND:
        if (parsed->data)
            set_address(&sockopts->bind, (sa_family_t)parsed->number, parsed->data, 0);
        else
            sockopts->bind = (struct sp_addr){0};
        break;
    default:
        break;
    }
}

static void set_health(struct sn_options *options, const struct sn_parsed *parsed)
{
    const struct sn_health *given = parsed->data;

    options->health = given ? *given : (struct sn_health){0};
    options->config.health_interval_ns = options->health.interval_ns;
    options->config.health_timeout_ns = options->health.timeout_ns;
}

/* One of those that may change while the pool runs; others are left alone. */
static void set(struct sn_options *options, int row, const struct sn_parsed *parsed)
{
    struct sp_config *config = &options->config;

    switch (row) {
    case SIZE:
        config->size = (uint32_t)parsed->number;
        break;
    case MAX_OVERFLOW:
        config->max_overflow = (uint32_t)parsed->number;
        break;
    case STRATEGY:
        config->strategy = parsed->number == STRATEGY_LIFO ? SP_LIFO : SP_FIFO;
        break;
    case MAX_WAITING:
        config->max_waiting = parsed->number;
        break;
    case CHECKOUT_TIMEOUT:
        options->checkout_timeout_ns = parsed->number;
        break;
    case CONNECT_TIMEOUT:
        options->connect_timeout_ns = parsed->number;
        break;
    case CONNECT_PARALLELISM:
        config->connect_parallelism = parsed->also ? 0 : (uint32_t)parsed->number;
        break;
    case SEND_TIMEOUT:
        options->send_timeout_ns = parsed->number;
        break;
    case PIPELINE_BYTES:
        config->pipeline_bytes = parsed->number;
        break;
    case PIPELINE_STALL:
        config->pipeline_stall_ns = parsed->number;
        break;
    case VALIDATE:
        config->validate_after_ns = parsed->number;
        break;
    case MAX_HOLD:
        config->max_hold_ns = parsed->number;
        break;
    case LEAK_THRESHOLD:
        config->leak_threshold_ns = parsed->number;
        break;
    case SLOW_CHECKOUT:
        options->slow_checkout_ns = parsed->number;
        break;
    case BACKOFF:
        config->backoff_min_ns = parsed->number;
        config->backoff_max_ns = parsed->other;
        break;
    case FAIL_FAST:
        config->fail_fast = parsed->number == FAIL_FAST_TRUE;
        break;
    case REPLIES: /* a node's says of what it is the reply */
        config->replies = options->transport != SN_NODE && parsed->number == REPLIES_TRUE;
        break;
    case HEALTH:
        set_health(options, parsed);
        break;
    case MAX_INFLIGHT:
        options->max_inflight = parsed->number;
        break;
    default:
        if (!set_age(config, row, parsed))
            set_sockopt(&config->sockopts, row, parsed);
    }
}

static void fill(struct sn_options *options, const struct sn_parsed *parsed)
{
    static const struct sp_transport *const transports[] = {&sp_transport_tcp, &sp_transport_tls,
                                                            &sp_transport_unix, &sp_transport_node};
    struct sp_config *config = &options->config;

    options->transport = (enum sn_transport)parsed[TRANSPORT].number;
    options->hosts = parsed[HOST].data;
    options->host_count = parsed[HOST].len;
    options->port = (uint16_t)parsed[PORT].number;
    options->path = parsed[PATH].data;
    config->transport = transports[options->transport];
    config->pipeline = (uint32_t)parsed[PIPELINE].number;
    config->recv_limit_bytes = parsed[RECV_LIMIT].number;
    config->framing = *(const struct sp_framing *)parsed[PACKET].data;
    if (options->transport == SN_NODE) {
        config->framing = sp_framing_header(4);
        if (options->has_tls)
            config->transport = &sp_transport_node_tls;
    }
    for (int row = 0; row < ROWS; row++)
        set(options, row, &parsed[row]);
}

/* Its host is where to connect to. */
static enum sn_verdict set_node_host(struct sn_options *options)
{
    const char *text = strchr(options->node, '@') + 1;
    struct sn_host *host = sn_memory_get(&options->memory, 1, sizeof *host);

    if (!host)
        return SN_NO_MEMORY;
    host->family = sn_options_family(text, host->address);
    host->text = text;
    options->hosts = host;
    options->host_count = 1;
    return SN_RIGHT;
}

static const struct sn_atom opts = SN_ATOM("opts"), not_a_map = SN_ATOM("not_a_map"),
                            too_long = SN_ATOM("too_long");

static enum sn_verdict parse(struct sn_slice name, struct sn_slice terms,
                             struct sn_options *options, struct sn_bad_option *bad)
{
    static const struct sn_atom not_a_list = SN_ATOM("not_a_list_of_options");
    struct sn_parsed parsed[ROWS] = {0};
    struct sn_given given = {0};
    enum sn_verdict verdict;
    struct sn_slice tls;

    *bad = (struct sn_bad_option){.key = sn_option_key(&ROW[NAME]), .value = name};
    if (!sn_value_atom(name, options->name, &options->name_len) ||
        sn_slice_is_atom(name, "undefined"))
        return SN_WRONG;
    *bad = (struct sn_bad_option){.key = sn_atom_slice(&opts), .value = sn_atom_slice(&not_a_map)};
    if (terms.len > SN_OPTIONS_BYTES_MAX)
        bad->value = sn_atom_slice(&too_long);
    if (terms.len > SN_OPTIONS_BYTES_MAX || !sn_option_take_map(ROW, ROWS, &given, terms, bad))
        return SN_WRONG;
    if (!given.values[NAME].data)
        given.values[NAME] = name;
    drop_unused(&given);
    verdict = sn_option_check(ROW, ROWS, &given, &options->memory, parsed, bad);
    options->cookie = parsed[COOKIE].data;
    /* A password may be in it. */
    if (verdict == SN_WRONG && sn_slice_equals(bad->key, sn_option_key(&ROW[TLS])))
        bad->value = sn_atom_slice(&not_a_list);
    if (verdict != SN_RIGHT)
        return verdict;
    tls = given_or_default(&given, TLS);
    options->has_tls = !sn_slice_is_atom(tls, "undefined") || parsed[TRANSPORT].number == SN_TLS;
    if (options->has_tls) {
        verdict = sn_options_parse_tls(tls, &options->memory, &options->tls, bad);
        if (verdict != SN_RIGHT)
            return verdict;
    }
    if (!same_name(options, given.values[NAME])) {
        (void)wrong(NAME, given.values[NAME], bad);
        return SN_WRONG;
    }
    if (!check_together(&given, parsed, bad))
        return SN_WRONG;
    options->node = parsed[NODE].data;
    fill(options, parsed);
    return options->node ? set_node_host(options) : SN_RIGHT;
}

static bool is_number(struct sn_slice value)
{
    int64_t number;

    return sn_value_integer(value, &number);
}

/* What was meant as a cookie, or has a password in it, must not end up in a log. */
static void hide(struct sn_bad_option *bad)
{
    static const struct sn_atom not_a_cookie = SN_ATOM("not_a_cookie"),
                                not_a_start = SN_ATOM("not_a_start_function"),
                                not_a_check = SN_ATOM("not_a_check");

    if (sn_slice_equals(bad->key, sn_option_key(&ROW[COOKIE])))
        bad->value = sn_atom_slice(&not_a_cookie);
    else if (sn_slice_equals(bad->key, sn_option_key(&ROW[WORKER])))
        bad->value = sn_atom_slice(&not_a_start);
    else if ((sn_slice_equals(bad->key, sn_option_key(&ROW[INIT])) ||
              sn_slice_equals(bad->key, sn_option_key(&ROW[VALIDATE]))) &&
             sn_kind_of(bad->value.data[0]) == SN_KIND_TUPLE &&
             sn_head_of(bad->value.data).count > 2)
        bad->value = sn_atom_slice(&sn_not_a_fun); /* {Module, Function, ExtraArgs} */
    else if (sn_slice_equals(bad->key, sn_option_key(&ROW[HEALTH])) &&
             !sn_slice_is_any_atom(bad->value) && !is_number(bad->value))
        bad->value = sn_atom_slice(&not_a_check);
    else if (sn_slice_equals(bad->key, sn_option_key(&ROW[HOST])))
        sn_options_hide_user(bad);
}

sp_status sn_options_parse(struct sn_slice name, struct sn_slice terms, struct sn_options *options,
                           struct sn_bad_option *bad)
{
    enum sn_verdict verdict;

    memset(options, 0, sizeof *options);
    verdict = parse(name, terms, options, bad);
    if (verdict == SN_WRONG && !bad->is_tls)
        hide(bad);
    if (verdict != SN_RIGHT)
        sn_options_free(options);
    return verdict == SN_RIGHT ? SP_OK : verdict == SN_WRONG ? SP_BAD_DATA : SP_NO_MEMORY;
}

/* ---- of a pool that runs ---- */

/* Whether all that is given may change, and may be what it is with the rest. */
static bool check_changes(const struct sn_options *options, const struct sn_given *given,
                          struct sn_bad_option *bad, bool *needs_restart)
{
    if (!check_refused(given, 1u << options->transport, bad) || !check_user_timeout(given, bad))
        return false;
    for (int row = 0; row < ROWS; row++)
        if (given->values[row].data && ROW[row].restart) {
            *needs_restart = true;
            return wrong(row, given->values[row], bad);
        }
    return true;
}

static enum sn_verdict change(struct sn_options *options, struct sn_slice terms,
                              struct sn_memory *memory, struct sn_bad_option *bad,
                              bool *needs_restart)
{
    struct sn_parsed parsed[ROWS] = {0};
    struct sn_given given = {0};
    enum sn_verdict verdict;

    *bad = (struct sn_bad_option){.key = sn_atom_slice(&opts), .value = sn_atom_slice(&not_a_map)};
    if (!sn_option_take_map(ROW, ROWS, &given, terms, bad))
        return SN_WRONG;
    drop_refused(&given, options->transport);
    verdict = sn_option_check_given(ROW, ROWS, &given, memory, parsed, bad);
    if (verdict != SN_RIGHT)
        return verdict;
    if (!check_changes(options, &given, bad, needs_restart))
        return SN_WRONG;
    for (int row = 0; row < ROWS; row++)
        if (given.values[row].data)
            set(options, row, &parsed[row]);
    return check_sizes(options->config.size, options->config.max_overflow, options->config.pipeline,
                       bad) &&
                   check_min_size(&given, parsed, options->config.size, bad)
               ? SN_RIGHT
               : SN_WRONG;
}

sp_status sn_options_change(struct sn_options *options, struct sn_slice terms,
                            struct sn_bad_option *bad, bool *needs_restart)
{
    struct sn_options changed = *options;
    struct sn_memory memory = {0};
    enum sn_verdict verdict;

    *needs_restart = false;
    if (terms.len > SN_OPTIONS_BYTES_MAX) {
        *bad =
            (struct sn_bad_option){.key = sn_atom_slice(&opts), .value = sn_atom_slice(&too_long)};
        return SP_BAD_DATA;
    }
    verdict = change(&changed, terms, &memory, bad, needs_restart);
    sn_memory_free(&memory);
    if (verdict == SN_WRONG)
        hide(bad);
    if (verdict == SN_RIGHT)
        *options = changed;
    return verdict == SN_RIGHT ? SP_OK : verdict == SN_WRONG ? SP_BAD_DATA : SP_NO_MEMORY;
}

void sn_options_free(struct sn_options *options)
{
    if (options->cookie)
        OPENSSL_cleanse(options->cookie, strlen(options->cookie));
    if (options->tls_ctx)
        sp_tls_ctx_unref(options->tls_ctx);
    sn_memory_free(&options->memory);
    memset(options, 0, sizeof *options);
}

bool sn_options_address(const struct sn_options *options, size_t i, struct sp_addr *addr)
{
    struct sockaddr_un *local = (struct sockaddr_un *)&addr->storage;

    if (options->transport == SN_UNIX) {
        memset(addr, 0, sizeof *addr);
        local->sun_family = AF_UNIX;
        strcpy(local->sun_path, options->path);
        addr->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(options->path) + 1);
        addr->host = options->path;
        return true;
    }
    if (options->hosts[i].family == AF_UNSPEC)
        return false;
    set_address(addr, options->hosts[i].family, options->hosts[i].address, options->port);
    addr->host = options->hosts[i].text;
    return true;
}
