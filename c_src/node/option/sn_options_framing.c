/* The option `packet': sockpool_framing.erl in C. */
#include "sn_options.h"

#include "node/etf/sn_value.h"

#include <string.h>

#define ADJUST_MAX INT32_MAX
#define FIXED_MAX INT32_MAX

/* The options of a length; .data is NULL where none was given. */
enum { OFFSET, BYTES, ENDIAN, ADJUST, HEADER, KEYS };

/* Of two with the same key, the first. False: there is no such key. */
static bool take(struct sn_slice values[KEYS], struct sn_slice key, struct sn_slice value)
{
    static const char *const names[KEYS] = {"offset", "bytes", "endian", "adjust", "header"};

    for (int i = 0; i < KEYS; i++) {
        if (sn_slice_is_atom(key, names[i])) {
            if (!values[i].data)
                values[i] = value;
            return true;
        }
    }
    return false;
}

static bool take_map(struct sn_slice map, struct sn_slice values[KEYS])
{
    struct sn_slice key, value;
    struct sn_pairs pairs;

    if (!sn_pairs_begin(map, &pairs))
        return false;
    while (sn_pairs_next(&pairs, &key, &value))
        if (!take(values, key, value))
            return false;
    return true;
}

static bool take_list(struct sn_slice list, struct sn_slice values[KEYS])
{
    struct sn_slice item, parts[SN_SLICE_PARTS_MAX];
    struct sn_items items;

    if (!sn_items_begin(list, &items))
        return false;
    while (sn_items_next(&items, &item))
        if (sn_slice_tuple(item, parts) != 2 || !take(values, parts[0], parts[1]))
            return false;
    return items.is_proper;
}

/* `nil' is Elixir's word for what is not given. */
static bool is_given(struct sn_slice value)
{
    return value.data && !sn_slice_is_atom(value, "nil");
}

/* False where it is not within the bounds. */
static bool get_number(struct sn_slice value, int64_t least, int64_t most, int64_t by_default,
                       int64_t *number)
{
    *number = by_default;
    return !is_given(value) ||
           (sn_value_integer(value, number) && *number >= least && *number <= most);
}

/* False where it is neither; *is_other: it is not the default. */
static bool get_word(struct sn_slice value, const char *by_default, const char *other,
                     bool *is_other)
{
    *is_other = is_given(value) && sn_slice_is_atom(value, other);
    return *is_other || !is_given(value) || sn_slice_is_atom(value, by_default);
}

static bool get_length(struct sn_slice options, struct sp_framing *framing)
{
    struct sn_slice values[KEYS] = {0};
    int64_t offset, bytes, adjust;
    bool is_map = sn_kind_of(options.data[0]) == SN_KIND_MAP;

    if (!(is_map ? take_map(options, values) : take_list(options, values)) ||
        !get_number(values[OFFSET], 0, UINT8_MAX, 0, &offset) ||
        !get_number(values[BYTES], 1, SP_FRAME_HEADER_MAX, 4, &bytes) ||
        !get_number(values[ADJUST], -(int64_t)ADJUST_MAX, ADJUST_MAX, 0, &adjust) ||
        !get_word(values[ENDIAN], "big", "little", &framing->little) ||
        !get_word(values[HEADER], "keep", "strip", &framing->strip))
        return false;
    framing->kind = SP_FRAMING_LENGTH;
    framing->offset = (uint8_t)offset;
    framing->bytes = (uint8_t)bytes;
    framing->adjust = (int32_t)adjust;
    return !framing->strip || framing->offset == 0;
}

static bool get_delimiter(struct sn_slice value, struct sp_framing *framing)
{
    struct sn_slice bytes;

    if (!sn_value_binary(value, &bytes) || bytes.len < 1 || bytes.len > SP_DELIMITER_MAX)
        return false;
    framing->kind = SP_FRAMING_DELIMITER;
    framing->delimiter_len = (uint8_t)bytes.len;
    memcpy(framing->delimiter, bytes.data, bytes.len);
    return true;
}

static bool get_fixed(struct sn_slice value, struct sp_framing *framing)
{
    int64_t bytes;

    if (!sn_value_integer(value, &bytes) || bytes < 1 || bytes > FIXED_MAX)
        return false;
    framing->kind = SP_FRAMING_FIXED;
    framing->fixed = (uint32_t)bytes;
    return true;
}

static bool get_one_word(struct sn_slice value, struct sp_framing *framing)
{
    int64_t width;

    if (sn_slice_is_atom(value, "line"))
        *framing = sp_framing_line();
    else if (sn_slice_is_atom(value, "resp"))
        framing->kind = SP_FRAMING_RESP;
    else if (sn_value_integer(value, &width) && (width == 1 || width == 2 || width == 4))
        *framing = sp_framing_header((uint8_t)width);
    else
        return sn_slice_is_atom(value, "raw") || (sn_value_integer(value, &width) && width == 0);
    return true;
}

bool sn_options_framing(struct sn_slice value, struct sp_framing *framing)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX];

    *framing = (struct sp_framing){.kind = SP_FRAMING_RAW};
    if (sn_slice_tuple(value, parts) != 2)
        return get_one_word(value, framing);
    if (sn_slice_is_atom(parts[0], "length"))
        return get_length(parts[1], framing);
    if (sn_slice_is_atom(parts[0], "delimiter"))
        return get_delimiter(parts[1], framing);
    return sn_slice_is_atom(parts[0], "fixed") && get_fixed(parts[1], framing);
}

SN_CHECK(packet)
{
    struct sp_framing framing;

    (void)option;
    if (!sn_options_framing(value, &framing))
        return SN_WRONG;
    parsed->data = sn_memory_get(memory, 1, sizeof framing);
    if (!parsed->data)
        return SN_NO_MEMORY;
    memcpy(parsed->data, &framing, sizeof framing);
    return SN_RIGHT;
}
