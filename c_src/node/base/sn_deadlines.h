/* Times at which something is over, the earliest first: a binary heap of intrusive entries. No I/O,
 * no clock. */
#ifndef SN_DEADLINES_H
#define SN_DEADLINES_H

#include "core/base/sp_status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed at first. */
struct sn_deadline {
    uint64_t at_ns;
    size_t place; /* in the heap, from 1; 0: not set */
};

struct sn_deadlines {
    struct sn_deadline **heap; /* from heap[1] on */
    size_t count, cap;
};

void sn_deadlines_init(struct sn_deadlines *deadlines);
void sn_deadlines_free(struct sn_deadlines *deadlines);

/* Sets it, or moves it. SP_OK, or SP_NO_MEMORY: then it is not set. */
SP_MUST_CHECK sp_status sn_deadlines_set(struct sn_deadlines *deadlines,
                                         struct sn_deadline *deadline, uint64_t at_ns);
/* Does nothing where it is not set. */
void sn_deadlines_clear(struct sn_deadlines *deadlines, struct sn_deadline *deadline);

/* The earliest one where it has come, no longer set; or NULL. */
struct sn_deadline *sn_deadlines_due(struct sn_deadlines *deadlines, uint64_t now_ns);
/* When that is, or UINT64_MAX. */
uint64_t sn_deadlines_next(const struct sn_deadlines *deadlines);

#endif
