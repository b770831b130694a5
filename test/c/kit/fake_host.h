/* The core's face as a test has it: connections from malloc with checked reference counts, a log of
 * what owners were told, a set of dead owners, a virtual clock.
 *
 * A broken rule (a reference too many dropped, a descriptor closed under a pin, a connection freed
 * before it was closed) ends the program by abort(). Not for more than one thread. */
#ifndef FAKE_HOST_H
#define FAKE_HOST_H

#include "core/pool/sp_queue.h"

/* What waiter_notify told an owner; conn and lease as they stood in the waiter. */
struct fake_note {
    struct sp_waiter *waiter;
    uint64_t owner;
    sp_status status;
    size_t sent;
    struct sp_conn *conn;
    uint64_t lease;
};

enum fake_point { FAKE_ON_ALIVE, FAKE_ON_NOTIFY, FAKE_ON_WATCH, FAKE_ON_WAKE, FAKE_POINTS };

extern const struct sp_host fake_host;

void fake_host_reset(void);
/* A call into the core at the virtual time, from the given home shard. */
struct sp_call *fake_host_call(unsigned shard);
/* With so many pieces for its allowance; what the last call has left. */
struct sp_call *fake_host_call_of(unsigned shard, int pieces);
int fake_pieces_left(void);
uint64_t fake_now_ns(void);
void fake_sleep_ms(uint64_t ms);

void fake_kill(uint64_t owner);
bool fake_alive(uint64_t owner);

/* Runs `hook` once, at the start of the next such call from the core. */
void fake_host_hook(enum fake_point point, void (*hook)(void *arg), void *arg);
/* The next so many: conn_new and rbuf_reserve give nothing; watch says false. */
void fake_refuse_conns(unsigned count);
void fake_refuse_rbufs(unsigned count);
void fake_refuse_watches(unsigned count);

struct sp_waiter *fake_waiter_new(struct sp_pool *pool, uint64_t owner, const struct iovec *iov,
                                  int iov_count);

/* What a check-in leaves with the connection. */
void *fake_keepsake_new(void);
void fake_keepsake_free(void *keepsake);
unsigned fake_keepsakes(void); /* that exist */

/* How many notes the owner got; its n-th last (0: the last). */
unsigned fake_notes(uint64_t owner);
unsigned fake_notes_all(void);
void fake_forget_notes(void);
const struct fake_note *fake_note_at(unsigned index); /* in the order of their being told */
const struct fake_note *fake_note(uint64_t owner, unsigned back);

unsigned fake_wakes(void);
sp_status fake_last_refusal(void); /* SP_OK: none so far */
unsigned fake_worker_stops(void);  /* never twice of one; each before it is gone */
unsigned fake_watches(void);
uint32_t fake_last_watch(struct sp_conn **conn); /* the generation */
unsigned fake_conns(void);                       /* that exist */
unsigned fake_waiters(void);
unsigned fake_conn_refs(const struct sp_conn *conn);

#endif
