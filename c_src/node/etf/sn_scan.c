#include "sn_scan.h"

#include "core/base/sp_bytes.h"

/* Of a fun, behind its tag: size, arity, MD5, index, count of free variables. */
#define FUN_BYTES (4 + 1 + 16 + 4 + 4)
/* Behind that and before the free variables: module, old index, old unique number, pid. */
#define FUN_TERMS 4

struct sn_scan sn_scan_begin(const uint8_t *data, size_t len)
{
    return (struct sn_scan){.at = data, .end = data + len, .missing = 1, .pieces = SIZE_MAX};
}

static bool has(const struct sn_scan *scan, uint64_t len)
{
    return (uint64_t)(scan->end - scan->at) >= len;
}

static bool skip(struct sn_scan *scan, uint64_t len)
{
    if (!has(scan, len))
        return false;
    scan->at += len;
    return true;
}

static bool take(struct sn_scan *scan, size_t width, uint64_t *number)
{
    const uint8_t *bytes = scan->at;

    if (!skip(scan, width))
        return false;
    *number = sp_get(bytes, width);
    return true;
}

/* A length, `more` bytes, and so many bytes as the length says. */
static bool skip_bytes(struct sn_scan *scan, size_t width, uint64_t more)
{
    uint64_t len;

    return take(scan, width, &len) && skip(scan, more + len);
}

static bool enter(struct sn_scan *scan, size_t width, uint64_t factor, uint64_t more)
{
    uint64_t count;

    if (!take(scan, width, &count))
        return false;
    scan->missing += count * factor + more;
    return true;
}

static bool expect_atom(struct sn_scan *scan, size_t behind)
{
    scan->missing++;
    scan->atom_only = true;
    scan->behind = behind;
    return true;
}

static bool enter_reference(struct sn_scan *scan, size_t creation_bytes)
{
    uint64_t words;

    return take(scan, 2, &words) && expect_atom(scan, creation_bytes + 4 * (size_t)words);
}

static bool enter_fun(struct sn_scan *scan)
{
    if (!has(scan, FUN_BYTES))
        return false;
    scan->missing += FUN_TERMS + sp_get(scan->at + FUN_BYTES - 4, 4);
    return skip(scan, FUN_BYTES);
}

static bool pass(struct sn_scan *scan, uint8_t tag)
{
    switch (tag) {
    case 'a':
        return skip(scan, 1);
    case 'b':
        return skip(scan, 4);
    case 'F':
        return skip(scan, 8);
    case 'j':
        return true;
    case 'k':
        return skip_bytes(scan, 2, 0);
    case 'm':
        return skip_bytes(scan, 4, 0);
    case 'M':
        return skip_bytes(scan, 4, 1);
    case 'n':
        return skip_bytes(scan, 1, 1);
    case 'o':
        return skip_bytes(scan, 4, 1);
    case 'h':
        return enter(scan, 1, 1, 0);
    case 'i':
        return enter(scan, 4, 1, 0);
    case 'l':
        return enter(scan, 4, 1, 1);
    case 't':
        return enter(scan, 4, 2, 0);
    case 'X':
    case 'x':
        return expect_atom(scan, 12);
    case 'g':
        return expect_atom(scan, 9);
    case 'Y':
        return expect_atom(scan, 8);
    case 'f':
        return expect_atom(scan, 5);
    case 'Z':
        return enter_reference(scan, 4);
    case 'r':
        return enter_reference(scan, 1);
    case 'q':
        scan->missing += 3;
        return true;
    default:
        return false;
    }
}

static bool is_atom(uint8_t tag)
{
    return tag == 'w' || tag == 's' || tag == 'v' || tag == 'd';
}

/* SN_SCAN_DONE: a term that is none of those that are reported, or the start of one. */
static enum sn_scan_event next_term(struct sn_scan *scan, const uint8_t **found)
{
    uint8_t tag;

    if (!has(scan, 1))
        return SN_SCAN_LOST;
    *found = scan->at;
    tag = *scan->at++;
    scan->missing--;
    if (is_atom(tag) || tag == 'R') {
        scan->atom_only = false;
        if (tag == 'R')
            return skip(scan, 1) ? SN_SCAN_CACHED : SN_SCAN_LOST;
        return skip_bytes(scan, tag == 'w' || tag == 's' ? 1 : 2, 0) ? SN_SCAN_ATOM : SN_SCAN_LOST;
    }
    if (scan->atom_only)
        return SN_SCAN_LOST;
    if (tag == 'p') {
        *found = scan->at;
        return enter_fun(scan) ? SN_SCAN_FUN : SN_SCAN_LOST;
    }
    return pass(scan, tag) ? SN_SCAN_DONE : SN_SCAN_LOST;
}

enum sn_scan_event sn_scan_next(struct sn_scan *scan, const uint8_t **found)
{
    enum sn_scan_event event = SN_SCAN_DONE;

    if (!scan->atom_only) {
        if (!skip(scan, scan->behind))
            event = SN_SCAN_LOST;
        scan->behind = 0;
    }
    while (event == SN_SCAN_DONE && scan->missing) {
        if (scan->pieces == 0 && has(scan, 1)) {
            *found = scan->at;
            return SN_SCAN_AGAIN;
        }
        scan->pieces -= scan->pieces > 0;
        event = next_term(scan, found);
    }
    if (event == SN_SCAN_LOST)
        *scan =
            (struct sn_scan){.at = scan->at, .end = scan->at, .missing = 1, .pieces = scan->pieces};
    return event;
}
