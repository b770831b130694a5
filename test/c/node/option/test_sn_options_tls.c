/* sn_options_tls: the options in the map tls. */
#include "node/option/sn_options.h"
#include "core/tls/sp_tls.h"

#include "kit/term_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct sn_options opts;
static struct sn_bad_option bad;

static sp_status parse_value(const char *tls)
{
    char map[4096];

    snprintf(map, sizeof map, "#{transport => tls, host => h, port => 443, tls => %s}", tls);
    sn_options_free(&opts);
    return sn_options_parse(term_of("p"), term_of(map), &opts, &bad);
}

static sp_status parse(const char *options)
{
    char tls[2048];

    snprintf(tls, sizeof tls, "#{%s}", options);
    return parse_value(tls);
}

static void right(const char *options)
{
    cr_assert_eq(parse(options), SP_OK, "refused: %s", options);
}

static void wrong_one(const char *options, const char *key, const char *value)
{
    cr_assert_eq(parse(options), SP_BAD_DATA, "accepted: %s", options);
    cr_assert(bad.is_tls, "%s", options);
    cr_assert(sn_slice_is_atom(bad.key, key), "%s", options);
    cr_assert(sn_slice_equals(bad.value, term_of(value)), "%s", options);
}

static void wrong(const char *key, const char *values)
{
    char list[2048], options[2048], *value, *rest = list;

    snprintf(list, sizeof list, "%s", values);
    while ((value = strsep(&rest, ";"))) {
        snprintf(options, sizeof options, "%s => %s", key, value);
        wrong_one(options, key, value);
    }
}

static void assert_defaults(void)
{
    const struct sp_tls_options *tls = &opts.tls;

    cr_assert_eq(opts.transport, SN_TLS);
    cr_assert_eq(opts.config.transport, &sp_transport_tls);
    cr_assert(tls->verify_peer && tls->session_reuse && !tls->ktls);
    cr_assert_eq(tls->min_version, TLS1_2_VERSION);
    cr_assert_eq(tls->max_version, TLS1_3_VERSION);
    cr_assert(!tls->server_name && !tls->ciphers && !tls->ciphersuites && !tls->groups);
    cr_assert(!tls->cacertfile && !tls->certfile && !tls->keyfile && !tls->keylog);
    cr_assert(!tls->cacerts && tls->cacert_count == 0);
    cr_assert(tls->alpn.len == 0 && tls->password.len == 0);
}

Test(sn_options_tls, defaults)
{
    right("");
    assert_defaults();
    cr_assert_eq(parse_value("[]"), SP_OK);
    assert_defaults();
    cr_assert_eq(parse_value("undefined"), SP_OK);
    assert_defaults();
    sn_options_free(&opts);
    cr_assert_eq(sn_options_parse(term_of("p"),
                                  term_of("#{transport => tls, host => h, port => 1}"), &opts,
                                  &bad),
                 SP_OK);
    assert_defaults();
}

Test(sn_options_tls, words)
{
    right("verify => none, session_reuse => false, ktls => true");
    cr_assert(!opts.tls.verify_peer && !opts.tls.session_reuse && opts.tls.ktls);
    right("verify => peer, session_reuse => true, ktls => false");
    cr_assert(opts.tls.verify_peer && opts.tls.session_reuse && !opts.tls.ktls);
    wrong("verify", "true;verify_peer;undefined;\"peer\"");
    wrong("session_reuse", "1;yes;undefined");
    wrong("ktls", "1;yes;undefined");
}

#define NO_TEXT "\"\";<<\"\">>;\"a\\0b\";<<\"a\\0\">>;1;atom;[-1];[97 | b];{};fun"

/* Texts: as strings and as binaries, in UTF-8. */
#define TEXT(key, with)                                                                            \
    Test(sn_options_tls, key)                                                                      \
    {                                                                                              \
        right(with #key " => \"/a/b\"");                                                           \
        cr_assert_str_eq(opts.tls.key, "/a/b");                                                    \
        right(with #key " => <<\"c:\">>");                                                         \
        cr_assert_str_eq(opts.tls.key, "c:");                                                      \
        right(with #key " => [47, 228]");                                                          \
        cr_assert_str_eq(opts.tls.key, "/\xc3\xa4");                                               \
        right(with #key " => undefined");                                                          \
        cr_assert_null(opts.tls.key);                                                              \
        wrong(#key, NO_TEXT);                                                                      \
    }
TEXT(cacertfile, "")
TEXT(certfile, "")
TEXT(keyfile, "certfile => \"c\", ")
TEXT(ciphers, "")
TEXT(ciphersuites, "")
TEXT(groups, "")
TEXT(keylog, "")

Test(sn_options_tls, server_name)
{
    char longest[300];

    right("server_name => \"db.example\"");
    cr_assert_str_eq(opts.tls.server_name, "db.example");
    right("server_name => <<\"::1\">>");
    cr_assert_str_eq(opts.tls.server_name, "::1");
    snprintf(longest, sizeof longest, "server_name => \"%0255d\"", 0);
    right(longest);
    wrong("server_name", NO_TEXT ";\".example\";\"a b\";\"d\xf6m\";<<\"\x7f\">>");
    snprintf(longest, sizeof longest, "\"%0256d\"", 0);
    wrong("server_name", longest);
}

Test(sn_options_tls, cacerts)
{
    right("cacerts => [<<\"one\\0\">>, {cert, <<\"two\">>, decoded}]");
    cr_assert_eq(opts.tls.cacert_count, 2);
    cr_assert_eq(opts.tls.cacerts[0].len, 4);
    cr_assert_arr_eq(opts.tls.cacerts[0].data, "one", 4);
    cr_assert_eq(opts.tls.cacerts[1].len, 3);
    cr_assert_arr_eq(opts.tls.cacerts[1].data, "two", 3);
    right("cacerts => undefined");
    cr_assert_eq(opts.tls.cacert_count, 0);
    wrong("cacerts", "[];<<\"c\">>;[\"\"];[<<\"\">>];[{cert, x, y}];[<<\"c\">> | <<\"d\">>];"
                     "[{cert, <<\"c\">>}];[<<\"c\">>, 1];\"ab\"");
}

Test(sn_options_tls, versions)
{
    right("versions => ['tlsv1.3', 'tlsv1.2', 'tlsv1.3']");
    cr_assert_eq(opts.tls.min_version, TLS1_2_VERSION);
    cr_assert_eq(opts.tls.max_version, TLS1_3_VERSION);
    right("versions => ['tlsv1.3']");
    cr_assert_eq(opts.tls.min_version, TLS1_3_VERSION);
    cr_assert_eq(opts.tls.max_version, TLS1_3_VERSION);
    right("versions => ['tlsv1.2']");
    cr_assert_eq(opts.tls.min_version, TLS1_2_VERSION);
    cr_assert_eq(opts.tls.max_version, TLS1_2_VERSION);
    wrong("versions", "[];['tlsv1.1'];['tlsv1.2', 'tlsv1.1'];'tlsv1.3';undefined;"
                      "['tlsv1.2' | 'tlsv1.3'];[\"tlsv1.2\"]");
}

Test(sn_options_tls, alpn)
{
    char names[600];

    right("alpn => [\"h2\", <<\"http/1.1\">>, [228]]");
    cr_assert_eq(opts.tls.alpn.len, 15);
    cr_assert_arr_eq(opts.tls.alpn.data, "\2h2\10http/1.1\2\xc3\xa4", 15);
    right("alpn => []");
    cr_assert_eq(opts.tls.alpn.len, 0);
    snprintf(names, sizeof names, "alpn => [\"%0255d\", \"%0255d\"]", 0, 0);
    right(names);
    cr_assert_eq(opts.tls.alpn.len, 512);
    wrong("alpn", "h2;\"h2\";[\"\"];[h2];[<<\"a\">> | <<\"b\">>];[1];undefined");
    snprintf(names, sizeof names, "[\"%0256d\"]", 0);
    wrong("alpn", names);
    /* The longest for its encoding, before what does not fit. */
    memset(names, 0xe4, sizeof names);
    snprintf(names, sizeof names, "[\"%.127s\", \"%.128s\"]", (char[]){[0 ... 126] = '\xe4', 0},
             (char[]){[0 ... 127] = '\xe4', 0});
    wrong("alpn", names);
}

/* A fun cannot be called; what was meant as a password is not repeated. */
Test(sn_options_tls, password)
{
    right("password => undefined");
    wrong("password", "fun");
    wrong_one("password => \"secret\"", "password", "not_a_fun");
    wrong_one("password => <<\"secret\">>", "password", "not_a_fun");
}

Test(sn_options_tls, options_that_exclude_each_other)
{
    wrong_one("keyfile => \"k\"", "certfile", "undefined");
    wrong_one("cacertfile => \"c\", cacerts => [<<\"c\">>]", "cacerts", "[<<\"c\">>]");
    right("keyfile => \"k\", certfile => \"c\"");
}

Test(sn_options_tls, unknown)
{
    wrong_one("verifi => peer", "verifi", "not_shown");
}

Test(sn_options_tls, a_list_of_which_the_first_counts)
{
    cr_assert_eq(parse_value("[{ktls, true}, {verify, none}, {ktls, 7}]"), SP_OK);
    cr_assert(opts.tls.ktls && !opts.tls.verify_peer);
    cr_assert_eq(parse_value("[{ktls, 7}, {ktls, true}]"), SP_BAD_DATA);
    cr_assert(bad.is_tls && sn_slice_is_atom(bad.key, "ktls"));
    cr_assert_eq(parse_value("[{ktls, true}, {other, 7}]"), SP_BAD_DATA);
    cr_assert(bad.is_tls && sn_slice_is_atom(bad.key, "other"));
    cr_assert(sn_slice_is_atom(bad.value, "not_shown"));
}

Test(sn_options_tls, no_options_at_all)
{
    static const char *const values[] = {"1",           "\"x\"", "[a]",      "[{verify, none} | x]",
                                         "[{a, b, c}]", "{}",    "<<\"x\">>"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        cr_assert_eq(parse_value(values[i]), SP_BAD_DATA, "%s", values[i]);
        cr_assert_not(bad.is_tls);
        cr_assert(sn_slice_is_atom(bad.key, "tls"));
        cr_assert(sn_slice_is_atom(bad.value, "not_a_list_of_options"),
                  "there may be a password in it");
    }
}

/* As in sockpool_opts.erl: what is wrong within comes first, then that it should not be there. */
Test(sn_options_tls, with_another_transport)
{
    cr_assert_eq(sn_options_parse(term_of("p"),
                                  term_of("#{host => h, port => 1, tls => #{ktls => 7}}"), &opts,
                                  &bad),
                 SP_BAD_DATA);
    cr_assert(bad.is_tls && sn_slice_is_atom(bad.key, "ktls"));
}
