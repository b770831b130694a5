/* Connections that are too old, by time or by uses, and how they are replaced. */
#include "kit/pool_kit.h"

#include <criterion/criterion.h>

#define MS SP_MS

/* Each ends after exactly a second, where a test does not say otherwise. */
static void configured(unsigned size, unsigned max_overflow)
{
    kit_init(1);
    kit_config.size = size;
    kit_config.max_overflow = max_overflow;
    kit_config.lifetime_min_ns = kit_config.lifetime_max_ns = 1000 * MS;
}

static void started(unsigned size, unsigned max_overflow)
{
    configured(size, max_overflow);
    kit_open();
    cr_assert_eq(kit_grow(), size);
}

/* The attempts that a step makes. */
static size_t attempts(struct handle **made)
{
    struct sp_plan plan;

    return kit_step(made, 32, &plan);
}

static void connect_all(struct handle **made, size_t count)
{
    for (size_t i = 0; i < count; i++)
        kit_connect(made[i], KIT_OWNER);
}

static void nothing_is_wanted(void)
{
    struct handle *made[32];

    cr_assert_eq(attempts(made), 0);
}

static uint64_t aged(void)
{
    return atomic_load(&kit_pool->aged);
}

/* Those that come for others are not taken for too many, and closed, again and again. */
KIT_TEST(age, one_replaces_another_where_nothing_extra_may_be_idle)
{
    struct handle *made[32];

    configured(1, 1);
    kit_config.overflow_ttl_ns = 0;
    kit_open();
    cr_assert_eq(kit_grow(), 1);
    fake_sleep_ms(1000);
    kit_tick();
    cr_assert_eq(attempts(made), 1);
    connect_all(made, 1);
    nothing_is_wanted();
    cr_assert_eq(kit_stats().closed_by[SP_WHY_MAX_LIFETIME], 1);
    cr_assert_eq(kit_stats().closed, 1);
    cr_assert_eq(kit_stats().total, 1);
}

/* ---- ends ---- */

KIT_TEST(age, begins_when_the_connection_is_usable)
{
    struct handle *made[32];

    configured(1, 0);
    kit_open();
    cr_assert_eq(attempts(made), 1);
    fake_sleep_ms(500);
    kit_connect(made[0], KIT_OWNER);
    fake_sleep_ms(999);
    kit_tick();
    cr_assert_eq(aged(), 0);
    fake_sleep_ms(1);
    kit_tick();
    cr_assert_eq(aged(), 1);
}

KIT_TEST(age, ends_are_spread_over_the_last_part)
{
    unsigned closes[100] = {0}, all = 0;

    configured(100, 20);
    kit_config.lifetime_min_ns = 7500 * MS;
    kit_config.lifetime_max_ns = 10000 * MS;
    kit_open();
    cr_assert_eq(kit_grow(), 100);
    for (unsigned i = 0; i < 100; i++)
        for (uint32_t slot = 0; slot < kit_pool->table.count; slot++) {
            const struct sp_conn *conn = kit_pool->table.slots[slot];
            uint64_t life_ns = conn ? atomic_load(&conn->ends_ns) - conn->born_ns : 0;
            if (conn && life_ns / (100 * MS) == i) {
                closes[i]++;
                all++;
            }
        }
    cr_assert_eq(all, 100);
    for (unsigned i = 0; i < 100; i++)
        cr_assert(closes[i] <= 10 && (i >= 75 || closes[i] == 0), "%u end in %u %%", closes[i], i);
}

KIT_TEST(age, uses_are_spread_over_the_last_tenth)
{
    bool seen[101] = {false};
    unsigned different = 0;

    configured(32, 0);
    kit_config.lifetime_max_ns = SP_NEVER;
    kit_config.max_uses = 100;
    kit_open();
    cr_assert_eq(kit_grow(), 32);
    for (uint32_t slot = 0; slot < 32; slot++) {
        uint32_t end = kit_pool->table.slots[slot]->uses_end;
        cr_assert(end >= 90 && end <= 100, "%u", end);
        different += !seen[end];
        seen[end] = true;
    }
    cr_assert_gt(different, 5);
}

KIT_TEST(age, few_uses_are_not_spread)
{
    configured(4, 0);
    kit_config.max_uses = 9;
    kit_open();
    cr_assert_eq(kit_grow(), 4);
    for (uint32_t slot = 0; slot < 4; slot++)
        cr_assert_eq(kit_pool->table.slots[slot]->uses_end, 9);
}

/* ---- replacing ---- */

KIT_TEST(age, an_idle_one_is_replaced_first_and_then_closed)
{
    struct handle *made[32];

    started(1, 1);
    fake_sleep_ms(1000);
    kit_tick();
    cr_assert_eq(kit_stats().idle, 1, "it is there until the other is");
    cr_assert_eq(attempts(made), 1);
    nothing_is_wanted();
    cr_assert_eq(kit_stats().idle, 1);
    kit_connect(made[0], KIT_OWNER);
    nothing_is_wanted();
    cr_assert_eq(kit_stats().total, 1);
    cr_assert_eq(kit_stats().idle, 1);
    cr_assert_eq(kit_stats().closed, 1);
    cr_assert_eq(aged(), 0);
}

KIT_TEST(age, at_the_limit_it_is_closed_first)
{
    struct handle *made[32];

    started(2, 0);
    fake_sleep_ms(1000);
    kit_tick();
    cr_assert_eq(attempts(made), 1, "one at a time");
    cr_assert_eq(kit_stats().idle, 1);
    cr_assert_eq(kit_stats().closed, 1);
    nothing_is_wanted();
    kit_connect(made[0], KIT_OWNER);
    cr_assert_eq(attempts(made), 1);
    cr_assert_eq(kit_stats().closed, 2);
    kit_connect(made[0], KIT_OWNER);
    nothing_is_wanted();
    cr_assert_eq(kit_stats().closed, 2);
    cr_assert_eq(kit_stats().idle, 2);
}

KIT_TEST(age, at_most_a_tenth_is_replaced_at_a_time)
{
    struct handle *made[32];
    unsigned rounds = 0;
    size_t count;

    started(30, 30);
    fake_sleep_ms(1000);
    kit_tick();
    cr_assert_eq(aged(), 30);
    while ((count = attempts(made)) > 0) {
        cr_assert_leq(count, 3);
        nothing_is_wanted();
        connect_all(made, count);
        cr_assert_geq(kit_stats().idle, 30);
        rounds++;
    }
    cr_assert_eq(rounds, 10);
    cr_assert_eq(kit_stats().idle, 30);
    cr_assert_eq(kit_stats().closed, 30);
}

KIT_TEST(age, one_above_the_size_is_replaced_while_so_many_are_needed)
{
    struct handle *made[32];
    struct handle *handles[2];

    configured(0, 4);
    kit_config.overflow_ttl_ns = 500 * MS;
    kit_open();
    for (int i = 0; i < 2; i++) {
        handles[i] = kit_enqueue(KIT_OWNER);
        cr_assert_eq(kit_grow(), 1);
        cr_assert(kit_adopt(handles[i]));
    }
    for (int i = 0; i < 10; i++) {
        fake_sleep_ms(100);
        kit_tick();
    }
    for (int i = 0; i < 2; i++)
        cr_assert_eq(kit_checkin(handles[i]), SP_OK);
    cr_assert_eq(aged(), 2);
    cr_assert_eq(attempts(made), 1, "one of two at a time");
    kit_connect(made[0], KIT_OWNER);
    cr_assert_eq(attempts(made), 1);
    kit_connect(made[0], KIT_OWNER);
    nothing_is_wanted();
    cr_assert_eq(kit_stats().idle, 2);
    for (int i = 0; i < 12; i++) {
        fake_sleep_ms(100);
        kit_tick();
    }
    nothing_is_wanted();
    cr_assert_eq(kit_stats().total, 0, "nobody needs them any more");
}

KIT_TEST(age, one_above_the_size_is_replaced_at_the_limit_too)
{
    struct handle *made[32], *handle;

    configured(0, 1);
    kit_open();
    handle = kit_enqueue(KIT_OWNER);
    cr_assert_eq(kit_grow(), 1);
    cr_assert(kit_adopt(handle));
    fake_sleep_ms(1000);
    kit_tick();
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert_eq(attempts(made), 1);
    cr_assert_eq(kit_stats().closed, 1);
    kit_connect(made[0], KIT_OWNER);
    nothing_is_wanted();
    cr_assert_eq(kit_stats().idle, 1);
}

/* ---- leases ---- */

KIT_TEST(age, no_lease_ends_for_it)
{
    struct handle *handle;

    started(1, 1);
    handle = kit_checkout(KIT_OWNER);
    fake_sleep_ms(100000);
    kit_tick();
    cr_assert(sp_conn_enter(handle->conn, handle->lease, kit_call()));
    sp_conn_leave(handle->conn, kit_call());
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert_eq(aged(), 1);
    cr_assert_eq(kit_grow(), 1);
    cr_assert_eq(kit_stats().closed, 1);
}

KIT_TEST(age, a_checkout_prefers_any_other)
{
    struct handle *young, *old, *handle;
    struct sp_conn *conn;

    started(2, 1);
    old = kit_checkout(KIT_OWNER);
    young = kit_checkout(KIT_OWNER);
    atomic_store(&young->conn->ends_ns, SP_NEVER);
    conn = young->conn;
    cr_assert_eq(kit_checkin(young), SP_OK);
    cr_assert_eq(kit_checkin(old), SP_OK);
    fake_sleep_ms(1000);
    handle = kit_checkout(KIT_OWNER);
    cr_assert_eq(handle->conn, conn, "though the other was there last, and no tick has come");
    cr_assert_eq(aged(), 1);
}

KIT_TEST(age, the_only_one_is_handed_out_for_a_twentieth_of_its_life)
{
    started(1, 0);
    fake_sleep_ms(1050);
    cr_assert_eq(kit_checkin(kit_checkout(KIT_OWNER)), SP_OK);
    cr_assert_eq(aged(), 1);
    cr_assert_eq(kit_checkin(kit_checkout(KIT_OWNER)), SP_OK);
    fake_sleep_ms(1);
    sp_status status;
    cr_assert_null(kit_try_checkout(KIT_OWNER, &status));
    cr_assert_eq(status, SP_EMPTY);
    cr_assert_eq(kit_stats().closed, 1);
    cr_assert_eq(kit_grow(), 1);
}

KIT_TEST(age, a_waiter_is_served_first_for_a_twentieth_of_its_life)
{
    struct handle *handle, *first, *second;

    started(1, 0);
    handle = kit_checkout(KIT_OWNER);
    first = kit_enqueue(KIT_OTHER);
    second = kit_enqueue(KIT_OTHER);
    fake_sleep_ms(1050);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert(kit_adopt(first));
    fake_sleep_ms(1);
    cr_assert_eq(kit_checkin(first), SP_OK);
    cr_assert_eq(kit_stats().closed, 1);
    cr_assert_eq(kit_stats().waiting, 1);
    cr_assert_eq(kit_grow(), 1);
    cr_assert(kit_adopt(second));
}

KIT_TEST(age, while_others_connect_a_waiter_is_served_at_any_age)
{
    struct handle *made[32], *handle, *waiting;

    started(1, 1);
    handle = kit_checkout(KIT_OWNER);
    waiting = kit_enqueue(KIT_OTHER);
    cr_assert_eq(attempts(made), 1);
    fake_sleep_ms(5000);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert(kit_adopt(waiting));
    kit_connect(made[0], KIT_OWNER);
}

KIT_TEST(age, an_untouched_one_of_a_dead_owner_is_too_old_as_well)
{
    started(1, 1);
    kit_checkout(KIT_OWNER);
    fake_sleep_ms(1000);
    fake_kill(KIT_OWNER);
    kit_tick();
    cr_assert_eq(aged(), 1);
}

/* ---- uses ---- */

static void used_up(unsigned uses)
{
    for (unsigned i = 0; i < uses; i++)
        cr_assert_eq(kit_checkin(kit_checkout(KIT_OWNER)), SP_OK);
}

KIT_TEST(age, a_connection_ends_with_its_uses)
{
    configured(1, 1);
    kit_config.lifetime_max_ns = SP_NEVER;
    kit_config.max_uses = 3;
    kit_open();
    cr_assert_eq(kit_grow(), 1);
    used_up(2);
    cr_assert_eq(aged(), 0);
    used_up(1);
    cr_assert_eq(aged(), 1);
    cr_assert_eq(kit_grow(), 1);
    cr_assert_eq(kit_stats().closed, 1);
    cr_assert_eq(kit_stats().idle, 1);
}

KIT_TEST(age, max_uses_is_never_exceeded)
{
    sp_status status;
    unsigned uses = 0;
    struct handle *handle;

    configured(1, 0);
    kit_config.lifetime_max_ns = SP_NEVER;
    kit_config.max_uses = 1000;
    kit_open();
    cr_assert_eq(kit_grow(), 1);
    while ((handle = kit_try_checkout(KIT_OWNER, &status))) {
        cr_assert_eq(kit_checkin(handle), SP_OK);
        uses++;
    }
    cr_assert_eq(uses, 1000, "%u uses before another is there", uses);
    cr_assert_eq(kit_stats().closed, 1);
    cr_assert_eq(kit_grow(), 1);
}

KIT_TEST(age, max_uses_is_not_exceeded_while_another_connects)
{
    struct handle *made[32];
    sp_status status;

    configured(1, 1);
    kit_config.lifetime_max_ns = SP_NEVER;
    kit_config.max_uses = 3;
    kit_open();
    cr_assert_eq(kit_grow(), 1);
    used_up(3);
    cr_assert_eq(attempts(made), 1);
    cr_assert_null(kit_try_checkout(KIT_OWNER, &status));
    cr_assert_eq(kit_stats().closed, 1);
    kit_connect(made[0], KIT_OWNER);
    cr_assert_eq(kit_stats().idle, 1);
}

KIT_TEST(age, uses_are_counted_where_any_number_is_allowed)
{
    started(1, 0);
    used_up(3);
    cr_assert_eq(kit_pool->table.slots[0]->uses, 3);
    cr_assert_eq(kit_stats().closed, 0);
}

/* ---- outages ---- */

/* The attempt fails, and with that they fail. */
static void fail(struct handle *attempt)
{
    sp_pool_abandon(kit_pool, kit_call(), attempt->conn, attempt->lease);
    kit_drop(attempt);
}

KIT_TEST(age, nothing_is_closed_for_it_while_attempts_fail)
{
    struct handle *made[32], *handle;
    unsigned tries = 0;

    started(2, 1);
    fake_sleep_ms(1000);
    kit_tick();
    cr_assert_eq(attempts(made), 1);
    fail(made[0]);
    for (int i = 0; i < 200; i++) {
        fake_sleep_ms(100);
        kit_tick();
        cr_assert_eq(kit_stats().idle, 2);
        if (attempts(made) == 1) {
            fail(made[0]);
            tries++;
        }
        cr_assert_eq(kit_checkin(kit_checkout(KIT_OWNER)), SP_OK);
    }
    cr_assert_gt(tries, 2, "it is tried again, with pauses");
    cr_assert_lt(tries, 60);
    handle = kit_checkout(KIT_OWNER);
    fake_sleep_ms(20000);
    cr_assert_eq(attempts(made), 1);
    kit_connect(made[0], KIT_OWNER);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    (void)kit_grow();
    cr_assert_eq(kit_stats().idle, 2);
    cr_assert_eq(kit_stats().closed, 2);
}

KIT_TEST(age, at_the_limit_one_is_lost_to_an_outage)
{
    struct handle *made[32];

    started(3, 0);
    fake_sleep_ms(1000);
    kit_tick();
    cr_assert_eq(attempts(made), 1);
    fail(made[0]);
    for (int i = 0; i < 100; i++) {
        fake_sleep_ms(100);
        kit_tick();
        if (attempts(made) == 1)
            fail(made[0]);
        cr_assert_eq(kit_stats().idle, 2);
    }
}

KIT_TEST(age, nothing_is_replaced_when_the_pool_is_shut)
{
    struct handle *made[32];

    started(2, 2);
    fake_sleep_ms(1000);
    kit_tick();
    cr_assert_eq(aged(), 2);
    sp_control_shut_begin(kit_pool, SP_PHASE_CLOSED);
    cr_assert_eq(attempts(made), 0);
    while (sp_control_shut_slice(kit_pool, kit_call(), SP_DRAINING))
        ;
    cr_assert_eq(kit_stats().total, 0);
    cr_assert_eq(aged(), 0);
}

/* ---- under load ---- */

/* One of twenty is idle at any time. Nothing is idle and too old for longer than four rounds, and nobody finds
 * less than without ageing, but where one was held for too long after its end. */
KIT_TEST(age, at_high_load_nothing_idle_is_older_than_its_end)
{
    struct handle *leased[19] = {NULL}, *made[32];
    unsigned missed = 0;
    uint64_t closed, rng = 1;
    sp_status status;

    configured(20, 2);
    kit_config.lifetime_min_ns = 7500 * MS;
    kit_config.lifetime_max_ns = 10000 * MS;
    kit_config.strategy = SP_FIFO;
    kit_open();
    cr_assert_eq(kit_grow(), 20);
    for (int tick = 0; tick < 2000; tick++) {
        size_t count = attempts(made);
        for (unsigned i = 0; i < 19; i++) {
            rng = rng * 6364136223846793005u + 1442695040888963407u;
            if (leased[i] && rng >> 63)
                continue;
            if (leased[i])
                cr_assert_eq(kit_checkin(leased[i]), SP_OK);
            leased[i] = kit_try_checkout(KIT_OWNER, &status);
            missed += !leased[i];
        }
        fake_sleep_ms(50);
        connect_all(made, count);
        kit_tick();
        for (uint32_t slot = 0; slot < kit_pool->table.count; slot++) {
            const struct sp_conn *conn = kit_pool->table.slots[slot];
            uint64_t since_ns = conn ? atomic_load(&conn->ends_ns) : SP_NEVER;
            if (!conn || sp_conn_state(conn) != SP_CONN_IDLE)
                continue;
            if (since_ns < conn->idle_since_ns)
                since_ns = conn->idle_since_ns;
            cr_assert_leq(fake_now_ns(), since_ns + 200 * MS, "%u ms",
                          (unsigned)((fake_now_ns() - since_ns) / MS));
        }
    }
    closed = kit_stats().closed;
    cr_assert_lt(missed, 5, "%u of 20,000 find none", missed);
    cr_assert(closed > 160 && closed < 280, "%u were closed", (unsigned)closed);
}

KIT_TEST(age, a_watch_goes_on)
{
    struct sp_conn *conn;
    uint32_t generation;

    configured(1, 0);
    kit_config.lifetime_min_ns = kit_config.lifetime_max_ns = 1500 * MS;
    kit_open();
    cr_assert_eq(kit_grow(), 1);
    fake_sleep_ms(1001);
    kit_tick();
    generation = fake_last_watch(&conn);
    fake_sleep_ms(500);
    kit_tick();
    cr_assert_eq(aged(), 1);
    fake_peer_closes(conn->fd);
    sp_control_idle_event(kit_pool, kit_call(), conn->slot, generation);
    cr_assert_eq(kit_stats().total, 0);
    cr_assert_eq(aged(), 0);
}
