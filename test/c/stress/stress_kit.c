#include "stress_kit.h"

#include "core/base/sp_random.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static _Thread_local uint64_t rng;

void stress_die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("stress: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    _Exit(1);
}

void stress_seed(uint64_t seed)
{
    rng = seed;
}

uint64_t stress_random(uint64_t below)
{
    return sp_random(&rng) % below;
}
