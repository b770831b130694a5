#include "sp_stall.h"

#include "core/conn/sp_tcp_info.h"

/* So often the system has repeated it, after pauses that double: some three seconds. */
#define RETRANSMITS 4
#define HELD_NS (3000 * SP_MS)
/* Each is a system call. */
#define LOOKS_PER_TICK 32

void sp_stall_tick(struct sp_pool *pool)
{
    /* The last tick has come to the end of the table with looks to spare. */
    if (pool->stall.looks > 0)
        pool->stall.from = 0;
    pool->stall.looks = LOOKS_PER_TICK;
}

static bool is_looked_for(struct sp_pool *pool, const struct sp_conn *conn)
{
    const struct sp_sockopts *opts = &pool->control.config.sockopts;

    return pool->host->stalled && !opts->user_timeout_ms && !opts->silence_s &&
           pool->stall.looks > 0 && conn->slot >= pool->stall.from && !conn->worker &&
           sp_conn_state(conn) == SP_CONN_LEASED && !atomic_load(&conn->checked);
}

void sp_stall_sweep(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    uint64_t lease, owner, leased_ns;
    struct sp_tcp_info info;
    bool told;

    if (!is_looked_for(pool, conn))
        return;
    lease = atomic_load(&conn->lease);
    owner = atomic_load(&conn->owner);
    leased_ns = atomic_load(&conn->leased_ns);
    if (lease == SP_LEASE_NONE || lease == SP_LEASE_MOVING || conn->stalled == lease ||
        call->now_ns < leased_ns + HELD_NS || !sp_conn_enter(conn, lease, call))
        return;
    pool->stall.looks--;
    pool->stall.from = conn->slot + 1;
    sp_take(call, SP_PIECES_SYSCALL);
    told = sp_tcp_info(conn, &info);
    sp_conn_leave(conn, call);
    if (!told || info.retransmits < RETRANSMITS || info.unacked == 0)
        return;
    conn->stalled = lease;
    pool->host->stalled(call, conn, owner, &info, call->now_ns - leased_ns);
}
