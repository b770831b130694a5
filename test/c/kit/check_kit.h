/* A pool whose idle connections are checked; its checks in the order in which they were begun. For one file each. */
#ifndef CHECK_KIT_H
#define CHECK_KIT_H

#include "pool_kit.h"
#include "core/pool/sp_check.h"

#include <criterion/criterion.h>

#define MS SP_MS
#define INTERVAL_MS 10000
#define TIMEOUT_MS 1000
#define MOST 128

static struct sp_check checks[MOST];
static size_t count;
static struct sp_check_plan plan;

static inline void configured(unsigned size, unsigned max_overflow)
{
    kit_init(1);
    kit_config.size = size;
    kit_config.max_overflow = max_overflow;
    kit_config.health_interval_ns = INTERVAL_MS * MS;
    kit_config.health_timeout_ns = TIMEOUT_MS * MS;
    count = 0;
}

static inline void started(unsigned size, unsigned max_overflow)
{
    configured(size, max_overflow);
    kit_open();
    cr_assert_eq(kit_grow(), size);
}

/* How many checks are begun now, after those that are under way. */
static inline size_t begun(void)
{
    size_t before = count;

    do {
        sp_check_step(kit_pool, kit_call(), checks + count, MOST - count, &plan);
        count += plan.count;
    } while (plan.more);
    kit_check();
    return count - before;
}

static inline struct sp_check take(void)
{
    struct sp_check check;

    cr_assert_gt(count, 0);
    check = checks[0];
    for (size_t i = 1; i < count; i++)
        checks[i - 1] = checks[i];
    count--;
    return check;
}

/* Those under way end, the oldest first. */
static inline sp_status pass(void)
{
    struct sp_check check = take();
    sp_status status = sp_check_passed(kit_pool, kit_call(), check.conn, check.lease);

    fake_host.conn_unref(check.conn);
    return status;
}

static inline void fail(void)
{
    struct sp_check check = take();

    sp_check_failed(kit_pool, kit_call(), check.conn, check.lease);
    fake_host.conn_unref(check.conn);
}

/* Until a check is begun; how long that took. */
static inline uint64_t until_begun(uint64_t most_ms)
{
    uint64_t from_ns = fake_now_ns();

    while (begun() == 0) {
        cr_assert_leq((fake_now_ns() - from_ns) / MS, most_ms);
        fake_sleep_ms(plan.wait_ns < 100 * MS ? plan.wait_ns / MS + 1 : 100);
    }
    return (fake_now_ns() - from_ns) / MS;
}

#endif
