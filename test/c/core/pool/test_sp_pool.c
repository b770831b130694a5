/* sp_pool: init, idle shards, check-out, validation, phases. How a lease ends: test_sp_pool_ends.c;
 * waiters: test_sp_pool_waiters.c, test_sp_pool_request.c. */
#include "kit/fail_alloc.h"
#include "kit/pool_kit.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>

static void two(void)
{
    kit_start(2, 0);
}

static void three_shards(void)
{
    kit_init(3);
    kit_config.size = 3;
    kit_open();
}

static struct sp_conn *conn_of(struct handle *handle)
{
    return handle->conn;
}

/* Checks all out and in again, so that the last of the array is the newest idle one. */
static void order(struct sp_conn *conns[], unsigned count)
{
    struct handle *held[8];

    for (unsigned i = 0; i < count; i++)
        held[i] = kit_checkout(KIT_OWNER);
    for (unsigned i = 0; i < count; i++) {
        conns[i] = conn_of(held[i]);
        cr_assert_eq(kit_checkin(held[i]), SP_OK);
    }
}

/* ---- init ---- */

Test(pool_init, memory_that_is_short_is_an_answer)
{
    static struct sp_pool pool;

    fail_alloc_after(0);
    cr_assert_eq(sp_pool_init(&pool, &fake_host, &fake_sys, 4), SP_NO_MEMORY);
    cr_assert_eq(sp_pool_init(&pool, &fake_host, &fake_sys, 4), SP_OK);
    sp_pool_destroy(&pool);
}

Test(pool_init, shards_are_bounded_and_aligned)
{
    kit_init(SP_SHARDS_MAX + 1);
    cr_assert_eq(kit_pool->shard_count, SP_SHARDS_MAX);
    cr_assert_eq((uintptr_t)kit_pool->shards % _Alignof(struct sp_shard), 0);
    kit_home(SP_SHARDS_MAX + 5);
    cr_assert_eq(sp_pool_home(kit_pool, kit_call()), &kit_pool->shards[5]);
    kit_close();
}

/* ---- check-out ---- */

TestSuite(pool_checkout, .init = two);

KIT_TEST(pool_checkout, leases_an_idle_connection_to_its_owner)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    struct sp_snapshot stats = kit_stats();

    cr_assert_eq(sp_conn_state(handle->conn), SP_CONN_LEASED);
    cr_assert_eq(atomic_load(&handle->conn->lease), handle->lease);
    cr_assert_eq(atomic_load(&handle->conn->owner), KIT_OWNER);
    cr_assert_eq(atomic_load(&handle->conn->leased_ns), fake_now_ns());
    cr_assert_eq(fake_conn_refs(handle->conn), 2, "the table's and the caller's");
    cr_assert_eq(stats.idle, 1);
    cr_assert_eq(stats.leased, 1);
    cr_assert_eq(stats.checkouts, 1);
}

KIT_TEST(pool_checkout, an_empty_pool_says_so)
{
    sp_status status;

    kit_checkout(KIT_OWNER);
    kit_checkout(KIT_OWNER);
    cr_assert_null(kit_try_checkout(KIT_OWNER, &status));
    cr_assert_eq(status, SP_EMPTY);
    cr_assert_eq(kit_stats().checkouts, 2);
}

KIT_TEST(pool_checkout, does_not_overtake_those_who_wait)
{
    sp_status status;

    atomic_store(&kit_pool->nwait, 1);
    cr_assert_null(kit_try_checkout(KIT_OWNER, &status));
    cr_assert_eq(status, SP_EMPTY);
    atomic_store(&kit_pool->nwait, 0);
    kit_checkout(KIT_OWNER);
}

KIT_TEST(pool_checkout, lifo_gives_the_newest)
{
    struct sp_conn *conns[2];

    order(conns, 2);
    cr_assert_eq(conn_of(kit_checkout(KIT_OWNER)), conns[1]);
    cr_assert_eq(conn_of(kit_checkout(KIT_OWNER)), conns[0]);
}

KIT_TEST(pool_checkout, fifo_gives_the_oldest)
{
    struct sp_conn *conns[2];

    atomic_store(&kit_pool->strategy, SP_FIFO);
    order(conns, 2);
    cr_assert_eq(conn_of(kit_checkout(KIT_OWNER)), conns[0]);
    cr_assert_eq(conn_of(kit_checkout(KIT_OWNER)), conns[1]);
}

/* Two cold ones, and one fresh. */
static void chill(struct sp_conn *conns[3])
{
    struct handle *fresh;

    kit_init(1);
    kit_config.size = 3;
    kit_open();
    cr_assert_eq(kit_grow(), 3);
    order(conns, 3);
    fake_sleep_ms(1500);
    kit_tick();
    fresh = kit_checkout(KIT_OWNER);
    conns[2] = conn_of(fresh);
    cr_assert_eq(kit_checkin(fresh), SP_OK);
    cr_assert(conns[0]->cold && conns[1]->cold && !conns[2]->cold);
}

KIT_TEST(pool_cold, lifo_takes_fresh_ones_first)
{
    struct sp_conn *conns[3];

    chill(conns);
    for (int i = 2; i >= 0; i--)
        cr_expect_eq(conn_of(kit_checkout(KIT_OWNER)), conns[i], "%d", i);
}

KIT_TEST(pool_cold, fifo_takes_cold_ones_first)
{
    struct sp_conn *conns[3];

    chill(conns);
    atomic_store(&kit_pool->strategy, SP_FIFO);
    for (int i = 0; i < 3; i++)
        cr_expect_eq(conn_of(kit_checkout(KIT_OWNER)), conns[i], "%d", i);
}

KIT_TEST(pool_checkout, counts_the_first_lease_of_a_connection_apart)
{
    cr_assert_eq(kit_checkin(kit_checkout(KIT_OWNER)), SP_OK);
    cr_assert_eq(kit_stats().reused, 0);
    kit_checkout(KIT_OWNER);
    cr_assert_eq(kit_stats().reused, 1);
    kit_checkout(KIT_OWNER);
    cr_assert_eq(kit_stats().reused, 1);
    cr_assert_eq(kit_stats().checkouts, 3);
}

KIT_TEST(pool_checkout, finds_what_the_last_checkin_left)
{
    struct handle *handle = kit_checkout(KIT_OWNER);
    void *keepsake = fake_keepsake_new();

    cr_assert_null(handle->keepsake);
    handle->keepsake = keepsake;
    cr_assert_eq(kit_checkin(handle), SP_OK);
    handle = kit_checkout(KIT_OTHER);
    cr_assert_eq(handle->keepsake, keepsake);
    cr_assert_null(handle->conn->keepsake);
}

KIT_TEST(pool_checkout, drops_the_keepsake_where_a_waiter_gets_the_connection)
{
    struct handle *waiting;

    kit_checkout(KIT_OWNER);
    struct handle *handle = kit_checkout(KIT_OWNER);
    handle->keepsake = fake_keepsake_new();
    waiting = kit_enqueue(KIT_OTHER);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert_eq(fake_keepsakes(), 0);
    cr_assert(kit_adopt(waiting));
}

/* ---- shards ---- */

TestSuite(pool_shards, .init = three_shards);

KIT_TEST(pool_shards, own_shard_first_then_the_next_ones)
{
    struct handle *attempts[3];
    struct sp_conn *conns[3];
    struct sp_plan plan;

    cr_assert_eq(kit_step(attempts, 3, &plan), 3);
    for (unsigned i = 0; i < 3; i++) {
        kit_home(i);
        conns[i] = attempts[i]->conn;
        kit_connect(attempts[i], KIT_OWNER);
        cr_assert_eq(atomic_load(&kit_pool->shards[i].top), 1);
    }
    kit_check();
    kit_home(1);
    cr_assert_eq(conn_of(kit_checkout(KIT_OWNER)), conns[1]);
    cr_assert_eq(conn_of(kit_checkout(KIT_OWNER)), conns[2], "stolen");
    cr_assert_eq(conn_of(kit_checkout(KIT_OWNER)), conns[0], "stolen from across the end");
}

KIT_TEST(pool_shards, a_checkin_goes_to_the_callers_shard)
{
    struct handle *handle;

    cr_assert_eq(kit_grow(), 3);
    handle = kit_checkout(KIT_OWNER);
    kit_home(2);
    cr_assert_eq(kit_checkin(handle), SP_OK);
    cr_assert_eq(atomic_load(&kit_pool->shards[2].top), 1);
    cr_assert_eq(atomic_load(&kit_pool->shards[0].top), 2);
}

/* ---- validation ---- */

TestSuite(pool_validate, .init = two);

/* The newest idle connection goes bad; the check-out gives the other and closes this one. */
static void refuses(struct sp_conn *bad, struct sp_conn *good)
{
    unsigned wakes = fake_wakes();
    int fd = bad->fd;

    cr_assert_eq(conn_of(kit_checkout(KIT_OWNER)), good);
    cr_assert_eq(kit_stats().total, 1);
    cr_assert_eq(kit_stats().closed, 1);
    cr_assert_gt(fake_wakes(), wakes, "a lost connection calls for another");
    sp_close_work(kit_pool, kit_call());
    cr_assert_not(fake_fd_open(fd));
    cr_assert_eq(kit_grow(), 1);
}

KIT_TEST(pool_validate, a_connection_with_stray_bytes_is_never_handed_out)
{
    struct sp_conn *conns[2];

    order(conns, 2);
    fake_peer_sends(conns[1]->fd, "x", 1);
    refuses(conns[1], conns[0]);
}

KIT_TEST(pool_validate, a_connection_that_the_peer_closed_is_never_handed_out)
{
    struct sp_conn *conns[2];

    order(conns, 2);
    fake_peer_closes(conns[1]->fd);
    refuses(conns[1], conns[0]);
}

KIT_TEST(pool_validate, a_connection_that_the_peer_reset_is_never_handed_out)
{
    struct sp_conn *conns[2];

    order(conns, 2);
    fake_peer_resets(conns[1]->fd);
    refuses(conns[1], conns[0]);
}

KIT_TEST(pool_validate, where_all_are_bad_the_pool_is_empty)
{
    struct sp_conn *conns[2];
    sp_status status;

    order(conns, 2);
    fake_peer_closes(conns[0]->fd);
    fake_peer_sends(conns[1]->fd, "xy", 2);
    cr_assert_null(kit_try_checkout(KIT_OWNER, &status));
    cr_assert_eq(status, SP_EMPTY);
    cr_assert_eq(kit_stats().total, 0);
    cr_assert_eq(kit_stats().checkouts, 2, "those before");
    cr_assert_eq(kit_grow(), 2);
}

KIT_TEST(pool_validate, a_bad_connection_is_not_given_to_a_waiter_either)
{
    struct handle *held[2] = {kit_checkout(KIT_OWNER), kit_checkout(KIT_OWNER)};
    struct handle *waiting = kit_enqueue(KIT_OTHER);

    fake_peer_closes(conn_of(held[0])->fd);
    cr_assert_eq(kit_checkin(held[0]), SP_OK);
    cr_assert_eq(fake_notes(KIT_OTHER), 0);
    cr_assert_eq(kit_stats().total, 1);
    cr_assert_eq(kit_checkin(held[1]), SP_OK);
    cr_assert_eq(fake_notes(KIT_OTHER), 1);
    cr_assert(kit_adopt(waiting));
}

KIT_TEST(pool_validate, always_looks_each_time)
{
    unsigned before = fake_calls(FAKE_RECV);

    for (unsigned i = 1; i <= 3; i++) {
        cr_assert_eq(kit_checkin(kit_checkout(KIT_OWNER)), SP_OK);
        cr_assert_eq(fake_calls(FAKE_RECV), before + i);
    }
}

KIT_TEST(pool_validate, never_does_not_look)
{
    unsigned before = fake_calls(FAKE_RECV);

    atomic_store(&kit_pool->validate_after_ns, SP_NEVER);
    fake_sleep_ms(1000000);
    cr_assert_eq(kit_checkin(kit_checkout(KIT_OWNER)), SP_OK);
    cr_assert_eq(fake_calls(FAKE_RECV), before);
}

KIT_TEST(pool_validate, after_looks_only_at_those_idle_for_that_long)
{
    unsigned before = fake_calls(FAKE_RECV);

    atomic_store(&kit_pool->validate_after_ns, 50 * SP_MS);
    cr_assert_eq(kit_checkin(kit_checkout(KIT_OWNER)), SP_OK);
    cr_assert_eq(fake_calls(FAKE_RECV), ++before, "before its first use, always");
    fake_sleep_ms(49);
    cr_assert_eq(kit_checkin(kit_checkout(KIT_OWNER)), SP_OK);
    cr_assert_eq(fake_calls(FAKE_RECV), before, "49 ms are too short");
    fake_sleep_ms(50);
    kit_checkout(KIT_OWNER);
    cr_assert_eq(fake_calls(FAKE_RECV), before + 1, "50 ms are long enough");
}

/* ---- phases ---- */

static sp_status checkout_in_hook, enqueue_in_hook;

static void try_while_draining(void *arg)
{
    (void)arg;
    cr_expect_null(kit_try_checkout(KIT_OTHER, &checkout_in_hook));
    cr_expect_null(kit_try_enqueue(KIT_OTHER, NULL, 0, &enqueue_in_hook));
}

Test(pool_phase, each_phase_has_its_answer)
{
    sp_status status;

    kit_init(1);
    kit_config.size = 1;
    cr_expect_null(kit_try_checkout(KIT_OWNER, &status));
    cr_expect_eq(status, SP_NOT_FOUND, "never opened");
    cr_expect_null(kit_try_enqueue(KIT_OWNER, NULL, 0, &status));
    cr_expect_eq(status, SP_NOT_FOUND);
    kit_open();
    kit_enqueue(KIT_OWNER);
    fake_host_hook(FAKE_ON_NOTIFY, try_while_draining, NULL);
    kit_shut(SP_PHASE_CLOSED, SP_DRAINING);
    cr_expect_eq(checkout_in_hook, SP_DRAINING);
    cr_expect_eq(enqueue_in_hook, SP_DRAINING);
    cr_expect_null(kit_try_checkout(KIT_OWNER, &status));
    cr_expect_eq(status, SP_NOT_FOUND, "stopped");
    kit_open();
    kit_shut(SP_PHASE_DOWN, SP_CLOSED);
    cr_expect_null(kit_try_checkout(KIT_OWNER, &status));
    cr_expect_eq(status, SP_CLOSED, "its control process died");
    cr_expect_null(kit_try_enqueue(KIT_OWNER, NULL, 0, &status));
    cr_expect_eq(status, SP_CLOSED);
    kit_close();
}

/* ---- crowded, want, wake, destroy ---- */

KIT_TEST(pool_crowded, where_the_pool_is_full_and_few_wait)
{
    kit_start(2, 1);
    kit_checkout(KIT_OWNER);
    kit_checkout(KIT_OWNER);
    cr_assert_not(sp_pool_crowded(kit_pool), "it can grow");
    sp_pool_want(kit_pool, kit_call());
    cr_assert_eq(kit_grow(), 1);
    kit_checkout(KIT_OWNER);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert(sp_pool_crowded(kit_pool), "%u wait", i);
        kit_enqueue(KIT_OTHER + i);
    }
    cr_assert_not(sp_pool_crowded(kit_pool), "as many wait as there are connections");
}

KIT_TEST(pool_want, asks_for_growth_below_the_limit_only)
{
    unsigned wakes;

    kit_start(1, 1);
    wakes = fake_wakes();
    sp_pool_want(kit_pool, kit_call());
    cr_assert_eq(fake_wakes(), wakes + 1);
    cr_assert_eq(kit_grow(), 1);
    wakes = fake_wakes();
    sp_pool_want(kit_pool, kit_call());
    cr_assert_eq(atomic_load(&kit_pool->eager), 0);
    cr_assert_eq(fake_wakes(), wakes);
}

KIT_TEST(pool_wake, wakes_once_until_the_next_step, .init = two)
{
    struct sp_plan plan;
    unsigned wakes = fake_wakes();

    sp_pool_wake(kit_pool, kit_call());
    sp_pool_wake(kit_pool, kit_call());
    cr_assert_eq(fake_wakes(), wakes + 1);
    kit_step(NULL, 0, &plan);
    sp_pool_wake(kit_pool, kit_call());
    cr_assert_eq(fake_wakes(), wakes + 2);
}

Test(pool_destroy, with_somebody_waiting_asserts, .signal = SIGABRT)
{
    kit_start(1, 0);
    kit_checkout(KIT_OWNER);
    kit_enqueue(KIT_OTHER);
    cr_assert(freopen("/dev/null", "w", stderr));
    sp_pool_destroy(kit_pool);
}
