/* The option `health': sockpool_health:check/1 in C. */
#include "sn_options.h"

#include "node/etf/sn_value.h"

#include <string.h>

#define INTERVAL_MIN_MS 100
#define MS_MAX UINT32_MAX

/* .data is NULL where none was given. */
enum { INTERVAL, TIMEOUT, SEND, EXPECT, KEYS };

static bool take(void *arg, struct sn_slice key, struct sn_slice value)
{
    static const char *const names[KEYS] = {"interval", "timeout", "send", "expect"};
    struct sn_slice *values = arg;

    for (int i = 0; i < KEYS; i++) {
        if (sn_slice_is_atom(key, names[i])) {
            if (!values[i].data)
                values[i] = value;
            return true;
        }
    }
    /* A function, which cannot be called here. */
    return sn_slice_is_atom(key, "check") &&
           (sn_slice_is_atom(value, "undefined") || sn_slice_is_atom(value, "nil"));
}

static bool get_ms(struct sn_slice value, int64_t least, int64_t by_default, uint64_t *ns)
{
    int64_t ms = by_default;

    if (value.data && !sn_slice_is_atom(value, "nil") &&
        (!sn_value_integer(value, &ms) || ms < least || ms > MS_MAX))
        return false;
    *ns = (uint64_t)ms * SP_MS;
    return true;
}

static bool get_bytes(struct sn_slice value, struct sn_bytes *bytes)
{
    struct sn_slice given;

    if (!value.data || !sn_value_binary(value, &given) || given.len < 1 ||
        given.len > sizeof bytes->bytes)
        return false;
    bytes->len = given.len;
    memcpy(bytes->bytes, given.data, given.len);
    return true;
}

static bool get_expect(struct sn_slice value, struct sn_health *health)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX];

    if (!value.data)
        return false;
    health->is_prefix = sn_slice_tuple(value, parts) == 2 && sn_slice_is_atom(parts[0], "prefix");
    return get_bytes(health->is_prefix ? parts[1] : value, &health->expect);
}

SN_CHECK(health)
{
    struct sn_slice values[KEYS] = {0};
    struct sn_health *health = sn_memory_get(memory, 1, sizeof *health);

    (void)option;
    parsed->data = health;
    if (!health)
        return SN_NO_MEMORY;
    return sn_option_each(value, take, values) &&
                   get_ms(values[INTERVAL], INTERVAL_MIN_MS, 30000, &health->interval_ns) &&
                   get_ms(values[TIMEOUT], 1, 1000, &health->timeout_ns) &&
                   get_bytes(values[SEND], &health->send) && get_expect(values[EXPECT], health)
               ? SN_RIGHT
               : SN_WRONG;
}
