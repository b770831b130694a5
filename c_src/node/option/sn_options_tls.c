/* The options of transport => tls: what sockpool_tls:parse/1 does, in C. */
#include "sn_options.h"

#include <string.h>

#include "tls_rows.h" /* made by the build */
_Static_assert(ROWS <= SN_OPTION_ROWS_MAX, "all rows have room");

/* ---- checks of one option ---- */

/* One that begins with a dot is any host below that domain, to OpenSSL. */
SN_CHECK(server_name)
{
    enum sn_verdict verdict = sn_check_text(option, value, memory, parsed);
    const char *name = parsed->data;

    if (verdict != SN_RIGHT)
        return verdict;
    for (size_t i = 0; i < parsed->len; i++)
        if (name[i] <= ' ' || name[i] > '~')
            return SN_WRONG;
    return name[0] == '.' ? SN_WRONG : SN_RIGHT;
}

/* DER, or {cert, DER, Decoded} as public_key:cacerts_get/0 has it. */
static bool get_certificate(struct sn_slice value, struct sn_slice *der)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX];

    if (sn_slice_tuple(value, parts) == 3 && sn_slice_is_atom(parts[0], "cert"))
        value = parts[1];
    return sn_value_binary(value, der) && der->len > 0;
}

SN_CHECK(certs)
{
    struct sp_tls_blob *certs;
    struct sn_items items;
    struct sn_slice item, der;
    uint8_t *copy;

    (void)option;
    if (!sn_items_begin(value, &items) || items.left == 0)
        return SN_WRONG;
    certs = parsed->data = sn_memory_get(memory, items.left, sizeof *certs);
    if (!certs)
        return SN_NO_MEMORY;
    while (sn_items_next(&items, &item)) {
        if (!get_certificate(item, &der))
            return SN_WRONG;
        copy = sn_memory_get(memory, der.len, 1);
        if (!copy)
            return SN_NO_MEMORY;
        memcpy(copy, der.data, der.len);
        certs[parsed->len++] = (struct sp_tls_blob){copy, der.len};
    }
    return items.is_proper ? SN_RIGHT : SN_WRONG;
}

SN_CHECK(versions)
{
    bool has_12 = false, has_13 = false;
    struct sn_items items;
    struct sn_slice item;

    (void)option;
    (void)memory;
    if (!sn_items_begin(value, &items))
        return SN_WRONG;
    while (sn_items_next(&items, &item)) {
        if (sn_slice_is_atom(item, "tlsv1.2"))
            has_12 = true;
        else if (sn_slice_is_atom(item, "tlsv1.3"))
            has_13 = true;
        else
            return SN_WRONG;
    }
    parsed->number = has_12 ? TLS1_2_VERSION : TLS1_3_VERSION;
    parsed->other = has_13 ? TLS1_3_VERSION : TLS1_2_VERSION;
    return items.is_proper && (has_12 || has_13) ? SN_RIGHT : SN_WRONG;
}

/* Each name after its length, in one byte. */
SN_CHECK(alpn)
{
    size_t least = (size_t)option->min, most = (size_t)option->max, len;
    struct sn_items items;
    struct sn_slice item;
    char *names;

    if (!sn_items_begin(value, &items))
        return SN_WRONG;
    /* No character gets longer than its encoding in the term but those of strings: those double. */
    names = parsed->data = sn_memory_get(memory, value.len, 2);
    if (!names)
        return SN_NO_MEMORY;
    while (sn_items_next(&items, &item)) {
        if (!sn_value_text(item, names + parsed->len + 1, most, &len) || len < least || len > most)
            return SN_WRONG;
        names[parsed->len] = (char)len;
        parsed->len += 1 + len;
    }
    return items.is_proper ? SN_RIGHT : SN_WRONG;
}

const struct sn_option *sn_options_tls_table(size_t *count)
{
    *count = ROWS;
    return ROW;
}

/* ---- all ---- */

/* A list of pairs, of which the first counts where a key comes twice. */
static bool take_pairs(struct sn_slice list, struct sn_given *given, struct sn_bad_option *bad)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX], item;
    struct sn_items items;

    if (!sn_items_begin(list, &items))
        return false;
    while (sn_items_next(&items, &item)) {
        if (sn_slice_tuple(item, parts) != 2)
            return false;
        if (!sn_option_take(ROW, ROWS, given, parts[0], parts[1])) {
            bad->key = parts[0];
            bad->value = sn_atom_slice(&sn_not_shown);
            return false;
        }
    }
    return true;
}

static bool check_pairs(const struct sn_given *given, const struct sn_parsed *parsed,
                        struct sn_bad_option *bad)
{
    if (parsed[KEYFILE].data && !parsed[CERTFILE].data) {
        bad->key = sn_option_key(&ROW[CERTFILE]);
        bad->value = sn_option_default(&ROW[CERTFILE]);
        return false;
    }
    if (parsed[CACERTFILE].data && parsed[CACERTS].data) {
        bad->key = sn_option_key(&ROW[CACERTS]);
        bad->value = given->values[CACERTS];
        return false;
    }
    return true;
}

static void fill(struct sp_tls_options *tls, const struct sn_parsed *parsed)
{
    tls->verify_peer = parsed[VERIFY].number == VERIFY_PEER;
    tls->session_reuse = parsed[SESSION_REUSE].number == SESSION_REUSE_TRUE;
    tls->ktls = parsed[KTLS].number == KTLS_TRUE;
    tls->min_version = (int)parsed[VERSIONS].number;
    tls->max_version = (int)parsed[VERSIONS].other;
    tls->server_name = parsed[SERVER_NAME].data;
    tls->ciphers = parsed[CIPHERS].data;
    tls->ciphersuites = parsed[CIPHERSUITES].data;
    tls->groups = parsed[GROUPS].data;
    tls->cacertfile = parsed[CACERTFILE].data;
    tls->certfile = parsed[CERTFILE].data;
    tls->keyfile = parsed[KEYFILE].data;
    tls->keylog = parsed[KEYLOG].data;
    tls->cacerts = parsed[CACERTS].data;
    tls->cacert_count = parsed[CACERTS].len;
    tls->alpn = (struct sp_tls_blob){parsed[ALPN].data, parsed[ALPN].len};
}

enum sn_verdict sn_options_parse_tls(struct sn_slice terms, struct sn_memory *memory,
                                     struct sp_tls_options *tls, struct sn_bad_option *bad)
{
    struct sn_parsed parsed[ROWS] = {0};
    struct sn_given given = {0};
    enum sn_verdict verdict;
    bool is_taken = true;

    bad->is_tls = true;
    if (!sn_slice_is_atom(terms, "undefined"))
        is_taken = sn_kind_of(terms.data[0]) == SN_KIND_MAP
                       ? sn_option_take_map(ROW, ROWS, &given, terms, bad)
                       : take_pairs(terms, &given, bad);
    if (!is_taken)
        return SN_WRONG;
    verdict = sn_option_check(ROW, ROWS, &given, memory, parsed, bad);
    /* But a fun: what was meant as a password must not end up in a log. */
    if (verdict == SN_WRONG && sn_slice_equals(bad->key, sn_option_key(&ROW[PASSWORD])) &&
        sn_kind_of(bad->value.data[0]) != SN_KIND_FUN &&
        sn_kind_of(bad->value.data[0]) != SN_KIND_EXPORT)
        bad->value = sn_atom_slice(&sn_not_a_fun);
    if (verdict != SN_RIGHT)
        return verdict;
    if (!check_pairs(&given, parsed, bad))
        return SN_WRONG;
    fill(tls, parsed);
    bad->is_tls = false;
    return SN_RIGHT;
}
