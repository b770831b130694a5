/* The simulation's operations: each is done to the model and to the core, and their answers are
 * compared. */
#include "simulation.h"

#include "core/base/sp_random.h"

struct simulation sim;
static const struct sp_addr ADDR = {.storage.ss_family = AF_INET, .len = sizeof ADDR.storage};

unsigned sim_random(unsigned below)
{
    return (unsigned)(sp_random(&sim.rng) % below);
}

struct item *sim_find(uint64_t owner)
{
    for (unsigned i = 0; i < HANDLES; i++)
        if (sim.items[i].kind != NONE && sim.items[i].owner == owner)
            return &sim.items[i];
    return NULL;
}

static struct item *add(enum kind kind, uint64_t owner, struct handle *handle, unsigned conn)
{
    struct item *item = sim.items;

    while (item->kind != NONE)
        item++;
    *item = (struct item){.kind = kind, .owner = owner, .handle = handle, .conn = conn};
    if (conn < M_CONNS)
        item->serial = m.conns[conn].serial;
    return item;
}

static bool room(void)
{
    for (unsigned i = 0; i < HANDLES; i++)
        if (sim.items[i].kind == NONE)
            return true;
    return false;
}

/* Any item of the kind whose owner lives, or NULL. */
static struct item *any(enum kind kind)
{
    unsigned first = sim_random(HANDLES);

    for (unsigned i = 0; i < HANDLES; i++) {
        struct item *item = &sim.items[(first + i) % HANDLES];
        if (item->kind == kind && fake_alive(item->owner))
            return item;
    }
    return NULL;
}

/* Whether the lease or attempt still holds. */
static bool holds(const struct item *item)
{
    return item->conn < M_CONNS && m.conns[item->conn].state != M_GONE &&
           m.conns[item->conn].serial == item->serial;
}

static sp_status phase_answer(void)
{
    return m.phase == SP_PHASE_OPEN ? SP_OK : m.phase == SP_PHASE_DOWN ? SP_CLOSED : SP_NOT_FOUND;
}

static void op_checkout(void)
{
    uint64_t owner = sim.next_owner++;
    unsigned i = m.phase == SP_PHASE_OPEN ? m_checkout(owner) : M_CONNS;
    sp_status status;
    struct handle *handle = kit_try_checkout(owner, &status);

    if (i == M_CONNS) {
        m.errors[SP_ERROR_CLOSED] += phase_answer() == SP_CLOSED;
        SAME(status, phase_answer() == SP_OK ? SP_EMPTY : phase_answer(), "status");
        return;
    }
    SAME(status, SP_OK, "status");
    SAME(m_index(handle->conn), i, "the connection given");
    add(LEASE, owner, handle, i);
}

static void op_enqueue(void)
{
    uint64_t owner = sim.next_owner++;
    bool request = sim_random(2);
    struct item *item = add(WAITING, owner, NULL, M_CONNS);
    sp_status status = phase_answer();

    item->request = request;
    if (status == SP_OK && m.waiter_count >= m.config->max_waiting)
        status = SP_FULL;
    m.errors[SP_ERROR_FULL] += status == SP_FULL;
    m.errors[SP_ERROR_CLOSED] += status == SP_CLOSED;
    if (status == SP_OK)
        m_enqueue(owner, request);
    sp_status answer;
    item->handle = kit_try_enqueue(owner, request ? &M_REQUEST : NULL, request, &answer);
    SAME(answer, status, "status");
    if (status != SP_OK)
        item->kind = NONE;
}

static void op_adopt(void)
{
    struct item *item = any(GRANTED);

    if (!item)
        return;
    SAME(kit_adopt(item->handle), true, "adopt");
    item->kind = LEASE;
}

static void op_cancel(void)
{
    struct item *item = any(WAITING);

    if (!item)
        return;
    m_leave_queue(item->owner);
    m_timed_out();
    SAME(kit_cancel(item->handle), SP_CANCELLED, "cancel of one who waits");
    SAME(kit_adopt(item->handle), false, "adopt after that");
    kit_drop(item->handle);
    item->kind = NONE;
}

static void op_cancel_late(void)
{
    struct item *granted = any(GRANTED), *failed = any(FAILED);

    if (granted)
        SAME(kit_cancel(granted->handle), SP_GRANTED, "cancel after a grant");
    if (failed)
        SAME(kit_cancel(failed->handle), SP_FAILED, "cancel after a failure");
}

/* The handle is collected. */
static void drop(struct item *item)
{
    if (item->kind == WAITING)
        m_leave_queue(item->owner);
    else if (item->kind != FAILED && holds(item))
        m_end(item->conn, true, SP_WHY_ABANDONED);
    kit_drop(item->handle);
    item->kind = NONE;
}

static void op_drop(void)
{
    struct item *item = &sim.items[sim_random(HANDLES)];

    if (item->kind != NONE)
        drop(item);
}

static void op_fail_connect(void)
{
    struct item *item = any(ATTEMPT);
    enum sp_failure why = (enum sp_failure)sim_random(SP_FAILURES);
    bool held;

    if (!item)
        return;
    held = holds(item);
    if (held)
        m_failed(item->conn, why);
    SAME(sp_pool_fail_attempt(kit_pool, kit_call(), item->handle->conn, item->handle->lease, why),
         held, "fail_attempt");
    kit_drop(item->handle);
    item->kind = NONE;
}

static void op_fired(void)
{
    struct item *item = any(LEASE);

    if (!item)
        return;
    if (holds(item))
        m.conns[item->conn].armed = false;
    sp_conn_disarmed(item->handle->conn, item->handle->lease, kit_call());
}

static void op_use(void)
{
    struct item *item = any(LEASE);
    struct sp_conn *conn;

    if (!item)
        return;
    conn = item->handle->conn;
    SAME(sp_conn_enter(conn, item->handle->lease, kit_call()), holds(item), "enter");
    if (!holds(item))
        return;
    conn->touched = m.conns[item->conn].touched = true;
    conn->unanswered = m.conns[item->conn].unanswered = sim_random(3) == 0; /* or was answered */
    if (sim_random(8) == 0) {
        sp_conn_taint(conn, SP_WHY_IO_TIMEOUT);
        m.conns[item->conn].tainted = true;
    }
    if (sim_random(3) == 0) {
        SAME(sp_conn_arming(conn, item->handle->lease), !m.conns[item->conn].armed, "arming");
        m.conns[item->conn].armed = true;
    }
    sp_conn_leave(conn, kit_call());
}

static void op_checkin(void)
{
    struct item *item = any(LEASE);
    bool busy, held, clean = sim_random(3) == 0;

    if (!item)
        return;
    held = holds(item);
    busy = sp_conn_armed(item->handle->conn, item->handle->lease);
    if (held)
        SAME(busy, m.conns[item->conn].armed, "armed");
    if (held && !busy)
        m_checkin(item->conn, clean);
    SAME(clean ? kit_checkin_clean(item->handle) : kit_checkin(item->handle),
         busy   ? SP_BUSY
         : held ? SP_OK
                : SP_CLOSED,
         "status");
    if (!busy)
        item->kind = NONE;
}

static void op_discard(void)
{
    struct item *item = any(LEASE);
    bool held;

    if (!item)
        return;
    held = holds(item);
    if (held) {
        m.checkins++;
        m_retire(item->conn, SP_WHY_DISCARDED);
    }
    SAME(kit_discard(item->handle), held ? SP_OK : SP_CLOSED, "status");
    item->kind = NONE;
}

static void op_give_away(void)
{
    struct item *item = any(LEASE);
    struct handle *handle = item ? item->handle : NULL;
    uint64_t owner = sim.next_owner++, lease;

    if (!item || sp_conn_armed(handle->conn, handle->lease))
        return;
    lease = sp_conn_give_away(handle->conn, handle->lease, owner);
    SAME(lease != SP_LEASE_NONE, holds(item), "give_away");
    if (lease == SP_LEASE_NONE)
        return;
    handle->lease = lease;
    item->owner = m.conns[item->conn].owner = owner;
    item->serial = m.conns[item->conn].serial = ++m.serials;
}

static void op_kill(void)
{
    struct item *item = &sim.items[sim_random(HANDLES)];

    if (item->kind != NONE && item->owner)
        fake_kill(item->owner);
}

static void op_peer(void)
{
    struct m_conn *conn = &m.conns[sim_random(M_CONNS)];

    if (conn->state == M_GONE || conn->conn->fd < 0)
        return;
    if (sim_random(3) == 0) {
        conn->room = sim_random(2) ? 3 : 0;
        fake_send_room(conn->conn->fd, conn->room);
        return;
    }
    conn->bad = true;
    if (sim_random(2)) {
        fake_peer_closes(conn->conn->fd);
    } else {
        fake_peer_sends(conn->conn->fd, "!", 1);
        conn->said = true;
    }
}

/* Where the core has a choice, it says whether one of these was for who waits. */
static void attempted(unsigned count, bool called_for, bool known)
{
    unsigned base = m.base;

    m_attempted(count, called_for);
    if (known)
        return;
    SAME(atomic_load(&kit_pool->base) == base || atomic_load(&kit_pool->base) == m.base, true,
         "base");
    m.base = atomic_load(&kit_pool->base);
}

static void op_step(void)
{
    struct handle *attempts[4];
    unsigned max = 1 + sim_random(4), called_for, count, most = 0, least = 0;
    struct sp_plan plan;

    if (!room())
        return;
    if (m.phase == SP_PHASE_OPEN)
        m_age();
    called_for = m_called_for(false);
    if (m.phase == SP_PHASE_OPEN) {
        most = m_step(max, called_for);
        least = m_step(max, m_called_for(true));
    }
    count = (unsigned)kit_step(attempts, max, &plan);
    SAME(count >= least && count <= most, true, "%u to %u attempts, %u", least, most, count);
    /* Whoever is left without one will be looked at again. */
    if (count < most && !plan.more && m.waiter_count > m_count(M_CONNECTING) + count)
        SAME(plan.wait_ns <= kit_pool->forecast.connect_ns, true, "the next look in time");
    sim.spared += most - count;
    for (unsigned i = 0; i < count; i++)
        m_attempt(attempts[i]->conn);
    if (m.phase == SP_PHASE_OPEN)
        attempted(count, called_for, least == most);
    for (unsigned i = 0; i < count; i++) {
        if (room())
            add(ATTEMPT, 0, attempts[i], m_index(attempts[i]->conn));
        else {
            m_failed(m_index(attempts[i]->conn), SP_FAILURE_OTHER);
            kit_drop(attempts[i]);
        }
    }
}

static void begin(struct item *item)
{
    sp_status status;

    item->owner = sim.next_owner++;
    item->begun = true;
    status = sp_control_begin(kit_pool, kit_call(), item->handle->conn, &item->handle->lease,
                              item->owner, &ADDR);
    SAME(status, holds(item) ? SP_OK : SP_CLOSED, "begin");
    if (status == SP_OK)
        m.conns[item->conn].owner = item->owner;
}

static void op_connect(void)
{
    struct item *item = any(ATTEMPT);
    struct handle *handle = item ? item->handle : NULL;
    sp_status status;

    if (!item)
        return;
    if (!item->begun) {
        begin(item);
        return;
    }
    status = sp_control_opened(handle->conn, &handle->lease, kit_call());
    SAME(status, holds(item) ? SP_OK : SP_CLOSED, "opened");
    if (holds(item)) {
        bool fit = m_fit(item->conn);
        m_ready(item->conn);
        status = sp_control_ready(kit_pool, kit_call(), handle->conn, handle->lease);
        SAME(status == SP_OK, fit, "ready");
    }
    kit_drop(handle);
    item->kind = NONE;
}

static void op_tick(void)
{
    if (m.phase != SP_PHASE_OPEN)
        return;
    m_tick();
    kit_tick();
}

static void op_idle_event(void)
{
    unsigned i = sim_random(M_CONNS);
    struct m_conn *conn = &m.conns[i];
    uint32_t generation = conn->watch - (sim_random(4) == 0), slot;

    if (conn->state == M_GONE)
        return;
    slot = conn->conn->slot;
    if (generation == conn->watch)
        m_idle_event(i);
    sp_control_idle_event(kit_pool, kit_call(), slot, generation);
}

static void op_want(void)
{
    m.errors[SP_ERROR_FULL]++;
    SAME(sp_pool_want(kit_pool, kit_call()), SP_FULL, "want");
}

static void op_sleep(void)
{
    fake_sleep_ms(sim_random(8) ? sim_random(60) : sim_random(1500));
}

static void op_phase(void)
{
    if (m.phase != SP_PHASE_OPEN) {
        m.phase = SP_PHASE_OPEN;
        m_open();
        kit_open();
    } else if (sim_random(10) == 0) {
        m.phase = sim_random(2) ? SP_PHASE_DOWN : SP_PHASE_CLOSED;
        m_shut(SP_CLOSED);
        kit_shut(m.phase, SP_CLOSED);
    }
}

static const struct {
    const char *name;
    void (*run)(void);
    unsigned weight;
    bool adds;
} OPS[] = {
    {"checkout", op_checkout, 12, true},
    {"enqueue", op_enqueue, 10, true},
    {"adopt", op_adopt, 12, false},
    {"cancel", op_cancel, 2, false},
    {"late cancel", op_cancel_late, 1, false},
    {"drop", op_drop, 2, false},
    {"fired", op_fired, 8, false},
    {"use", op_use, 6, false},
    {"checkin", op_checkin, 16, false},
    {"discard", op_discard, 2, false},
    {"give_away", op_give_away, 2, false},
    {"kill", op_kill, 2, false},
    {"peer", op_peer, 4, false},
    {"step", op_step, 10, false},
    {"connect", op_connect, 16, false},
    {"fail to connect", op_fail_connect, 3, false},
    {"tick", op_tick, 4, false},
    {"idle event", op_idle_event, 2, false},
    {"want", op_want, 2, false},
    {"sleep", op_sleep, 8, false},
    {"phase", op_phase, 1, false},
};

void sim_operate(void)
{
    unsigned total = 0, chosen, i = 0;

    for (unsigned op = 0; op < sizeof OPS / sizeof *OPS; op++)
        total += OPS[op].weight;
    chosen = sim_random(total);
    while (chosen >= OPS[i].weight)
        chosen -= OPS[i++].weight;
    sim.operation = OPS[i].name;
    if (!OPS[i].adds || room())
        OPS[i].run();
}
