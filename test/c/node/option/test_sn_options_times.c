/* sn_options: keepalive and user_timeout. */
#include "node/option/sn_options.h"

#include "kit/term_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct sn_options opts;
static struct sn_bad_option bad;

static sp_status parse(const char *options)
{
    char map[2200];

    sn_options_free(&opts);
    snprintf(map, sizeof map, "#{host => h, port => 80, %s}", options);
    return sn_options_parse(term_of("p"), term_of(map), &opts, &bad);
}

static void right(const char *options)
{
    cr_assert_eq(parse(options), SP_OK, "refused: %s", options);
}

/* Each of the values, with ; between them. */
static void wrong(const char *key, const char *values)
{
    char list[2048], options[2100], *value, *rest = list;

    snprintf(list, sizeof list, "%s", values);
    while ((value = strsep(&rest, ";"))) {
        snprintf(options, sizeof options, "%s => %s", key, value);
        cr_assert_eq(parse(options), SP_BAD_DATA, "accepted: %s", options);
        cr_assert(sn_slice_is_atom(bad.key, key), "%s: not about it", options);
    }
}

static void freed(void)
{
    sn_options_free(&opts);
}

TestSuite(options_times, .fini = freed);

Test(options_times, keepalive)
{
    const struct sp_sockopts *sockopts = &opts.config.sockopts;

    right("keepalive => true");
    cr_assert(sockopts->keepalive && !sockopts->times.idle_s && !sockopts->times.interval_s &&
              !sockopts->times.count);
    right("keepalive => #{}");
    cr_assert(sockopts->keepalive && !sockopts->times.idle_s);
    right("keepalive => #{idle => 32767, interval => 32767, count => 127}");
    cr_assert(sockopts->keepalive && sockopts->times.idle_s == 32767 &&
              sockopts->times.interval_s == 32767 && sockopts->times.count == 127);
    right("keepalive => [{idle, 1}, {idle, 9}, {count, nil}]");
    cr_assert(sockopts->keepalive && sockopts->times.idle_s == 1 && !sockopts->times.count);
    wrong("keepalive", "0;no;\"false\";undefined;#{idle => 0};#{idle => 32768};#{interval => 0};"
                       "#{interval => 32768};#{count => 0};#{count => 128};#{idle => undefined};"
                       "#{idel => 1};[idle];[{idle, 1} | x];[{idle, 1, 2}]");
}

Test(options_times, user_timeout)
{
    right("user_timeout => undefined");
    cr_assert_eq(opts.config.sockopts.user_timeout_ms, 0);
#ifdef __linux__
    right("user_timeout => 1");
    cr_assert_eq(opts.config.sockopts.user_timeout_ms, 1);
    right("user_timeout => 2147483647");
    cr_assert_eq(opts.config.sockopts.user_timeout_ms, 2147483647);
    wrong("user_timeout", "0;-1;2147483648;infinity;soon");
    cr_assert_eq(parse("transport => unix, path => \"/s\", user_timeout => 1"), SP_BAD_DATA);
#else
    wrong("user_timeout", "1");
#endif
}

static const char SEND[] = "send => <<\"a\">>, expect => <<\"bc\">>";

static const char *health(const char *more)
{
    static char text[1024];

    snprintf(text, sizeof text, "health => #{%s%s%s}", SEND, *more ? ", " : "", more);
    return text;
}

Test(options_times, health)
{
    right("health => undefined");
    cr_assert_eq(opts.config.health_interval_ns, 0);
    right(health(""));
    cr_assert_eq(opts.config.health_interval_ns, 30000 * SP_MS);
    cr_assert_eq(opts.config.health_timeout_ns, 1000 * SP_MS);
    cr_assert(opts.health.send.len == 1 && opts.health.send.bytes[0] == 'a');
    cr_assert(opts.health.expect.len == 2 && memcmp(opts.health.expect.bytes, "bc", 2) == 0);
    cr_assert_not(opts.health.is_prefix);
    right(health("interval => 100, timeout => 1, check => undefined"));
    cr_assert_eq(opts.config.health_interval_ns, 100 * SP_MS);
    cr_assert_eq(opts.config.health_timeout_ns, SP_MS);
    right("health => [{interval, nil}, {send, <<\"1\">>}, {send, <<\"2\">>}, {expect, {prefix, "
          "<<\"3\">>}}]");
    cr_assert_eq(opts.config.health_interval_ns, 30000 * SP_MS);
    cr_assert_eq(opts.health.send.bytes[0], '1');
    cr_assert(opts.health.is_prefix && opts.health.expect.bytes[0] == '3');
}

Test(options_times, health_that_is_none)
{
    wrong("health",
          "true;1;#{};[];{m, f, []};fun;#{send => <<\"1\">>};#{expect => <<\"1\">>};"
          "#{send => \"a\", expect => <<\"1\">>};#{send => <<\"\">>, expect => <<\"1\">>};"
          "#{send => <<\"1\">>, expect => <<\"\">>};#{send => <<\"1\">>, expect => {prefix, "
          "<<\"\">>}};"
          "#{send => <<\"1\">>, expect => {suffix, <<\"1\">>}};"
          "#{send => <<\"1\">>, expect => <<\"1\">>, interval => 99};"
          "#{send => <<\"1\">>, expect => <<\"1\">>, interval => 4294967296};"
          "#{send => <<\"1\">>, expect => <<\"1\">>, timeout => 0};"
          "#{send => <<\"1\">>, expect => <<\"1\">>, timeout => infinity};"
          "#{send => <<\"1\">>, expect => <<\"1\">>, check => {m, f, []}};"
          "#{send => <<\"1\">>, expect => <<\"1\">>, other => 1}");
    cr_assert_eq(parse("health => #{send => <<\"secret\">>}"), SP_BAD_DATA);
    cr_assert(sn_slice_is_atom(bad.value, "not_a_check"));
}
