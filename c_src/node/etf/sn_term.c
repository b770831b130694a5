#include "sn_term.h"

#include <stdbool.h>

enum tag {
    TAG_NEW_FLOAT = 70,
    TAG_BIT_BINARY = 77,
    TAG_NEW_PID = 88,
    TAG_NEW_PORT = 89,
    TAG_NEWER_REFERENCE = 90,
    TAG_SMALL_INTEGER = 97,
    TAG_INTEGER = 98,
    TAG_ATOM = 100,
    TAG_PORT = 102,
    TAG_PID = 103,
    TAG_SMALL_TUPLE = 104,
    TAG_LARGE_TUPLE = 105,
    TAG_NIL = 106,
    TAG_STRING = 107,
    TAG_LIST = 108,
    TAG_BINARY = 109,
    TAG_SMALL_BIG = 110,
    TAG_LARGE_BIG = 111,
    TAG_NEW_FUN = 112,
    TAG_EXPORT = 113,
    TAG_NEW_REFERENCE = 114,
    TAG_SMALL_ATOM = 115,
    TAG_MAP = 116,
    TAG_ATOM_UTF8 = 118,
    TAG_SMALL_ATOM_UTF8 = 119,
    TAG_V4_PORT = 120,
    TAG_VERSION = 131
};

#define ATOM_CHARS_MAX 255
#define REFERENCE_WORDS_MAX 5
#define FUN_UNIQ_BYTES 16

static bool fail(struct sn_term_check *check, enum sn_term_result result)
{
    check->result = result;
    return false;
}

static bool take(struct sn_term_check *check, size_t len, const uint8_t **bytes)
{
    if ((size_t)(check->end - check->at) < len)
        return fail(check, SN_TERM_CUT);
    *bytes = check->at;
    check->at += len;
    return true;
}

static bool skip(struct sn_term_check *check, size_t len)
{
    const uint8_t *bytes;

    return take(check, len, &bytes);
}

static bool take_number(struct sn_term_check *check, size_t width, uint32_t *number)
{
    const uint8_t *bytes;

    if (!take(check, width, &bytes))
        return false;
    *number = 0;
    for (size_t i = 0; i < width; i++)
        *number = *number << 8 | bytes[i];
    return true;
}

/* The length of the character that starts at bytes[0], or 0 where it is no UTF-8. */
static size_t utf8_char(const uint8_t *bytes, size_t len)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t width = bytes[0] < 0x80                       ? 1
                   : bytes[0] >= 0xc2 && bytes[0] < 0xe0 ? 2
                   : bytes[0] >= 0xe0 && bytes[0] < 0xf0 ? 3
                   : bytes[0] >= 0xf0 && bytes[0] < 0xf5 ? 4
                                                         : 0;
    uint32_t code = bytes[0] & (0xff >> (width + 1));

    if (width <= 1)
        return width;
    if (width > len)
        return 0;
    for (size_t i = 1; i < width; i++) {
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (bytes[i] & 0x3f);
    }
    return code < least[width] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0 : width;
}

static bool is_utf8_atom(const uint8_t *bytes, size_t len)
{
    size_t chars = 0;

    for (size_t at = 0, width; at < len; at += width, chars++) {
        width = utf8_char(bytes + at, len - at);
        if (width == 0 || chars == ATOM_CHARS_MAX)
            return false;
    }
    return true;
}

static bool is_atom_tag(uint32_t tag)
{
    return tag == TAG_ATOM || tag == TAG_SMALL_ATOM || tag == TAG_ATOM_UTF8 ||
           tag == TAG_SMALL_ATOM_UTF8;
}

static bool check_atom_text(struct sn_term_check *check, uint32_t tag)
{
    bool is_utf8 = tag == TAG_ATOM_UTF8 || tag == TAG_SMALL_ATOM_UTF8;
    bool is_small = tag == TAG_SMALL_ATOM || tag == TAG_SMALL_ATOM_UTF8;
    const uint8_t *text;
    uint32_t len;

    if (!take_number(check, is_small ? 1 : 2, &len))
        return false;
    if (len > (is_utf8 ? 4 * ATOM_CHARS_MAX : ATOM_CHARS_MAX))
        return fail(check, SN_TERM_BAD);
    if (!take(check, len, &text))
        return false;
    return !is_utf8 || is_utf8_atom(text, len) ? true : fail(check, SN_TERM_BAD);
}

static bool check_atom(struct sn_term_check *check)
{
    uint32_t tag;

    if (!take_number(check, 1, &tag))
        return false;
    return is_atom_tag(tag) ? check_atom_text(check, tag) : fail(check, SN_TERM_BAD);
}

static bool check_small_number(struct sn_term_check *check)
{
    uint32_t tag;

    if (!take_number(check, 1, &tag))
        return false;
    if (tag != TAG_SMALL_INTEGER && tag != TAG_INTEGER)
        return fail(check, SN_TERM_BAD);
    return skip(check, tag == TAG_INTEGER ? 4 : 1);
}

/* Pids and ports: a node, then numbers. */
static bool check_node_and(struct sn_term_check *check, size_t len)
{
    return check_atom(check) && skip(check, len);
}

static bool check_reference(struct sn_term_check *check, size_t creation_len)
{
    uint32_t words;

    if (!take_number(check, 2, &words))
        return false;
    if (words == 0 || words > REFERENCE_WORDS_MAX)
        return fail(check, SN_TERM_BAD);
    return check_node_and(check, creation_len + 4 * words);
}

static bool check_bytes(struct sn_term_check *check, size_t width, size_t more)
{
    uint32_t len;

    return take_number(check, width, &len) && skip(check, more) && skip(check, len);
}

static bool check_bits(struct sn_term_check *check)
{
    uint32_t len, bits;

    if (!take_number(check, 4, &len) || !take_number(check, 1, &bits))
        return false;
    if ((bits == 0) != (len == 0) || bits > 8)
        return fail(check, SN_TERM_BAD);
    return skip(check, len);
}

/* Each term takes a byte or more. */
static bool expect_terms(struct sn_term_check *check, uint64_t count)
{
    if (count > (uint64_t)(check->end - check->at) ||
        check->missing > (uint64_t)(check->end - check->at) - count)
        return fail(check, SN_TERM_CUT);
    check->missing += count;
    return true;
}

static bool check_container(struct sn_term_check *check, size_t width, uint64_t factor,
                            uint64_t more)
{
    uint32_t count;

    return take_number(check, width, &count) && expect_terms(check, count * factor + more);
}

/* Its length counts from itself to the last free variable. */
static bool check_fun(struct sn_term_check *check)
{
    const uint8_t *start = check->at;
    uint32_t len, free_count;

    if (!take_number(check, 4, &len))
        return false;
    if (len > (uint64_t)(check->end - start))
        return fail(check, SN_TERM_CUT);
    if (!skip(check, 1 + FUN_UNIQ_BYTES + 4) || !take_number(check, 4, &free_count) ||
        !check_atom(check) || !check_small_number(check) || !check_small_number(check))
        return false;
    if (check->at == check->end)
        return fail(check, SN_TERM_CUT);
    if (*check->at != TAG_PID && *check->at != TAG_NEW_PID)
        return fail(check, SN_TERM_BAD);
    if (!check_node_and(check, *check->at++ == TAG_PID ? 9 : 12))
        return false;
    if (check->fun_count == SN_TERM_FUNS_MAX)
        return fail(check, SN_TERM_DEEP);
    check->funs[check->fun_count].missing = check->missing;
    check->funs[check->fun_count++].end = start + len;
    return expect_terms(check, free_count);
}

static bool check_export(struct sn_term_check *check)
{
    uint32_t tag;

    if (!check_atom(check) || !check_atom(check) || !take_number(check, 1, &tag))
        return false;
    return tag == TAG_SMALL_INTEGER ? skip(check, 1) : fail(check, SN_TERM_BAD);
}

static bool check_one(struct sn_term_check *check)
{
    uint32_t tag;

    check->terms++;
    check->missing--;
    if (!take_number(check, 1, &tag))
        return false;
    switch ((enum tag)tag) {
    case TAG_SMALL_INTEGER:
        return skip(check, 1);
    case TAG_INTEGER:
        return skip(check, 4);
    case TAG_SMALL_BIG:
        return check_bytes(check, 1, 1);
    case TAG_LARGE_BIG:
        return check_bytes(check, 4, 1);
    case TAG_NEW_FLOAT:
        return skip(check, 8);
    case TAG_ATOM:
    case TAG_SMALL_ATOM:
    case TAG_ATOM_UTF8:
    case TAG_SMALL_ATOM_UTF8:
        return check_atom_text(check, tag);
    case TAG_PID:
        return check_node_and(check, 9);
    case TAG_NEW_PID:
    case TAG_V4_PORT:
        return check_node_and(check, 12);
    case TAG_PORT:
        return check_node_and(check, 5);
    case TAG_NEW_PORT:
        return check_node_and(check, 8);
    case TAG_NEW_REFERENCE:
        return check_reference(check, 1);
    case TAG_NEWER_REFERENCE:
        return check_reference(check, 4);
    case TAG_STRING:
        return check_bytes(check, 2, 0);
    case TAG_BINARY:
        return check_bytes(check, 4, 0);
    case TAG_BIT_BINARY:
        return check_bits(check);
    case TAG_NIL:
        return true;
    case TAG_SMALL_TUPLE:
        return check_container(check, 1, 1, 0);
    case TAG_LARGE_TUPLE:
        return check_container(check, 4, 1, 0);
    case TAG_LIST:
        return check_container(check, 4, 1, 1);
    case TAG_MAP:
        return check_container(check, 4, 2, 0);
    case TAG_NEW_FUN:
        return check_fun(check);
    case TAG_EXPORT:
        return check_export(check);
    case TAG_VERSION:
        break;
    }
    return fail(check, SN_TERM_BAD);
}

/* A term has ended: so may have the funs that it was the last of. */
static bool close_funs(struct sn_term_check *check)
{
    while (check->fun_count && check->funs[check->fun_count - 1].missing == check->missing)
        if (check->funs[--check->fun_count].end != check->at)
            return fail(check, SN_TERM_BAD);
    return true;
}

void sn_term_begin(struct sn_term_check *check, const uint8_t *buf, size_t len)
{
    check->at = buf;
    check->end = buf + len;
    check->missing = 1;
    check->terms = 0;
    check->result = SN_TERM_OK;
    check->fun_count = 0;
}

enum sn_term_result sn_term_step(struct sn_term_check *check)
{
    if (check->result == SN_TERM_OK && check_one(check))
        (void)close_funs(check);
    return check->result;
}

enum sn_term_result sn_term_go_on(struct sn_term_check *check, uint64_t left, size_t *pieces)
{
    while (check->missing > left && check->result == SN_TERM_OK) {
        if (*pieces == 0)
            return SN_TERM_AGAIN;
        --*pieces;
        (void)sn_term_step(check);
    }
    return check->result;
}

enum sn_term_result sn_term_check(const uint8_t *buf, size_t len, size_t *used)
{
    struct sn_term_check check;
    size_t pieces = SIZE_MAX;
    enum sn_term_result result;

    sn_term_begin(&check, buf, len);
    result = sn_term_go_on(&check, 0, &pieces);
    *used = (size_t)(check.at - buf);
    return result;
}

const char *sn_term_result_text(enum sn_term_result result)
{
    switch (result) {
    case SN_TERM_OK:
        return "a whole term";
    case SN_TERM_CUT:
        return "cut off";
    case SN_TERM_BAD:
        return "not in external term format";
    case SN_TERM_LONG:
        return "too long";
    case SN_TERM_DEEP:
        return "nested too deep";
    case SN_TERM_AGAIN:
        break;
    }
    return "not checked yet";
}
