/* sn_atoms_in: headers as Erlang's documentation describes them, byte by byte; what becomes of the terms;
 * headers that no node sends. */
#include "node/dist/sn_atoms_in.h"

#include "kit/fail_alloc.h"
#include "node/etf/sn_term.h"
#include "core/base/sp_bytes.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define ROOM ((size_t)1 << 20)
#define BYTES(text) (text), sizeof(text) - 1

static struct sn_atoms_in atoms;

static void end(void)
{
    sn_atoms_in_free(&atoms);
    cr_assert(!atoms.atoms && !atoms.plain && atoms.cap == 0);
}

TestSuite(sn_atoms_in, .fini = end);

/* From memory of exactly that size, in one go. */
static sp_status take_within(size_t max, const void *frame, size_t len, const uint8_t **plain,
                             size_t *plain_len)
{
    uint8_t *copy = malloc(len ? len : 1);
    size_t pieces = SIZE_MAX;
    sp_status status;

    memcpy(copy, frame, len);
    status = sn_atoms_in_begin(&atoms, copy, len, max);
    if (status == SP_OK)
        status = sn_atoms_in_go_on(&atoms, &pieces);
    free(copy);
    *plain = atoms.plain;
    *plain_len = atoms.len;
    return status;
}

static void expect(const void *frame, size_t len, const void *wanted, size_t wanted_len)
{
    const uint8_t *plain;
    size_t plain_len;

    cr_assert_eq(take_within(ROOM, frame, len, &plain, &plain_len), SP_OK);
    cr_assert_eq(plain_len, wanted_len);
    cr_assert_arr_eq(plain, wanted, wanted_len);
}

static void expect_status(sp_status wanted, const void *frame, size_t len)
{
    const uint8_t *plain;
    size_t plain_len;

    cr_assert_eq(take_within(ROOM, frame, len, &plain, &plain_len), wanted);
}

/* What the validator says of it, behind a control message of one small integer. */
static enum sn_term_result check_payload(const uint8_t *plain, size_t len)
{
    enum { BEFORE = 5 };
    size_t used;
    enum sn_term_result result = sn_term_check(plain + BEFORE, len - BEFORE, &used);

    return result == SN_TERM_OK && used != len - BEFORE ? SN_TERM_BAD : result;
}

Test(sn_atoms_in, no_atoms_in_the_header)
{
    expect(BYTES("\x83"
                 "D\0h\1a\2"),
           BYTES("p\x83h\1a\2"));
    expect(BYTES("\x83"
                 "D\0h\1a\2m\0\0\0\2R\1"),
           BYTES("p\x83h\1a\2\x83m\0\0\0\2R\1"));
    expect(BYTES("\x83"
                 "D\0w\2abw\1c"),
           BYTES("p\x83w\2ab\x83w\1c"));
    expect(BYTES("\x83"
                 "D\0"),
           BYTES("p\x83"));
}

/* The flags of the first atom are the low half of their byte; the last half byte says how long lengths are. */
Test(sn_atoms_in, new_atoms_and_known_ones)
{
    expect(BYTES("\x83"
                 "D\2\x9f\0\5\3one\6\3twoh\3R\0R\1R\0R\1"),
           BYTES("p\x83h\3w\3onew\3twow\3one\x83w\3two"));
    /* 7:5 is known now, and 1:6; 1:5 is another. */
    expect(BYTES("\x83"
                 "D\3\x17\x09\5\6\5\5threeh\3R\2R\1R\0"),
           BYTES("p\x83h\3w\5threew\3twow\3one"));
    /* 1:5 comes to be something else. */
    expect(BYTES("\x83"
                 "D\1\x09\5\4fourR\0"),
           BYTES("p\x83w\4four"));
    expect(BYTES("\x83"
                 "D\1\1\5R\0"),
           BYTES("p\x83w\4four"));
    /* 0:133 is another place. */
    expect(BYTES("\x83"
                 "D\1\x08\x85\4fiveR\0"),
           BYTES("p\x83w\4five"));
    expect(BYTES("\x83"
                 "D\1\1\5R\0"),
           BYTES("p\x83w\4four"));
    /* The last place of all, and the empty atom. */
    expect(BYTES("\x83"
                 "D\1\x0f\xff\0R\0"),
           BYTES("p\x83w\0"));
    expect(BYTES("\x83"
                 "D\1\7\xffR\0"),
           BYTES("p\x83w\0"));
}

Test(sn_atoms_in, long_texts)
{
    enum { LEN = 4 * 255 };
    static uint8_t frame[8 + LEN + 2] = "\x83"
                                        "D\1\x18\0\3\xfc",
                                   wanted[2 + 3 + LEN] = "p\x83v\3\xfc";

    memset(frame + 7, 'x', LEN);
    memcpy(frame + 7 + LEN, "R\0", 2);
    memset(wanted + 5, 'x', LEN);
    expect(frame, 7 + LEN + 2, wanted, sizeof wanted);
    /* 255 bytes are the most for a length of one byte. */
    frame[5] = 0;
    frame[6] = 0xff;
    memcpy(frame + 7 + 255, "R\0", 2);
    wanted[2] = 'w';
    wanted[3] = 0xff;
    memset(wanted + 4, 'x', 255);
    expect(frame, 7 + 255 + 2, wanted, 2 + 2 + 255);
    /* One more than any atom has. */
    frame[5] = 3;
    frame[6] = 0xfd;
    expect_status(SP_BAD_DATA, frame, sizeof frame);
}

Test(sn_atoms_in, names_of_nodes_in_pids_and_references)
{
    expect(BYTES("\x83"
                 "D\1\x08\7\3a@bh\3a\2XR\0numbseriR\0R\0Z\0\1R\0creaR\0R\0R\0"),
           BYTES("p\x83h\3a\2Xw\3a@bnumbseriR\0R\0Z\0\1w\3a@bcreaR\0R\0\x83w\3a@b"));
}

/* A fun says its size, which grows with its atoms, and so does that of the fun around it. */
Test(sn_atoms_in, funs)
{
#define FUN_HEAD "\1md5_md5_md5_md5_indx\0\0\0\1"
#define OLD "a\1a\2X"
#define PID "numbsericrea"
    static const char frame[] = "\x83"
                                "D\1\x08\7\3m@ha\1h\3p\0\0\0\x66" FUN_HEAD "R\0" OLD "R\0" PID
                                "p\0\0\0\x33" FUN_HEAD "R\0" OLD "R\0" PID "jR\0R\0";
    static const char wanted[] = "p\x83"
                                 "a\1\x83h\3p\0\0\0\x72" FUN_HEAD "w\3m@h" OLD "w\3m@h" PID
                                 "p\0\0\0\x39" FUN_HEAD "w\3m@h" OLD "w\3m@h" PID "jw\3m@hw\3m@h";
    const uint8_t *plain;
    size_t plain_len;

    expect(BYTES(frame), BYTES(wanted));
    cr_assert_eq(take_within(ROOM, BYTES(frame), &plain, &plain_len), SP_OK);
    cr_assert_eq(check_payload(plain, plain_len), SN_TERM_OK);
}

/* More of them within each other than are put right: refused later, and nothing else happens. */
Test(sn_atoms_in, many_funs)
{
    enum { FUN_LEN = 51, DEEPEST = 12 };

    for (int depth = 1; depth <= DEEPEST; depth++) {
        uint8_t frame[11 + DEEPEST * FUN_LEN + 1] = "\x83"
                                                    "D\1\x08\7\3m@ha\1",
                                               *at = frame + 11;
        const uint8_t *plain;
        size_t plain_len;

        for (int i = 0; i < depth; i++, at += FUN_LEN) {
            memcpy(at, "p\0\0\0\0" FUN_HEAD "R\0" OLD "R\0" PID, FUN_LEN);
            sp_put(at + 1, 4, (uint64_t)FUN_LEN * (uint64_t)(depth - i));
        }
        *at++ = 'j';
        cr_assert_eq(take_within(ROOM, frame, (size_t)(at - frame), &plain, &plain_len), SP_OK);
        cr_assert_eq(plain_len, 2 + 2 + 1 + (size_t)depth * (FUN_LEN + 2 * 3) + 1);
        cr_assert_eq(check_payload(plain, plain_len), depth <= 8 ? SN_TERM_OK : SN_TERM_BAD, "%d",
                     depth);
    }
}

/* The validator, which comes next, does not know these. */
Test(sn_atoms_in, what_is_not_understood_is_left)
{
    expect(BYTES("\x83"
                 "D\1\x08\7\1xh\2R\0R\1R\0"),
           BYTES("p\x83h\2w\1xR\1\x83w\1x"));
    expect(BYTES("\x83"
                 "D\1\x08\7\1xh\3R\0\xffR\0R\0"),
           BYTES("p\x83h\3w\1x\xffR\0R\0"));
    expect(BYTES("\x83"
                 "D\1\x08\7\1xa\1h\2R\0\xffR\0"),
           BYTES("p\x83"
                 "a\1\x83h\2w\1x\xffR\0"));
    expect(BYTES("\x83"
                 "D\1\x08\7\1xa\1R\0R\0"),
           BYTES("p\x83"
                 "a\1\x83w\1xR\0"));
}

Test(sn_atoms_in, headers_that_no_node_sends)
{
    static const char good[] = "\x83"
                               "D\2\x88\0\5\3one\6\3twoR\1";

    for (size_t len = 0; len < sizeof good - 3; len++)
        expect_status(SP_BAD_DATA, good, len);
    expect_status(SP_BAD_DATA, BYTES("p\x83R\1"));
    expect_status(SP_BAD_DATA, BYTES("\x82"
                                     "D\0j"));
    expect_status(SP_BAD_DATA, BYTES("\x83"
                                     "E\0j"));
    expect_status(SP_BAD_DATA, BYTES("\x83"
                                     "D\1\1\5R\0")); /* 1:5 was never told */
    expect_status(SP_OK, BYTES(good));
    expect_status(SP_BAD_DATA, BYTES("\x83"
                                     "D\1\1\6R\0")); /* 0:6 was, 1:6 not */
    expect_status(SP_OK, BYTES("\x83"
                               "D\1\0\6R\0"));
}

/* The same place twice in one header: no node does it, and nothing breaks. */
Test(sn_atoms_in, a_place_told_twice)
{
    expect(BYTES("\x83"
                 "D\2\x88\0\5\3one\5\5threeh\2R\0R\1"),
           BYTES("p\x83h\2w\5threew\5three"));
}

Test(sn_atoms_in, the_frame_that_comes_of_it_is_bounded)
{
    static const char frame[] = "\x83"
                                "D\1\x08\7\4longh\3R\0R\0R\0j";
    const size_t wanted = 2 + 2 + 3 * 6 + 2;
    const uint8_t *plain;
    size_t plain_len;

    cr_assert_eq(take_within(wanted, BYTES(frame), &plain, &plain_len), SP_OK);
    cr_assert_eq(plain_len, wanted);
    for (size_t max = 0; max < wanted; max++) {
        cr_assert_eq(take_within(max, BYTES(frame), &plain, &plain_len), SP_TOO_BIG);
        cr_assert_eq(plain_len, max, "its beginning is there");
        cr_assert(memcmp(plain, "p\x83h\3w\4longw\4longw\4long\x83j", max) == 0);
    }
    /* And the atom is known all the same. */
    expect(BYTES("\x83"
                 "D\1\0\7R\0"),
           BYTES("p\x83w\4long"));
}

/* However few pieces a call has. */
Test(sn_atoms_in, in_pieces)
{
    enum { LEN = 5000 };
    static uint8_t frame[17 + LEN + 2] = "\x83"
                                         "D\1\x08\7\4longh\2m\0\0\x13\x88";
    static uint8_t wanted[20000];
    size_t wanted_len, pieces = SIZE_MAX;

    memset(frame + 17, 'm', LEN);
    memcpy(frame + 17 + LEN, "R\0", 2);
    cr_assert_eq(sn_atoms_in_begin(&atoms, frame, sizeof frame, ROOM), SP_OK);
    cr_assert_eq(sn_atoms_in_go_on(&atoms, &pieces), SP_OK);
    wanted_len = atoms.len;
    memcpy(wanted, atoms.plain, wanted_len);
    for (size_t least = 1; least < 40; least++) {
        sp_status status;
        unsigned calls = 0;

        cr_assert_eq(sn_atoms_in_begin(&atoms, frame, sizeof frame, ROOM), SP_OK);
        do {
            pieces = least;
            status = sn_atoms_in_go_on(&atoms, &pieces);
            cr_assert_leq(pieces, least);
            calls++;
        } while (status == SP_AGAIN);
        cr_assert_eq(status, SP_OK);
        cr_assert_geq(calls, LEN / 64 / least);
        cr_assert_eq(atoms.len, wanted_len);
        cr_assert_arr_eq(atoms.plain, wanted, wanted_len);
    }
}

/* What a long frame needed is not kept for ever. */
Test(sn_atoms_in, memory)
{
    enum { LEN = 100000 };
    uint8_t *frame = calloc(1, LEN);

    memcpy(frame,
           "\x83"
           "D\0a\1m\0\1\x86\x96",
           10);
    expect_status(SP_OK, frame, LEN);
    cr_assert_geq(atoms.cap, LEN);
    expect(BYTES("\x83"
                 "D\0j"),
           BYTES("p\x83j"));
    cr_assert_leq(atoms.cap, 16 * 1024);
    free(frame);
}

Test(sn_atoms_in, no_memory)
{
    static const char frame[] = "\x83"
                                "D\1\x08\7\4longR\0";

    for (unsigned n = 0; n < 3; n++) {
        fail_alloc_after(n);
        expect_status(SP_NO_MEMORY, BYTES(frame));
        sn_atoms_in_free(&atoms);
    }
    fail_alloc_after(3);
    expect(BYTES(frame), BYTES("p\x83w\4long"));
}
