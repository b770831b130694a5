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

static void put(unsigned i, unsigned shard, enum m_list which)
{
    struct m_idle *idle = &m.idle[shard][which];

    idle->list[idle->count++] = i;
    m.conns[i].state = M_IDLE;
    m.conns[i].owner = 0;
    m.conns[i].serial = 0;
}

static unsigned pop_aged(void)
{
    for (unsigned n = 0; n < m.shards; n++) {
        struct m_idle *aged = &m.idle[(m.home + n) % m.shards][M_AGED];
        if (aged->count > 0)
            return take_at(aged, 0);
    }
    return M_CONNS;
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
    return pop_aged();
}

/* ---- age ---- */

/* The ends are what the core has drawn. */
static bool worn(unsigned i)
{
    const struct sp_conn *conn = m.conns[i].conn;

    return conn->uses_end > 0 && m.conns[i].uses >= conn->uses_end;
}

static bool over(unsigned i)
{
    return worn(i) || fake_now_ns() >= atomic_load(&m.conns[i].conn->ends_ns);
}

static bool in_grace(unsigned i)
{
    const struct sp_conn *conn = m.conns[i].conn;
    uint64_t ends_ns = atomic_load(&conn->ends_ns);

    if (worn(i))
        return m.conns[i].uses < m.config->max_uses;
    return fake_now_ns() <= ends_ns + (ends_ns - conn->born_ns) / 20;
}

static enum sp_why why_over(unsigned i)
{
    return worn(i) ? SP_WHY_MAX_USES : SP_WHY_MAX_LIFETIME;
}

static unsigned aged(void)
{
    unsigned count = 0;

    for (unsigned shard = 0; shard < m.shards; shard++)
        count += m.idle[shard][M_AGED].count;
    return count;
}

static unsigned at_once(void)
{
    return m_total() >= 20 ? m_total() / 10 : 1;
}

unsigned m_ups(void)
{
    return m_total() - m_count(M_CONNECTING);
}

/* As many as are leased, but for `held' of these, and those that are to be idle. */
static unsigned m_above(unsigned count, unsigned held)
{
    unsigned limit = m.config->size + m.config->max_overflow;
    unsigned all = m_count(M_LEASED) - held + m.config->min_idle;

    if (m.config->min_idle == 0)
        return count;
    all = all < limit ? all : limit;
    return all > count ? all : count;
}

unsigned m_spare_missing(void)
{
    unsigned there = m_count(M_IDLE) + m_count(M_CONNECTING);

    return m.config->min_idle > there ? m.config->min_idle - there : 0;
}

static unsigned kept(void)
{
    unsigned limit = m.config->size + m.config->max_overflow;
    unsigned peak = sp_peak_get(&m.leased_extra);

    peak = peak < limit ? peak : limit;
    return m_above(peak > m.base ? peak : m.base, 0);
}

/* False: the connection is elsewhere. */
static bool may_serve(unsigned i)
{
    m.put_aside++;
    if (m_count(M_IDLE) > aged())
        put(i, m.home, M_AGED);
    else if (in_grace(i) || m.failing || (!worn(i) && m_count(M_CONNECTING) >= at_once()))
        return true;
    else
        m_retire(i, why_over(i));
    return false;
}

void m_age(void)
{
    if (m.failing)
        return;
    while (aged() > 0) {
        bool first = m_ups() <= kept();
        if (first && (m_total() < m.config->size + m.config->max_overflow || m.waiter_count > 0 ||
                      m_count(M_CONNECTING) >= at_once()))
            return;
        m.owed += first && m_total() > m.base;
        m.closed_first += first;
        m.replaced += !first;
        unsigned i = pop_aged();
        m_retire(i, why_over(i));
    }
}

unsigned m_replaced(void)
{
    unsigned count = aged() < at_once() ? aged() : at_once();
    unsigned others = m_total() - count;
    unsigned missing = kept() > others ? kept() - others : 0;

    missing = missing < count ? missing : count;
    return missing > m.owed ? missing : m.owed;
}

void m_attempted(unsigned count, bool called_for)
{
    unsigned total = m_total() < m.config->size ? m_total() : m.config->size;

    m.owed -= count < m.owed ? count : m.owed;
    if (m_total() >= m.config->size + m.config->max_overflow)
        m.owed = 0;
    if (count > 0 && called_for && total > m.base)
        m.base = total;
}

/* What a look at one that is bad says. */
static enum sp_why why_bad(unsigned i)
{
    return m.conns[i].said ? SP_WHY_UNREAD : SP_WHY_PEER_CLOSED;
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

void m_retire(unsigned i, enum sp_why why)
{
    m.closed[why]++;
    m.conns[i] = (struct m_conn){.state = M_GONE};
}

/* One that nobody has ever used says something of the server. */
static void retire_unusable(unsigned i)
{
    m.failing = m.failing || !m.conns[i].used;
    m_retire(i, why_bad(i));
}

static void lease(unsigned i, uint64_t owner)
{
    struct m_conn *conn = &m.conns[i];

    conn->serial = ++m.serials;
    conn->owner = owner;
    conn->leased_ns = fake_now_ns();
    conn->touched = conn->unanswered = false;
    conn->uses++;
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
    if (m.waiter_count == 0)
        m.exhausted_ns += fake_now_ns() - m.exhausted_since_ns;
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
            retire_unusable(i);
        else if ((m.waiter_count == 0 || !over(i) || may_serve(i)) && !give(i)) {
            unsigned kept = m_above(m.config->size + (over(i) ? 0 : aged()), 1);
            if (m.config->overflow_ttl_ns == 0 && m_total() > kept)
                m_retire(i, SP_WHY_OVERFLOW);
            else
                put(i, m.home, over(i) ? M_AGED : M_FRESH);
        }
        i = M_CONNS;
    }
}

unsigned m_checkout(uint64_t owner)
{
    unsigned i;

    while (m.waiter_count == 0 && (i = pop()) != M_CONNS) {
        if (over(i) && !may_serve(i))
            continue;
        if (usable(i)) {
            lease(i, owner);
            return i;
        }
        retire_unusable(i);
    }
    m.exhausted = true;
    return M_CONNS;
}

void m_checkin(unsigned i, bool clean)
{
    const struct m_conn *conn = &m.conns[i];

    m.checkins++;
    if (conn->tainted) {
        m_retire(i, SP_WHY_IO_TIMEOUT);
        return;
    }
    if (conn->unanswered && !clean && m.config->replies) {
        m_retire(i, SP_WHY_UNANSWERED);
        return;
    }
    if (conn->touched && conn->bad && m.config->validate_after_ns) {
        m_retire(i, why_bad(i));
        return;
    }
    m.conns[i].idle_since_ns = fake_now_ns();
    serve(i);
}

void m_failed(unsigned i, enum sp_failure why)
{
    m.failing = m.failing || m.conns[i].conn->round == 0;
    m.failed[why]++;
    m.conns[i] = (struct m_conn){.state = M_GONE};
}

void m_end(unsigned i, bool disarm, enum sp_why why)
{
    struct m_conn *conn = &m.conns[i];

    if (conn->state == M_CONNECTING) {
        m_failed(i, SP_FAILURE_OTHER);
        return;
    }
    m.abandoned++;
    if (disarm)
        conn->armed = false;
    if (conn->armed || conn->touched) {
        m_retire(i, why);
        return;
    }
    conn->idle_since_ns = fake_now_ns();
    serve(i);
}

/* ---- waiters ---- */

void m_enqueue(uint64_t owner, bool request)
{
    if (m.waiter_count == 0)
        m.exhausted_since_ns = fake_now_ns();
    m.waited++;
    m.waiters[m.waiter_count++] = (struct m_waiter){owner, request, fake_now_ns()};
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

void m_timed_out(void)
{
    bool unavailable = m.failing && m_total() == m_count(M_CONNECTING);

    m.timeouts++;
    m.errors[unavailable ? SP_ERROR_UNAVAILABLE : SP_ERROR_TIMEOUT]++;
}

/* ---- control ---- */

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
        m_failed(i, SP_FAILURE_OTHER);
        return;
    }
    m.failing = false;
    m.created++;
    m.conns[i].state = M_LEASED;
    m.conns[i].idle_since_ns = fake_now_ns();
    serve(i);
}

void m_open(void)
{
    m.base = m.config->size;
    m.owed = 0;
    m.exhausted = false;
    sp_peak_begin(&m.leased_extra, m.config->overflow_ttl_ns, fake_now_ns());
    sp_peak_begin(&m.leased_base, m.config->idle_timeout_ns, fake_now_ns());
}

static void close_idle(unsigned floor, unsigned top, uint64_t before_ns, enum sp_why why)
{
    for (unsigned shard = 0; shard < m.shards; shard++) {
        while (m_total() > floor && m_total() <= top) {
            struct m_idle *idle = &m.idle[shard][m.idle[shard][M_COLD].count > 0];
            if (idle->count == 0 || m.conns[idle->list[0]].idle_since_ns >= before_ns)
                break;
            m_retire(take_at(idle, 0), why);
        }
    }
}

static void shrink(uint64_t ttl_ns, const struct sp_peak *leased, unsigned floor, unsigned top,
                   enum sp_why why)
{
    unsigned peak = sp_peak_get(leased);

    if (ttl_ns == SP_NEVER)
        return;
    floor = m_above(floor, 0);
    close_idle(floor + aged(), top, fake_now_ns() - ttl_ns, why);
    if (m.config->strategy == SP_FIFO && sp_peak_is_known(leased, fake_now_ns()))
        close_idle((peak > floor ? peak : floor) + aged(), top, SP_NEVER, why);
}

static void close_all_idle(void)
{
    unsigned leased = m.exhausted ? m_ups() : m_count(M_LEASED), total;

    m.exhausted = false;
    sp_peak_note(&m.leased_extra, leased, fake_now_ns());
    sp_peak_note(&m.leased_base, leased, fake_now_ns());
    shrink(m.config->overflow_ttl_ns, &m.leased_extra, m.config->size, M_CONNS, SP_WHY_OVERFLOW);
    if (m.failing)
        return;
    total = m_total();
    shrink(m.config->idle_timeout_ns, &m.leased_base, m.config->min_size, m.config->size,
           SP_WHY_IDLE_TIMEOUT);
    m.shrunk += total - m_total();
    if (m_total() < total)
        m.base = m_total() > m.config->min_size ? m_total() : m.config->min_size;
}

static void watch_cold(unsigned shard)
{
    struct m_idle *fresh = &m.idle[shard][0];

    while (fresh->count > 0 && m.conns[fresh->list[0]].idle_since_ns < fake_now_ns() - SP_COLD_NS) {
        unsigned i = take_at(fresh, 0);
        m.conns[i].watch++;
        put(i, shard, M_COLD);
    }
}

static void sweep(unsigned i)
{
    struct m_conn *conn = &m.conns[i];

    if ((conn->state != M_LEASED && conn->state != M_CONNECTING) || conn->owner == 0)
        return;
    if (!fake_alive(conn->owner))
        m_end(i, true, SP_WHY_ABANDONED);
    else if (m.config->max_hold_ns != SP_NEVER && conn->state == M_LEASED &&
             fake_now_ns() > conn->leased_ns + m.config->max_hold_ns)
        m_end(i, false, SP_WHY_MAX_HOLD);
    else if (m.config->leak_threshold_ns != SP_NEVER && conn->state == M_LEASED &&
             fake_now_ns() > conn->leased_ns + m.config->leak_threshold_ns &&
             conn->reported != conn->serial) {
        conn->reported = conn->serial;
        m.leaked++;
    }
}

/* Takes it out of the list that it is in: of those of the shard from `first' on. */
static bool take_out(unsigned i, unsigned shard, enum m_list first)
{
    for (enum m_list which = first; which < M_LISTS; which++)
        for (unsigned place = 0; place < m.idle[shard][which].count; place++)
            if (m.idle[shard][which].list[place] == i) {
                take_at(&m.idle[shard][which], place);
                return true;
            }
    return false;
}

static void look_at_age(unsigned i)
{
    struct m_conn *conn = &m.conns[i];

    if ((conn->state != M_IDLE && conn->state != M_LEASED) || !over(i))
        return;
    m.deferred += m.failing && !conn->outlived;
    conn->outlived = conn->outlived || m.failing;
    if (conn->state != M_IDLE)
        return;
    for (unsigned shard = 0; shard < m.shards; shard++) {
        const struct m_idle *idle = &m.idle[shard][M_AGED];
        bool known = false;
        for (unsigned place = 0; place < idle->count; place++)
            known = known || idle->list[place] == i;
        if (!known && take_out(i, shard, M_FRESH))
            put(i, shard, M_AGED);
    }
}

void m_tick(void)
{
    close_all_idle();
    for (unsigned shard = 0; shard < m.shards; shard++)
        watch_cold(shard);
    serve(M_CONNS);
    for (uint32_t slot = 0; slot < kit_pool->table.count; slot++) {
        unsigned i = m_index(kit_pool->table.slots[slot]);
        if (kit_pool->table.slots[slot] && i != M_CONNS) {
            sweep(i);
            look_at_age(i);
        }
    }
}

void m_idle_event(unsigned i)
{
    for (unsigned shard = 0; shard < m.shards; shard++) {
        if (!take_out(i, shard, M_COLD))
            continue;
        if (m.conns[i].bad)
            retire_unusable(i);
        else
            serve(i);
        return;
    }
}

void m_shut(sp_status status)
{
    while (m.waiter_count > 0) {
        struct m_waiter waiter = take_waiter(0);
        m.errors[SP_ERROR_CLOSED]++;
        if (fake_alive(waiter.owner))
            note(waiter.owner, status, 0, NULL);
    }
    for (unsigned shard = 0; shard < m.shards; shard++)
        for (enum m_list which = 0; which < M_LISTS; which++)
            while (m.idle[shard][which].count > 0)
                m_retire(take_at(&m.idle[shard][which], 0), SP_WHY_STOPPED);
    for (unsigned i = 0; i < M_CONNS; i++) {
        if (m.conns[i].state == M_CONNECTING) {
            m_failed(i, SP_FAILURE_OTHER);
        } else if (m.conns[i].state == M_LEASED) {
            m.abandoned++;
            m_retire(i, SP_WHY_STOPPED);
        }
    }
}
