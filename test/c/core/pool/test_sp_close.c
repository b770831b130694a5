/* sp_close: who closes, when, and in which slices. */
#include "kit/pool_kit.h"

#include <criterion/criterion.h>

static struct handle *held[5];

static void five(void)
{
    kit_start(5, 0);
    for (int i = 0; i < 5; i++)
        held[i] = kit_checkout(KIT_OWNER);
}

static void discard_all(void)
{
    for (int i = 0; i < 5; i++)
        cr_assert_eq(kit_discard(held[i]), SP_OK);
}

TestSuite(close_, .init = five);

KIT_TEST(close_, waits_for_the_control_process)
{
    unsigned wakes = fake_wakes();

    discard_all();
    cr_assert_eq(fake_fds_open(), 5);
    cr_assert_eq(fake_wakes(), wakes + 1, "one wake-up for all");
    cr_assert_not(sp_close_work(kit_pool, kit_call()));
    cr_assert_eq(fake_fds_open(), 0);
    cr_assert_eq(fake_conns(), 0);
}

KIT_TEST(close_, works_in_slices_oldest_first)
{
    int first = held[0]->conn->fd, second = held[1]->conn->fd;

    discard_all();
    kit_allow(2 * SP_PIECES_CLOSE);
    cr_assert(sp_close_work(kit_pool, kit_call()));
    cr_assert_eq(fake_last(FAKE_CLOSE, 1)->fd, first);
    cr_assert_eq(fake_last(FAKE_CLOSE, 0)->fd, second);
    cr_assert_eq(fake_fds_open(), 3);
    kit_allow(SP_ALLOWANCE_PIECES);
    cr_assert_not(sp_close_work(kit_pool, kit_call()), "there are no more");
    cr_assert_eq(fake_fds_open(), 0);
}

KIT_TEST(close_, of_nothing)
{
    cr_assert_not(sp_close_work(kit_pool, kit_call()));
    cr_assert_eq(fake_calls(FAKE_CLOSE), 0);
}

KIT_TEST(close_, frees_the_buffer)
{
    struct sp_conn *conn = held[0]->conn;

    fake_host.conn_ref(conn);
    cr_assert(fake_host.rbuf_reserve(conn, 100));
    cr_assert_eq(kit_discard(held[0]), SP_OK);
    sp_close_work(kit_pool, kit_call());
    cr_assert_null(conn->rbuf.base);
    cr_assert_eq(sp_conn_state(conn), SP_CONN_CLOSED);
    fake_host.conn_unref(conn);
}

KIT_TEST(close_, keeps_the_connection_in_the_table_until_its_last_pin)
{
    struct sp_conn *conn = held[0]->conn;
    uint32_t slot = conn->slot;

    cr_assert(sp_conn_pin(conn));
    cr_assert_eq(kit_discard(held[0]), SP_OK);
    cr_assert_eq(kit_pool->table.slots[slot], conn);
    cr_assert_eq(kit_stats().total, 4, "but it does not count any more");
    sp_conn_unpin(conn, kit_call());
    cr_assert_null(kit_pool->table.slots[slot]);
}

KIT_TEST(close_, is_the_last_ones_work_where_the_pool_is_shut)
{
    struct sp_conn *conn = held[0]->conn;
    int fd = conn->fd;

    cr_assert(sp_conn_pin(conn));
    kit_shut(SP_PHASE_DOWN, SP_CLOSED);
    cr_assert_eq(fake_fds_open(), 1);
    sp_conn_unpin(conn, kit_call());
    cr_assert_not(fake_fd_open(fd));
}
