/* sn_options: each option's default, bounds and wrong values; options together; what becomes of them.
 * Keys, defaults and words are those of the table: test/daemon/sockpool_node_options_tests.erl. */
#include "node/option/sn_options.h"
#include "core/dist/sp_node.h"

#include "kit/fail_alloc.h"
#include "kit/term_kit.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#define MS(ms) ((uint64_t)(ms)*SP_MS)

static struct sn_options opts;
static struct sn_bad_option bad;

static sp_status parse_map(const char *map)
{
    sn_options_free(&opts);
    memset(&opts, '#', sizeof opts); /* what is there before does not matter */
    return sn_options_parse(term_of("p"), term_of(map), &opts, &bad);
}

/* With what transport tcp needs, unless that is given. */
static sp_status parse(const char *options)
{
    char map[4096];

    snprintf(map, sizeof map, "#{%s%s%s}", options, strstr(options, "host =>") ? "" : ", host => h",
             strstr(options, "port =>") ? "" : ", port => 80");
    if (options[0] == '\0')
        memmove(map + 2, map + 4, strlen(map + 4) + 1);
    return parse_map(map);
}

static void right(const char *options)
{
    cr_assert_eq(parse(options), SP_OK, "refused: %s", options);
}

static void assert_bad(const char *what, bool is_tls, const char *key, const char *value)
{
    cr_assert_eq(bad.is_tls, is_tls, "%s", what);
    cr_assert(sn_slice_is_atom(bad.key, key), "%s: not about %s", what, key);
    cr_assert(sn_slice_equals(bad.value, term_of(value)), "%s: not %s", what, value);
}

/* Each of the values, with ; between them. */
static void wrong(const char *key, const char *values)
{
    char list[4096], options[4200], *value, *rest = list;

    snprintf(list, sizeof list, "%s", values);
    while ((value = strsep(&rest, ";"))) {
        snprintf(options, sizeof options, "%s => %s", key, value);
        cr_assert_eq(parse(options), SP_BAD_DATA, "accepted: %s", options);
        assert_bad(options, false, key, value);
    }
}

static void wrong_map(const char *map, const char *key, const char *value)
{
    cr_assert_eq(parse_map(map), SP_BAD_DATA, "accepted: %s", map);
    assert_bad(map, false, key, value);
}

/* ---- one by one ---- */

Test(sn_options, defaults)
{
    right("");
    cr_assert_str_eq(opts.name, "p");
    cr_assert_eq(opts.transport, SN_TCP);
    cr_assert_eq(opts.config.transport, &sp_transport_tcp);
    cr_assert_eq(opts.config.size, 10);
    cr_assert_eq(opts.config.max_overflow, 10);
    cr_assert_eq(opts.config.overflow_ttl_ns, MS(10000));
    cr_assert_eq(opts.config.strategy, SP_LIFO);
    cr_assert_eq(opts.config.max_waiting, SP_NEVER);
    cr_assert_eq(opts.checkout_timeout_ns, MS(5000));
    cr_assert_eq(opts.connect_timeout_ns, MS(5000));
    cr_assert_eq(opts.send_timeout_ns, MS(5000));
    cr_assert_eq(opts.config.pipeline, 1);
    cr_assert_eq(opts.config.pipeline_bytes, 1048576);
    cr_assert_eq(opts.config.pipeline_stall_ns, MS(5000));
    cr_assert_eq(opts.config.framing.kind, SP_FRAMING_RAW);
    cr_assert(opts.config.sockopts.nodelay);
    cr_assert_not(opts.config.sockopts.keepalive);
    cr_assert_eq(opts.config.sockopts.sndbuf_bytes, 0);
    cr_assert_eq(opts.config.sockopts.recbuf_bytes, 0);
    cr_assert_eq(opts.config.sockopts.bind.len, 0);
    cr_assert_null(opts.config.sockopts.settings);
    cr_assert_eq(opts.config.validate_after_ns, 0);
    cr_assert_eq(opts.config.max_hold_ns, SP_NEVER);
    cr_assert_eq(opts.config.recv_limit_bytes, 67108864);
    cr_assert_eq(opts.config.backoff_min_ns, MS(100));
    cr_assert_eq(opts.config.backoff_max_ns, MS(2000));
    cr_assert_not(opts.config.fail_fast);
    sn_options_free(&opts);
}

/* A number's field after its least and its greatest value, and its neighbours refused. */
#define NUMBER(key, field, least, most, unit)                                                      \
    Test(sn_options, key)                                                                          \
    {                                                                                              \
        right(#key " => " #least);                                                                 \
        cr_assert_eq(opts.field, (uint64_t)(least) * (unit));                                      \
        right(#key " => " #most);                                                                  \
        cr_assert_eq(opts.field, UINT64_C(most) * (unit));                                         \
        wrong(#key, "-1;[];\"5\";<<\"5\">>;{5};#{};soon;fun");                                     \
        wrong_neighbours(#key, least, most);                                                       \
    }
static void wrong_neighbours(const char *key, long long least, long long most)
{
    char values[64];

    snprintf(values, sizeof values, "%lld;%lld;9223372036854775807", least - 1, most + 1);
    wrong(key, values);
}
NUMBER(port, port, 1, 65535, 1)
NUMBER(overflow_ttl, config.overflow_ttl_ns, 0, 4294967295, SP_MS)
NUMBER(max_waiting, config.max_waiting, 0, 4294967295, 1)
NUMBER(checkout_timeout, checkout_timeout_ns, 0, 4294967295, SP_MS)
NUMBER(slow_checkout, slow_checkout_ns, 1, 4294967295, SP_MS)
NUMBER(connect_timeout, connect_timeout_ns, 1, 4294967295, SP_MS)
NUMBER(send_timeout, send_timeout_ns, 0, 4294967295, SP_MS)
NUMBER(pipeline, config.pipeline, 1, 4096, 1)
NUMBER(pipeline_bytes, config.pipeline_bytes, 1, 2147483647, 1)
NUMBER(pipeline_stall, config.pipeline_stall_ns, 1, 4294967295, SP_MS)
NUMBER(sndbuf, config.sockopts.sndbuf_bytes, 1, 2147483647, 1)
NUMBER(recbuf, config.sockopts.recbuf_bytes, 1, 2147483647, 1)
NUMBER(max_hold, config.max_hold_ns, 1, 4294967295, SP_MS)
NUMBER(recv_limit, config.recv_limit_bytes, 1, 2147483647, 1)

Test(sn_options, connections_that_are_pipes)
{
    right("pipeline => 2, size => 65000, max_overflow => 536");
    right("pipeline => 1, size => 65000, max_overflow => 537");
    cr_assert_eq(parse("pipeline => 2, size => 65000, max_overflow => 537"), SP_BAD_DATA);
    assert_bad("too many", false, "pipeline", "2");
    right("pipeline_stall => infinity");
    cr_assert_eq(opts.config.pipeline_stall_ns, SP_NEVER);
    cr_assert_eq(parse_map("#{transport => node, node => 'a@b', pipeline => 2}"), SP_BAD_DATA);
    assert_bad("of a node", false, "pipeline", "2");
}

Test(sn_options, size_and_max_overflow)
{
    right("size => 1000000, max_overflow => 0");
    cr_assert_eq(opts.config.size, 1000000);
    cr_assert_eq(opts.config.max_overflow, 0);
    right("size => 0, max_overflow => 1000000");
    cr_assert_eq(opts.config.max_overflow, 1000000);
    wrong("size", "-1;1000001;infinity;undefined;\"10\";999991");
    wrong("max_overflow", "-1;1000001;infinity;undefined");
    cr_assert_eq(parse("size => 0, max_overflow => 0"), SP_BAD_DATA);
    assert_bad("none", false, "size", "0");
    /* What is told is the default of what was not given. */
    cr_assert_eq(parse("max_overflow => 1000000"), SP_BAD_DATA);
    cr_assert(sn_slice_is_atom(bad.key, "size"));
    cr_assert(sn_slice_equals(bad.value, term_of_bytes("a\12", 2)));
}

Test(sn_options, infinity)
{
    right("overflow_ttl => infinity, max_waiting => infinity, checkout_timeout => infinity, "
          "send_timeout => infinity, max_hold => infinity");
    cr_assert_eq(opts.config.overflow_ttl_ns, SP_NEVER);
    cr_assert_eq(opts.config.max_waiting, SP_NEVER);
    cr_assert_eq(opts.checkout_timeout_ns, SP_NEVER);
    cr_assert_eq(opts.send_timeout_ns, SP_NEVER);
    cr_assert_eq(opts.config.max_hold_ns, SP_NEVER);
    wrong("connect_timeout", "infinity");
    wrong("recv_limit", "infinity;undefined");
}

Test(sn_options, words)
{
    right("strategy => fifo, nodelay => false, keepalive => true, fail_fast => true");
    cr_assert(opts.config.fail_fast && opts.config.replies);
    cr_assert_eq(opts.config.strategy, SP_FIFO);
    cr_assert_not(opts.config.sockopts.nodelay);
    cr_assert(opts.config.sockopts.keepalive);
    right("strategy => lifo, nodelay => true, keepalive => false");
    cr_assert_eq(opts.config.strategy, SP_LIFO);
    wrong("strategy", "random;\"lifo\";1;undefined;[]");
    wrong("nodelay", "1;yes;undefined;<<\"true\">>");
    wrong("transport", "udp;\"tcp\";undefined;1");
}

Test(sn_options, validate)
{
    right("validate => always");
    cr_assert_eq(opts.config.validate_after_ns, 0);
    right("validate => never");
    cr_assert_eq(opts.config.validate_after_ns, SP_NEVER);
    right("validate => {'after', 7}");
    cr_assert_eq(opts.config.validate_after_ns, MS(7));
    right("validate => {'after', 4294967295}");
    cr_assert_eq(opts.config.validate_after_ns, MS(4294967295));
    wrong("validate", "true;{'after', -1};{'after', 4294967296};{'after', infinity};{before, 1};"
                      "{};{'after'};undefined;[]");
}

Test(sn_options, backoff)
{
    right("backoff => {1, 1}");
    cr_assert_eq(opts.config.backoff_min_ns, MS(1));
    cr_assert_eq(opts.config.backoff_max_ns, MS(1));
    right("backoff => {1, 4294967295}");
    cr_assert_eq(opts.config.backoff_max_ns, MS(4294967295));
    wrong("backoff", "{0, 10};{10, 9};{1, 4294967296};{1, 2, 3};{};100;[1, 2];{a, 2};undefined");
}

Test(sn_options, addresses)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&opts.config.sockopts.bind.storage;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&opts.config.sockopts.bind.storage;
    char text[64];

    right("bind => {127, 0, 0, 1}");
    cr_assert_eq(opts.config.sockopts.bind.len, sizeof *v4);
    cr_assert_eq(v4->sin_family, AF_INET);
    cr_assert_eq(v4->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    cr_assert_eq(v4->sin_port, 0);
    right("bind => {65152, 0, 0, 0, 258, 65535, 0, 1}");
    cr_assert_eq(opts.config.sockopts.bind.len, sizeof *v6);
    cr_assert_eq(v6->sin6_family, AF_INET6);
    cr_assert_str_eq(inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text), "fe80::102:ffff:0:1");
    right("bind => undefined");
    cr_assert_eq(opts.config.sockopts.bind.len, 0);
    wrong("bind", "\"127.0.0.1\";{1, 2, 3};{256, 0, 0, 1};{-1, 0, 0, 1};{1, 2, 3, a};any;"
                  "{1, 2, 3, 4, 5, 6, 7, 65536};{1, 2, 3, 4, 5, 6, 7, 8, 9};[]");
}

/* One host, as text and as a family. */
static void host(const char *given, int family, const char *text)
{
    char options[2048];

    snprintf(options, sizeof options, "host => %s", given);
    right(options);
    cr_assert_eq(opts.host_count, 1);
    cr_assert_eq(opts.hosts[0].family, family, "%s", given);
    cr_assert_str_eq(opts.hosts[0].text, text);
}

Test(sn_options, a_host)
{
    char longest[300];

    host("{10, 0, 0, 1}", AF_INET, "10.0.0.1");
    cr_assert_arr_eq(opts.hosts[0].address, "\12\0\0\1", 4);
    host("\"127.0.0.1\"", AF_INET, "127.0.0.1");
    host("<<\"127.0.0.1\">>", AF_INET, "127.0.0.1");
    host("'127.0.0.1'", AF_INET, "127.0.0.1");
    host("{0, 0, 0, 0, 0, 0, 0, 1}", AF_INET6, "::1");
    host("\"::1\"", AF_INET6, "::1");
    host("\"db.example\"", AF_UNSPEC, "db.example");
    host("<<\"db.example\">>", AF_UNSPEC, "db.example");
    host("localhost", AF_UNSPEC, "localhost");
    host("\"127.1\"", AF_UNSPEC, "127.1");
    host("\"last~\"", AF_UNSPEC, "last~");
    host("[100, 98]", AF_UNSPEC, "db");
    snprintf(longest, sizeof longest, "\"%0255d\"", 0);
    host(longest, AF_UNSPEC, (char[]){[0 ... 254] = '0', 0});
}

Test(sn_options, several_hosts)
{
    right("host => [\"b.example\", <<\"10.0.0.2\">>, localhost, {10, 0, 0, 3}]");
    cr_assert_eq(opts.host_count, 4);
    cr_assert_str_eq(opts.hosts[0].text, "b.example");
    cr_assert_eq(opts.hosts[1].family, AF_INET);
    cr_assert_str_eq(opts.hosts[2].text, "localhost");
    cr_assert_str_eq(opts.hosts[3].text, "10.0.0.3");
}

Test(sn_options, wrong_hosts)
{
    char longer[600];

    wrong("host", "undefined;\"\";<<\"\">>;[];'';127;{127, 0, 0};{1, 2, 3, 256};#{};\"db example\";"
                  "[100, 0];<<\"db\\0\">>;\"d\xf6m\xe4ne\";[undefined];[\"a\", \"\"];[\"a\", 1];"
                  "[[\"a\"]];[\"a\" | b];[100 | b];[100, \"b\"];fun");
    wrong("host", "<<\"db\x7f\">>");
    snprintf(longer, sizeof longer, "#{host => \"%0256d\"}", 0);
    wrong_map(longer, "host", "not_shown");
    snprintf(longer, sizeof longer, "#{host => \"%0253d@h\"}", 0);
    wrong_map(longer, "host", "<<\"not_shown@h\">>");
    wrong_map("#{host => [a, <<\"x://me:p@w@h/\">>]}", "host", "<<\"x://not_shown@h/\">>");
}

/* Two small bytes in a list of their own: STRING_EXT. No characters at all are another thing. */
Test(sn_options, a_string_of_one_character)
{
    host("\"h\"", AF_UNSPEC, "h");
    host("[104]", AF_UNSPEC, "h");
}

static sp_status parse_path(const char *path)
{
    char map[512];

    snprintf(map, sizeof map, "#{transport => unix, path => %s}", path);
    return parse_map(map);
}

Test(sn_options, path)
{
    char longest[200], longer[200];

    cr_assert_eq(parse_path("\"/tmp/s\""), SP_OK);
    cr_assert_str_eq(opts.path, "/tmp/s");
    cr_assert_eq(opts.config.transport, &sp_transport_unix);
    cr_assert_eq(opts.host_count, 0);
    cr_assert_eq(parse_path("<<\"\xff\">>"), SP_OK);
    cr_assert_str_eq(opts.path, "\xff");
    cr_assert_eq(parse_path("[47, 228]"), SP_OK);
    cr_assert_str_eq(opts.path, "/\xc3\xa4");
    snprintf(longest, sizeof longest, "<<\"%0107d\">>", 0);
    cr_assert_eq(parse_path(longest), SP_OK);
    snprintf(longer, sizeof longer, "<<\"%0108d\">>", 0);
    cr_assert_eq(parse_path(longer), SP_BAD_DATA);
    assert_bad("path", false, "path", longer);
}

Test(sn_options, wrong_paths)
{
    static const char *const paths[] = {"undefined", "\"\"",       "<<\"\">>",  "[]",
                                        "tmp",       "1",          "\"a\\0b\"", "<<\"\\0abs\">>",
                                        "[97 | b]",  "[-1]",       "[55296]",   "{a}",
                                        "[97, b]",   "[[97], 98]", "[1114112]"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        cr_assert_eq(parse_path(paths[i]), SP_BAD_DATA, "%s", paths[i]);
        assert_bad(paths[i], false, "path", paths[i]);
    }
}

Test(sn_options, init_is_impossible)
{
    right("init => undefined");
    wrong("init", "fun;ok;1");
}

Test(sn_options, name)
{
    right("name => p");
    wrong("name", "other;\"p\";undefined;1");
    cr_assert_eq(sn_options_parse(term_of("undefined"), term_of("#{}"), &opts, &bad), SP_BAD_DATA);
    assert_bad("name", false, "name", "undefined");
    cr_assert_eq(sn_options_parse(term_of("\"p\""), term_of("#{}"), &opts, &bad), SP_BAD_DATA);
    assert_bad("name", false, "name", "\"p\"");
    cr_assert(parse("name => 1, size => -1") == SP_BAD_DATA && sn_slice_is_atom(bad.key, "name"));
}

/* The same name in two encodings of atoms. */
Test(sn_options, name_in_latin1)
{
    struct sn_slice latin1 = term_of_bytes("s\1\xe4", 3);

    cr_assert_eq(sn_options_parse(latin1, term_of("#{name => '\xc3\xa4', host => h, port => 1}"),
                                  &opts, &bad),
                 SP_OK);
    cr_assert_str_eq(opts.name, "\xc3\xa4");
    cr_assert_eq(opts.name_len, 2);
}

/* ---- together ---- */

Test(sn_options, no_map)
{
    static const char *const terms[] = {"[]", "[{port, 80}]", "undefined", "1", "{}"};

    for (size_t i = 0; i < sizeof terms / sizeof *terms; i++) {
        cr_assert_eq(parse_map(terms[i]), SP_BAD_DATA);
        assert_bad(terms[i], false, "opts", "not_a_map");
    }
}

Test(sn_options, too_long)
{
    static char map[SN_OPTIONS_BYTES_MAX + 64];
    size_t len = 5 + 6 + SN_OPTIONS_BYTES_MAX - 16;

    /* #{path => <<0, ...>>} of exactly the length that is allowed, and of one byte more. */
    memcpy(map, "t\0\0\0\1w\4pathm\0\x0f\xff\xf0", 16);
    len = 16 + 0xffff0;
    cr_assert_eq(len, SN_OPTIONS_BYTES_MAX);
    cr_assert_eq(sn_options_parse(term_of("p"), term_of_bytes(map, len), &opts, &bad), SP_BAD_DATA);
    cr_assert(sn_slice_is_atom(bad.key, "path"));
    map[15]++;
    cr_assert_eq(sn_options_parse(term_of("p"), term_of_bytes(map, len + 1), &opts, &bad),
                 SP_BAD_DATA);
    assert_bad("too long", false, "opts", "too_long");
}

Test(sn_options, unknown)
{
    static const char *const keys[] = {"sise",   "\"size\"", "<<\"size\">>",
                                       "{size}", "1",        "undefined"};
    char options[64];

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        snprintf(options, sizeof options, "%s => 1", keys[i]);
        cr_assert_eq(parse(options), SP_BAD_DATA, "%s", options);
        cr_assert(sn_slice_equals(bad.key, term_of(keys[i])));
        cr_assert(sn_slice_is_atom(bad.value, "not_shown"));
    }
}

Test(sn_options, what_each_transport_needs)
{
    wrong_map("#{port => 80}", "host", "undefined");
    wrong_map("#{host => h}", "port", "undefined");
    wrong_map("#{transport => tls, port => 80}", "host", "undefined");
    wrong_map("#{transport => tls, host => h}", "port", "undefined");
    wrong_map("#{transport => unix}", "path", "undefined");
}

Test(sn_options, what_each_transport_has_not)
{
    wrong_map("#{transport => unix, path => \"s\", host => h}", "host", "h");
    wrong_map("#{transport => unix, path => \"s\", port => 1}", "port", "1");
    wrong_map("#{transport => unix, path => \"s\", bind => {1, 2, 3, 4}}", "bind", "{1, 2, 3, 4}");
    wrong_map("#{transport => unix, path => \"s\", tls => #{}}", "tls", "#{}");
    wrong_map("#{transport => tls, host => h, port => 1, path => \"s\"}", "path", "\"s\"");
    wrong_map("#{host => h, port => 1, path => \"s\"}", "path", "\"s\"");
    wrong_map("#{host => h, port => 1, tls => #{}}", "tls", "#{}");
    wrong_map("#{host => h, port => 1, tls => []}", "tls", "[]");
}

/* ---- where to connect to ---- */

Test(sn_options, addresses_to_connect_to)
{
    struct sp_addr addr;

    right("host => [{127, 0, 0, 1}, name, \"::1\"], port => 443");
    cr_assert(sn_options_address(&opts, 0, &addr));
    cr_assert_eq(addr.len, sizeof(struct sockaddr_in));
    cr_assert_eq(((struct sockaddr_in *)&addr.storage)->sin_port, htons(443));
    cr_assert_eq(((struct sockaddr_in *)&addr.storage)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    cr_assert_str_eq(addr.host, "127.0.0.1");
    cr_assert_not(sn_options_address(&opts, 1, &addr));
    cr_assert(sn_options_address(&opts, 2, &addr));
    cr_assert_eq(addr.len, sizeof(struct sockaddr_in6));
    cr_assert_eq(((struct sockaddr_in6 *)&addr.storage)->sin6_port, htons(443));
    cr_assert(IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)&addr.storage)->sin6_addr));
    cr_assert_eq(parse_path("\"/tmp/s\""), SP_OK);
    cr_assert(sn_options_address(&opts, 0, &addr));
    cr_assert_eq(addr.storage.ss_family, AF_UNIX);
    cr_assert_str_eq(((struct sockaddr_un *)&addr.storage)->sun_path, "/tmp/s");
    cr_assert_eq(addr.len, offsetof(struct sockaddr_un, sun_path) + sizeof "/tmp/s");
}

/* ---- the tables ---- */

static void assert_describable(const struct sn_option *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct sn_slice def = sn_option_default(&rows[i]), key = sn_option_key(&rows[i]);

        cr_assert(sn_slice_is_atom(term_of_bytes(key.data, key.len), rows[i].key.text));
        (void)term_of_bytes(def.data, def.len);
        cr_assert_gt(strlen(rows[i].allowed), 5);
    }
}

Test(sn_options, nodes)
{
    struct sp_addr addr;

    cr_assert_eq(parse_map("#{transport => node, node => 'b@127.0.0.1'}"), SP_OK);
    cr_assert_eq(opts.config.transport, &sp_transport_node);
    cr_assert_str_eq(opts.node, "b@127.0.0.1");
    cr_assert_eq(opts.max_inflight, 64);
    cr_assert(!opts.cookie && !opts.has_tls && opts.port == 0);
    cr_assert_eq(opts.config.framing.bytes, 4);
    cr_assert(sn_options_address(&opts, 0, &addr));
    cr_assert_str_eq(addr.host, "127.0.0.1");
    cr_assert_eq(parse_map("#{transport => node, node => 'b@c', port => 7, packet => 4, "
                           "max_inflight => 4294967295, cookie => <<\"s e\">>, tls => #{}}"),
                 SP_OK);
    cr_assert_eq(opts.config.transport, &sp_transport_node_tls);
    cr_assert_eq(opts.max_inflight, 4294967295);
    cr_assert_str_eq(opts.cookie, "s e");
    cr_assert(opts.has_tls && opts.port == 7);
    cr_assert(!sn_options_address(&opts, 0, &addr));
    cr_assert_str_eq(opts.hosts[0].text, "c");
    cr_assert_eq(parse_map("#{transport => node, node => 'b~@c~', tls => #{server_name => \"~\"}}"),
                 SP_OK);
}

Test(sn_options, the_longest_node_name)
{
    char map[512];

    snprintf(map, sizeof map, "#{transport => node, node => '%0255d'}", 0);
    memcpy(strstr(map, "0000"), "b@", 2);
    cr_assert_eq(parse_map(map), SP_OK);
    cr_assert_eq(strlen(opts.node), 255);
}

Test(sn_options, wrong_nodes)
{
    wrong_map("#{transport => node}", "node", "undefined");
    wrong_map("#{transport => node, node => 'b@c', host => h}", "host", "h");
    wrong_map("#{transport => node, node => 'b@c', path => <<\"p\">>}", "path", "<<\"p\">>");
    wrong_map("#{transport => node, node => 'b@c', packet => line}", "packet", "line");
    wrong_map("#{transport => node, node => 'b@c', max_inflight => 0}", "max_inflight", "0");
    wrong_map("#{transport => node, node => b}", "node", "b");
    wrong_map("#{transport => node, node => 'b@'}", "node", "'b@'");
    wrong_map("#{transport => node, node => '@c'}", "node", "'@c'");
    wrong_map("#{transport => node, node => 'b@c@d'}", "node", "'b@c@d'");
    wrong_map("#{transport => node, node => 'b@c d'}", "node", "'b@c d'");
    wrong_map("#{transport => node, node => <<\"b@c\">>}", "node", "<<\"b@c\">>");
    wrong("node", "'b@c'");
    wrong("max_inflight", "1");
}

/* A cookie that is wrong is not told. */
Test(sn_options, cookies)
{
    const char *wrong[] = {"<<\"\">>", "''", "1", "\"text\"", "fun", "{a}"};
    char map[2048], text[300];

    cr_assert_eq(parse_map("#{transport => node, node => 'b@c', cookie => secret}"), SP_OK);
    cr_assert_str_eq(opts.cookie, "secret");
    sn_options_free(&opts);
    cr_assert(!opts.cookie && !opts.hosts && !opts.node);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(map, sizeof map, "#{transport => node, node => 'b@c', cookie => %s}", wrong[i]);
        wrong_map(map, "cookie", "not_a_cookie");
    }
    for (size_t len = 255; len <= 256; len++) {
        memset(text, 'x', len);
        text[len] = '\0';
        snprintf(map, sizeof map, "#{transport => node, node => 'b@c', cookie => <<\"%s\">>}",
                 text);
        if (len == 255)
            cr_assert_eq(parse_map(map), SP_OK);
        else
            wrong_map(map, "cookie", "not_a_cookie");
    }
    wrong_map("#{host => h, port => 1, cookie => secret}", "cookie", "not_a_cookie");
}

/* Atoms are characters, cookies are bytes. */
Test(sn_options, cookies_beyond_ascii)
{
    struct sn_option row = {.min = 1, .max = 255};
    struct sn_memory memory = {NULL};
    struct sn_parsed parsed = {0};

    cr_assert_eq(sn_check_cookie(&row, term_of_bytes("w\3\xc3\xa4o", 5), &memory, &parsed),
                 SN_RIGHT);
    cr_assert_str_eq(parsed.data, "\xe4o");
    cr_assert_eq(sn_check_cookie(&row, term_of_bytes("w\4\xc4\x80oo", 6), &memory, &parsed),
                 SN_WRONG);
    cr_assert_eq(sn_check_cookie(&row, term_of_bytes("w\1\0", 3), &memory, &parsed), SN_WRONG);
    sn_memory_free(&memory);
}

Test(sn_options, tables_are_whole)
{
    const struct sn_option *rows;
    size_t count;

    rows = sn_options_table(&count);
    assert_describable(rows, count);
    cr_assert_str_eq(rows[3].allowed,
                     "an integer from 1 to 65535 (required with transport tcp and tls, "
                     "not allowed with unix; with node instead of asking epmd)");
    rows = sn_options_tls_table(&count);
    assert_describable(rows, count);
}

/* Whichever allocation fails, nothing is left behind. */
Test(sn_options, no_memory)
{
    struct sn_slice name = term_of("p");
    struct sn_slice map = term_of("#{transport => tls, host => [\"a\", b], port => 1, "
                                  "bind => {1, 2, 3, 4}, tls => #{cacerts => [<<\"c\">>], "
                                  "certfile => \"c\", alpn => [\"h2\"]}}");
    unsigned failed = 0;
    sp_status status;

    do {
        fail_alloc_after(failed);
        status = sn_options_parse(name, map, &opts, &bad);
        cr_assert(status == SP_OK || status == SP_NO_MEMORY);
        cr_assert_eq(opts.memory.newest == NULL, status == SP_NO_MEMORY);
    } while (status != SP_OK && ++failed);
    cr_assert_eq(failed, 9);
    sn_options_free(&opts);
}
