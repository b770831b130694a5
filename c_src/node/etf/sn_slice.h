/* A checked term, and its parts, where they lie: sn_term has been over all of it. */
#ifndef SN_SLICE_H
#define SN_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One term without a version byte. */
struct sn_slice {
    const uint8_t *data;
    size_t len;
};

/* What of it lies behind `at`. */
static inline struct sn_slice sn_slice_after(struct sn_slice slice, const uint8_t *at)
{
    return (struct sn_slice){at, slice.len - (size_t)(at - slice.data)};
}

/* Takes the first of the terms that *rest has one after the other; false where there is none. It looks at the
 * heads of the terms within, and at no text. */
bool sn_slice_take(struct sn_slice *rest, struct sn_slice *term);

/* Parts that nobody asks for are not looked at. */
#define SN_SLICE_PARTS_MAX 8

/* The elements of a tuple, the first SN_SLICE_PARTS_MAX of them; returns how many it has, or -1
 * where it is no tuple. */
int sn_slice_tuple(struct sn_slice term, struct sn_slice parts[SN_SLICE_PARTS_MAX]);

/* Head and tail of a list of one element and a tail: [alias|Ref]. */
bool sn_slice_cons(struct sn_slice term, struct sn_slice *head, struct sn_slice *tail);

/* The atom of that text; any atom. */
bool sn_slice_is_atom(struct sn_slice term, const char *text);
bool sn_slice_is_any_atom(struct sn_slice term);

/* A small number from 0 to 255, as the first element of a control message; -1 for anything else. */
int sn_slice_byte(struct sn_slice term);

bool sn_slice_is_pid(struct sn_slice term);
/* The pid {number, serial 0} of the node of that name and creation, in any encoding of the name. */
bool sn_slice_is_this_pid(struct sn_slice term, const char *node, uint32_t number,
                          uint32_t creation);
/* The name of a pid's node, as an atom. */
struct sn_slice sn_slice_pid_node(struct sn_slice pid);
bool sn_slice_is_reference(struct sn_slice term);
/* The number in a reference that sn_put_reference() wrote; false where it is of another form. */
#define SN_REFERENCE_WORDS 3
bool sn_slice_reference_number(struct sn_slice term, uint64_t *number);
bool sn_slice_equals(struct sn_slice a, struct sn_slice b);

#endif
