/* Goes over a term in external format from one atom to the next, for those who exchange atoms for something
 * else, or want to know where it ends. The bytes need not be checked: it never leaves them, but of what it
 * passes over it looks at lengths only. Flat: the time is linear, and the depth does not matter. */
#ifndef SN_SCAN_H
#define SN_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sn_scan_event {
    SN_SCAN_ATOM,   /* an atom, with its text */
    SN_SCAN_CACHED, /* an atom that is a number in the atom cache: 82, number */
    SN_SCAN_FUN,    /* the 4 bytes of a fun's size, which count themselves and all to its end */
    SN_SCAN_DONE,   /* the term is over */
    SN_SCAN_LOST,   /* cut off, or nothing that is known here */
    SN_SCAN_AGAIN   /* nothing of interest in so many terms */
};

struct sn_scan {
    const uint8_t *at, *end;
    uint64_t missing; /* terms */
    uint64_t behind;  /* bytes of numbers that follow the atom: of a pid, a port or a reference */
    bool atom_only;   /* nothing but an atom may come next */
    size_t pieces;    /* terms until SN_SCAN_AGAIN; the caller's to set */
};

/* From the start of one term, which may have other bytes behind it, without a limit of pieces. */
struct sn_scan sn_scan_begin(const uint8_t *data, size_t len);

/* What comes next, from *found to scan->at; after SN_SCAN_AGAIN everything up to there is passed over. After
 * SN_SCAN_DONE that is where the term ends, after SN_SCAN_LOST somewhere before the end of the trouble; both
 * come again and again. */
enum sn_scan_event sn_scan_next(struct sn_scan *scan, const uint8_t **found);

#endif
