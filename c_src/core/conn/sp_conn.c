#include "sp_conn.h"

#include <assert.h>

#define CLOSING_BIT 0x80000000u

static bool transition_allowed(enum sp_conn_state from, enum sp_conn_state to)
{
    switch (to) {
    case SP_CONN_INITIALISING:
        return from == SP_CONN_CONNECTING;
    case SP_CONN_IDLE:
        return from == SP_CONN_LEASED;
    case SP_CONN_LEASED:
        return from == SP_CONN_IDLE || from == SP_CONN_INITIALISING;
    case SP_CONN_CLOSING:
        return from == SP_CONN_CONNECTING || from == SP_CONN_INITIALISING || from == SP_CONN_LEASED;
    case SP_CONN_CLOSED:
        return from == SP_CONN_CLOSING;
    case SP_CONN_CONNECTING:
        break;
    }
    return false;
}

enum sp_conn_state sp_conn_state(const struct sp_conn *conn)
{
    return (enum sp_conn_state)atomic_load_explicit(&conn->state, memory_order_acquire);
}

void sp_conn_set_state(struct sp_conn *conn, enum sp_conn_state to)
{
    bool allowed = transition_allowed(sp_conn_state(conn), to);

    assert(allowed);
    (void)allowed;
    atomic_store_explicit(&conn->state, (uint32_t)to, memory_order_release);
}

void sp_conn_used(struct sp_conn *conn, uint64_t uses)
{
    uint32_t left = UINT32_MAX - conn->uses;

    conn->uses += uses < left ? (uint32_t)uses : left;
    if (conn->uses_end && conn->uses >= conn->uses_end)
        atomic_store_explicit(&conn->ends_ns, 0, memory_order_relaxed);
}

bool sp_conn_pin(struct sp_conn *conn)
{
    uint32_t pins = atomic_load(&conn->pins);

    do {
        if (pins & CLOSING_BIT)
            return false;
    } while (!atomic_compare_exchange_weak(&conn->pins, &pins, pins + 1));
    return true;
}

void sp_conn_unpin(struct sp_conn *conn, const struct sp_call *call)
{
    uint32_t before = atomic_fetch_sub(&conn->pins, 1);

    assert((before & ~CLOSING_BIT) > 0);
    if (before == (CLOSING_BIT | 1))
        conn->unpinned(conn, call);
}

void sp_conn_begin_close(struct sp_conn *conn, const struct sp_call *call)
{
    /* The own pin keeps the descriptor open for the shutdown. */
    bool pinned = sp_conn_pin(conn);

    assert(pinned);
    (void)pinned;
    if (atomic_fetch_or(&conn->pins, CLOSING_BIT) > 1) {
        conn->transport->shutdown(conn);
        sp_take(call, SP_PIECES_SHUTDOWN);
    }
    sp_conn_unpin(conn, call);
}

bool sp_conn_pinned(const struct sp_conn *conn)
{
    return (atomic_load(&conn->pins) & ~CLOSING_BIT) > 0;
}

void sp_conn_cleanup(struct sp_conn *conn)
{
    if (conn->transport->cleanup)
        conn->transport->cleanup(conn);
    conn->fault = SP_OK;
    conn->shaken = false;
}

uint64_t sp_conn_lease(struct sp_conn *conn, uint64_t owner, uint64_t now_ns)
{
    uint64_t lease = ++conn->lease_seq;

    conn->touched = false;
    conn->unanswered = false;
    atomic_store_explicit(&conn->owner, owner, memory_order_relaxed);
    atomic_store_explicit(&conn->leased_ns, now_ns, memory_order_relaxed);
    atomic_store(&conn->lease, lease);
    return lease;
}

bool sp_conn_unlease(struct sp_conn *conn, uint64_t lease)
{
    return lease != SP_LEASE_NONE && lease != SP_LEASE_MOVING &&
           atomic_compare_exchange_strong(&conn->lease, &lease, SP_LEASE_NONE);
}

uint64_t sp_conn_give_away(struct sp_conn *conn, uint64_t lease, uint64_t owner)
{
    /* Under a new number: whoever judged the lease by its old owner cannot end it any more. */
    if (!atomic_compare_exchange_strong(&conn->lease, &lease, SP_LEASE_MOVING))
        return SP_LEASE_NONE;
    lease = ++conn->lease_seq;
    atomic_store_explicit(&conn->owner, owner, memory_order_relaxed);
    atomic_store(&conn->lease, lease);
    return lease;
}

bool sp_conn_still(struct sp_conn *conn, uint64_t lease)
{
    return atomic_compare_exchange_strong(&conn->lease, &lease, SP_LEASE_MOVING);
}

void sp_conn_go_on(struct sp_conn *conn, uint64_t lease)
{
    atomic_store(&conn->lease, lease);
}

bool sp_conn_enter(struct sp_conn *conn, uint64_t lease, const struct sp_call *call)
{
    if (!sp_conn_pin(conn))
        return false;
    if (atomic_load(&conn->lease) == lease)
        return true;
    sp_conn_unpin(conn, call);
    return false;
}

bool sp_conn_arming(struct sp_conn *conn, uint64_t lease)
{
    uint64_t none = SP_LEASE_NONE;

    /* The caller's pin allows this one, closing or not. Before the mark: whoever sees the mark may
     * drop the pin. */
    atomic_fetch_add(&conn->pins, 1);
    if (atomic_compare_exchange_strong(&conn->armed, &none, lease))
        return true;
    atomic_fetch_sub(&conn->pins, 1);
    return false;
}

void sp_conn_disarmed(struct sp_conn *conn, uint64_t lease, const struct sp_call *call)
{
    assert(lease != SP_LEASE_NONE);
    if (sp_conn_armed(conn, lease) &&
        atomic_compare_exchange_strong(&conn->armed, &lease, SP_LEASE_NONE))
        sp_conn_unpin(conn, call);
}

sp_status sp_conn_setopt(struct sp_conn *conn, enum sp_option option, int value)
{
    sp_status status = conn->transport->set(conn, option, value);

    if (status != SP_OK)
        return status;
    conn->touched = true;
    if (option == SP_OPT_NODELAY || option == SP_OPT_KEEPALIVE)
        conn->flags_changed = true;
    else
        conn->buffers_changed = true;
    return SP_OK;
}

void sp_conn_set_framing(struct sp_conn *conn, const struct sp_framing *framing)
{
    conn->touched = true;
    conn->framing_changed = true;
    conn->framing = *framing;
    conn->search = (struct sp_search){0};
}

bool sp_conn_restore(struct sp_conn *conn)
{
    if (conn->framing_changed) {
        conn->framing = conn->pool_framing;
        conn->framing_changed = false;
    }
    if (conn->flags_changed)
        conn->flags_changed =
            conn->transport->set(conn, SP_OPT_NODELAY, conn->nodelay) != SP_OK ||
            conn->transport->set(conn, SP_OPT_KEEPALIVE, conn->keepalive) != SP_OK;
    return !conn->flags_changed && !conn->buffers_changed && !conn->upgraded;
}
