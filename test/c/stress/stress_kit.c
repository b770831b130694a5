#include "stress_kit.h"

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
    uint64_t z = (rng += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % below;
}
