/* Processes that come, wait, use a connection for a time and give it back, beside attempts that take theirs, by the virtual
 * clock, a millisecond after the other. */
#ifndef GROWTH_WORLD_H
#define GROWTH_WORLD_H

#include "kit/pool_kit.h"

#define WORLD_PROCESSES 30000

struct world {
    uint64_t connect_ms, use_ms; /* of what begins from now on */
    unsigned came, served, refused;
    unsigned steps;
    unsigned most; /* connections, with those under way, at any time */
    uint64_t worst_ms;
    /* Of each that came: how long it waited; what the pool took for the time of an attempt when it came; an attempt and a use
     * as they were meanwhile. */
    uint64_t waited_ms[WORLD_PROCESSES], expected_ms[WORLD_PROCESSES], own_ms[WORLD_PROCESSES];
};

extern struct world world;

/* A pool of kit_config, unopened until then, whose base is up and has been used `uses' times in a row. */
void world_begin(unsigned uses);
/* So many come now. Those who would not wait go, where nothing is idle. */
void world_come(unsigned count);
void world_come_hurried(unsigned count);
void world_run(uint64_t ms);
/* Until all that came have been served. */
void world_run_out(void);
/* Ends every lease, too. */
void world_end(void);

#endif
