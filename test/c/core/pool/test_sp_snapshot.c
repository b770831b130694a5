/* sp_snapshot: gauges counted over the connections, counters summed over the shards. */
#include "kit/pool_kit.h"

#include <criterion/criterion.h>

static void gauges(unsigned idle, unsigned leased, unsigned connecting, unsigned waiting)
{
    struct sp_snapshot stats = kit_stats();

    cr_assert_eq(stats.idle, idle);
    cr_assert_eq(stats.leased, leased);
    cr_assert_eq(stats.connecting, connecting);
    cr_assert_eq(stats.waiting, waiting);
    cr_assert_eq(stats.total, idle + leased + connecting);
    kit_check();
}

KIT_TEST(stats, gauges_add_up_in_every_mixture)
{
    static const struct sp_addr ADDR = {.storage.ss_family = AF_INET, .len = 16};
    struct handle *attempts[2], *waiting[2];
    struct sp_plan plan;

    kit_start(3, 2);
    gauges(3, 0, 0, 0);
    cr_assert_eq(kit_stats().size, 3);
    cr_assert_eq(kit_stats().max_overflow, 2);
    struct handle *first = kit_checkout(KIT_OWNER);
    gauges(2, 1, 0, 0);
    kit_checkout(KIT_OWNER);
    kit_checkout(KIT_OWNER);
    waiting[0] = kit_enqueue(KIT_OTHER);
    waiting[1] = kit_enqueue(KIT_OTHER);
    gauges(0, 3, 0, 2);
    cr_assert_eq(kit_step(attempts, 2, &plan), 2);
    gauges(0, 3, 2, 2);
    cr_assert_eq(sp_control_begin(kit_pool, kit_call(), attempts[0]->conn, &attempts[0]->lease,
                                  KIT_OWNER, &ADDR),
                 SP_OK);
    cr_assert_eq(sp_control_opened(attempts[0]->conn, &attempts[0]->lease, kit_call()), SP_OK);
    gauges(0, 3, 2, 2);
    cr_assert_eq(sp_control_ready(kit_pool, kit_call(), attempts[0]->conn, attempts[0]->lease),
                 SP_OK);
    gauges(0, 4, 1, 1);
    kit_drop(attempts[1]);
    gauges(0, 4, 0, 1);
    cr_assert_eq(kit_checkin(first), SP_OK);
    gauges(0, 4, 0, 0);
    kit_drop(waiting[0]);
    gauges(1, 3, 0, 0);
}

KIT_TEST(stats, a_connection_that_is_being_closed_is_not_counted)
{
    struct handle *handle;

    kit_start(1, 0);
    handle = kit_checkout(KIT_OWNER);
    cr_assert(sp_conn_pin(handle->conn));
    cr_assert(sp_pool_revoke(kit_pool, kit_call(), handle->conn, handle->lease));
    gauges(0, 0, 0, 0);
    sp_conn_unpin(handle->conn, kit_call());
    gauges(0, 0, 0, 0);
}

KIT_TEST(stats, counters_are_summed_over_the_shards)
{
    kit_init(3);
    kit_config.size = 1;
    kit_open();
    cr_assert_eq(kit_grow(), 1);
    for (unsigned i = 0; i < 9; i++) {
        kit_home(i);
        struct handle *handle = kit_checkout(KIT_OWNER);
        kit_home(i + 1);
        cr_assert_eq(kit_checkin(handle), SP_OK);
    }
    cr_assert_eq(kit_stats().checkouts, 9);
    cr_assert_eq(kit_stats().checkins, 9);
    cr_assert_eq(kit_stats().reused, 8);
    cr_assert_eq(kit_stats().created, 1);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(atomic_load(&kit_pool->shards[i].stats.immediate), 3);
}

KIT_TEST(stats, of_a_pool_never_opened_are_zero)
{
    kit_init(2);
    gauges(0, 0, 0, 0);
    cr_assert_eq(kit_stats().size, 0);
    cr_assert_eq(kit_stats().checkouts, 0);
}
