/* What every stress of threads has. */
#ifndef STRESS_KIT_H
#define STRESS_KIT_H

#include <stdint.h>

/* splitmix64; each thread has its own. */
void stress_seed(uint64_t seed);
uint64_t stress_random(uint64_t below);

__attribute__((noreturn, format(printf, 1, 2))) void stress_die(const char *format, ...);

#endif
