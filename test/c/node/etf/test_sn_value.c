/* sn_value: what checked terms mean. */
#include "node/etf/sn_value.h"

#include "kit/term_kit.h"

#include <criterion/criterion.h>
#include <string.h>

#define BYTES(text) term_of_bytes(text, sizeof(text) - 1)

static int64_t number;
static char text[SN_ATOM_BYTES_MAX + 1];
static size_t len;

static void assert_integer(struct sn_slice term, int64_t expected)
{
    number = -99;
    cr_assert(sn_value_integer(term, &number));
    cr_assert_eq(number, expected);
}

Test(sn_value, integers_in_each_encoding)
{
    assert_integer(BYTES("a\xff"), 255);
    assert_integer(BYTES("b\xff\xff\xff\xfe"), -2);
    assert_integer(BYTES("b\x7f\xff\xff\xff"), 2147483647);
    assert_integer(BYTES("n\1\0\5"), 5);
    assert_integer(BYTES("n\0\0"), 0);
    assert_integer(BYTES("n\4\0\xff\xff\xff\xff"), 4294967295);
    assert_integer(BYTES("n\10\1\xff\xff\xff\xff\xff\xff\xff\x7f"), -INT64_MAX);
    assert_integer(BYTES("n\12\0\1\0\0\0\0\0\0\0\0\0"), 1);
    assert_integer(BYTES("o\0\0\0\2\0\1\2"), 513);
}

Test(sn_value, no_integers_and_too_large_ones)
{
    cr_assert_not(sn_value_integer(BYTES("n\10\0\0\0\0\0\0\0\0\x80"), &number));
    cr_assert_not(sn_value_integer(BYTES("n\11\0\0\0\0\0\0\0\0\0\1"), &number));
    cr_assert_not(sn_value_integer(BYTES("F\x3f\xf0\0\0\0\0\0\0"), &number));
    cr_assert_not(sn_value_integer(BYTES("w\1a"), &number));
    cr_assert_not(sn_value_integer(BYTES("j"), &number));
}

static void assert_atom(struct sn_slice term, const char *expected)
{
    cr_assert(sn_value_atom(term, text, &len));
    cr_assert_eq(len, strlen(expected));
    cr_assert_str_eq(text, expected);
}

Test(sn_value, atoms_in_each_encoding)
{
    assert_atom(BYTES("w\2ok"), "ok");
    assert_atom(BYTES("v\0\2ok"), "ok");
    assert_atom(BYTES("s\2ok"), "ok");
    assert_atom(BYTES("d\0\2ok"), "ok");
    assert_atom(BYTES("w\0"), "");
    assert_atom(BYTES("s\1\xe9"), "\xc3\xa9");
    assert_atom(BYTES("w\2\xc3\xa9"), "\xc3\xa9");
    cr_assert(sn_value_atom(BYTES("w\3a\0b"), text, &len));
    cr_assert_eq(len, 3);
    cr_assert_not(sn_value_atom(BYTES("k\0\2ok"), text, &len));
    cr_assert_not(sn_value_atom(BYTES("m\0\0\0\1a"), text, &len));
}

Test(sn_value, the_longest_atom)
{
    uint8_t bytes[3 + SN_ATOM_BYTES_MAX] = {'v', SN_ATOM_BYTES_MAX >> 8, SN_ATOM_BYTES_MAX & 255};

    for (size_t i = 0; i < SN_ATOM_BYTES_MAX; i += 4)
        memcpy(bytes + 3 + i, "\xf0\x9f\x98\x80", 4);
    cr_assert(sn_value_atom(term_of_bytes(bytes, sizeof bytes), text, &len));
    cr_assert_eq(len, SN_ATOM_BYTES_MAX);
    cr_assert_eq(text[len], '\0');
}

static void assert_text(struct sn_slice term, const char *expected)
{
    memset(text, '#', sizeof text);
    cr_assert(sn_value_text(term, text, sizeof text, &len));
    cr_assert_eq(len, strlen(expected));
    cr_assert_arr_eq(text, expected, len);
}

Test(sn_value, texts_are_binaries_and_lists_of_characters)
{
    assert_text(term_of("<<\"abc\">>"), "abc");
    assert_text(term_of("<<\"\xff\">>"), "\xff");
    assert_text(term_of("\"abc\""), "abc");
    assert_text(term_of("\"\xe4\""), "\xc3\xa4");
    assert_text(term_of("[97, 98]"), "ab");
    assert_text(term_of("[127, 128, 2047, 2048, 65535, 65536, 1114111]"),
                "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
    assert_text(term_of("[]"), "");
    assert_text(term_of("<<\"\">>"), "");
    cr_assert(sn_value_text(BYTES("k\0\2\0a"), text, 9, &len) && len == 2 && !text[0]);
    cr_assert_not(sn_value_text(term_of("[55296]"), text, 9, &len));
    cr_assert_not(sn_value_text(term_of("[1114112]"), text, 9, &len));
    cr_assert_not(sn_value_text(term_of("[-1]"), text, 9, &len));
    cr_assert_not(sn_value_text(term_of("[97 | 98]"), text, 9, &len));
    cr_assert_not(sn_value_text(term_of("[97, b]"), text, 9, &len));
    cr_assert_not(sn_value_text(term_of("abc"), text, 9, &len));
    cr_assert_not(sn_value_text(term_of("5"), text, 9, &len));
}

Test(sn_value, a_text_is_cut_where_there_is_no_room_for_it)
{
    static const char *const terms[] = {"<<\"abcd\">>", "\"abcd\"", "[97, 98, 99, 100]"};

    for (size_t i = 0; i < 3; i++) {
        memset(text, '#', sizeof text);
        cr_assert(sn_value_text(term_of(terms[i]), text, 2, &len));
        cr_assert_eq(len, 4);
        cr_assert_arr_eq(text, "ab##", 4);
        cr_assert(sn_value_text(term_of(terms[i]), NULL, 0, &len));
        cr_assert_eq(len, 4);
    }
}

static size_t count_items(struct sn_slice list, bool is_proper)
{
    struct sn_items items;
    struct sn_slice item;
    size_t count = 0;

    cr_assert(sn_items_begin(list, &items));
    while (sn_items_next(&items, &item)) {
        assert_integer(item, (int64_t)++count);
        cr_assert_lt(count, 100);
    }
    cr_assert_eq(items.is_proper, is_proper);
    return count;
}

Test(sn_value, lists)
{
    struct sn_items items;

    cr_assert_eq(count_items(term_of("[1, 2, 3]"), true), 3);
    cr_assert_eq(count_items(BYTES("k\0\3\1\2\3"), true), 3);
    cr_assert_eq(count_items(term_of("[]"), true), 0);
    cr_assert_eq(count_items(BYTES("l\0\0\0\0j"), true), 0);
    cr_assert_eq(count_items(term_of("[1, 2 | 3]"), false), 2);
    cr_assert_not(sn_items_begin(term_of("{1}"), &items));
    cr_assert_not(sn_items_begin(term_of("<<\"a\">>"), &items));
}

Test(sn_value, maps)
{
    struct sn_slice key, value;
    struct sn_pairs pairs;

    cr_assert(sn_pairs_begin(term_of("#{a => 1, b => [2]}"), &pairs));
    cr_assert(sn_pairs_next(&pairs, &key, &value));
    cr_assert(sn_slice_is_atom(key, "a"));
    assert_integer(value, 1);
    cr_assert(sn_pairs_next(&pairs, &key, &value));
    cr_assert(sn_slice_is_atom(key, "b"));
    cr_assert_not(sn_pairs_next(&pairs, &key, &value));
    cr_assert(sn_pairs_begin(term_of("#{}"), &pairs));
    cr_assert_not(sn_pairs_next(&pairs, &key, &value));
    cr_assert_not(sn_pairs_begin(term_of("[{a, 1}]"), &pairs));
}
