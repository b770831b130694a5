/* Random operations on a pool, each compared with a plain model (simulation_model.h): states,
 * lists, the queue, counters, and who was told what.
 *
 * A failure names its seed and step; SOCKPOOL_SEED=N runs that seed too. */
#include "simulation.h"

#include "core/pool/sp_times.h"

#include <stdlib.h>
#include <string.h>

#define STEPS 6000
#define SEEDS 50

/* ---- comparing ---- */

static void compare_conns(void)
{
    for (unsigned i = 0; i < M_CONNS; i++) {
        const struct m_conn *expected = &m.conns[i];
        const struct sp_conn *conn = expected->conn;
        if (expected->state == M_GONE)
            continue;
        SAME(sp_conn_unready(conn), expected->state == M_CONNECTING, "unready of %u", i);
        SAME(sp_conn_state(conn) == SP_CONN_IDLE, expected->state == M_IDLE, "idle of %u", i);
        SAME(atomic_load(&conn->lease) != SP_LEASE_NONE, expected->state != M_IDLE, "lease of %u",
             i);
        if (expected->state == M_IDLE)
            continue;
        SAME(atomic_load(&conn->owner), expected->owner, "owner of %u", i);
        SAME(conn->touched, expected->touched, "touched of %u", i);
        SAME(conn->unanswered, expected->unanswered, "unanswered of %u", i);
        SAME(sp_conn_pinned(conn), expected->armed, "armed of %u", i);
    }
}

static void compare_list(const struct sp_list *list, const struct m_idle *expected)
{
    unsigned place = 0;

    for (struct sp_list_node *node = list->head.prev; node != &list->head;
         node = node->prev, place++) {
        SAME(place < expected->count, true, "length of an idle list below its end");
        SAME(m_index(SP_CONTAINER(node, struct sp_conn, node)), expected->list[place],
             "idle connection %u", place);
    }
    SAME(place, expected->count, "length of an idle list");
}

static void compare_queue(void)
{
    const struct sp_list *list = &kit_pool->queue.list;
    unsigned place = 0;

    for (struct sp_list_node *node = list->head.prev; node != &list->head;
         node = node->prev, place++)
        SAME(SP_CONTAINER(node, struct sp_waiter, node)->owner, m.waiters[place].owner, "waiter %u",
             place);
    SAME(place, m.waiter_count, "length of the queue");
}

static void compare_stats(void)
{
    struct sp_snapshot stats = kit_stats();

    SAME(stats.total, m_total(), "total");
    SAME(stats.idle, m_count(M_IDLE), "idle");
    SAME(stats.leased, m_count(M_LEASED), "leased");
    SAME(stats.connecting, m_count(M_CONNECTING), "connecting");
    SAME(stats.waiting, m.waiter_count, "waiting");
#define COUNTER(name) SAME(stats.name, m.name, #name);
    SP_COUNTER_MAP(COUNTER)
#undef COUNTER
    for (int i = 0; i < SP_WHYS; i++)
        SAME(stats.closed_by[i], m.closed[i], "closed for reason %d", i);
    for (int i = 0; i < SP_FAILURES; i++)
        SAME(stats.failed_by[i], m.failed[i], "attempts failed by %d", i);
    for (int i = 0; i < SP_ERRORS; i++)
        SAME(stats.errors[i], m.errors[i], "errors %d", i);
    SAME(stats.closed + stats.total - stats.connecting, stats.created, "closed, and up");
    SAME(stats.created + stats.connect_failures + stats.connecting, stats.connect_attempts,
         "ends of attempts");
    SAME(sp_times_count(kit_pool, SP_TIME_WAIT), m.checkouts + m.pipelined, "times of waits");
    SAME(sp_times_count(kit_pool, SP_TIME_AGE), stats.closed, "ages");
    SAME(sp_times_count(kit_pool, SP_TIME_CONNECT), m.created, "times of connects");
    SAME(sp_times_count(kit_pool, SP_TIME_INIT), m.created, "times of init");
    SAME(stats.oldest_wait,
         m.waiter_count > 0 ? (fake_now_ns() - m.waiters[0].queued_ns) / SP_MS : 0, "oldest wait");
    SAME(stats.exhausted,
         (m.exhausted_ns + (m.waiter_count > 0 ? fake_now_ns() - m.exhausted_since_ns : 0)) / SP_MS,
         "exhausted");
}

static void compare_notes(unsigned before)
{
    SAME(fake_notes_all() - before, m.note_count, "number told");
    for (unsigned i = 0; i < m.note_count; i++) {
        const struct m_note *expected = &m.notes[i];
        const struct fake_note *note = fake_note_at(before + i);
        struct item *item = sim_find(expected->owner);
        SAME(note->owner, expected->owner, "owner told");
        SAME(note->status, expected->status, "status told");
        SAME(note->sent, expected->sent, "sent told");
        SAME(item && item->kind == WAITING, true, "somebody waits for what is told");
        item->kind = expected->status == SP_OK ? GRANTED : FAILED;
        if (item->kind == FAILED)
            continue;
        SAME((intptr_t)note->conn, (intptr_t)expected->conn, "connection told");
        item->conn = m_index(note->conn);
        item->serial = m.conns[item->conn].serial;
    }
}

static void compare(unsigned notes_before)
{
    compare_notes(notes_before);
    compare_conns();
    for (unsigned shard = 0; shard < m.shards; shard++) {
        compare_list(&kit_pool->shards[shard].fresh, &m.idle[shard][0]);
        compare_list(&kit_pool->shards[shard].cold, &m.idle[shard][1]);
        compare_list(&kit_pool->shards[shard].aged, &m.idle[shard][M_AGED]);
    }
    compare_queue();
    compare_stats();
    kit_check();
}

static void run_one(void)
{
    unsigned notes = fake_notes_all();

    m.home = sim_random(m.shards);
    kit_home(m.home);
    m.note_count = 0;
    m.failing = sp_backoff_failing(&kit_pool->control.state);
    sim_operate();
    compare(notes);
}

static void configure(uint64_t seed)
{
    static const uint64_t TTLS[] = {0, 300 * SP_MS, 3000 * SP_MS, SP_NEVER};
    static const uint64_t AFTERS[] = {0, 50 * SP_MS, SP_NEVER};

    memset(&m, 0, sizeof m);
    sim = (struct simulation){.seed = seed, .rng = seed, .next_owner = 1};
    m.shards = 1 + sim_random(M_SHARDS);
    m.config = &kit_config;
    m.phase = SP_PHASE_OPEN;
    kit_init(m.shards);
    kit_config.size = sim_random(6);
    kit_config.max_overflow = sim_random(5) + (kit_config.size == 0);
    kit_config.overflow_ttl_ns = TTLS[sim_random(4)];
    kit_config.validate_after_ns = AFTERS[sim_random(3)];
    kit_config.max_hold_ns = sim_random(2) ? SP_NEVER : 400 * SP_MS;
    kit_config.leak_threshold_ns = 200 * SP_MS;
    kit_config.max_waiting = sim_random(3) ? SP_NEVER : 3;
    kit_config.strategy = sim_random(2) ? SP_LIFO : SP_FIFO;
    kit_config.min_idle = sim_random(3) ? 0 : 1 + sim_random(2);
    kit_config.growth = sim_random(2) ? SP_GROWTH_EAGER : SP_GROWTH_EXPECTED;
    kit_config.replies = sim_random(2);
    kit_config.min_size = sim_random(kit_config.size + 1);
    kit_config.idle_timeout_ns = sim_random(2) ? SP_NEVER : 200 * SP_MS;
    kit_config.lifetime_max_ns = sim_random(3) ? SP_NEVER : 300 * SP_MS;
    kit_config.lifetime_min_ns = 200 * SP_MS;
    kit_config.max_uses = sim_random(3) ? SP_NEVER : 3 + sim_random(12);
    m_open();
    kit_open();
}

static void simulate(uint64_t seed)
{
    configure(seed);
    for (sim.step = 0; sim.step < STEPS; sim.step++)
        run_one();
    if (m.phase != SP_PHASE_OPEN)
        kit_open();
    kit_close();
}

Test(simulation, agrees_with_the_model)
{
    struct sp_snapshot all = {0};
    uint64_t closed[SP_WHYS] = {0};
    uint64_t put_aside = 0, replaced = 0, closed_first = 0, shrunk = 0, spared = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        simulate(seed);
        put_aside += m.put_aside;
        spared += sim.spared;
        replaced += m.replaced;
        closed_first += m.closed_first;
        shrunk += m.shrunk;
#define ADD(name) all.name += m.name;
        SP_COUNTER_MAP(ADD)
#undef ADD
        for (int i = 0; i < SP_WHYS; i++)
            closed[i] += m.closed[i];
    }
    /* That everything has happened, and often. */
    all.pipelined = all.health_ok = all.health_failed =
        SP_NEVER; /* but for that: sp_piped has tests of its own */
    cr_assert_gt(all.deferred, 0);
    all.deferred = SP_NEVER;
    for (int i = 0; i < SP_WHYS; i++)
        cr_assert(closed[i] > 0 || i == SP_WHY_IO_ERROR || i == SP_WHY_EXCEPTION ||
                      i == SP_WHY_RESIZE || i == SP_WHY_OPTIONS || i == SP_WHY_HEALTH,
                  "none closed for %d", i);
#define OFTEN(name) cr_assert_gt(all.name, 15 * SEEDS, #name " is %u", (unsigned)all.name);
    SP_COUNTER_MAP(OFTEN)
#undef OFTEN
    cr_assert_gt(spared, SEEDS);
    cr_assert(put_aside > SEEDS && replaced > 5 && closed_first > 5 && shrunk > 5, "%u, %u, %u, %u",
              (unsigned)put_aside, (unsigned)replaced, (unsigned)closed_first, (unsigned)shrunk);
}

Test(simulation, agrees_with_the_model_for_the_seed_given)
{
    const char *given = getenv("SOCKPOOL_SEED");

    simulate(given ? strtoull(given, NULL, 10) : 1000);
}
