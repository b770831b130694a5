#include "sn_option.h"

#include "node/etf/sn_value.h"

#include <string.h>

const struct sn_atom sn_not_shown = SN_ATOM("not_shown"), sn_not_a_fun = SN_ATOM("not_a_fun");

struct sn_slice sn_atom_slice(const struct sn_atom *atom)
{
    return (struct sn_slice){&atom->tag, 2u + atom->len};
}

struct sn_slice sn_option_key(const struct sn_option *option)
{
    return sn_atom_slice(&option->key);
}

struct sn_slice sn_option_default(const struct sn_option *option)
{
    return (struct sn_slice){option->def.term, option->def.len};
}

/* ---- a map against a table ---- */

bool sn_option_take(const struct sn_option *rows, size_t count, struct sn_given *given,
                    struct sn_slice key, struct sn_slice value)
{
    for (size_t i = 0; i < count; i++) {
        if (sn_slice_is_atom(key, rows[i].key.text)) {
            if (!given->values[i].data)
                given->values[i] = value;
            return true;
        }
    }
    return false;
}

bool sn_option_each(struct sn_slice pairs,
                    bool (*take)(void *arg, struct sn_slice key, struct sn_slice value), void *arg)
{
    struct sn_slice key, value, item, parts[SN_SLICE_PARTS_MAX];
    struct sn_items items;
    struct sn_pairs map;

    if (sn_pairs_begin(pairs, &map)) {
        while (sn_pairs_next(&map, &key, &value))
            if (!take(arg, key, value))
                return false;
        return true;
    }
    if (!sn_items_begin(pairs, &items))
        return false;
    while (sn_items_next(&items, &item))
        if (sn_slice_tuple(item, parts) != 2 || !take(arg, parts[0], parts[1]))
            return false;
    return items.is_proper;
}

bool sn_option_take_map(const struct sn_option *rows, size_t count, struct sn_given *given,
                        struct sn_slice map, struct sn_bad_option *bad)
{
    struct sn_pairs pairs;

    if (!sn_pairs_begin(map, &pairs))
        return false;
    while (sn_pairs_next(&pairs, &bad->key, &bad->value))
        if (!sn_option_take(rows, count, given, bad->key, bad->value)) {
            bad->value = sn_atom_slice(&sn_not_shown);
            return false;
        }
    return true;
}

static enum sn_verdict check_row(const struct sn_option *row, struct sn_slice value,
                                 struct sn_memory *memory, struct sn_parsed *parsed)
{
    if (row->also && sn_slice_is_atom(value, row->also)) {
        parsed->also = true;
        parsed->number = strcmp(row->also, "infinity") == 0 ? UINT64_MAX : 0;
        return SN_RIGHT;
    }
    return row->check(row, value, memory, parsed);
}

static enum sn_verdict check_rows(const struct sn_option *rows, size_t count, bool given_only,
                                  const struct sn_given *given, struct sn_memory *memory,
                                  struct sn_parsed *parsed, struct sn_bad_option *bad)
{
    for (size_t i = 0; i < count; i++) {
        bool is_given = given->values[i].data != NULL;
        struct sn_slice value = is_given ? given->values[i] : sn_option_default(&rows[i]);
        enum sn_verdict verdict =
            is_given || !given_only ? check_row(&rows[i], value, memory, &parsed[i]) : SN_RIGHT;

        if (verdict == SN_WRONG) {
            bad->key = sn_option_key(&rows[i]);
            bad->value = value;
        }
        if (verdict != SN_RIGHT)
            return verdict;
    }
    return SN_RIGHT;
}

enum sn_verdict sn_option_check(const struct sn_option *rows, size_t count,
                                const struct sn_given *given, struct sn_memory *memory,
                                struct sn_parsed *parsed, struct sn_bad_option *bad)
{
    return check_rows(rows, count, false, given, memory, parsed, bad);
}

enum sn_verdict sn_option_check_given(const struct sn_option *rows, size_t count,
                                      const struct sn_given *given, struct sn_memory *memory,
                                      struct sn_parsed *parsed, struct sn_bad_option *bad)
{
    return check_rows(rows, count, true, given, memory, parsed, bad);
}

/* ---- checks ---- */

SN_CHECK(number)
{
    int64_t number;

    (void)memory;
    if (!sn_value_integer(value, &number) || number < option->min || number > option->max)
        return SN_WRONG;
    parsed->number = (uint64_t)number * (option->scale ? option->scale : 1);
    return SN_RIGHT;
}

SN_CHECK(word)
{
    (void)memory;
    for (size_t i = 0; i < SN_OPTION_WORDS_MAX && option->words[i]; i++) {
        if (sn_slice_is_atom(value, option->words[i])) {
            parsed->number = i;
            return SN_RIGHT;
        }
    }
    return SN_WRONG;
}

SN_CHECK(text)
{
    size_t len;

    if (!sn_value_text(value, NULL, 0, &len) || len < (size_t)option->min ||
        len > (size_t)option->max)
        return SN_WRONG;
    parsed->data = sn_memory_get(memory, len + 1, 1);
    if (!parsed->data)
        return SN_NO_MEMORY;
    (void)sn_value_text(value, parsed->data, len, &parsed->len);
    return memchr(parsed->data, 0, len) ? SN_WRONG : SN_RIGHT;
}

SN_CHECK(nothing)
{
    (void)option;
    (void)value;
    (void)memory;
    (void)parsed;
    return SN_WRONG;
}
