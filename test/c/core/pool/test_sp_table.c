/* sp_table: slots, references, walking. */
#include "kit/fail_alloc.h"
#include "kit/pool_kit.h"

#include <criterion/criterion.h>

static void empty(void)
{
    kit_init(1);
}

static struct sp_conn *add(void)
{
    struct sp_conn *conn = fake_host.conn_new(kit_pool);

    conn->fd = -1;
    cr_assert(sp_table_add(kit_pool, conn));
    return conn;
}

static void take_out(struct sp_conn *conn)
{
    sp_table_remove(kit_pool, conn);
    fake_host.conn_unref(conn);
}

TestSuite(table, .init = empty);

KIT_TEST(table, gives_each_the_lowest_free_slot)
{
    struct sp_conn *conns[20];

    for (uint32_t i = 0; i < 20; i++) {
        conns[i] = add();
        cr_assert_eq(conns[i]->slot, i);
    }
    take_out(conns[7]);
    take_out(conns[3]);
    take_out(conns[12]);
    conns[3] = add();
    cr_assert_eq(conns[3]->slot, 3);
    conns[7] = add();
    cr_assert_eq(conns[7]->slot, 7);
    conns[12] = add();
    cr_assert_eq(conns[12]->slot, 12);
    for (int i = 0; i < 20; i++)
        take_out(conns[i]);
}

KIT_TEST(table, grows_and_keeps_what_it_has)
{
    static struct sp_conn *conns[1000];

    for (int i = 0; i < 1000; i++)
        conns[i] = add();
    for (uint32_t i = 0; i < 1000; i++) {
        struct sp_conn *found = sp_table_get(kit_pool, i);
        cr_assert_eq(found, conns[i]);
        cr_assert_eq(fake_conn_refs(found), 2);
        fake_host.conn_unref(found);
    }
    for (int i = 0; i < 1000; i++)
        take_out(conns[i]);
}

KIT_TEST(table, says_where_memory_is_short)
{
    struct sp_conn *conns[16], *conn = fake_host.conn_new(kit_pool);

    conn->fd = -1;
    fail_alloc_after(0);
    cr_assert_not(sp_table_add(kit_pool, conn));
    for (int i = 0; i < 16; i++)
        conns[i] = add();
    fail_alloc_after(0);
    cr_assert_not(sp_table_add(kit_pool, conn));
    cr_assert(sp_table_add(kit_pool, conn));
    cr_assert_eq(conn->slot, 16);
    take_out(conn);
    for (int i = 0; i < 16; i++)
        take_out(conns[i]);
}

KIT_TEST(table, get_of_an_empty_or_unknown_slot_is_null)
{
    struct sp_conn *conn;

    cr_assert_null(sp_table_get(kit_pool, 0));
    conn = add();
    cr_assert_null(sp_table_get(kit_pool, 1));
    cr_assert_null(sp_table_get(kit_pool, UINT32_MAX));
    take_out(conn);
    cr_assert_null(sp_table_get(kit_pool, 0));
}

KIT_TEST(table, walk_finds_each_and_ends_at_0)
{
    struct sp_conn *conns[30], *found;
    uint32_t cursor = 0;
    size_t all = 0;

    for (int i = 0; i < 30; i++)
        conns[i] = add();
    for (int i = 0; i < 30; i += 3)
        take_out(conns[i]);
    do {
        found = sp_table_next(kit_pool, kit_call(), &cursor);
        if (!found)
            continue;
        cr_assert_eq(found, conns[all / 2 * 3 + all % 2 + 1]);
        cr_assert_eq(fake_conn_refs(found), 2);
        fake_host.conn_unref(found);
        all++;
    } while (cursor > 0);
    cr_assert_eq(all, 20);
    cr_assert_eq(cursor, 0);
    for (int i = 0; i < 30; i++)
        if (i % 3)
            take_out(conns[i]);
}

KIT_TEST(table, walk_of_nothing)
{
    uint32_t cursor = 0;

    cr_assert_null(sp_table_next(kit_pool, kit_call(), &cursor));
    cr_assert_eq(cursor, 0);
}

KIT_TEST(table, walk_over_many_empty_slots_stops_in_between)
{
    static struct sp_conn *conns[1000];
    uint32_t cursor = 0;

    for (int i = 0; i < 1000; i++)
        conns[i] = add();
    for (int i = 0; i < 999; i++)
        take_out(conns[i]);
    for (uint32_t i = 1; i < 1000 / SP_LOOKS_PER_PIECE + 1; i++) {
        cr_assert_null(sp_table_next(kit_pool, kit_call(), &cursor));
        cr_assert_eq(cursor, i * SP_LOOKS_PER_PIECE);
        cr_assert_eq(fake_pieces_left(), SP_ALLOWANCE_PIECES - SP_PIECES_LOOK);
    }
    cr_assert_eq(sp_table_next(kit_pool, kit_call(), &cursor), conns[999]);
    fake_host.conn_unref(conns[999]);
    take_out(conns[999]);
}
