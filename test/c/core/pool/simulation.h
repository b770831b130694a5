/* The simulation's operations: each is done to the model and to the core. */
#ifndef SIMULATION_H
#define SIMULATION_H

#include "simulation_model.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define HANDLES 40

enum kind { NONE, WAITING, GRANTED, FAILED, LEASE, ATTEMPT };

/* What the model knows of a handle. Each has an owner of its own. */
struct item {
    enum kind kind;
    struct handle *handle;
    uint64_t owner;
    bool request, begun;
    unsigned conn, serial;
};

struct simulation {
    uint64_t seed, rng, next_owner;
    uint64_t spared; /* attempts that were not made, since there would be no need for them */
    unsigned step;
    const char *operation;
    struct item items[HANDLES];
};

extern struct simulation sim;

#define SAME(real, expected, ...)                                                                  \
    do {                                                                                           \
        char what_[100];                                                                           \
        snprintf(what_, sizeof what_, __VA_ARGS__);                                                \
        cr_assert((real) == (expected), "seed %llu, step %u, %s: %s is %lld, not %lld",            \
                  (unsigned long long)sim.seed, sim.step, sim.operation, what_, (long long)(real), \
                  (long long)(expected));                                                          \
    } while (0)

unsigned sim_random(unsigned below);
/* The item of this owner, or NULL. */
struct item *sim_find(uint64_t owner);
/* One operation, chosen at random. */
void sim_operate(void);

#endif
