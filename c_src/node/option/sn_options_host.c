/* Hosts as users give them, and what is shown of one that is none. */
#include "sn_options.h"

#include "core/base/sp_bytes.h"

#include <arpa/inet.h>
#include <string.h>

#define MAX_HOSTNAME_CHARS 255

/* {A,B,C,D}, or eight numbers of 16 bits. */
bool sn_options_ip(struct sn_slice value, sa_family_t *family, uint8_t bytes[16])
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX];
    int arity = sn_slice_tuple(value, parts);
    int64_t number;

    if (arity != 4 && arity != 8)
        return false;
    *family = arity == 4 ? AF_INET : AF_INET6;
    for (int i = 0; i < arity; i++) {
        if (!sn_value_integer(parts[i], &number) || number < 0 ||
            number > (arity == 4 ? UINT8_MAX : UINT16_MAX))
            return false;
        if (arity == 4) {
            bytes[i] = (uint8_t)number;
        } else {
            bytes[2 * i] = (uint8_t)(number >> 8);
            bytes[2 * i + 1] = (uint8_t)number;
        }
    }
    return true;
}

/* Visible ASCII only: what else a resolver makes of it differs from system to system. */
static bool get_hostname(struct sn_slice value, char name[SN_ATOM_BYTES_MAX + 1])
{
    size_t len;

    if (sn_slice_is_atom(value, "undefined") ||
        (!sn_value_atom(value, name, &len) &&
         !sn_value_text(value, name, MAX_HOSTNAME_CHARS, &len)) ||
        len == 0 || len > MAX_HOSTNAME_CHARS)
        return false;
    name[len] = '\0';
    for (size_t i = 0; i < len; i++)
        if (name[i] <= ' ' || name[i] > '~')
            return false;
    return true;
}

sa_family_t sn_options_family(const char *text, uint8_t address[16])
{
    return inet_pton(AF_INET, text, address) == 1    ? AF_INET
           : inet_pton(AF_INET6, text, address) == 1 ? AF_INET6
                                                     : AF_UNSPEC;
}

/* A port, a URL, an address with brackets or a zone. */
#define NO_NAME_HAS "%/[]@?#"

static enum sn_verdict get_host(struct sn_slice value, struct sn_memory *memory,
                                struct sn_host *host)
{
    char text[SN_ATOM_BYTES_MAX + 1], *kept;

    if (sn_options_ip(value, &host->family, host->address)) {
        if (!inet_ntop(host->family, host->address, text, sizeof text))
            return SN_WRONG;
    } else if (get_hostname(value, text)) {
        host->family = sn_options_family(text, host->address);
        if (strpbrk(text, host->family == AF_UNSPEC ? NO_NAME_HAS ":" : NO_NAME_HAS))
            return SN_WRONG;
    } else {
        return SN_WRONG;
    }
    kept = sn_memory_get(memory, strlen(text) + 1, 1);
    if (!kept)
        return SN_NO_MEMORY;
    strcpy(kept, text);
    host->text = kept;
    return SN_RIGHT;
}

/* A string is a list too: of integers, which no single host is. */
static bool is_list_of_hosts(struct sn_slice value)
{
    struct sn_items items;
    struct sn_slice first;

    return sn_items_begin(value, &items) && sn_items_next(&items, &first) &&
           !sn_is_integer(first.data[0]);
}

SN_CHECK(hosts)
{
    enum sn_verdict verdict = SN_RIGHT;
    struct sn_host *hosts;
    struct sn_items items;
    struct sn_slice item;

    (void)option;
    if (!is_list_of_hosts(value)) {
        parsed->len = 1;
        parsed->data = sn_memory_get(memory, 1, sizeof *hosts);
        return parsed->data ? get_host(value, memory, parsed->data) : SN_NO_MEMORY;
    }
    if (!sn_items_begin(value, &items))
        return SN_WRONG;
    hosts = sn_memory_get(memory, items.left, sizeof *hosts);
    if (!hosts)
        return SN_NO_MEMORY;
    parsed->data = hosts;
    while (verdict == SN_RIGHT && sn_items_next(&items, &item))
        verdict = get_host(item, memory, &hosts[parsed->len++]);
    return verdict != SN_RIGHT || items.is_proper ? verdict : SN_WRONG;
}

/* What is shown of it, where that is another term: nothing of a text that is longer than any host, and not what
 * stands before an @, which may be a password. */
static bool hide_user(struct sn_slice host, struct sn_bad_option *bad)
{
    static const char hidden[] = "not_shown", scheme_end[] = "://";
    char text[SN_ATOM_BYTES_MAX + 1];
    size_t len, hidden_len = sizeof hidden - 1, kept = 0;
    const char *at = NULL, *user;
    uint8_t *to = bad->shown + 5;

    if (!sn_value_atom(host, text, &len) && !sn_value_text(host, text, MAX_HOSTNAME_CHARS, &len))
        return false;
    if (len > MAX_HOSTNAME_CHARS) {
        bad->value = sn_atom_slice(&sn_not_shown);
        return true;
    }
    for (size_t i = 0; i < len; i++)
        if (text[i] == '@')
            at = text + i;
    if (!at)
        return false;
    text[len] = '\0';
    user = strstr(text, scheme_end);
    if (user && user < at)
        kept = (size_t)(user - text) + sizeof scheme_end - 1;
    len -= (size_t)(at - text);
    bad->shown[0] = SN_TAG_BINARY;
    sp_put(bad->shown + 1, 4, kept + hidden_len + len);
    memcpy(to, text, kept);
    memcpy(to + kept, hidden, hidden_len);
    memcpy(to + kept + hidden_len, at, len);
    bad->value = (struct sn_slice){bad->shown, 5 + kept + hidden_len + len};
    return true;
}

void sn_options_hide_user(struct sn_bad_option *bad)
{
    struct sn_items items;
    struct sn_slice host;

    if (!is_list_of_hosts(bad->value))
        (void)hide_user(bad->value, bad);
    else if (sn_items_begin(bad->value, &items))
        while (sn_items_next(&items, &host) && !hide_user(host, bad))
            continue;
}
