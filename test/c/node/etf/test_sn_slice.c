/* sn_slice: the parts of checked terms. */
#include "node/etf/sn_slice.h"

#include <criterion/criterion.h>
#include <string.h>

#define SLICE(text) ((struct sn_slice){(const uint8_t *)(text), sizeof(text) - 1})

static struct sn_slice parts[SN_SLICE_PARTS_MAX];

Test(sn_slice, tuples_small_and_large)
{
    cr_assert_eq(sn_slice_tuple(SLICE("h\3a\7h\1jm\0\0\0\2xy"), parts), 3);
    cr_assert(sn_slice_equals(parts[0], SLICE("a\7")));
    cr_assert(sn_slice_equals(parts[1], SLICE("h\1j")));
    cr_assert(sn_slice_equals(parts[2], SLICE("m\0\0\0\2xy")));
    cr_assert_eq(sn_slice_tuple(SLICE("i\0\0\0\2ja\1"), parts), 2);
    cr_assert(sn_slice_equals(parts[1], SLICE("a\1")));
    cr_assert_eq(sn_slice_tuple(SLICE("h\0"), parts), 0);
    cr_assert_eq(sn_slice_tuple(SLICE("j"), parts), -1);
    cr_assert_eq(sn_slice_tuple(SLICE("l\0\0\0\1jj"), parts), -1);
}

/* Each with a nil behind it. */
Test(sn_slice, one_term_of_many)
{
    const struct sn_slice terms[] = {
        SLICE("h\3a\7h\1jm\0\0\0\2xyj"),
        SLICE("l\0\0\0\2t\0\0\0\1w\1ka\1ja\2j"),
        SLICE("Xw\3a@b\0\0\0\1\0\0\0\2\0\0\1\2j"),
        SLICE("Z\0\2w\3a@b\0\0\0\7\0\0\0\0\1\2\3\4j"),
        SLICE("p\0\0\0\77\1md5_md5_md5_md5_indx\0\0\0\1w\1ma\1b\0\0\0\1Xw\3a@b____________h\1jj"),
        SLICE("w\1\xffj"), /* no UTF-8: that was seen when it was checked */
    };

    for (size_t i = 0; i < sizeof terms / sizeof *terms; i++) {
        struct sn_slice rest = terms[i], term;

        cr_assert(sn_slice_take(&rest, &term), "term %zu", i);
        cr_assert_eq(term.len, terms[i].len - 1, "term %zu: %zu", i, term.len);
        cr_assert(sn_slice_take(&rest, &term) && sn_slice_equals(term, SLICE("j")));
        cr_assert_not(sn_slice_take(&rest, &term));
    }
}

Test(sn_slice, a_tuple_of_more_parts_than_there_is_room_for)
{
    cr_assert_eq(sn_slice_tuple(SLICE("h\12jjjjjjjjjj"), parts), 10);
    cr_assert(sn_slice_equals(parts[SN_SLICE_PARTS_MAX - 1], SLICE("j")));
}

Test(sn_slice, an_alias)
{
    struct sn_slice head, tail;

    cr_assert(sn_slice_cons(SLICE("l\0\0\0\1w\5aliasa\1"), &head, &tail));
    cr_assert(sn_slice_is_atom(head, "alias"));
    cr_assert_eq(sn_slice_byte(tail), 1);
    cr_assert_not(sn_slice_cons(SLICE("l\0\0\0\2jjj"), &head, &tail));
    cr_assert_not(sn_slice_cons(SLICE("j"), &head, &tail));
}

Test(sn_slice, atoms_in_each_encoding)
{
    cr_assert(sn_slice_is_atom(SLICE("w\2ok"), "ok"));
    cr_assert(sn_slice_is_atom(SLICE("s\2ok"), "ok"));
    cr_assert(sn_slice_is_atom(SLICE("v\0\2ok"), "ok"));
    cr_assert(sn_slice_is_atom(SLICE("d\0\2ok"), "ok"));
    cr_assert(sn_slice_is_atom(SLICE("w\0"), ""));
    cr_assert_not(sn_slice_is_atom(SLICE("w\2no"), "ok"));
    cr_assert_not(sn_slice_is_atom(SLICE("w\3oks"), "ok"));
    cr_assert_not(sn_slice_is_atom(SLICE("w\1o"), "ok"));
    cr_assert_not(sn_slice_is_atom(SLICE("k\0\2ok"), "ok"));
    cr_assert(sn_slice_is_any_atom(SLICE("w\2ok")) && sn_slice_is_any_atom(SLICE("s\0")));
    cr_assert(sn_slice_is_any_atom(SLICE("v\0\1a")) && sn_slice_is_any_atom(SLICE("d\0\0")));
    cr_assert_not(sn_slice_is_any_atom(SLICE("k\0\2ok")));
}

Test(sn_slice, bytes_pids_and_references)
{
    cr_assert_eq(sn_slice_byte(SLICE("a\xff")), 255);
    cr_assert_eq(sn_slice_byte(SLICE("b\0\0\0\1")), -1);
    cr_assert_eq(sn_slice_byte(SLICE("j")), -1);
    cr_assert(sn_slice_is_pid(SLICE("Xj")) && !sn_slice_is_reference(SLICE("Xj")));
    cr_assert(sn_slice_is_reference(SLICE("Zj")) && !sn_slice_is_pid(SLICE("Zj")));
    cr_assert(sn_slice_is_pid(SLICE("gj")) && sn_slice_is_reference(SLICE("rj")));
}

Test(sn_slice, the_node_of_a_pid)
{
    struct sn_slice node = sn_slice_pid_node(SLICE("Xw\3a@b\0\0\0\1\0\0\0\2\0\0\1\2"));

    cr_assert(sn_slice_equals(node, SLICE("w\3a@b")));
    node = sn_slice_pid_node(SLICE("gv\0\3a@b\0\0\0\1\0\0\0\2\3"));
    cr_assert(sn_slice_equals(node, SLICE("v\0\3a@b")));
}

Test(sn_slice, the_number_of_a_reference)
{
    uint64_t number = 0;

    cr_assert(
        sn_slice_reference_number(SLICE("Z\0\3w\3a@b\0\0\0\7\0\0\0\0\1\2\3\4\5\6\7\10"), &number));
    cr_assert_eq(number, UINT64_C(0x0102030405060708));
    cr_assert_not(sn_slice_reference_number(SLICE("Z\0\2w\3a@b\0\0\0\7\0\0\0\0\1\2\3\4"), &number));
    cr_assert_not(
        sn_slice_reference_number(SLICE("r\0\3w\3a@b\1\0\0\0\0\1\2\3\4\5\6\7\10"), &number));
    cr_assert_not(sn_slice_reference_number(SLICE("j"), &number));
}

Test(sn_slice, one_pid_in_each_encoding_of_its_node)
{
    const char *node = "a@b";

    cr_assert(sn_slice_is_this_pid(SLICE("Xw\3a@b\0\0\0\1\0\0\0\0\0\0\1\2"), node, 1, 258));
    cr_assert(sn_slice_is_this_pid(SLICE("Xv\0\3a@b\0\0\0\1\0\0\0\0\0\0\1\2"), node, 1, 258));
    cr_assert_not(sn_slice_is_this_pid(SLICE("Xw\3a@c\0\0\0\1\0\0\0\0\0\0\1\2"), node, 1, 258));
    cr_assert_not(sn_slice_is_this_pid(SLICE("Xw\3a@b\0\0\0\2\0\0\0\0\0\0\1\2"), node, 1, 258));
    cr_assert_not(sn_slice_is_this_pid(SLICE("Xw\3a@b\0\0\0\1\0\0\0\1\0\0\1\2"), node, 1, 258));
    cr_assert_not(sn_slice_is_this_pid(SLICE("Xw\3a@b\0\0\0\1\0\0\0\0\0\0\1\3"), node, 1, 258));
    cr_assert_not(sn_slice_is_this_pid(SLICE("j"), node, 1, 258));
}
