/* sn_options: the option `packet', in all of its forms and bounds. */
#include "node/option/sn_options.h"

#include "kit/term_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define LENGTH(...)                                                                                \
    {                                                                                              \
        .kind = SP_FRAMING_LENGTH, __VA_ARGS__                                                     \
    }

static struct sn_options opts;
static struct sn_bad_option bad;

static sp_status parse(const char *target, const char *packet)
{
    char options[512];

    snprintf(options, sizeof options, "#{%s, packet => %s}", target, packet);
    sn_options_free(&opts);
    return sn_options_parse(term_of("p"), term_of(options), &opts, &bad);
}

static sp_status parse_tcp(const char *packet)
{
    return parse("host => h, port => 80", packet);
}

static void right(const char *packet, struct sp_framing framing)
{
    cr_assert_eq(parse_tcp(packet), SP_OK, "refused: %s", packet);
    cr_assert(sp_framing_equal(&opts.config.framing, &framing), "%s", packet);
}

/* Each of the values, with ; between them. */
static void wrong(const char *values)
{
    char list[4096], *value, *rest = list;

    snprintf(list, sizeof list, "%s", values);
    while ((value = strsep(&rest, ";"))) {
        cr_assert_eq(parse_tcp(value), SP_BAD_DATA, "accepted: %s", value);
        cr_assert(sn_slice_is_atom(bad.key, "packet"));
        cr_assert(sn_slice_equals(bad.value, term_of(value)), "%s", value);
    }
}

Test(sn_options_framing, words)
{
    right("raw", (struct sp_framing){0});
    right("0", (struct sp_framing){0});
    right("1", sp_framing_header(1));
    right("2", sp_framing_header(2));
    right("4", sp_framing_header(4));
    right("line", sp_framing_line());
    right("resp", (struct sp_framing){.kind = SP_FRAMING_RESP});
    wrong("3;5;8;-1;http;\"raw\";undefined;{raw};{};{resp, 1};{line, 1};[];#{};4294967297");
}

Test(sn_options_framing, lengths)
{
    right("{length, #{}}", (struct sp_framing)LENGTH(.bytes = 4));
    right("{length, []}", (struct sp_framing)LENGTH(.bytes = 4));
    right("{length, #{header => strip}}", sp_framing_header(4));
    right("{length, [{bytes, 1}, {header, strip}]}", sp_framing_header(1));
    right("{length, #{offset => 1, adjust => -4}}",
          (struct sp_framing)LENGTH(.offset = 1, .bytes = 4, .adjust = -4));
    right("{length, [{bytes, 3}, {endian, little}, {adjust, 1}]}",
          (struct sp_framing)LENGTH(.bytes = 3, .little = true, .adjust = 1));
    right("{length, #{offset => 255, bytes => 8, endian => big, adjust => -2147483647, "
          "header => keep}}",
          (struct sp_framing)LENGTH(.offset = 255, .bytes = 8, .adjust = -2147483647));
    right("{length, #{bytes => 1, adjust => 2147483647}}",
          (struct sp_framing)LENGTH(.bytes = 1, .adjust = 2147483647));
    wrong("{length};{length, 4};{length, #{}, 1};{length, {bytes, 4}};{length, \"ab\"}");
    wrong("{length, #{offset => -1}};{length, #{offset => 256}};{length, #{offset => big}}");
    wrong("{length, #{bytes => 0}};{length, #{bytes => 9}};{length, [{bytes, undefined}]}");
    wrong("{length, #{endian => native}};{length, #{endian => 1}};{length, #{endian => \"big\"}}");
    wrong("{length, #{adjust => 2147483648}};{length, #{adjust => -2147483648}}");
    wrong("{length, #{header => drop}};{length, #{header => true}}");
    wrong("{length, #{size => 4}};{length, #{4 => 4}};{length, #{\"bytes\" => 4}}");
    wrong("{length, [bytes]};{length, [{bytes}]};{length, [{bytes, 1, 2}]};{length, [{size, 1}]}");
    wrong("{length, #{offset => 1, header => strip}}");
}

/* A list may say a key twice, and Elixir says nil of what is not given. */
Test(sn_options_framing, the_first_counts_and_nil_is_nothing)
{
    right("{length, [{bytes, 2}, {bytes, 9}]}", (struct sp_framing)LENGTH(.bytes = 2));
    right("{length, [{bytes, nil}, {bytes, 2}]}", (struct sp_framing)LENGTH(.bytes = 4));
    right("{length, #{offset => nil, endian => nil, header => nil}}",
          (struct sp_framing)LENGTH(.bytes = 4));
    wrong("{length, [{bytes, 9}, {bytes, 2}]};{length, #{size => nil}};{fixed, nil};nil");
}

Test(sn_options_framing, delimiters_and_fixed_sizes)
{
    right("{delimiter, <<\"ab\">>}",
          (struct sp_framing){.kind = SP_FRAMING_DELIMITER, .delimiter_len = 2, .delimiter = "ab"});
    right("{delimiter, <<\"0123456789abcdef0123456789abcdef\">>}",
          (struct sp_framing){.kind = SP_FRAMING_DELIMITER,
                              .delimiter_len = 32,
                              .delimiter = "0123456789abcdef0123456789abcdef"});
    right("{fixed, 1}", (struct sp_framing){.kind = SP_FRAMING_FIXED, .fixed = 1});
    right("{fixed, 2147483647}",
          (struct sp_framing){.kind = SP_FRAMING_FIXED, .fixed = 2147483647});
    wrong("{delimiter, <<\"\">>};{delimiter, \"ab\"};{delimiter, [<<\"ab\">>]};{delimiter, 10};"
          "{delimiter, ab};{delimiter, <<\"0123456789abcdef0123456789abcdefg\">>}");
    wrong("{fixed, 0};{fixed, -1};{fixed, 2147483648};{fixed, \"5\"};{fixed, big};{fixed}");
}

/* A node in C calls none. */
Test(sn_options_framing, a_fun_is_refused)
{
    wrong("fun;{m, f, []};{fixed, fun};{length, fun};{length, #{bytes => fun}}");
}

Test(sn_options_framing, of_nodes)
{
    static const char node[] = "transport => node, node => 'b@c', port => 7";

    cr_assert_eq(parse(node, "raw"), SP_OK);
    cr_assert_eq(parse(node, "4"), SP_OK);
    cr_assert_eq(parse(node, "{length, #{header => strip}}"), SP_OK);
    cr_assert_eq(parse(node, "{length, #{}}"), SP_BAD_DATA);
    cr_assert_eq(parse(node, "resp"), SP_BAD_DATA);
    cr_assert(sn_slice_is_atom(bad.value, "resp"));
}
