#include "sn_term.h"

#include "sn_tag.h"

#define ATOM_CHARS_MAX 255
#define REFERENCE_WORDS_MAX 5

static bool fail(struct sn_term_check *check, enum sn_term_result result)
{
    check->result = result;
    return false;
}

static size_t bytes_left(const struct sn_term_check *check)
{
    return (size_t)(check->end - check->at);
}

static bool skip(struct sn_term_check *check, uint64_t len)
{
    if (bytes_left(check) < len)
        return fail(check, SN_TERM_CUT);
    check->at += len;
    return true;
}

/* The head of a term that has to be of that kind, or of one up to that. */
static bool take_head_of(struct sn_term_check *check, enum sn_kind least, enum sn_kind most,
                         struct sn_head *head)
{
    bool is_whole = sn_head_at(check->at, bytes_left(check), head);

    if (check->at == check->end)
        return fail(check, SN_TERM_CUT);
    if (head->kind < least || head->kind > most)
        return fail(check, SN_TERM_BAD);
    if (!is_whole)
        return fail(check, SN_TERM_CUT);
    check->at = head->end;
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
        width = bytes[at] < 0x80 ? 1 : utf8_char(bytes + at, len - at);
        if (width == 0 || chars == ATOM_CHARS_MAX)
            return false;
    }
    return true;
}

static bool check_atom_text(struct sn_term_check *check, struct sn_head head, uint8_t tag)
{
    bool is_latin1 = sn_is_latin1(tag);

    if (head.count > (is_latin1 ? ATOM_CHARS_MAX : 4 * ATOM_CHARS_MAX))
        return fail(check, SN_TERM_BAD);
    if (!skip(check, head.count))
        return false;
    return is_latin1 || is_utf8_atom(head.end, head.count) ? true : fail(check, SN_TERM_BAD);
}

static bool check_atom(struct sn_term_check *check)
{
    const uint8_t *start = check->at;
    struct sn_head head;

    return take_head_of(check, SN_KIND_ATOM, SN_KIND_ATOM, &head) &&
           check_atom_text(check, head, *start);
}

static bool check_small_number(struct sn_term_check *check, enum sn_kind most)
{
    struct sn_head head;

    return take_head_of(check, SN_KIND_BYTE, most, &head) && skip(check, head.bytes);
}

/* Pids, ports and references: a node, then numbers. */
static bool check_node_and(struct sn_term_check *check, struct sn_head head)
{
    if (head.kind == SN_KIND_REFERENCE && (head.count == 0 || head.count > REFERENCE_WORDS_MAX))
        return fail(check, SN_TERM_BAD);
    return check_atom(check) && skip(check, head.bytes);
}

static bool check_bits(struct sn_term_check *check, struct sn_head head)
{
    if (check->at == check->end)
        return fail(check, SN_TERM_CUT);
    if ((*check->at == 0) != (head.count == 0) || *check->at > 8)
        return fail(check, SN_TERM_BAD);
    return skip(check, head.bytes);
}

/* Each term takes a byte or more. */
static bool expect_terms(struct sn_term_check *check, uint64_t count)
{
    if (count > bytes_left(check) || check->missing > bytes_left(check) - count)
        return fail(check, SN_TERM_CUT);
    check->missing += count;
    return true;
}

/* Its length counts from itself to the last free variable. */
static bool check_fun(struct sn_term_check *check, struct sn_head head, const uint8_t *start)
{
    uint64_t len = sp_get(start, 4);
    struct sn_head pid;

    if (len > (uint64_t)(check->end - start))
        return fail(check, SN_TERM_CUT);
    if (!check_atom(check) || !check_small_number(check, SN_KIND_INTEGER) ||
        !check_small_number(check, SN_KIND_INTEGER) ||
        !take_head_of(check, SN_KIND_PID, SN_KIND_PID, &pid) || !check_node_and(check, pid))
        return false;
    if (check->fun_count == SN_TERM_FUNS_MAX)
        return fail(check, SN_TERM_DEEP);
    check->funs[check->fun_count].missing = check->missing;
    check->funs[check->fun_count++].end = start + len;
    return expect_terms(check, head.count);
}

static bool check_one(struct sn_term_check *check)
{
    const uint8_t *start = check->at;
    struct sn_head head;

    if (!sn_head_at(check->at, bytes_left(check), &head))
        return fail(check, SN_TERM_CUT);
    check->at = head.end;
    check->missing--;
    switch (head.kind) {
    case SN_KIND_NONE:
    case SN_KIND_CACHED:
        return fail(check, SN_TERM_BAD);
    case SN_KIND_ATOM:
        return check_atom_text(check, head, *start);
    case SN_KIND_PID:
    case SN_KIND_PORT:
    case SN_KIND_REFERENCE:
        return check_node_and(check, head);
    case SN_KIND_BITS:
        return check_bits(check, head);
    case SN_KIND_FUN:
        return check_fun(check, head, start + 1);
    case SN_KIND_EXPORT:
        return check_atom(check) && check_atom(check) && check_small_number(check, SN_KIND_BYTE);
    case SN_KIND_TUPLE:
    case SN_KIND_MAP:
        return expect_terms(check, head.terms);
    default:
        return head.terms ? expect_terms(check, head.terms) : skip(check, head.bytes);
    }
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
    if (check->result != SN_TERM_OK)
        return check->result;
    check->terms++;
    if (check_one(check))
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
