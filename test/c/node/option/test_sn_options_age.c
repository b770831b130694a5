/* The options that say when connections are too old, or too many. */
#include "kit/term_kit.h"
#include "node/option/sn_options.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct sp_config config;

static sp_status parse(const char *option, struct sn_bad_option *bad)
{
    struct sn_options opts;
    sp_status status;
    char map[256];

    snprintf(map, sizeof map, "#{host => h, port => 1, %s}", option);
    status = sn_options_parse(term_of("p"), term_of(map), &opts, bad);
    if (status != SP_OK)
        return status;
    config = opts.config;
    sn_options_free(&opts);
    return SP_OK;
}

static void right(const char *option)
{
    struct sn_bad_option bad;

    cr_assert_eq(parse(option, &bad), SP_OK, "refused: %s", option);
}

static void wrong(const char *option, const char *key)
{
    struct sn_bad_option bad;

    cr_assert_eq(parse(option, &bad), SP_BAD_DATA, "accepted: %s", option);
    cr_assert(sn_slice_is_atom(bad.key, key), "%s: not about %s", option, key);
}

Test(sn_options_age, nothing_ages_by_default)
{
    right("size => 7");
    cr_assert_geq(config.min_size, 7);
    cr_assert_eq(config.idle_timeout_ns, SP_NEVER);
    cr_assert_eq(config.lifetime_max_ns, SP_NEVER);
    cr_assert_eq(config.max_uses, SP_NEVER);
}

Test(sn_options_age, growth)
{
    right("size => 10");
    cr_assert_eq(config.growth, SP_GROWTH_EXPECTED);
    cr_assert_eq(config.connect_parallelism, 0, "by the transport");
    right("growth => eager, connect_parallelism => 100");
    cr_assert_eq(config.growth, SP_GROWTH_EAGER);
    cr_assert_eq(config.connect_parallelism, 100);
    right("growth => expected");
    cr_assert_eq(config.growth, SP_GROWTH_EXPECTED);
    wrong("growth => lazy", "growth");
}

Test(sn_options_age, min_idle)
{
    right("size => 10");
    cr_assert_eq(config.min_idle, 0);
    right("min_idle => 1000000");
    cr_assert_eq(config.min_idle, 1000000);
    wrong("min_idle => -1", "min_idle");
    wrong("min_idle => undefined", "min_idle");
}

Test(sn_options_age, min_size)
{
    right("size => 7, min_size => 0");
    cr_assert_eq(config.min_size, 0);
    right("size => 7, min_size => 7");
    cr_assert_eq(config.min_size, 7);
    right("size => 7, min_size => undefined");
    cr_assert_geq(config.min_size, 7);
    wrong("size => 7, min_size => 8", "min_size");
    wrong("min_size => 11", "min_size");
    wrong("min_size => -1", "min_size");
}

Test(sn_options_age, idle_timeout)
{
    right("idle_timeout => 1");
    cr_assert_eq(config.idle_timeout_ns, SP_MS);
    right("idle_timeout => infinity");
    cr_assert_eq(config.idle_timeout_ns, SP_NEVER);
    wrong("idle_timeout => 0", "idle_timeout");
    wrong("idle_timeout => 4294967296", "idle_timeout");
}

Test(sn_options_age, max_uses)
{
    right("max_uses => 1");
    cr_assert_eq(config.max_uses, 1);
    right("max_uses => 4294967295");
    cr_assert_eq(config.max_uses, UINT32_MAX);
    right("max_uses => infinity");
    cr_assert_eq(config.max_uses, SP_NEVER);
    wrong("max_uses => 0", "max_uses");
    wrong("max_uses => 4294967296", "max_uses");
}

static void lives(uint64_t min_ms, uint64_t max_ms)
{
    cr_assert_eq(config.lifetime_min_ns, min_ms * SP_MS);
    cr_assert_eq(config.lifetime_max_ns, max_ms * SP_MS);
}

Test(sn_options_age, max_lifetime)
{
    right("max_lifetime => 1000");
    lives(750, 1000);
    right("max_lifetime => 1");
    lives(1, 1);
    right("max_lifetime => 4294967295");
    lives(3221225472, 4294967295);
    right("max_lifetime => {10, 20}");
    lives(10, 20);
    right("max_lifetime => {20, 20}");
    lives(20, 20);
    right("max_lifetime => infinity");
    cr_assert_eq(config.lifetime_max_ns, SP_NEVER);
    wrong("max_lifetime => 0", "max_lifetime");
    wrong("max_lifetime => {20, 10}", "max_lifetime");
    wrong("max_lifetime => {1, infinity}", "max_lifetime");
    wrong("max_lifetime => {1, 2, 3}", "max_lifetime");
    wrong("max_lifetime => 4294967296", "max_lifetime");
}

Test(sn_options_age, leak_threshold)
{
    right("size => 1");
    cr_assert_eq(config.leak_threshold_ns, SP_NEVER);
    right("leak_threshold => 1000");
    cr_assert_eq(config.leak_threshold_ns, 1000 * SP_MS);
    right("leak_threshold => infinity");
    cr_assert_eq(config.leak_threshold_ns, SP_NEVER);
    wrong("leak_threshold => 999", "leak_threshold");
    wrong("leak_threshold => 4294967296", "leak_threshold");
    wrong("leak_threshold => <<\"5000\">>", "leak_threshold");
}
