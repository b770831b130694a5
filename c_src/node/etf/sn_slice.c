#include "sn_slice.h"

#include "sn_scan.h"
#include "sn_tag.h"

#include <string.h>

bool sn_slice_take(struct sn_slice *rest, struct sn_slice *term)
{
    struct sn_scan scan = sn_scan_begin(rest->data, rest->len);
    enum sn_scan_event event;
    const uint8_t *found;

    do
        event = sn_scan_next(&scan, &found);
    while (event < SN_SCAN_DONE);
    if (event == SN_SCAN_LOST)
        return false;
    *term = (struct sn_slice){rest->data, (size_t)(scan.at - rest->data)};
    *rest = sn_slice_after(*rest, scan.at);
    return true;
}

int sn_slice_tuple(struct sn_slice term, struct sn_slice parts[SN_SLICE_PARTS_MAX])
{
    struct sn_head head = sn_head_of(term.data);
    struct sn_slice rest = sn_slice_after(term, head.end);

    if (head.kind != SN_KIND_TUPLE)
        return -1;
    for (uint64_t i = 0; i < head.count && i < SN_SLICE_PARTS_MAX; i++) {
        if (i == head.count - 1)
            parts[i] = rest; /* however large, it was checked */
        else if (!sn_slice_take(&rest, &parts[i]))
            return -1;
    }
    return head.count > INT32_MAX ? -1 : (int)head.count;
}

bool sn_slice_cons(struct sn_slice term, struct sn_slice *head, struct sn_slice *tail)
{
    struct sn_slice rest;

    if (term.data[0] != SN_TAG_LIST || sn_head_of(term.data).count != 1)
        return false;
    rest = sn_slice_after(term, sn_head_of(term.data).end);
    return sn_slice_take(&rest, head) && sn_slice_take(&rest, tail);
}

bool sn_slice_is_any_atom(struct sn_slice term)
{
    return sn_kind_of(term.data[0]) == SN_KIND_ATOM;
}

bool sn_slice_is_atom(struct sn_slice term, const char *text)
{
    struct sn_slice bytes;

    if (!sn_slice_is_any_atom(term))
        return false;
    bytes = sn_slice_after(term, sn_head_of(term.data).end);
    return bytes.len == strlen(text) && memcmp(bytes.data, text, bytes.len) == 0;
}

int sn_slice_byte(struct sn_slice term)
{
    return term.data[0] == SN_TAG_SMALL_INTEGER ? term.data[1] : -1;
}

bool sn_slice_is_pid(struct sn_slice term)
{
    return sn_kind_of(term.data[0]) == SN_KIND_PID;
}

bool sn_slice_is_this_pid(struct sn_slice term, const char *node, uint32_t number,
                          uint32_t creation)
{
    const uint8_t *numbers = term.data + term.len - 12;

    return term.data[0] == SN_TAG_NEW_PID &&
           sn_slice_is_atom((struct sn_slice){term.data + 1, term.len - 13}, node) &&
           sp_get(numbers, 4) == number && sp_get(numbers + 4, 4) == 0 &&
           sp_get(numbers + 8, 4) == creation;
}

struct sn_slice sn_slice_pid_node(struct sn_slice pid)
{
    return (struct sn_slice){pid.data + 1, pid.len - 1 - sn_head_of(pid.data).bytes};
}

bool sn_slice_is_reference(struct sn_slice term)
{
    return sn_kind_of(term.data[0]) == SN_KIND_REFERENCE;
}

bool sn_slice_reference_number(struct sn_slice term, uint64_t *number)
{
    if (term.data[0] != SN_TAG_NEWER_REFERENCE || sn_head_of(term.data).count != SN_REFERENCE_WORDS)
        return false;
    *number = sp_get(term.data + term.len - 8, 8);
    return true;
}

bool sn_slice_equals(struct sn_slice a, struct sn_slice b)
{
    return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}
