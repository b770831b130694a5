/* Options that are times, or have times in them. */
#include "sn_options.h"

#include "node/etf/sn_value.h"

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

/* ---- keepalive ---- */

/* In `number': whether the system asks a peer that says nothing, and its three times, each in 16 bits. */
#define IS_ON 1u
#define SHIFT 16

static const struct {
    const char *key;
    int64_t max;
} TIMES[] = {{"idle", 32767}, {"interval", 32767}, {"count", 127}};
#define TIME_COUNT (sizeof TIMES / sizeof *TIMES)

/* Of two with the same key the first counts, and `nil' is none. */
static bool take(void *arg, struct sn_slice key, struct sn_slice value)
{
    uint64_t *number = arg;
    int64_t given;

    for (unsigned i = 0; i < TIME_COUNT; i++) {
        unsigned shift = SHIFT * (i + 1);

        if (!sn_slice_is_atom(key, TIMES[i].key))
            continue;
        if (sn_slice_is_atom(value, "nil") || *number >> shift & 0xffff)
            return true;
        if (!sn_value_integer(value, &given) || given < 1 || given > TIMES[i].max)
            return false;
        *number |= (uint64_t)given << shift;
        return true;
    }
    return false;
}

SN_CHECK(keepalive)
{
    (void)option;
    (void)memory;
    parsed->number = IS_ON;
    if (sn_slice_is_atom(value, "true") || sn_option_each(value, take, &parsed->number))
        return SN_RIGHT;
    parsed->number = 0;
    return sn_slice_is_atom(value, "false") ? SN_RIGHT : SN_WRONG;
}

void sn_options_keepalive(uint64_t number, struct sp_sockopts *sockopts)
{
    sockopts->keepalive = number & IS_ON;
    sockopts->times.idle_s = number >> SHIFT & 0xffff;
    sockopts->times.interval_s = number >> 2 * SHIFT & 0xffff;
    sockopts->times.count = number >> 3 * SHIFT & 0xffff;
}
