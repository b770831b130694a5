/* Connections that many use at once, when they are too old. */
#include "kit/pipe_kit.h"

#include <criterion/criterion.h>

static void opened(uint32_t size, uint32_t max_overflow, uint64_t max_uses)
{
    kit_init(1);
    kit_config.size = size;
    kit_config.max_overflow = max_overflow;
    kit_config.pipeline = 4;
    kit_config.pipeline_bytes = 1000;
    kit_config.pipeline_stall_ns = 100000 * SP_MS;
    kit_config.framing = sp_framing_header(1);
    kit_config.lifetime_min_ns = kit_config.lifetime_max_ns = 1000 * SP_MS;
    kit_config.max_uses = max_uses;
    kit_open();
    cr_assert_eq(kit_grow(), size);
}

KIT_TEST(age_piped, takes_nothing_new_and_ends_when_all_is_done)
{
    uint64_t a, b, at;

    opened(1, 1, SP_NEVER);
    a = pipe_ask(1, "a");
    fake_sleep_ms(1000);
    b = pipe_ask(2, "b");
    kit_tick();
    cr_assert_eq(pipe_try(3, "c", &at), SP_EMPTY);
    cr_assert_eq(kit_stats().closed, 0, "no request is cut");
    peer_says("A");
    peer_says("B");
    pipe_replies(a, 1, "A");
    pipe_replies(b, 2, "B");
    cr_assert_eq(atomic_load(&kit_pool->aged), 1);
    cr_assert_eq(kit_grow(), 1);
    cr_assert_eq(kit_stats().closed, 1);
    cr_assert_eq(kit_stats().idle, 1);
}

KIT_TEST(age_piped, is_in_use_until_another_is_up)
{
    uint64_t a, b;

    opened(1, 1, SP_NEVER);
    a = pipe_ask(1, "a");
    fake_sleep_ms(1000);
    kit_tick();
    peer_says("A");
    pipe_replies(a, 1, "A");
    b = pipe_ask(2, "b");
    peer_says("B");
    pipe_replies(b, 2, "B");
    cr_assert_eq(kit_grow(), 1);
    cr_assert_eq(kit_stats().closed, 1);
}

KIT_TEST(age_piped, each_request_is_a_use)
{
    uint64_t at[3], more;

    opened(1, 1, 5);
    for (unsigned i = 0; i < 2; i++) {
        at[0] = pipe_ask(1, "a");
        peer_says("A");
        pipe_replies(at[0], 1, "A");
    }
    cr_assert_eq(kit_pool->table.slots[0]->uses, 2);
    for (unsigned i = 0; i < 3; i++)
        at[i] = pipe_ask(i + 1, "a");
    cr_assert_eq(pipe_try(4, "d", &more), SP_EMPTY, "though a pipe has four places");
    for (unsigned i = 0; i < 3; i++)
        peer_says("A");
    for (unsigned i = 0; i < 3; i++)
        pipe_replies(at[i], i + 1, "A");
    cr_assert_eq(kit_pool->table.slots[0]->uses, 5);
    cr_assert_eq(atomic_load(&kit_pool->aged), 1);
    cr_assert_eq(kit_grow(), 1);
    cr_assert_eq(kit_stats().closed, 1);
}

KIT_TEST(age_piped, goes_on_while_attempts_fail)
{
    struct handle *attempt;
    struct sp_plan plan;
    uint64_t a, b;

    opened(1, 1, SP_NEVER);
    fake_sleep_ms(1000);
    kit_tick();
    cr_assert_eq(kit_step(&attempt, 1, &plan), 1);
    kit_drop(attempt);
    fake_sleep_ms(5000);
    a = pipe_ask(1, "a");
    kit_tick();
    b = pipe_ask(2, "b");
    peer_says("A");
    peer_says("B");
    pipe_replies(a, 1, "A");
    pipe_replies(b, 2, "B");
    cr_assert_eq(kit_stats().closed, 0);
}
