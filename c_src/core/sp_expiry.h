/* Deadlines of waiters: a hashed timing wheel (scheme 6 of Varghese and Lauck, "Hashed and
 * Hierarchical Timing Wheels", SOSP 1987). Adding and removing take constant time; a slot has all
 * deadlines of one grain, and those of whole turns later.
 *
 * The wheel's lock is its user's. */
#ifndef SP_EXPIRY_H
#define SP_EXPIRY_H

#include "sp_list.h"

#include <stdint.h>

#define SP_EXPIRY_GRAIN_NS UINT64_C(100000000)
#define SP_EXPIRY_SLOTS 128

struct sp_deadline {
    struct sp_node node;
    uint64_t at_ns;
    bool set; /* it is in the wheel */
};

struct sp_expiry {
    struct sp_list slots[SP_EXPIRY_SLOTS];
    uint64_t swept; /* the grain up to which all slots were swept */
    size_t count;
};

void sp_expiry_init(struct sp_expiry *expiry);
void sp_expiry_add(struct sp_expiry *expiry, struct sp_deadline *deadline, uint64_t at_ns,
                   uint64_t now_ns);
/* Does nothing where it is not set. */
void sp_expiry_remove(struct sp_expiry *expiry, struct sp_deadline *deadline);
/* Removes a deadline that has passed, a grain ago at most where this is called until it gives NULL
 * at least once in each grain. */
struct sp_deadline *sp_expiry_next(struct sp_expiry *expiry, uint64_t now_ns);

#endif
