/* sp_settings: what changes while the pool is open. */
#include "kit/pool_kit.h"
#include "core/pool/sp_settings.h"

#include <criterion/criterion.h>

#define PER_STEP 64

static struct sp_plan resize(unsigned size, unsigned max_overflow)
{
    struct sp_plan plan;

    kit_config.size = size;
    kit_config.max_overflow = max_overflow;
    sp_settings_update(kit_pool, &kit_config);
    kit_step(NULL, 0, &plan);
    return plan;
}

static void checked_out(struct handle **handles, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        handles[i] = kit_checkout(KIT_OWNER);
}

TestSuite(settings);

KIT_TEST(settings, a_larger_size_is_filled)
{
    kit_start(2, 0);
    resize(5, 3);
    cr_assert_eq(kit_grow(), 3);
    cr_assert_eq(kit_stats().idle, 5);
    cr_assert_eq(kit_stats().max_overflow, 3);
    cr_assert_eq(kit_stats().closed, 0);
}

KIT_TEST(settings, idle_ones_beyond_the_size_are_closed_at_once)
{
    kit_start(5, 0);
    resize(2, 3);
    cr_assert_eq(kit_stats().idle, 2);
    cr_assert_eq(kit_stats().closed, 3);
    cr_assert_eq(kit_grow(), 0);
}

KIT_TEST(settings, the_longest_idle_first_whichever_shard_it_is_in)
{
    struct handle *handles[4];
    struct sp_conn *conns[4];

    kit_init(2);
    kit_config.size = 4;
    kit_open();
    kit_grow();
    checked_out(handles, 4);
    for (unsigned i = 0; i < 4; i++) {
        conns[i] = handles[i]->conn;
        kit_home(i % 2);
        fake_sleep_ms(10);
        cr_assert_eq(kit_checkin(handles[i]), SP_OK);
    }
    resize(2, 0);
    checked_out(handles, 2);
    for (unsigned i = 0; i < 2; i++)
        cr_assert(handles[i]->conn == conns[2] || handles[i]->conn == conns[3]);
}

KIT_TEST(settings, what_is_leased_beyond_the_limit_is_closed_at_its_check_in)
{
    struct handle *handles[4];

    kit_start(4, 0);
    checked_out(handles, 4);
    resize(1, 1);
    cr_assert_eq(kit_stats().leased, 4);
    cr_assert_eq(kit_checkin(handles[0]), SP_OK);
    cr_assert_eq(kit_checkin(handles[1]), SP_OK);
    cr_assert_eq(kit_stats().total, 2);
    cr_assert_eq(kit_stats().closed, 2);
    cr_assert_eq(kit_checkin(handles[2]), SP_OK);
    cr_assert_eq(kit_checkin(handles[3]), SP_OK);
    cr_assert_eq(kit_stats().total, 2);
}

KIT_TEST(settings, also_where_others_wait)
{
    struct handle *handles[2], *waiting;

    kit_start(2, 0);
    checked_out(handles, 2);
    waiting = kit_enqueue(KIT_OTHER);
    resize(1, 0);
    cr_assert_eq(kit_checkin(handles[0]), SP_OK);
    cr_assert_not(kit_adopt(waiting));
    cr_assert_eq(kit_checkin(handles[1]), SP_OK);
    cr_assert(kit_adopt(waiting));
    cr_assert_eq(kit_stats().total, 1);
}

KIT_TEST(settings, a_smaller_overflow_alone_closes_no_connection_within_the_limit)
{
    struct handle *handles[4];

    kit_start(2, 2);
    for (unsigned i = 0; i < 4; i++) {
        handles[i] = kit_enqueue(KIT_OWNER);
        kit_grow();
        cr_assert(kit_adopt(handles[i]));
    }
    for (unsigned i = 0; i < 4; i++)
        cr_assert_eq(kit_checkin(handles[i]), SP_OK);
    resize(2, 1);
    cr_assert_eq(kit_stats().idle, 3);
    resize(2, 0);
    cr_assert_eq(kit_stats().idle, 2);
}

KIT_TEST(settings, many_are_closed_in_several_steps)
{
    struct sp_plan plan;

    kit_start(PER_STEP + 10, 0);
    plan = resize(1, 0);
    cr_assert(plan.more);
    cr_assert_eq(kit_stats().closed, PER_STEP);
    kit_step(NULL, 0, &plan);
    cr_assert_eq(kit_stats().idle, 1);
}

/* What is too many for a while does not stay so. */
KIT_TEST(settings, grows_again_after_it_was_smaller)
{
    struct handle *handles[3];

    kit_start(3, 0);
    checked_out(handles, 3);
    resize(1, 0);
    resize(3, 0);
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq(kit_checkin(handles[i]), SP_OK);
    cr_assert_eq(kit_stats().idle, 3);
    cr_assert_eq(kit_stats().closed, 0);
}

KIT_TEST(settings, what_a_connection_is_made_of_stays)
{
    struct sp_config before;

    kit_start(1, 0);
    before = kit_config;
    kit_config.transport = &sp_transport_unix;
    kit_config.recv_limit_bytes = before.recv_limit_bytes + 1;
    kit_config.framing.kind = SP_FRAMING_FUN;
    kit_config.max_hold_ns = 5 * SP_MS;
    resize(2, 0);
    cr_assert_eq(kit_pool->control.config.transport, before.transport);
    cr_assert_eq(kit_pool->control.config.recv_limit_bytes, before.recv_limit_bytes);
    cr_assert_eq(kit_pool->control.config.framing.kind, before.framing.kind);
    cr_assert_eq(atomic_load(&kit_pool->max_hold_ns), 5 * SP_MS);
    kit_config.transport = before.transport;
    cr_assert_eq(kit_grow(), 1);
}

KIT_TEST(settings, the_pauses_between_attempts)
{
    struct handle *attempt;
    struct sp_plan plan;

    kit_init(1);
    kit_open();
    kit_config.backoff_min_ns = kit_config.backoff_max_ns = 1 * SP_MS;
    sp_settings_update(kit_pool, &kit_config);
    cr_assert_eq(kit_step(&attempt, 1, &plan), 1);
    kit_drop(attempt);
    kit_step(NULL, 0, &plan);
    cr_assert_leq(plan.wait_ns, 1 * SP_MS);
}

KIT_TEST(settings, whether_there_are_replies)
{
    struct handle *handle;

    kit_start(1, 0);
    handle = kit_checkout(KIT_OWNER);
    sp_conn_sends(handle->conn);
    kit_config.replies = false;
    sp_settings_update(kit_pool, &kit_config);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert_eq(kit_stats().idle, 1);
}
