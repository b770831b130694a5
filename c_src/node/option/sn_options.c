#include "sn_options.h"

#include "core/dist/sp_node.h"
#include "core/pool/sp_piped.h"
#include "core/tls/sp_tls.h"

#include <arpa/inet.h>
#include <limits.h>
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

SN_CHECK(validate)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX];

    if (sn_slice_is_atom(value, "always")) {
        parsed->number = 0;
        return SN_RIGHT;
    }
    if (sn_slice_is_atom(value, "never")) {
        parsed->number = SP_NEVER;
        return SN_RIGHT;
    }
    if (sn_slice_tuple(value, parts) != 2 || !sn_slice_is_atom(parts[0], "after"))
        return SN_WRONG;
    return sn_check_number(option, parts[1], memory, parsed);
}

SN_CHECK(backoff)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX];
    struct sn_parsed most = {0};

    if (sn_slice_tuple(value, parts) != 2 ||
        sn_check_number(option, parts[0], memory, parsed) != SN_RIGHT ||
        sn_check_number(option, parts[1], memory, &most) != SN_RIGHT ||
        parsed->number > most.number)
        return SN_WRONG;
    parsed->other = most.number;
    return SN_RIGHT;
}

/* Of one number, the last quarter before it. */
SN_CHECK(lifetime)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX];

    if (sn_slice_tuple(value, parts) == 2)
        return sn_check_backoff(option, value, memory, parsed);
    if (sn_check_number(option, value, memory, parsed) != SN_RIGHT)
        return SN_WRONG;
    parsed->other = parsed->number;
    parsed->number -= parsed->number / SP_MS / 4 * SP_MS;
    return SN_RIGHT;
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
static void drop_unused(struct sn_given *given)
{
    for (unsigned transport = SN_TCP; transport <= SN_NODE; transport++)
        if (sn_slice_is_atom(given_or_default(given, TRANSPORT), ROW[TRANSPORT].words[transport]))
            for (int row = 0; row < ROWS; row++)
                if (ROW[row].refused & 1u << transport && is_absent(given, row))
                    given->values[row] = (struct sn_slice){0};
}

/* It need not be given. */
static bool is_framing_of_nodes(const struct sp_framing *framing)
{
    const struct sp_framing four = sp_framing_header(4);

    return framing->kind == SP_FRAMING_RAW || sp_framing_equal(framing, &four);
}

static bool check_together(const struct sn_given *given, const struct sn_parsed *parsed,
                           struct sn_bad_option *bad)
{
    unsigned transport = 1u << parsed[TRANSPORT].number;
    uint64_t size = parsed[SIZE].number + parsed[MAX_OVERFLOW].number;

    for (int row = 0; row < ROWS; row++)
        if (ROW[row].required & transport && is_absent(given, row))
            return wrong(row, given_or_default(given, row), bad);
    for (int row = 0; row < ROWS; row++)
        if (ROW[row].refused & transport && given->values[row].data)
            return wrong(row, given->values[row], bad);
    if (size < 1 || size > (uint64_t)ROW[SIZE].max)
        return wrong(SIZE, given_or_default(given, SIZE), bad);
    if (!is_absent(given, MIN_SIZE) && parsed[MIN_SIZE].number > parsed[SIZE].number)
        return wrong(MIN_SIZE, given->values[MIN_SIZE], bad);
    /* Each connection may be a pipe. */
    if (parsed[PIPELINE].number > 1 && size > SP_PIPES_MAX)
        return wrong(PIPELINE, given->values[PIPELINE], bad);
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

static void fill_ages(struct sp_config *config, const struct sn_given *given,
                      const struct sn_parsed *parsed)
{
    config->overflow_ttl_ns = parsed[OVERFLOW_TTL].number;
    config->min_size = (uint32_t)parsed[is_absent(given, MIN_SIZE) ? SIZE : MIN_SIZE].number;
    config->idle_timeout_ns = parsed[IDLE_TIMEOUT].number;
    config->lifetime_min_ns = parsed[MAX_LIFETIME].number;
    config->lifetime_max_ns =
        parsed[MAX_LIFETIME].number == SP_NEVER ? SP_NEVER : parsed[MAX_LIFETIME].other;
    config->max_uses = parsed[MAX_USES].number;
}

static void fill(struct sn_options *options, const struct sn_given *given,
                 const struct sn_parsed *parsed)
{
    static const struct sp_transport *const transports[] = {&sp_transport_tcp, &sp_transport_tls,
                                                            &sp_transport_unix, &sp_transport_node};
    struct sp_config *config = &options->config;

    options->transport = (enum sn_transport)parsed[TRANSPORT].number;
    options->hosts = parsed[HOST].data;
    options->host_count = parsed[HOST].len;
    options->port = (uint16_t)parsed[PORT].number;
    options->path = parsed[PATH].data;
    options->checkout_timeout_ns = parsed[CHECKOUT_TIMEOUT].number;
    options->connect_timeout_ns = parsed[CONNECT_TIMEOUT].number;
    options->send_timeout_ns = parsed[SEND_TIMEOUT].number;
    config->transport = transports[options->transport];
    config->size = (uint32_t)parsed[SIZE].number;
    config->max_overflow = (uint32_t)parsed[MAX_OVERFLOW].number;
    fill_ages(config, given, parsed);
    config->validate_after_ns = parsed[VALIDATE].number;
    config->max_hold_ns = parsed[MAX_HOLD].number;
    config->max_waiting = parsed[MAX_WAITING].number;
    config->backoff_min_ns = parsed[BACKOFF].number;
    config->backoff_max_ns = parsed[BACKOFF].other;
    config->connect_parallelism = (uint32_t)parsed[CONNECT_PARALLELISM].number;
    config->pipeline = (uint32_t)parsed[PIPELINE].number;
    config->pipeline_bytes = parsed[PIPELINE_BYTES].number;
    config->pipeline_stall_ns = parsed[PIPELINE_STALL].number;
    config->recv_limit_bytes = parsed[RECV_LIMIT].number;
    config->strategy = parsed[STRATEGY].number == STRATEGY_LIFO ? SP_LIFO : SP_FIFO;
    config->framing = *(const struct sp_framing *)parsed[PACKET].data;
    config->sockopts.nodelay = parsed[NODELAY].number == NODELAY_TRUE;
    config->sockopts.keepalive = parsed[KEEPALIVE].number == KEEPALIVE_TRUE;
    config->sockopts.sndbuf_bytes = (int)parsed[SNDBUF].number;
    config->sockopts.recbuf_bytes = (int)parsed[RECBUF].number;
    if (options->transport == SN_NODE) {
        config->framing = sp_framing_header(4);
        options->max_inflight = parsed[MAX_INFLIGHT].number;
        if (options->has_tls)
            config->transport = &sp_transport_node_tls;
    }
    if (parsed[BIND].data)
        set_address(&config->sockopts.bind, (sa_family_t)parsed[BIND].number, parsed[BIND].data, 0);
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

static enum sn_verdict parse(struct sn_slice name, struct sn_slice terms,
                             struct sn_options *options, struct sn_bad_option *bad)
{
    static const struct sn_atom opts = SN_ATOM("opts"), not_a_map = SN_ATOM("not_a_map"),
                                too_long = SN_ATOM("too_long"),
                                not_a_list = SN_ATOM("not_a_list_of_options");
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
    fill(options, &given, parsed);
    return options->node ? set_node_host(options) : SN_RIGHT;
}

/* What was meant as a cookie, or has a password in it, must not end up in a log. */
static void hide(struct sn_bad_option *bad)
{
    static const struct sn_atom not_a_cookie = SN_ATOM("not_a_cookie"),
                                not_a_start = SN_ATOM("not_a_start_function");

    if (sn_slice_equals(bad->key, sn_option_key(&ROW[COOKIE])))
        bad->value = sn_atom_slice(&not_a_cookie);
    else if (sn_slice_equals(bad->key, sn_option_key(&ROW[WORKER])))
        bad->value = sn_atom_slice(&not_a_start);
    else if ((sn_slice_equals(bad->key, sn_option_key(&ROW[INIT])) ||
              sn_slice_equals(bad->key, sn_option_key(&ROW[VALIDATE]))) &&
             sn_kind_of(bad->value.data[0]) == SN_KIND_TUPLE &&
             sn_head_of(bad->value.data).count > 2)
        bad->value = sn_atom_slice(&sn_not_a_fun); /* {Module, Function, ExtraArgs} */
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
