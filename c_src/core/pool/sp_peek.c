#include "sp_peek.h"

#include "sp_shard.h"

/* Of one that is usable: numbers of leases are given in turn. */
static uint64_t leases(const struct sp_conn *conn, uint64_t lease)
{
    return lease > conn->born_leases ? lease - conn->born_leases : 0;
}

/* The same number before and after: owner and time belong to it, as in a sweep. */
static void look_at_lease(const struct sp_call *call, struct sp_conn *conn, struct sp_peek *peek)
{
    uint64_t lease = atomic_load(&conn->lease);
    uint64_t owner = atomic_load(&conn->owner), leased_ns = atomic_load(&conn->leased_ns);

    if (lease == SP_LEASE_NONE || lease == SP_LEASE_MOVING || atomic_load(&conn->lease) != lease)
        return;
    peek->owner = owner;
    peek->held_ns = sp_since(call, leased_ns);
    if (peek->state != SP_PEEK_CONNECTING)
        peek->leases = leases(conn, lease);
}

bool sp_peek(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
             struct sp_peek *peek)
{
    enum sp_conn_state state = sp_conn_state(conn);
    uint64_t idle_since_ns, lease_seq;

    sp_take(call, SP_PIECES_LOOK);
    *peek = (struct sp_peek){.owner = SP_OWNER_POOL};
    if (state == SP_CONN_CLOSING || state == SP_CONN_CLOSED)
        return false;
    if (state == SP_CONN_CONNECTING || state == SP_CONN_INITIALISING) {
        peek->state = SP_PEEK_CONNECTING;
        look_at_lease(call, conn, peek);
        peek->age_ns = sp_since(call, atomic_load(&conn->leased_ns));
        return true;
    }
    peek->age_ns = sp_since(call, conn->born_ns);
    if (sp_shard_look(pool, conn, &idle_since_ns, &lease_seq)) {
        peek->state = SP_PEEK_IDLE;
        peek->idle_ns = sp_since(call, idle_since_ns);
        peek->leases = leases(conn, lease_seq);
        return true;
    }
    peek->state = atomic_load(&conn->checked) ? SP_PEEK_CHECKED : SP_PEEK_LEASED;
    look_at_lease(call, conn, peek);
    return true;
}
