#include "simulation_model.h"

#include <string.h>

struct model m;
static char request_bytes[] = "request";
const struct iovec M_REQUEST = {request_bytes, sizeof request_bytes - 1};

/* ---- accounts ---- */

unsigned m_count(enum m_state state)
{
    unsigned count = 0;

    for (unsigned i = 0; i < M_CONNS; i++)
        count += m.conns[i].state == state;
    return count;
}

unsigned m_total(void)
{
    return M_CONNS - m_count(M_GONE);
}

unsigned m_index(const struct sp_conn *conn)
{
    for (unsigned i = 0; i < M_CONNS; i++)
        if (m.conns[i].state != M_GONE && m.conns[i].conn == conn)
            return i;
    return M_CONNS;
}

static void note(uint64_t owner, sp_status status, size_t sent, struct sp_conn *conn)
{
    m.notes[m.note_count++] = (struct m_note){owner, status, sent, conn};
}

/* ---- idle lists ---- */

static unsigned take_at(struct m_idle *idle, unsigned place)
{
    unsigned i = idle->list[place];

    idle->count--;
    memmove(&idle->list[place], &idle->list[place + 1], (idle->count - place) * sizeof i);
    m.conns[i].state = M_LEASED;
    return i;
}

static void put(unsigned i, unsigned shard, bool cold)
{
    struct m_idle *idle = &m.idle[shard][cold];

    idle->list[idle->count++] = i;
    m.conns[i].state = M_IDLE;
    m.conns[i].owner = 0;
    m.conns[i].serial = 0;
}

static unsigned pop(void)
{
    for (unsigned n = 0; n < m.shards; n++) {
        struct m_idle *lists = m.idle[(m.home + n) % m.shards];
        bool cold = m.config->strategy == SP_LIFO ? lists[0].count == 0 : lists[1].count > 0;
        struct m_idle *idle = &lists[cold];
        if (idle->count > 0)
            return take_at(idle, m.config->strategy == SP_LIFO ? idle->count - 1 : 0);
    }
    return M_CONNS;
}

static bool usable(unsigned i)
{
    uint64_t after_ns = m.config->validate_after_ns;

    if (after_ns == SP_NEVER ||
        (after_ns && m.conns[i].used && fake_now_ns() < m.conns[i].idle_since_ns + after_ns))
        return true;
    return !m.conns[i].bad;
}

/* ---- leases ---- */

void m_retire(unsigned i)
{
    if (m.conns[i].state == M_LEASED)
        m.closed++;
    m.conns[i] = (struct m_conn){.state = M_GONE};
}

static void lease(unsigned i, uint64_t owner)
{
    struct m_conn *conn = &m.conns[i];

    conn->serial = ++m.serials;
    conn->owner = owner;
    conn->leased_ns = fake_now_ns();
    conn->touched = conn->unanswered = false;
    m.checkouts++;
    m.reused += conn->used;
    conn->used = true;
}

/* What the granter does for a waiter that lives. */
static void grant(unsigned i, const struct m_waiter *waiter)
{
    struct m_conn *conn = &m.conns[i];
    size_t len = M_REQUEST.iov_len, sent;

    lease(i, waiter->owner);
    if (!waiter->request) {
        note(waiter->owner, SP_OK, 0, conn->conn);
        return;
    }
    conn->touched = conn->unanswered = true;
    sent = conn->room < len ? conn->room : len;
    conn->room -= conn->room == SIZE_MAX ? 0 : sent;
    note(waiter->owner, SP_OK, sent, conn->conn);
}

static struct m_waiter take_waiter(unsigned place)
{
    struct m_waiter waiter = m.waiters[place];

    m.waiter_count--;
    memmove(&m.waiters[place], &m.waiters[place + 1], (m.waiter_count - place) * sizeof waiter);
    return waiter;
}

/* Gives the connection to the first waiter that lives. False: all are dead. */
static bool give(unsigned i)
{
    while (m.waiter_count > 0) {
        struct m_waiter waiter = take_waiter(0);
        if (fake_alive(waiter.owner)) {
            grant(i, &waiter);
            return true;
        }
    }
    return false;
}

static void serve(unsigned i)
{
    for (;;) {
        if (i == M_CONNS && (m.waiter_count == 0 || (i = pop()) == M_CONNS))
            return;
        if (m.waiter_count > 0 && !usable(i))
            m_retire(i);
        else if (!give(i)) {
            if (m.config->overflow_ttl_ns == 0 && m_total() > m.config->size)
                m_retire(i);
            else
                put(i, m.home, false);
        }
        i = M_CONNS;
    }
}

unsigned m_checkout(uint64_t owner)
{
    unsigned i;

    while (m.waiter_count == 0 && (i = pop()) != M_CONNS) {
        if (usable(i)) {
            lease(i, owner);
            return i;
        }
        m_retire(i);
    }
    return M_CONNS;
}

void m_checkin(unsigned i, bool clean)
{
    const struct m_conn *conn = &m.conns[i];

    m.checkins++;
    if (conn->tainted || (conn->unanswered && !clean && m.config->replies) ||
        (conn->touched && conn->bad && m.config->validate_after_ns)) {
        m_retire(i);
        return;
    }
    m.conns[i].idle_since_ns = fake_now_ns();
    serve(i);
}

void m_failed(unsigned i)
{
    m.connect_failures++;
    m_retire(i);
}

void m_end(unsigned i, bool disarm)
{
    struct m_conn *conn = &m.conns[i];

    if (conn->state == M_CONNECTING) {
        m_failed(i);
        return;
    }
    m.abandoned++;
    if (disarm)
        conn->armed = false;
    if (conn->armed || conn->touched) {
        m_retire(i);
        return;
    }
    conn->idle_since_ns = fake_now_ns();
    serve(i);
}

/* ---- waiters ---- */

void m_enqueue(uint64_t owner, bool request)
{
    m.waiters[m.waiter_count++] = (struct m_waiter){owner, request};
    serve(M_CONNS);
}

void m_leave_queue(uint64_t owner)
{
    for (unsigned i = 0; i < m.waiter_count; i++) {
        if (m.waiters[i].owner == owner) {
            take_waiter(i);
            return;
        }
    }
}

/* ---- control ---- */

unsigned m_step(unsigned max)
{
    unsigned total = m_total(), connecting = m_count(M_CONNECTING);
    unsigned limit = m.config->size + m.config->max_overflow;
    unsigned demand = m.waiter_count + atomic_load(&kit_pool->eager);
    unsigned missing = m.config->size > total ? m.config->size - total : 0;
    unsigned called_for = demand > connecting ? demand - connecting : 0;
    unsigned want = missing > called_for ? missing : called_for, allowed = 64 - connecting;
    const struct sp_backoff *backoff = &kit_pool->control.state;
    bool over =
        fake_now_ns() >= backoff->until_ns || (demand > 0 && fake_now_ns() >= backoff->hurried_ns);

    if (sp_backoff_failing(backoff))
        allowed = connecting == 0 && over;
    want = want < limit - total ? want : limit - total;
    want = want < allowed ? want : allowed;
    return want < max ? want : max;
}

void m_attempt(struct sp_conn *conn)
{
    unsigned i = 0;

    while (m.conns[i].state != M_GONE)
        i++;
    m.conns[i] = (struct m_conn){.state = M_CONNECTING, .conn = conn, .serial = ++m.serials};
    m.conns[i].room = SIZE_MAX;
    m.connect_attempts++;
}

bool m_fit(unsigned i)
{
    return !m.conns[i].bad || m.config->validate_after_ns == SP_NEVER;
}

void m_ready(unsigned i)
{
    if (!m_fit(i)) {
        m_failed(i);
        return;
    }
    m.created++;
    m.conns[i].state = M_LEASED;
    m.conns[i].idle_since_ns = fake_now_ns();
    serve(i);
}

static void close_outlived(unsigned shard)
{
    uint64_t ttl_ns = m.config->overflow_ttl_ns;

    while (ttl_ns != SP_NEVER && m_total() > m.config->size) {
        struct m_idle *idle = &m.idle[shard][m.idle[shard][1].count > 0];
        if (idle->count == 0 || m.conns[idle->list[0]].idle_since_ns >= fake_now_ns() - ttl_ns)
            return;
        m_retire(take_at(idle, 0));
    }
}

static void watch_cold(unsigned shard)
{
    struct m_idle *fresh = &m.idle[shard][0];

    while (fresh->count > 0 && m.conns[fresh->list[0]].idle_since_ns < fake_now_ns() - SP_COLD_NS) {
        unsigned i = take_at(fresh, 0);
        m.conns[i].watch++;
        put(i, shard, true);
    }
}

static void sweep(unsigned i)
{
    struct m_conn *conn = &m.conns[i];

    if ((conn->state != M_LEASED && conn->state != M_CONNECTING) || conn->owner == 0)
        return;
    if (!fake_alive(conn->owner))
        m_end(i, true);
    else if (m.config->max_hold_ns != SP_NEVER && conn->state == M_LEASED &&
             fake_now_ns() > conn->leased_ns + m.config->max_hold_ns)
        m_end(i, false);
}

void m_tick(void)
{
    for (unsigned shard = 0; shard < m.shards; shard++) {
        close_outlived(shard);
        watch_cold(shard);
    }
    serve(M_CONNS);
    for (uint32_t slot = 0; slot < kit_pool->table.count; slot++) {
        unsigned i = m_index(kit_pool->table.slots[slot]);
        if (kit_pool->table.slots[slot] && i != M_CONNS)
            sweep(i);
    }
}

void m_idle_event(unsigned i)
{
    for (unsigned shard = 0; shard < m.shards; shard++) {
        struct m_idle *cold = &m.idle[shard][1];
        for (unsigned place = 0; place < cold->count; place++) {
            if (cold->list[place] != i)
                continue;
            take_at(cold, place);
            if (m.conns[i].bad)
                m_retire(i);
            else
                serve(i);
            return;
        }
    }
}

void m_shut(sp_status status)
{
    while (m.waiter_count > 0) {
        struct m_waiter waiter = take_waiter(0);
        if (fake_alive(waiter.owner))
            note(waiter.owner, status, 0, NULL);
    }
    for (unsigned shard = 0; shard < m.shards; shard++)
        for (unsigned cold = 0; cold < 2; cold++)
            while (m.idle[shard][cold].count > 0)
                m_retire(take_at(&m.idle[shard][cold], 0));
    for (unsigned i = 0; i < M_CONNS; i++) {
        if (m.conns[i].state == M_CONNECTING) {
            m_failed(i);
        } else if (m.conns[i].state == M_LEASED) {
            m.abandoned++;
            m_retire(i);
        }
    }
}
