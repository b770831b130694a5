/* Connections in use on which nothing gets through. */
#include "kit/pool_kit.h"

#include <criterion/criterion.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#ifdef TCP_INFO

#define WHOLE sizeof(struct tcp_info)

static void held_for(struct handle *handle, uint64_t ms, uint8_t retransmits, uint32_t unacked)
{
    fake_tcp_info(handle->conn->fd, WHOLE, retransmits, unacked);
    fake_sleep_ms(ms);
    kit_tick();
}

KIT_TEST(stall, is_told_once_for_each_lease)
{
    struct handle *handle;

    kit_start(1, 0);
    for (unsigned i = 1; i <= 2; i++) {
        handle = kit_checkout(KIT_OWNER);
        held_for(handle, 3000, 4, 1);
        cr_assert_eq(fake_stalls(), i);
        cr_assert_eq(fake_last_stall()->owner, KIT_OWNER);
        cr_assert_eq(fake_last_stall()->held_ns, 3000 * SP_MS);
        cr_assert(fake_last_stall()->retransmits == 4 && fake_last_stall()->unacked == 1);
        held_for(handle, 3000, 9, 1);
        cr_assert_eq(fake_stalls(), i);
        cr_assert_eq(kit_checkin(handle), SP_OK);
    }
}

KIT_TEST(stall, is_not_what_gets_through_in_the_end)
{
    struct handle *handle;

    kit_start(1, 0);
    handle = kit_checkout(KIT_OWNER);
    held_for(handle, 3000, 3, 1);
    held_for(handle, 3000, 4, 0);
    cr_assert_eq(fake_stalls(), 0);
}

KIT_TEST(stall, is_not_looked_for_at_once)
{
    struct handle *handle;

    kit_start(1, 0);
    handle = kit_checkout(KIT_OWNER);
    held_for(handle, 2999, 4, 1);
    cr_assert_eq(fake_stalls(), 0);
    cr_assert_eq(fake_calls(FAKE_GETSOCKOPT), 1, "the connect's");
}

KIT_TEST(stall, is_not_looked_for_where_the_system_does)
{
    struct handle *handle;

    kit_init(1);
    kit_config.size = 1;
    kit_config.sockopts.user_timeout_ms = 1000;
    kit_open();
    cr_assert_eq(kit_grow(), 1);
    handle = kit_checkout(KIT_OWNER);
    held_for(handle, 3000, 4, 1);
    cr_assert_eq(fake_stalls(), 0);
}

KIT_TEST(stall, is_not_of_idle_ones)
{
    kit_start(1, 0);
    fake_tcp_info(kit_pool->table.slots[0]->fd, WHOLE, 4, 1);
    fake_sleep_ms(5000);
    kit_tick();
    cr_assert_eq(fake_stalls(), 0);
}

KIT_TEST(stall, looks_at_some_in_each_tick_and_at_all_in_turn)
{
    struct handle *handles[100];
    unsigned before;

    kit_start(100, 0);
    for (unsigned i = 0; i < 100; i++) {
        handles[i] = kit_checkout(KIT_OWNER);
        fake_tcp_info(handles[i]->conn->fd, WHOLE, 4, 1);
    }
    fake_sleep_ms(3000);
    for (unsigned i = 1; i <= 4; i++) {
        before = fake_calls(FAKE_GETSOCKOPT);
        kit_tick();
        cr_assert_leq(fake_calls(FAKE_GETSOCKOPT) - before, 32);
        cr_assert_eq(fake_stalls(), i < 4 ? 32 * i : 100);
    }
    for (unsigned i = 0; i < 100; i++)
        cr_assert_eq(kit_checkin(handles[i]), SP_OK);
    handles[0] = kit_checkout(KIT_OWNER);
    held_for(handles[0], 3000, 4, 1);
    kit_tick();
    cr_assert_eq(fake_stalls(), 101, "wherever it stands in the table");
}

/* Those that are well are looked at, too. */
KIT_TEST(stall, is_found_behind_many_that_are_well)
{
    kit_start(100, 0);
    for (unsigned i = 0; i < 100; i++)
        fake_tcp_info(kit_checkout(KIT_OWNER)->conn->fd, WHOLE, 0, 0);
    fake_tcp_info(kit_pool->table.slots[99]->fd, WHOLE, 4, 1);
    fake_sleep_ms(3000);
    for (unsigned i = 0; i < 4; i++)
        kit_tick();
    cr_assert_eq(fake_stalls(), 1);
}

#endif
