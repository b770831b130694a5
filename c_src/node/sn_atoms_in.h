/* The atoms that a node has told over one connection, and what it means when it then sends their numbers
 * (DFLAG_DIST_HDR_ATOM_CACHE; "Distribution Header" in the documentation of Erlang's external term
 * format). A frame with such a header becomes one without, so that nobody else need know of numbers. */
#ifndef SN_ATOMS_IN_H
#define SN_ATOMS_IN_H

#include "sp_status.h"

#include <stddef.h>
#include <stdint.h>

#define SN_ATOMS_IN_MAX 2048

struct sn_atoms_in {
    uint8_t **
        atoms; /* SN_ATOMS_IN_MAX in external format, NULL for none; NULL before the first header */
    uint8_t *frame; /* what the last header's frame has become */
    size_t cap;
};

/* Start with all zero. */
void sn_atoms_in_free(struct sn_atoms_in *atoms);

/* Takes frame[0..len), which is no tick. *plain has *plain_len bytes: 112, the control message and, where
 * there is one, the payload, each behind its version byte; they live until the next call. Terms are not
 * checked: what cannot be understood is left as it came. SP_OK; SP_BAD_DATA for a header that no node
 * sends; SP_TOO_BIG where more than `max` bytes would come of it; SP_NO_MEMORY. After these three the
 * connection cannot go on. */
SP_MUST_CHECK sp_status sn_atoms_in_take(struct sn_atoms_in *atoms, const uint8_t *frame,
                                         size_t len, size_t max, const uint8_t **plain,
                                         size_t *plain_len);

#endif
