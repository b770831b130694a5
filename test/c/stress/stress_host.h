/* Sockets and a host for threads. They order nothing between threads that the core should order
 * itself: the sockets' state is in relaxed atomics, and only messages synchronise, as they do in
 * the VM. Broken rules (a call on a closed descriptor, a reference too many dropped) end the
 * program. */
#ifndef STRESS_HOST_H
#define STRESS_HOST_H

#include "core/pool/sp_queue.h"
#include "core/base/sp_sys.h"
#include "stress_kit.h"

/* The answer to one wait. It outlives its waiter: it is judged at the end. */
struct mail {
    _Atomic unsigned told;
    _Atomic int status;
    _Atomic size_t sent;
};

struct stress_waiter {
    struct sp_waiter core;
    struct mail *mail;
};

struct stress_conn {
    struct sp_conn core;
    _Atomic unsigned refs;
    _Atomic unsigned inside; /* threads between enter and leave */
};

extern const struct sp_host stress_host;
extern const struct sp_sys stress_sys;

/* Runs 50 times as fast as the wall's clock, so that slow things happen too. */
uint64_t stress_now_ns(void);
struct sp_call stress_call(void); /* from a random shard */

void stress_kill(uint64_t owner);
bool stress_alive(uint64_t owner);

struct stress_waiter *stress_waiter_new(struct sp_pool *pool, uint64_t owner, struct mail *mail);

/* The peer closes the connection. */
void stress_peer_closes(int fd);
/* Something can be read, or the stream is shut down. */
bool stress_readable(int fd);
bool stress_unread(int fd);
/* Takes one watch that was asked for; false where there is none. */
bool stress_take_watch(uint32_t *slot, uint32_t *generation, int *fd);
bool stress_take_wake(void);
/* Part of the connects fail from now on. */
void stress_backend_fails(bool on);

void *stress_keepsake_new(void);
void stress_keepsake_free(void *keepsake);

/* How often a close was told, of pools that are listened to. */
uint64_t stress_closes_told(void);

/* What exists. */
unsigned stress_conns(void), stress_waiters(void), stress_fds(void), stress_keepsakes(void);

#endif
