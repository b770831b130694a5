#include "sn_scan.h"

#include "sn_tag.h"

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

/* SN_SCAN_DONE: a term that is none of those that are reported, or the start of one. */
static enum sn_scan_event next_term(struct sn_scan *scan, const uint8_t **found)
{
    enum sn_scan_event event = SN_SCAN_DONE;
    struct sn_head head;
    enum sn_kind kind;

    *found = scan->at;
    if (!sn_head_at(scan->at, (size_t)(scan->end - scan->at), &head))
        return SN_SCAN_LOST;
    kind = head.kind;
    scan->at = head.end;
    if (kind == SN_KIND_ATOM)
        event = SN_SCAN_ATOM;
    else if (kind == SN_KIND_CACHED)
        event = SN_SCAN_CACHED;
    else if (kind == SN_KIND_NONE || scan->atom_only)
        return SN_SCAN_LOST;
    scan->atom_only = kind == SN_KIND_PID || kind == SN_KIND_PORT || kind == SN_KIND_REFERENCE;
    if (scan->atom_only) {
        scan->behind = head.bytes;
        return SN_SCAN_DONE;
    }
    scan->missing += head.terms - 1;
    if (kind == SN_KIND_FUN) {
        ++*found;
        return SN_SCAN_FUN;
    }
    return skip(scan, head.bytes) ? event : SN_SCAN_LOST;
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
