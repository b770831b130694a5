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
    char map[1024];

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
    char list[1024], options[1100], *value, *rest = list;

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
