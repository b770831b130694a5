/* Those who check idle connections: that answer, or do not, or die. */
#ifndef STRESS_CHECKS_H
#define STRESS_CHECKS_H

#include "stress_threads.h"

/* The control process's, after a step. True where it has to come again. */
bool stress_checks_begin(const struct sp_call *call, uint64_t *again_ns);
/* Takes one, and ends it somehow. False: there is none. */
bool stress_checks_end_one(void);

#endif
