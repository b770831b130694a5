/* The atoms that a node has told over one connection, and what it means when it then sends their numbers
 * (DFLAG_DIST_HDR_ATOM_CACHE; "Distribution Header" in the documentation of Erlang's external term
 * format). A frame with such a header becomes one without, so that nobody else need know of numbers. */
#ifndef SN_ATOMS_IN_H
#define SN_ATOMS_IN_H

#include "sn_operation.h"
#include "node/etf/sn_scan.h"
#include "core/base/sp_status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SN_ATOMS_IN_MAX 2048

/* Funs within funs whose sizes are put right. One with more is left wrong, and so not understood. */
#define SN_ATOMS_IN_FUNS_MAX 8

struct sn_atoms_in {
    uint8_t **
        atoms; /* SN_ATOMS_IN_MAX in external format, NULL for none; NULL before the first header */
    uint8_t *plain; /* what the frame becomes */
    size_t cap, len, max;

    /* The frame that is being taken. */
    const uint8_t *frame, *end, *copied,
        *due; /* up to `copied' it is in the new one; up to `due' it can be */
    sp_status status;
    struct sn_scan scan;
    enum sn_scan_event event; /* which comes once all that is due is copied */
    bool in_payload;
    unsigned ref_count;
    uint16_t refs[SN_ATOM_HEADER_MAX]; /* by the header, numbers of the cache */
    unsigned fun_count;
    struct {
        uint64_t end;   /* in the old frame, from its start */
        size_t size_at; /* in the new one */
    } funs[SN_ATOMS_IN_FUNS_MAX];
};

/* Start with all zero. */
void sn_atoms_in_free(struct sn_atoms_in *atoms);

/* Takes the header of frame[0..len), which is no tick and lives until all of it is taken. More than `max' bytes
 * do not come of it. SP_OK; SP_BAD_DATA for a header that no node sends; SP_NO_MEMORY. After these two the
 * connection cannot go on. */
SP_MUST_CHECK sp_status sn_atoms_in_begin(struct sn_atoms_in *atoms, const uint8_t *frame,
                                          size_t len, size_t max);

/* Takes its terms, one or 64 bytes for each piece. SP_OK: atoms->plain has atoms->len bytes: 112, the control
 * message and, where there is one, the payload, each behind its version byte; they live until the next header.
 * Terms are not checked: what cannot be understood is left as it came. SP_TOO_BIG: the same, but only the
 * beginning, as long as allowed. SP_AGAIN: *pieces is used up. SP_NO_MEMORY as above. */
SP_MUST_CHECK sp_status sn_atoms_in_go_on(struct sn_atoms_in *atoms, size_t *pieces);

#endif
