/* sn_scan: finds the atoms of every kind of term and the term's end, and never leaves the bytes. */
#include "node/etf/sn_scan.h"

#include "node/etf/sn_term.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define A "w\1A"
#define B "w\1B"
#define C "R\7"
#define NUMBERS "0123456789abcdef0123456789abcdef"

/* A term, and what is found in it: A, B and C as above, F for the size of a fun. */
struct row {
    const char *bytes;
    size_t len;
    const char *found;
};

#define ROW(bytes, found)                                                                          \
    {                                                                                              \
        bytes, sizeof(bytes) - 1, found                                                            \
    }

static const struct row ROWS[] = {
    ROW("a\5", ""),
    ROW("b\0\0\1\0", ""),
    ROW("F12345678", ""),
    ROW("j", ""),
    ROW("k\0\3w\1A", ""),
    ROW("m\0\0\0\3w\1A", ""),
    ROW("M\0\0\0\3\5w\1A", ""),
    ROW("n\2\0xy", ""),
    ROW("o\0\0\0\2\0xy", ""),
    ROW(A, "A"),
    ROW("s\1A", "A"),
    ROW("v\0\1A", "A"),
    ROW("d\0\1A", "A"),
    ROW(C, "C"),
    ROW("h\0", ""),
    ROW("h\3" A "a\1" B, "AB"),
    ROW("i\0\0\0\2" A C, "AC"),
    ROW("l\0\0\0\2" A B "j", "AB"),
    ROW("l\0\0\0\1" A C, "AC"),
    ROW("t\0\0\0\2" A "a\1" B C, "ABC"),
    ROW("t\0\0\0\0", ""),
    ROW("h\2X" A "number__seri" B, "AB"),
    ROW("h\2X" C "R\1R\1R\1R\1R\1R\1" B, "CB"), /* numbers that look like atoms */
    ROW("h\2g" A "numbseri_" B, "AB"),
    ROW("h\2Y" A "numbcrea" B, "AB"),
    ROW("h\2f" A "numb_" B, "AB"),
    ROW("h\2x" A "numbnumbcrea" B, "AB"),
    ROW("h\2Z\0\3" A "creaword1234wxyz" B, "AB"),
    ROW("h\2r\0\2" A "_word1234" B, "AB"),
    ROW("h\2q" A B "a\1" C, "ABC"),
    ROW("h\2p\0\0\0\77\1md5_md5_md5_md5_indx\0\0\0\2" A "a\1b\0\0\0\1X" B "numbseri_xyz" C B "w\1A",
        "FABCBA"),
    ROW("h\2h\1l\0\0\0\1" A "j" B, "AB"),
};

#define COUNT (sizeof ROWS / sizeof *ROWS)

static char letter(enum sn_scan_event event, const uint8_t *end)
{
    return event == SN_SCAN_FUN ? 'F' : event == SN_SCAN_CACHED ? 'C' : (char)end[-1];
}

/* What is found before the end or the trouble, in memory of exactly that size. */
static enum sn_scan_event scan_all(const void *data, size_t len, char found[16], size_t *used)
{
    uint8_t *bytes = malloc(len ? len : 1);
    struct sn_scan scan;
    enum sn_scan_event event;
    const uint8_t *at;
    size_t count = 0;

    memcpy(bytes, data, len);
    scan = sn_scan_begin(bytes, len);
    for (;;) {
        event = sn_scan_next(&scan, &at);
        if (event == SN_SCAN_DONE || event == SN_SCAN_LOST)
            break;
        cr_assert(at >= bytes && scan.at <= bytes + len && count < 15);
        if (event == SN_SCAN_FUN)
            cr_assert_eq(at[-1], 'p');
        if (event == SN_SCAN_CACHED)
            cr_assert(at[0] == 'R' && at + 2 == scan.at);
        found[count++] = letter(event, scan.at);
    }
    found[count] = '\0';
    *used = (size_t)(scan.at - bytes);
    cr_assert_eq(sn_scan_next(&scan, &at), event, "it stays so");
    free(bytes);
    return event;
}

Test(sn_scan, every_kind_of_term)
{
    for (size_t i = 0; i < COUNT; i++) {
        char found[16], before_more[16], *more = malloc(ROWS[i].len + 3);
        size_t used;

        cr_assert_eq(scan_all(ROWS[i].bytes, ROWS[i].len, found, &used), SN_SCAN_DONE, "row %zu",
                     i);
        cr_assert_str_eq(found, ROWS[i].found, "row %zu", i);
        cr_assert_eq(used, ROWS[i].len, "row %zu", i);
        memcpy(more, ROWS[i].bytes, ROWS[i].len);
        memcpy(more + ROWS[i].len, A, 3);
        cr_assert_eq(scan_all(more, ROWS[i].len + 3, before_more, &used), SN_SCAN_DONE);
        cr_assert_str_eq(before_more, found, "row %zu: what follows is not of the term", i);
        cr_assert_eq(used, ROWS[i].len, "row %zu", i);
        free(more);
    }
}

/* Where the validator passes it, both must see the same end. */
Test(sn_scan, agrees_with_the_validator)
{
    unsigned passed = 0;

    for (size_t i = 0; i < COUNT; i++) {
        const uint8_t *term = (const uint8_t *)ROWS[i].bytes;
        size_t used;

        if (strchr(ROWS[i].found, 'C')) {
            cr_assert_neq(sn_term_check(term, ROWS[i].len, &used), SN_TERM_OK);
        } else {
            cr_assert_eq(sn_term_check(term, ROWS[i].len, &used), SN_TERM_OK, "row %zu", i);
            cr_assert_eq(used, ROWS[i].len, "row %zu", i);
            passed++;
        }
    }
    cr_assert_gt(passed, 20);
}

Test(sn_scan, cut_anywhere_it_is_lost)
{
    for (size_t i = 0; i < COUNT; i++)
        for (size_t len = 0; len < ROWS[i].len; len++) {
            char found[16];
            size_t used;

            cr_assert_eq(scan_all(ROWS[i].bytes, len, found, &used), SN_SCAN_LOST,
                         "row %zu, %zu bytes", i, len);
            cr_assert_eq(strncmp(found, ROWS[i].found, strlen(found)), 0);
        }
}

Test(sn_scan, what_is_not_known_is_lost)
{
    static const struct row lost[] = {
        ROW("\x83" A, ""),         ROW("c" NUMBERS, ""),
        ROW("h\2" A "\0" B, "A"),  ROW("Xa\1" NUMBERS, ""), /* a pid of something that is no atom */
        ROW("Xh\1" A NUMBERS, ""),
    };

    for (size_t i = 0; i < sizeof lost / sizeof *lost; i++) {
        char found[16];
        size_t used;

        cr_assert_eq(scan_all(lost[i].bytes, lost[i].len, found, &used), SN_SCAN_LOST, "row %zu",
                     i);
        cr_assert_str_eq(found, lost[i].found, "row %zu", i);
    }
}
