/* sn_options_change: options of a pool that runs. */
#include "node/option/sn_options.h"

#include "kit/fail_alloc.h"
#include "kit/term_kit.h"

#include <criterion/criterion.h>
#include <string.h>

#define MS(ms) ((uint64_t)(ms)*SP_MS)

static struct sn_options opts;
static struct sn_bad_option bad;
static bool needs_restart;

static void parsed(const char *map)
{
    cr_assert_eq(sn_options_parse(term_of("p"), term_of(map), &opts, &bad), SP_OK);
}

static void tcp(void)
{
    parsed("#{host => h, port => 80, size => 7, max_hold => 5}");
}

static void freed(void)
{
    sn_options_free(&opts);
}

static sp_status change(const char *map)
{
    return sn_options_change(&opts, term_of(map), &bad, &needs_restart);
}

/* Nothing has changed. */
static void refused(const char *map, bool restart, const char *key, const char *value)
{
    struct sn_options before = opts;

    cr_assert_eq(change(map), SP_BAD_DATA, "accepted: %s", map);
    cr_assert_eq(needs_restart, restart, "%s", map);
    cr_assert(sn_slice_is_atom(bad.key, key), "%s: not about %s", map, key);
    cr_assert(sn_slice_equals(bad.value, term_of(value)), "%s: not %s", map, value);
    cr_assert_eq(memcmp(&before, &opts, sizeof opts), 0, "%s", map);
}

TestSuite(options_change, .init = tcp, .fini = freed);

Test(options_change, what_is_given_and_nothing_else)
{
    cr_assert_eq(
        change("#{max_overflow => 3, backoff => {1, 2}, strategy => fifo, validate => never,"
               "  max_waiting => infinity, send_timeout => 8, keepalive => #{idle => 7}, fail_fast "
               "=> true,"
               "  replies => false, growth => eager, connect_parallelism => 9, min_idle => 3}"),
        SP_OK);
    cr_assert(opts.config.fail_fast && !opts.config.replies);
    cr_assert_eq(opts.config.growth, SP_GROWTH_EAGER);
    cr_assert_eq(opts.config.connect_parallelism, 9);
    cr_assert_eq(opts.config.min_idle, 3);
    cr_assert_eq(opts.config.size, 7);
    cr_assert_eq(opts.config.max_hold_ns, MS(5));
    cr_assert_eq(opts.config.max_overflow, 3);
    cr_assert_eq(opts.config.backoff_min_ns, MS(1));
    cr_assert_eq(opts.config.backoff_max_ns, MS(2));
    cr_assert_eq(opts.config.strategy, SP_FIFO);
    cr_assert_eq(opts.config.validate_after_ns, SP_NEVER);
    cr_assert_eq(opts.config.max_waiting, UINT64_MAX);
    cr_assert_eq(opts.send_timeout_ns, MS(8));
    cr_assert(opts.config.sockopts.keepalive);
    cr_assert_eq(opts.config.sockopts.times.idle_s, 7);
    cr_assert(opts.config.sockopts.nodelay);
    cr_assert_str_eq(opts.hosts[0].text, "h");
}

Test(options_change, nothing)
{
    cr_assert_eq(change("#{}"), SP_OK);
    cr_assert_eq(change("#{path => undefined}"), SP_OK);
    cr_assert_eq(opts.config.size, 7);
}

Test(options_change, an_address_comes_and_goes)
{
    cr_assert_eq(change("#{bind => {127, 0, 0, 2}}"), SP_OK);
    cr_assert_eq(opts.config.sockopts.bind.storage.ss_family, AF_INET);
    cr_assert_eq(change("#{bind => undefined}"), SP_OK);
    cr_assert_eq(opts.config.sockopts.bind.len, 0);
}

Test(options_change, what_a_connection_is_made_of)
{
    refused("#{host => g}", true, "host", "g");
    refused("#{size => 3, packet => line}", true, "packet", "line");
    refused("#{transport => tls}", true, "transport", "tls");
    refused("#{tls => #{}}", false, "tls", "#{}");
}

Test(options_change, what_is_wrong)
{
    refused("#{size => -1}", false, "size", "-1");
    refused("#{size => 0, max_overflow => 0}", false, "size", "0");
    refused("#{size => 4, sise => 1}", false, "sise", "not_shown");
    refused("#{path => <<\"/x\">>}", false, "path", "<<\"/x\">>");
    refused("no_map", false, "opts", "not_a_map");
}

/* The sum of what is there and what is new. */
Test(options_change, sizes_together)
{
    sn_options_free(&opts);
    parsed("#{host => h, port => 80, size => 0, max_overflow => 2}");
    refused("#{max_overflow => 0}", false, "size", "0");
    sn_options_free(&opts);
    parsed("#{host => h, port => 80, packet => line, pipeline => 9}");
    refused("#{size => 70000}", false, "pipeline", "9");
}

Test(options_change, of_pools_of_nodes)
{
    sn_options_free(&opts);
    parsed("#{transport => node, node => 'a@b'}");
    cr_assert_eq(change("#{max_inflight => 3}"), SP_OK);
    cr_assert_eq(opts.max_inflight, 3);
    refused("#{nodelay => 1}", false, "nodelay", "1");
    refused("#{cookie => secret}", true, "cookie", "not_a_cookie");
}

Test(options_change, memory_is_short)
{
    struct sn_slice terms = term_of("#{bind => {127, 0, 0, 2}}");

    fail_alloc_after(0);
    cr_assert_eq(sn_options_change(&opts, terms, &bad, &needs_restart), SP_NO_MEMORY);
    cr_assert_eq(opts.config.sockopts.bind.len, 0);
}
