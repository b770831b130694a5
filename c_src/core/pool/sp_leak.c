#include "sp_leak.h"

void sp_leak_look(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                  uint64_t lease, uint64_t owner, uint64_t leased_ns)
{
    uint64_t threshold_ns = pool->control.config.leak_threshold_ns;

    if (threshold_ns == SP_NEVER || call->now_ns <= leased_ns + threshold_ns ||
        atomic_load(&conn->leaked) == lease || sp_conn_state(conn) != SP_CONN_LEASED ||
        atomic_load(&conn->checked))
        return;
    atomic_store(&conn->leaked_since_ns, leased_ns);
    atomic_store(&conn->leaked, lease);
    sp_count(sp_pool_home(pool, call), leaked);
    pool->host->leak(call, conn, owner, call->now_ns - leased_ns);
}

void sp_leak_look_for_end(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn)
{
    uint64_t lease = atomic_load(&conn->lease), leaked = atomic_load(&conn->leaked);

    if (!leaked || lease == leaked || lease == SP_LEASE_MOVING)
        return;
    pool->host->leak(call, conn, SP_OWNER_POOL, call->now_ns - atomic_load(&conn->leaked_since_ns));
    atomic_store(&conn->leaked, 0);
}
