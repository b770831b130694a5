/* What the stress program's threads share. */
#ifndef STRESS_THREADS_H
#define STRESS_THREADS_H

#include "core/pool/sp_control.h"
#include "core/pool/sp_grant.h"
#include "core/pool/sp_lease.h"
#include "core/pool/sp_snapshot.h"
#include "stress_host.h"

#define GRAVES 8
#define STUCK_S 60

/* What a process has in its hands: a wait, or a connection. */
struct handle {
    struct sp_waiter *waiter;
    struct sp_conn *conn;
    uint64_t lease;
    void *keepsake;
    bool lasting; /* given by a check-out: it held before the pool can have been shut */
};

struct letter;

struct worker {
    _Atomic uint64_t owner;
    struct letter *letters;
    unsigned letter_count, ops;
    struct handle graves[GRAVES];
};

extern struct sp_pool *pool;
/* Connections of an earlier epoch are of no use to anybody since the last shut was through. */
extern _Atomic uint64_t usable_epoch;

uint64_t new_owner(void);
/* As the destructor of the face's lease: with the process dead, or the handle collected. */
void drop(struct handle *handle);

void worker_start(struct worker *self, unsigned ops);
void worker_run(struct worker *self);
/* How many waits it had; ends the program where one was told too often or not at all. */
unsigned worker_judge(struct worker *self);

#endif
