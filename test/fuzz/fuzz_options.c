/* libFuzzer over sn_options: pairs of an option and any term. The first byte of a pair picks the option
 * from one of the tables; above them, it is a key of the input's own. What is wrong must be said in
 * whole terms, and what is right must be usable. */
#include "core/base/sp_bytes.h"
#include "node/option/sn_options.h"
#include "node/etf/sn_term.h"

#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define MAP_BYTES 8192

#define TERM_MAX 4096

struct map {
    uint8_t bytes[MAP_BYTES];
    size_t len;
    uint32_t count;
};

static void put(struct map *map, struct sn_slice term)
{
    if (term.len > sizeof map->bytes - map->len)
        abort();
    memcpy(map->bytes + map->len, term.data, term.len);
    map->len += term.len;
}

static void begin(struct map *map)
{
    map->bytes[0] = 't';
    map->len = 5;
    map->count = 0;
}

static struct sn_slice finish(struct map *map)
{
    sp_put(map->bytes + 1, 4, map->count);
    return (struct sn_slice){map->bytes, map->len};
}

static bool take(struct sn_slice *rest, struct sn_slice *term)
{
    size_t used;

    if (sn_term_check(rest->data, rest->len, &used) != SN_TERM_OK)
        return false;
    *term = (struct sn_slice){rest->data, used};
    *rest = (struct sn_slice){rest->data + used, rest->len - used};
    return true;
}

static bool take_pair(struct sn_slice *rest, struct map *map, struct map *tls)
{
    size_t rows, tls_rows, row;
    const struct sn_option *table = sn_options_table(&rows);
    const struct sn_option *tls_table = sn_options_tls_table(&tls_rows);
    struct sn_slice key, value;

    if (rest->len == 0)
        return false;
    row = rest->data[0];
    *rest = (struct sn_slice){rest->data + 1, rest->len - 1};
    if (row >= rows + tls_rows) {
        if (!take(rest, &key))
            return false;
    } else {
        key = sn_option_key(row < rows ? &table[row] : &tls_table[row - rows]);
    }
    if (!take(rest, &value))
        return false;
    if (row >= rows && row < rows + tls_rows)
        map = tls;
    put(map, key);
    put(map, value);
    map->count++;
    return true;
}

static void assert_whole(struct sn_slice term)
{
    size_t used;

    if (sn_term_check(term.data, term.len, &used) != SN_TERM_OK || used != term.len)
        abort();
}

static void assert_framing(const struct sp_framing *framing)
{
    switch ((enum sp_framing_kind)framing->kind) {
    case SP_FRAMING_LENGTH:
        if (framing->bytes < 1 || framing->bytes > SP_FRAME_HEADER_MAX ||
            (framing->strip && framing->offset > 0))
            abort();
        return;
    case SP_FRAMING_DELIMITER:
        if (framing->delimiter_len < 1 || framing->delimiter_len > SP_DELIMITER_MAX)
            abort();
        return;
    case SP_FRAMING_FIXED:
        if (framing->fixed < 1)
            abort();
        return;
    case SP_FRAMING_RESP:
    case SP_FRAMING_RAW:
        return;
    }
    abort();
}

static void use(const struct sn_options *options)
{
    struct sp_addr addr;

    if (!options->config.transport || options->config.size + options->config.max_overflow == 0 ||
        options->config.backoff_min_ns > options->config.backoff_max_ns ||
        (options->transport == SN_UNIX) != (options->path != NULL) ||
        (options->transport == SN_UNIX) != (options->host_count == 0) ||
        options->tls.min_version > options->tls.max_version)
        abort();
    assert_framing(&options->config.framing);
    if (options->path && strlen(options->path) >= sizeof((struct sockaddr_un *)0)->sun_path)
        abort();
    for (size_t i = 0; i < options->host_count; i++)
        if (strlen(options->hosts[i].text) == 0 ||
            sn_options_address(options, i, &addr) != (options->hosts[i].family != AF_UNSPEC))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct sn_slice name = {(const uint8_t *)"w\1p", 3};
    static const struct sn_atom tls_key = SN_ATOM("tls"), host = SN_ATOM("host"), h = SN_ATOM("h"),
                                port = SN_ATOM("port");
    struct map map, tls;
    struct sn_slice rest = {data, len}, whole;
    struct sn_options options;
    struct sn_bad_option bad;
    uint8_t *copy;

    if (len > TERM_MAX / 4)
        return 0;
    begin(&map);
    begin(&tls);
    while (map.len + tls.len < TERM_MAX && take_pair(&rest, &map, &tls))
        ;
    if (tls.count) {
        put(&map, sn_atom_slice(&tls_key));
        put(&map, finish(&tls));
        map.count++;
    }
    /* Where the input has them too, its own count: what comes first. */
    if (len % 2) {
        put(&map, sn_atom_slice(&host));
        put(&map, sn_atom_slice(&h));
        put(&map, sn_atom_slice(&port));
        put(&map, (struct sn_slice){(const uint8_t *)"a\1", 2});
        map.count += 2;
    }
    whole = finish(&map);
    /* Memory of exactly its size, so that a look past its end is seen. */
    copy = malloc(whole.len);
    memcpy(copy, whole.data, whole.len);
    whole.data = copy;
    if (sn_options_parse(name, whole, &options, &bad) == SP_OK) {
        use(&options);
        sn_options_free(&options);
    } else {
        assert_whole(bad.key);
        assert_whole(bad.value);
    }
    free(copy);
    return 0;
}
