#include "sn_slice.h"

#include "core/base/sp_bytes.h"
#include "sn_term.h"

#include <string.h>

bool sn_slice_take(struct sn_slice *rest, struct sn_slice *term)
{
    size_t used;

    if (sn_term_check(rest->data, rest->len, &used) != SN_TERM_OK)
        return false;
    *term = (struct sn_slice){rest->data, used};
    rest->data += used;
    rest->len -= used;
    return true;
}

static struct sn_slice after(struct sn_slice term, size_t len)
{
    return (struct sn_slice){term.data + len, term.len - len};
}

int sn_slice_tuple(struct sn_slice term, struct sn_slice parts[SN_SLICE_PARTS_MAX])
{
    size_t width = term.data[0] == 'h' ? 1 : 4;
    struct sn_slice rest;
    uint64_t arity;

    if (term.data[0] != 'h' && term.data[0] != 'i')
        return -1;
    arity = sp_get(term.data + 1, width);
    rest = after(term, 1 + width);
    for (uint64_t i = 0; i < arity && i < SN_SLICE_PARTS_MAX; i++) {
        if (i == arity - 1)
            parts[i] = rest; /* however large, it was checked */
        else if (!sn_slice_take(&rest, &parts[i]))
            return -1;
    }
    return arity > INT32_MAX ? -1 : (int)arity;
}

bool sn_slice_cons(struct sn_slice term, struct sn_slice *head, struct sn_slice *tail)
{
    struct sn_slice rest;

    if (term.data[0] != 'l' || sp_get(term.data + 1, 4) != 1)
        return false;
    rest = after(term, 5);
    return sn_slice_take(&rest, head) && sn_slice_take(&rest, tail);
}

/* The bytes before an atom's text; 0 for what is no atom. */
static size_t atom_head(struct sn_slice term)
{
    return term.data[0] == 'w' || term.data[0] == 's'   ? 2
           : term.data[0] == 'v' || term.data[0] == 'd' ? 3
                                                        : 0;
}

bool sn_slice_is_any_atom(struct sn_slice term)
{
    return atom_head(term) > 0;
}

bool sn_slice_is_atom(struct sn_slice term, const char *text)
{
    size_t head = atom_head(term);

    return head && term.len == head + strlen(text) &&
           memcmp(term.data + head, text, term.len - head) == 0;
}

int sn_slice_byte(struct sn_slice term)
{
    return term.data[0] == 'a' ? term.data[1] : -1;
}

bool sn_slice_is_pid(struct sn_slice term)
{
    return term.data[0] == 'X' || term.data[0] == 'g';
}

bool sn_slice_is_this_pid(struct sn_slice term, const char *node, uint32_t number,
                          uint32_t creation)
{
    const uint8_t *numbers = term.data + term.len - 12;

    return term.data[0] == 'X' &&
           sn_slice_is_atom((struct sn_slice){term.data + 1, term.len - 13}, node) &&
           sp_get(numbers, 4) == number && sp_get(numbers + 4, 4) == 0 &&
           sp_get(numbers + 8, 4) == creation;
}

struct sn_slice sn_slice_pid_node(struct sn_slice pid)
{
    return (struct sn_slice){pid.data + 1, pid.len - 1 - (pid.data[0] == 'X' ? 12 : 9)};
}

bool sn_slice_is_reference(struct sn_slice term)
{
    return term.data[0] == 'Z' || term.data[0] == 'r';
}

bool sn_slice_reference_number(struct sn_slice term, uint64_t *number)
{
    if (term.data[0] != 'Z' || sp_get(term.data + 1, 2) != SN_REFERENCE_WORDS)
        return false;
    *number = sp_get(term.data + term.len - 8, 8);
    return true;
}

bool sn_slice_equals(struct sn_slice a, struct sn_slice b)
{
    return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}
