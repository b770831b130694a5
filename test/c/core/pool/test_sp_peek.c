/* sp_peek: what is told of a connection to who does not hold it. */
#include "kit/pool_kit.h"

#include "core/pool/sp_peek.h"

#include <criterion/criterion.h>

static struct sp_peek seen(struct sp_conn *conn)
{
    struct sp_peek peek;

    cr_assert(sp_peek(kit_pool, kit_call(), conn, &peek));
    return peek;
}

static struct sp_conn *at(uint32_t slot)
{
    struct sp_conn *conn = sp_table_get(kit_pool, slot);

    cr_assert(conn);
    kit_pool->host->conn_unref(conn);
    return conn;
}

static uint64_t ms(uint64_t ns)
{
    return ns / SP_MS;
}

KIT_TEST(peek, an_idle_one_tells_its_age_how_long_it_is_idle_and_how_often_it_was_leased)
{
    kit_start(1, 0);
    fake_sleep_ms(300);
    cr_assert_eq(seen(at(0)).leases, 0);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(kit_checkin(kit_checkout(KIT_OWNER)), SP_OK);
    fake_sleep_ms(200);
    struct sp_peek peek = seen(at(0));
    cr_assert_eq(peek.state, SP_PEEK_IDLE);
    cr_assert_eq(ms(peek.age_ns), 500);
    cr_assert_eq(ms(peek.idle_ns), 200);
    cr_assert_eq(peek.leases, 3);
    cr_assert_eq(peek.owner, SP_OWNER_POOL);
    cr_assert_eq(peek.held_ns, 0);
}

KIT_TEST(peek, a_leased_one_tells_who_has_it_and_for_how_long)
{
    kit_start(1, 0);
    struct handle *handle = kit_checkout(KIT_OWNER);
    fake_sleep_ms(70);
    struct sp_peek peek = seen(handle->conn);
    cr_assert_eq(peek.state, SP_PEEK_LEASED);
    cr_assert_eq(peek.owner, KIT_OWNER);
    cr_assert_eq(ms(peek.held_ns), 70);
    cr_assert_eq(peek.leases, 1);
    cr_assert_eq(peek.idle_ns, 0);
}

KIT_TEST(peek, between_two_owners_nobody_has_it)
{
    kit_start(1, 0);
    struct handle *handle = kit_checkout(KIT_OWNER);
    cr_assert(sp_conn_still(handle->conn, handle->lease));
    cr_assert_eq(seen(handle->conn).owner, SP_OWNER_POOL);
    cr_assert_eq(seen(handle->conn).state, SP_PEEK_LEASED);
    sp_conn_go_on(handle->conn, handle->lease);
    cr_assert_eq(seen(handle->conn).owner, KIT_OWNER);
}

KIT_TEST(peek, one_that_is_being_connected_tells_since_when)
{
    struct handle *attempts[1];
    struct sp_plan plan;

    kit_init(1);
    kit_config.size = 1;
    kit_open();
    cr_assert_eq(kit_step(attempts, 1, &plan), 1);
    fake_sleep_ms(40);
    struct sp_peek peek = seen(attempts[0]->conn);
    cr_assert_eq(peek.state, SP_PEEK_CONNECTING);
    cr_assert_eq(ms(peek.age_ns), 40);
    cr_assert_eq(peek.leases, 0);
    kit_connect(attempts[0], KIT_OTHER);
    cr_assert_eq(seen(at(0)).state, SP_PEEK_IDLE);
    cr_assert_eq(seen(at(0)).age_ns, 0);
}

KIT_TEST(peek, one_that_is_being_closed_is_not_told)
{
    struct sp_peek peek;

    kit_start(1, 0);
    struct handle *handle = kit_checkout(KIT_OWNER);
    cr_assert(sp_conn_pin(handle->conn));
    cr_assert(sp_pool_revoke(kit_pool, kit_call(), handle->conn, handle->lease));
    cr_assert_not(sp_peek(kit_pool, kit_call(), handle->conn, &peek));
    sp_conn_unpin(handle->conn, kit_call());
}
