#include "sn_settings.h"

#include "sn_scrape_listen.h"

#include "core/dist/sp_dist.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_BYTES 100
#define ATOM_BYTES_MAX 255

/* ---- errors ---- */

struct reader {
    const char *path;
    struct sn_settings *settings;
    struct sn_complaint *complaint;
};

static bool fail(struct reader *reader, const char *details, ...)
    __attribute__((format(printf, 2, 3)));

static bool fail(struct reader *reader, const char *details, ...)
{
    struct sn_complaint *complaint = reader->complaint;
    size_t size = sizeof complaint->text;
    va_list args;
    int len = snprintf(complaint->text, size, "%s: ", reader->path);

    complaint->is_passing = false;
    if (len < 0 || (size_t)len >= size)
        return false;
    va_start(args, details);
    vsnprintf(complaint->text + len, size - (size_t)len, details, args);
    va_end(args);
    for (char *at = complaint->text; *at; at++)
        if ((unsigned char)*at < ' ')
            *at = '?';
    return false;
}

/* Returns false. */
static bool fail_for_now(struct reader *reader, const char *why)
{
    (void)fail(reader, "%s", why);
    reader->complaint->is_passing = true;
    return false;
}

static bool no_memory(struct reader *reader)
{
    return fail_for_now(reader, "not enough memory");
}

/* "port: "http" is not allowed; it must be a number", with `where' before the key. */
static bool refuse(struct reader *reader, const char *where, const char *key, const json_t *value,
                   const char *allowed)
{
    char *shown = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;

    if (value)
        (void)fail(reader, "%s%s: %.*s%s is not allowed; it must be %s", where, key, SHOWN_BYTES,
                   shown ? shown : "this value", shown && strlen(shown) > SHOWN_BYTES ? "..." : "",
                   allowed);
    else
        (void)fail(reader, "%s%s: is missing; it must be %s", where, key, allowed);
    free(shown);
    return false;
}

/* The keys of a table, or of a list that ends in NULL, as "a, b, c". */
static void list_keys(char *buf, size_t size, const struct sn_option *rows, size_t count,
                      const char *const *names)
{
    size_t len = 0;

    buf[0] = '\0';
    for (size_t i = 0; (rows ? i < count : names[i] != NULL) && len < size; i++) {
        const char *key = rows ? rows[i].key.text : names[i];

        if (rows && rows[i].written == SN_WRITTEN_NOT)
            continue;
        len += (size_t)snprintf(buf + len, size - len, "%s%s", len ? ", " : "", key);
    }
}

static bool refuse_unknown(struct reader *reader, const char *where, const char *key,
                           const struct sn_option *rows, size_t count, const char *const *names)
{
    char keys[512];

    list_keys(keys, sizeof keys, rows, count, names);
    return fail(reader, "%s%.*s: does not exist; there are %s", where, SHOWN_BYTES, key, keys);
}

/* ---- options as terms ---- */

/* What no check accepts: the value is told as it stands in the file. */
static bool put_nothing(ei_x_buff *terms)
{
    return ei_x_encode_map_header(terms, 0) == 0;
}

static bool put_string(ei_x_buff *terms, const json_t *value, enum sn_written written)
{
    const char *text = json_string_value(value);
    size_t len = json_string_length(value);

    if (written == SN_WRITTEN_TEXT)
        return ei_x_encode_binary(terms, text, (long)len) == 0;
    if (len > ATOM_BYTES_MAX)
        return put_nothing(terms);
    return ei_x_encode_atom_len_as(terms, text, (int)len, ERLANG_UTF8, ERLANG_UTF8) == 0;
}

static bool put_scalar(ei_x_buff *terms, const json_t *value, enum sn_written written)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        return put_string(terms, value, written);
    case JSON_INTEGER:
        return ei_x_encode_longlong(terms, json_integer_value(value)) == 0;
    case JSON_TRUE:
        return ei_x_encode_atom(terms, "true") == 0;
    case JSON_FALSE:
        return ei_x_encode_atom(terms, "false") == 0;
    case JSON_NULL:
        return ei_x_encode_atom(terms, "undefined") == 0;
    default:
        return put_nothing(terms);
    }
}

static bool put_list(ei_x_buff *terms, const json_t *value, enum sn_written written)
{
    size_t count = json_array_size(value);
    bool ok = written == SN_WRITTEN_TUPLE ? ei_x_encode_tuple_header(terms, (long)count) == 0
              : count > 0                 ? ei_x_encode_list_header(terms, (long)count) == 0
                                          : true;

    for (size_t i = 0; ok && i < count; i++)
        ok = put_scalar(terms, json_array_get(value, i), written);
    return ok && (written == SN_WRITTEN_TUPLE || ei_x_encode_empty_list(terms) == 0);
}

static bool put_address(ei_x_buff *terms, const char *text)
{
    uint8_t bytes[16];
    bool is_v4 = inet_pton(AF_INET, text, bytes) == 1, ok;

    if (!is_v4 && inet_pton(AF_INET6, text, bytes) != 1)
        return put_nothing(terms);
    ok = ei_x_encode_tuple_header(terms, is_v4 ? 4 : 8) == 0;
    for (size_t i = 0; ok && i < (is_v4 ? 4 : 8); i++)
        ok = ei_x_encode_ulong(terms, is_v4 ? bytes[i] : bytes[2 * i] << 8 | bytes[2 * i + 1]) == 0;
    return ok;
}

/* In an order of its own: a file that says the same in another one has not changed. */
static bool put_length(ei_x_buff *terms, const json_t *options)
{
    static const char *const keys[] = {"offset", "bytes", "endian", "adjust", "header"};
    size_t count = json_object_size(options), known = 0;
    bool ok;

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        known += json_object_get(options, keys[i]) != NULL;
    if (known < count)
        return put_nothing(terms);
    ok = ei_x_encode_tuple_header(terms, 2) == 0 && ei_x_encode_atom(terms, "length") == 0 &&
         ei_x_encode_map_header(terms, (long)count) == 0;
    for (size_t i = 0; ok && i < sizeof keys / sizeof *keys; i++) {
        const json_t *value = json_object_get(options, keys[i]);
        if (value)
            ok =
                ei_x_encode_atom(terms, keys[i]) == 0 && put_scalar(terms, value, SN_WRITTEN_PLAIN);
    }
    return ok;
}

/* An object with one key. */
static bool put_framing(ei_x_buff *terms, const json_t *object)
{
    const json_t *length = json_object_get(object, "length"),
                 *delimiter = json_object_get(object, "delimiter"),
                 *fixed = json_object_get(object, "fixed");

    if (json_object_size(object) != 1)
        return put_nothing(terms);
    if (json_is_object(length))
        return put_length(terms, length);
    if (delimiter)
        return ei_x_encode_tuple_header(terms, 2) == 0 &&
               ei_x_encode_atom(terms, "delimiter") == 0 &&
               put_scalar(terms, delimiter, SN_WRITTEN_TEXT);
    if (fixed)
        return ei_x_encode_tuple_header(terms, 2) == 0 && ei_x_encode_atom(terms, "fixed") == 0 &&
               put_scalar(terms, fixed, SN_WRITTEN_PLAIN);
    return put_nothing(terms);
}

/* {"prefix": Text} is a tuple. */
static bool put_part(ei_x_buff *terms, const json_t *value)
{
    const json_t *prefix = json_object_get(value, "prefix");

    if (!prefix || json_object_size(value) != 1)
        return put_scalar(terms, value, SN_WRITTEN_TEXT);
    return ei_x_encode_tuple_header(terms, 2) == 0 && ei_x_encode_atom(terms, "prefix") == 0 &&
           put_scalar(terms, prefix, SN_WRITTEN_TEXT);
}

/* An object whose keys are in an order of their own, as those of a length; an unknown one is what no check accepts. */
static bool put_object(ei_x_buff *terms, const json_t *object)
{
    static const char *const keys[] = {"count", "expect", "idle", "interval", "send", "timeout"};
    size_t count = json_object_size(object), known = 0;
    bool ok;

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        known += json_object_get(object, keys[i]) != NULL;
    if (known < count)
        return ei_x_encode_map_header(terms, 1) == 0 && ei_x_encode_atom(terms, "unknown") == 0 &&
               ei_x_encode_atom(terms, "unknown") == 0;
    ok = ei_x_encode_map_header(terms, (long)count) == 0;
    for (size_t i = 0; ok && i < sizeof keys / sizeof *keys; i++) {
        const json_t *value = json_object_get(object, keys[i]);
        if (value)
            ok = ei_x_encode_atom(terms, keys[i]) == 0 && put_part(terms, value);
    }
    return ok;
}

static bool put_value(ei_x_buff *terms, const json_t *value, enum sn_written written)
{
    const json_t *after;

    if (json_is_array(value))
        return put_list(terms, value, written);
    if (json_is_string(value) && written == SN_WRITTEN_ADDRESS)
        return put_address(terms, json_string_value(value));
    if (json_is_object(value) && written == SN_WRITTEN_AFTER && json_object_size(value) == 1 &&
        (after = json_object_get(value, "after")))
        return ei_x_encode_tuple_header(terms, 2) == 0 && ei_x_encode_atom(terms, "after") == 0 &&
               put_scalar(terms, after, written);
    if (json_is_object(value) && written == SN_WRITTEN_FRAMING)
        return put_framing(terms, value);
    if (json_is_object(value) && written == SN_WRITTEN_OBJECT)
        return put_object(terms, value);
    return put_scalar(terms, value, written);
}

static bool put_key(ei_x_buff *terms, const struct sn_option *row)
{
    return ei_x_encode_atom(terms, row->key.text) == 0;
}

/* Whether all keys of the object are those of rows that a file may have. */
static bool check_keys(struct reader *reader, const char *where, json_t *object,
                       const struct sn_option *rows, size_t count)
{
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value)
    {
        size_t i = 0;

        while (i < count && strcmp(rows[i].key.text, key) != 0)
            i++;
        if (i == count)
            return refuse_unknown(reader, where, key, rows, count, NULL);
        if (rows[i].written == SN_WRITTEN_NOT)
            return fail(reader, "%s%s: cannot be given in a file", where, key);
    }
    return true;
}

/* In the order of the table, so that the order in the file does not matter. */
static bool put_options(struct reader *reader, const char *where, json_t *object, bool is_tls,
                        ei_x_buff *terms)
{
    size_t count;
    const struct sn_option *rows = is_tls ? sn_options_tls_table(&count) : sn_options_table(&count);
    char inner[SN_ATOM_BYTES_MAX + 64];
    json_t *value;

    if (!check_keys(reader, where, object, rows, count))
        return false;
    if (ei_x_encode_map_header(terms, (long)json_object_size(object)) != 0)
        return no_memory(reader);
    for (size_t i = 0; i < count; i++) {
        value = json_object_get(object, rows[i].key.text);
        if (!value)
            continue;
        if (!put_key(terms, &rows[i]))
            return no_memory(reader);
        if (rows[i].written == SN_WRITTEN_TLS && json_is_object(value)) {
            snprintf(inner, sizeof inner, "%stls.", where);
            if (!put_options(reader, inner, value, true, terms))
                return false;
        } else if (rows[i].written == SN_WRITTEN_TLS && !json_is_null(value)) {
            return refuse(reader, where, "tls", value, "an object of TLS options");
        } else if (!put_value(terms, value, rows[i].written)) {
            return no_memory(reader);
        }
    }
    return true;
}

/* ---- pools ---- */

static const struct sn_option *row_of(const struct sn_bad_option *bad)
{
    size_t count;
    const struct sn_option *rows =
        bad->is_tls ? sn_options_tls_table(&count) : sn_options_table(&count);

    for (size_t i = 0; i < count; i++)
        if (sn_slice_equals(bad->key, sn_option_key(&rows[i])))
            return &rows[i];
    return NULL;
}

/* What is to be shown instead of a value with a password in it, with a reference; NULL: the value itself. */
static json_t *shown_instead(struct sn_slice given, struct sn_slice value)
{
    char text[SN_ATOM_BYTES_MAX + 1];
    size_t len;

    if (value.data >= given.data && value.data < given.data + given.len)
        return NULL;
    if (!sn_value_atom(value, text, &len) && !sn_value_text(value, text, sizeof text, &len))
        return NULL;
    return json_stringn(text, len);
}

static bool refuse_option(struct reader *reader, const char *where, const json_t *object,
                          struct sn_slice given, const struct sn_bad_option *bad)
{
    static const char *const hints[] = {
        [SN_WRITTEN_PLAIN] = "",
        [SN_WRITTEN_TEXT] = "",
        [SN_WRITTEN_ADDRESS] = "; in a file, a string",
        [SN_WRITTEN_TUPLE] = "; in a file, a list",
        [SN_WRITTEN_AFTER] = "; in a file, {\"after\": Ms}",
        [SN_WRITTEN_FRAMING] =
            "; in a file, {\"fixed\": N}, {\"delimiter\": Text}, {\"length\": {}}",
        [SN_WRITTEN_OBJECT] = "; in a file, an object",
        [SN_WRITTEN_TLS] = "; in a file, an object",
        [SN_WRITTEN_NOT] = "",
    };
    const struct sn_option *row = row_of(bad);
    char allowed[512], inner[SN_ATOM_BYTES_MAX + 64], key[64];
    const json_t *value;
    json_t *instead;
    int64_t by_default;
    bool refused;

    if (!row)
        return fail(reader, "%.*s: the options are too long", (int)strlen(where) - 1, where);
    snprintf(allowed, sizeof allowed, "%s%s", row->allowed, hints[row->written]);
    snprintf(inner, sizeof inner, "%s%s", where, bad->is_tls ? "tls." : "");
    snprintf(key, sizeof key, "%s", row->key.text);
    if (bad->is_tls)
        object = json_object_get(object, "tls");
    value = json_object_get(object, key);
    if (!value && sn_value_integer(bad->value, &by_default))
        return fail(reader, "%s%s: %lld, its default, is not allowed; it must be %s", inner, key,
                    (long long)by_default, allowed);
    instead = value ? shown_instead(given, bad->value) : NULL;
    refused = refuse(reader, inner, key, instead ? instead : value, allowed);
    json_decref(instead);
    return refused;
}

static struct sn_slice term_in(const ei_x_buff *buf)
{
    return (struct sn_slice){(const uint8_t *)buf->buff, (size_t)buf->index};
}

static bool parse_pool(struct reader *reader, const char *name, json_t *object, ei_x_buff *atom,
                       struct sn_settings_pool *pool)
{
    char where[SN_ATOM_BYTES_MAX + 32];
    struct sn_bad_option bad;
    sp_status status;

    snprintf(where, sizeof where, "pools.%s.", name);
    if (ei_x_encode_atom_len_as(atom, name, (int)strlen(name), ERLANG_UTF8, ERLANG_UTF8) != 0)
        return no_memory(reader);
    if (!put_options(reader, where, object, false, &pool->terms))
        return false;
    status = sn_options_parse(term_in(atom), term_in(&pool->terms), &pool->options, &bad);
    if (status == SP_BAD_DATA)
        return refuse_option(reader, where, object, term_in(&pool->terms), &bad);
    return status == SP_OK || no_memory(reader);
}

static char *keep_text(struct reader *reader, const char *text)
{
    char *kept = sn_memory_get(&reader->settings->memory, strlen(text) + 1, 1);

    return kept ? strcpy(kept, text) : NULL;
}

static bool read_pool(struct reader *reader, const char *name, json_t *object,
                      struct sn_settings_pool ***end)
{
    struct sn_settings_pool *pool;
    ei_x_buff atom = {0};
    bool ok;

    if (name[0] == '\0' || strlen(name) > ATOM_BYTES_MAX || strcmp(name, "undefined") == 0)
        return fail(reader,
                    "pools.%.*s: a pool's name must be of 1 to 255 bytes, and not undefined",
                    SHOWN_BYTES, name);
    if (!json_is_object(object))
        return refuse(reader, "pools.", name, object, "an object of options");
    pool = sn_memory_get(&reader->settings->memory, 1, sizeof *pool);
    if (!pool)
        return no_memory(reader);
    **end = pool;
    *end = &pool->next;
    pool->name = keep_text(reader, name);
    if (!pool->name)
        return no_memory(reader);
    ok = ei_x_new(&pool->terms) == 0 && ei_x_new(&atom) == 0;
    ok = ok ? parse_pool(reader, name, object, &atom, pool) : no_memory(reader);
    if (atom.buff)
        ei_x_free(&atom);
    return ok;
}

static bool read_pools(struct reader *reader, json_t *pools)
{
    struct sn_settings_pool **end = &reader->settings->pools;
    const char *name;
    json_t *object;

    if (!json_is_object(pools))
        return refuse(reader, "", "pools", pools, "an object: pools by their names");
    json_object_foreach(pools, name, object)
    {
        if (!read_pool(reader, name, object, &end))
            return false;
    }
    return true;
}

/* ---- all ---- */

static bool read_text(struct reader *reader, json_t *value, char **text)
{
    *text = keep_text(reader, json_string_value(value));
    return *text || no_memory(reader);
}

static bool is_address(const char *text)
{
    uint8_t bytes[16];

    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

static bool read_setting(struct reader *reader, const char *key, json_t *value)
{
    static const char *const keys[] = {"name",      "cookie_file", "listen", "metrics",
                                       "tick_time", "pools",       NULL};
    struct sn_settings *settings = reader->settings;
    const char *text = json_string_value(value);
    struct sn_scrape_listen metrics;

    if (strcmp(key, "name") == 0)
        return text && sp_dist_is_node_name(text, strlen(text))
                   ? read_text(reader, value, &settings->name)
                   : refuse(reader, "", key, value, "a string NAME@HOST");
    if (strcmp(key, "cookie_file") == 0)
        return text && *text ? read_text(reader, value, &settings->cookie_file)
                             : refuse(reader, "", key, value, "a file's path as a string");
    if (strcmp(key, "listen") == 0)
        return text && is_address(text)
                   ? read_text(reader, value, &settings->listen)
                   : refuse(reader, "", key, value, "an IP address as a string");
    if (strcmp(key, "metrics") == 0)
        return text && sn_scrape_listen_parse(&metrics, text)
                   ? read_text(reader, value, &settings->metrics)
                   : refuse(reader, "", key, value, SN_SCRAPE_LISTEN_ALLOWED ", as a string");
    if (strcmp(key, "tick_time") == 0) {
        if (!json_is_integer(value) || json_integer_value(value) < 1 ||
            json_integer_value(value) > SN_TICK_TIME_MAX_S)
            return refuse(reader, "", key, value, "an integer from 1 to 86400 (seconds)");
        settings->tick_time_s = (unsigned)json_integer_value(value);
        return true;
    }
    if (strcmp(key, "pools") == 0)
        return read_pools(reader, value);
    return refuse_unknown(reader, "", key, NULL, 0, keys);
}

static bool read_all(struct reader *reader, json_t *root)
{
    const char *key;
    json_t *value;

    if (!json_is_object(root))
        return fail(reader, "must be an object");
    json_object_foreach(root, key, value)
    {
        if (!read_setting(reader, key, value))
            return false;
    }
    return true;
}

bool sn_settings_read(const char *path, struct sn_settings *settings,
                      struct sn_complaint *complaint)
{
    struct reader reader = {path, settings, complaint};
    json_error_t json_error;
    FILE *file = fopen(path, "re");
    json_t *root;
    bool ok;

    memset(settings, 0, sizeof *settings);
    if (!file)
        return fail_for_now(&reader, strerror(errno));
    root = json_loadf(file, JSON_REJECT_DUPLICATES, &json_error);
    fclose(file);
    if (!root)
        return fail(&reader, "line %d, column %d: %s", json_error.line, json_error.column,
                    json_error.text);
    ok = read_all(&reader, root);
    json_decref(root);
    if (!ok)
        sn_settings_free(settings);
    return ok;
}

void sn_settings_free(struct sn_settings *settings)
{
    for (struct sn_settings_pool *pool = settings->pools; pool; pool = pool->next) {
        if (pool->terms.buff)
            ei_x_free(&pool->terms);
        sn_options_free(&pool->options);
    }
    sn_memory_free(&settings->memory);
    memset(settings, 0, sizeof *settings);
}

bool sn_settings_check_tls(struct sn_settings *settings, struct sp_tls_registry *registry,
                           const char *path, struct sn_complaint *complaint)
{
    struct sp_tls_registry *used = registry ? registry : sp_tls_registry_new();
    struct reader reader = {.path = path, .complaint = complaint};
    struct sn_settings_pool *pool = settings->pools;
    struct sp_tls_refusal refusal;
    struct sp_tls_ctx *ctx;

    if (!used)
        return no_memory(&reader);
    for (; pool; pool = pool->next) {
        if (!pool->options.has_tls)
            continue;
        ctx = sp_tls_ctx_get(used, &pool->options.tls, &refusal);
        if (!ctx)
            break;
        if (registry)
            pool->options.tls_ctx = ctx;
        else
            sp_tls_ctx_unref(ctx);
    }
    if (!registry)
        sp_tls_registry_unref(used);
    if (!pool)
        return true;
    (void)fail(&reader, "pools.%s.tls.%s: cannot be used: %s", pool->name, refusal.option,
               refusal.why);
    complaint->is_passing = strstr(refusal.option, "file") || strcmp(refusal.option, "keylog") == 0;
    return false;
}
