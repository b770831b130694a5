/* Deadlines of waiters: a hashed timing wheel (scheme 6 of Varghese and Lauck, "Hashed and
 * Hierarchical Timing Wheels", SOSP 1987). Adding and removing take constant time; a slot has all
 * deadlines of one grain, and those of whole turns later. A slot whose grain is over is emptied into
 * `sweeping`, from where each of its deadlines is given, or goes back: so each is looked at once in a
 * turn, however many there are and in however many calls.
 *
 * The wheel's lock is its user's. */
#ifndef SP_EXPIRY_H
#define SP_EXPIRY_H

#include "sp_list.h"

#include <stdint.h>

#define SP_EXPIRY_GRAIN_NS UINT64_C(100000000)
#define SP_EXPIRY_SLOTS 128

struct sp_deadline {
    struct sp_list_node node;
    uint64_t at_ns;
    bool set; /* it is in the wheel */
};

struct sp_expiry {
    struct sp_list slots[SP_EXPIRY_SLOTS];
    struct sp_list sweeping; /* of the slot of `swept`, those that were not looked at yet */
    uint64_t swept;          /* the grain up to which all slots were emptied */
    size_t count;
};

void sp_expiry_init(struct sp_expiry *expiry);
void sp_expiry_add(struct sp_expiry *expiry, struct sp_deadline *deadline, uint64_t at_ns,
                   uint64_t now_ns);
/* Does nothing where it is not set. */
void sp_expiry_remove(struct sp_expiry *expiry, struct sp_deadline *deadline);
/* Removes a deadline that has passed, a grain ago at most where this is called until it gives NULL and
 * says that there are no more, at least once in each grain. Looks at SP_LOOKS_PER_PIECE places at most:
 * NULL with *more means that it has not seen all. */
struct sp_deadline *sp_expiry_next(struct sp_expiry *expiry, uint64_t now_ns, bool *more);

#endif
