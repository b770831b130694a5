/* A pool on fake sockets and a fake host, with handles that play the part of the face's leases. One
 * pool per process: Criterion runs each test in its own.
 *
 * kit_close() ends every test: it drops what the test still holds, as garbage collection would,
 * shuts the pool, and finds that no connection, waiter or descriptor is left. */
#ifndef POOL_KIT_H
#define POOL_KIT_H

#include "fake_host.h"
#include "fake_sys.h"
#include "core/pool/sp_close.h"
#include "core/pool/sp_control.h"
#include "core/pool/sp_grant.h"
#include "core/pool/sp_health.h"
#include "core/pool/sp_lease.h"
#include "core/pool/sp_snapshot.h"
#include "core/conn/sp_recv.h"
#include "core/pool/sp_table.h"

/* What a process has in its hands: a wait, a connector's attempt, or a lease. */
struct handle {
    uint64_t owner;
    struct sp_waiter *waiter;
    struct sp_conn *conn;
    uint64_t lease;
    void *keepsake; /* what the check-out found; left again at check-in */
};

/* A Criterion test that ends by kit_close(). Not by .fini: what fails there does not fail the test.
 */
#define KIT_TEST(suite, name, ...)                                                                 \
    static void suite##_##name##_body(void);                                                       \
    Test(suite, name, ##__VA_ARGS__)                                                               \
    {                                                                                              \
        suite##_##name##_body();                                                                   \
        kit_close();                                                                               \
    }                                                                                              \
    static void suite##_##name##_body(void)

#define KIT_OWNER 7
#define KIT_OTHER 8

extern struct sp_pool *kit_pool;
extern struct sp_config kit_config; /* for the next kit_open(); kit_init() sets defaults */

/* An unopened pool. Defaults: size 2, no overflow, lifo, validate always, overflow_ttl 10 s,
 * back-off 100 ms to 10 s, no max_hold, no max_waiting, raw packets, replies, tcp. */
void kit_init(unsigned shards);
void kit_open(void);
/* kit_init(1), kit_open() with this size and overflow, and every base connection up. */
void kit_start(unsigned size, unsigned max_overflow);
void kit_close(void);
void kit_shut(enum sp_phase phase, sp_status status); /* all slices */
/* The call that all others are made with; the shard can be set for the next ones. */
struct sp_call *kit_call(void);
/* How much each of the next ones may do. */
void kit_allow(int pieces);
void kit_home(unsigned shard);

/* One control step; the attempts become handles without an owner. */
size_t kit_step(struct handle **attempts, size_t max, struct sp_plan *plan);
/* Connects the attempt, at once, and makes it ready for the pool. */
void kit_connect(struct handle *attempt, uint64_t connector);
/* Steps and connects until nothing more is wanted; how many were connected. */
unsigned kit_grow(void);
void kit_tick(void); /* all slices of one round */

/* Asserts success. */
struct handle *kit_checkout(uint64_t owner);
/* NULL where the pool's answer is not SP_OK; *status is it. */
struct handle *kit_try_checkout(uint64_t owner, sp_status *status);
struct handle *kit_enqueue(uint64_t owner);
struct handle *kit_enqueue_for(uint64_t owner, uint64_t ms); /* then the tick ends it */
struct handle *kit_request(uint64_t owner, const struct iovec *iov, int iov_count);
struct handle *kit_try_enqueue(uint64_t owner, const struct iovec *iov, int iov_count,
                               sp_status *status);
/* For a connection that is being made, or can be, only. */
struct handle *kit_enqueue_growing(uint64_t owner, sp_status *status);
enum sp_waiter_state kit_cancel(struct handle *handle);
/* After a grant: the waiter's connection becomes the handle's. */
bool kit_adopt(struct handle *handle);
/* These drop the handle unless the answer is SP_BUSY. */
sp_status kit_checkin(struct handle *handle);
sp_status kit_checkin_clean(struct handle *handle);
sp_status kit_discard(struct handle *handle);
/* As the destructor of the face's lease does. */
void kit_drop(struct handle *handle);

struct sp_snapshot kit_stats(void);
/* At a quiet moment: gauges add up, lists and states agree, nobody waits beside an idle connection.
 */
void kit_check(void);

#endif
