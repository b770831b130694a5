/* sn_term: every tag whole and at every cut, every limit at its edge, and what is refused. */
#include "node/etf/sn_term.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define NODE "w\3a@b"
#define PID "X" NODE "\0\0\0\1\0\0\0\2\0\0\0\3"
#define ZEROS_8 "\0\0\0\0\0\0\0\0"
#define FUN_HEAD(len) "p\0\0\0" len "\1" ZEROS_8 ZEROS_8 "\0\0\0\7"
#define TERM(text)                                                                                 \
    {                                                                                              \
        (const uint8_t *)text, sizeof text - 1                                                     \
    }

struct bytes {
    const uint8_t *data;
    size_t len;
};

static size_t used;

/* From memory of exactly this size, so that AddressSanitizer sees a look past the end. */
static enum sn_term_result check(const void *data, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    enum sn_term_result result;

    memcpy(copy, data, len);
    result = sn_term_check(copy, len, &used);
    free(copy);
    return result;
}

static const struct bytes WHOLE[] = {
    TERM("a\5"),
    TERM("b\xff\xff\xff\xff"),
    TERM("n\2\0\1\2"),
    TERM("n\0\1"),
    TERM("o\0\0\0\3\1\1\2\3"),
    TERM("F\x3f\xf0\0\0\0\0\0\0"),
    TERM("d\0\2ok"),
    TERM("d\0\0"),
    TERM("s\2\xe9\xff"),
    TERM("v\0\4\xc3\xa9ok"),
    TERM("w\4\xf0\x9f\x98\x80"),
    TERM("w\4\xf4\x8f\xbf\xbf"),                      /* the last character */
    TERM("w\x9\xc2\x80\xe0\xa0\x80\xf0\x90\x80\x80"), /* the first of each length */
    TERM("g" NODE "\0\0\0\1\0\0\0\2\1"),
    TERM(PID),
    TERM("f" NODE "\0\0\0\1\1"),
    TERM("Y" NODE "\0\0\0\1\0\0\0\2"),
    TERM("x" NODE "\0\0\0\0\0\0\0\1\0\0\0\2"),
    TERM("r\0\1" NODE "\1\0\0\0\1"),
    TERM("Z\0\5" NODE "\0\0\0\1" ZEROS_8 ZEROS_8 "\0\0\0\1"),
    TERM("h\0"),
    TERM("h\2a\1a\2"),
    TERM("i\0\0\0\2a\1w\1b"),
    TERM("j"),
    TERM("k\0\3abc"),
    TERM("k\0\0"),
    TERM("l\0\0\0\2a\1a\2j"),
    TERM("l\0\0\0\1a\1a\2"),
    TERM("l\0\0\0\0j"),
    TERM("m\0\0\0\3abc"),
    TERM("M\0\0\0\1\4\xf0"),
    TERM("M\0\0\0\0\0"),
    TERM("t\0\0\0\0"),
    TERM("t\0\0\0\2a\1a\2w\1kh\1j"),
    TERM("q" NODE "w\1fa\2"),
    TERM(FUN_HEAD("\x3b") "\0\0\0\1w\1ma\1b\0\0\0\1" PID "a\1"),
    TERM(FUN_HEAD("\x39") "\0\0\0\0w\1ma\1b\0\0\0\1" PID),
    TERM(FUN_HEAD("\x36") "\0\0\0\0w\1mb\0\0\0\1a\1g" NODE ZEROS_8 "\0"),
    TERM("h\3h\1h\0l\0\0\0\1h\0jt\0\0\0\1jh\1j"),
};

#define WHOLE_COUNT (sizeof WHOLE / sizeof WHOLE[0])

Test(sn_term, whole_terms_and_their_every_cut)
{
    for (size_t i = 0; i < WHOLE_COUNT; i++) {
        struct bytes term = WHOLE[i];
        uint8_t more[256];

        cr_assert_eq(check(term.data, term.len), SN_TERM_OK, "term %zu", i);
        cr_assert_eq(used, term.len, "term %zu: used %zu", i, used);
        for (size_t cut = 0; cut < term.len; cut++)
            cr_assert_eq(check(term.data, cut), SN_TERM_CUT, "term %zu cut at %zu", i, cut);
        memset(more, 'x', sizeof more);
        memcpy(more, term.data, term.len);
        cr_assert_eq(check(more, sizeof more), SN_TERM_OK, "term %zu and more", i);
        cr_assert_eq(used, term.len);
    }
}

/* The check goes on behind each of them. */
Test(sn_term, whole_terms_with_others_behind_them)
{
    uint8_t tuple[256] = "h\2";

    for (size_t i = 0; i < WHOLE_COUNT; i++) {
        size_t len = 2 + WHOLE[i].len;

        memcpy(tuple + 2, WHOLE[i].data, WHOLE[i].len);
        tuple[len] = 'j';
        cr_assert_eq(check(tuple, len + 1), SN_TERM_OK, "term %zu", i);
        cr_assert_eq(used, len + 1, "term %zu: used %zu", i, used);
        cr_assert_eq(check(tuple, len), SN_TERM_CUT, "term %zu", i);
        tuple[len] = 0x83;
        cr_assert_eq(check(tuple, len + 1), SN_TERM_BAD, "term %zu", i);
        for (size_t cut = 2; cut < len; cut++)
            cr_assert_eq(check(tuple, cut), SN_TERM_CUT, "term %zu cut at %zu", i, cut);
    }
}

static const struct bytes BAD[] = {
    TERM("\x83"),                                  /* a version byte within */
    TERM("P\0\0\0\1x"),                            /* compressed */
    TERM("R\0"),                                   /* atom cache */
    TERM("D\0"),                                   /* distribution header */
    TERM("y" ZEROS_8 "a\1"),                       /* local */
    TERM("e" NODE "\0\0\0\1\1"),                   /* reference of old */
    TERM("u\0\0\0\0"),                             /* fun of old */
    TERM("c1.00000000000000000000e+00\0\0\0\0\0"), /* float as text */
    TERM("d\1\0"),                                 /* 256 characters */
    TERM("w\1\x80"),                               /* continuation alone */
    TERM("w\2\xc0\x80"),                           /* overlong */
    TERM("w\3\xe0\x9f\xbf"),                       /* overlong */
    TERM("w\3\xed\xa0\x80"),                       /* surrogate */
    TERM("w\4\xf4\x90\x80\x80"),                   /* above U+10FFFF */
    TERM("w\1\xe2"),                               /* cut character */
    TERM("w\2\xc3("),                              /* no continuation */
    TERM("v\4\0"),                                 /* above 4 * 255 bytes */
    TERM("Z\0\0" NODE "\0\0\0\1"),                 /* no words */
    TERM("Z\0\6" NODE),                            /* too many words */
    TERM("M\0\0\0\1\11a"),                         /* 9 bits */
    TERM("M\0\0\0\1\0a"),                          /* 0 bits of a byte */
    TERM("M\0\0\0\0\1"),                           /* bits of nothing */
    TERM("Xa\1"),                                  /* a node that is no atom */
    TERM("qa\1"),                                  /* a module that is no atom */
    TERM("q" NODE "w\1fb\0\0\0\2"),                /* an arity that is no byte */
    TERM(FUN_HEAD("\x3a") "\0\0\0\1w\1ma\1b\0\0\0\1" PID "a\1" /* a length one short */),
    TERM(FUN_HEAD("\x3c") "\0\0\0\1w\1ma\1b\0\0\0\1" PID "a\1\0" /* one too long */),
    TERM(FUN_HEAD("\x20") "\0\0\0\0w\1mw\1x"),
    TERM(FUN_HEAD("\x20") "\0\0\0\0w\1ma\1a\1a\1"),
};

Test(sn_term, what_is_refused)
{
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++)
        cr_assert_eq(check(BAD[i].data, BAD[i].len), SN_TERM_BAD, "term %zu", i);
}

/* All that there are begin one of the whole terms. */
Test(sn_term, other_tags_are_refused)
{
    uint8_t term[64] = {0};
    unsigned others = 0;

    for (unsigned tag = 0; tag <= UINT8_MAX; tag++) {
        bool is_known = false;

        for (size_t i = 0; i < WHOLE_COUNT; i++)
            is_known |= WHOLE[i].data[0] == tag;
        if (is_known)
            continue;
        others++;
        term[0] = (uint8_t)tag;
        cr_assert_eq(check(term, sizeof term), SN_TERM_BAD, "tag %u", tag);
    }
    cr_assert_eq(others, 256 - 26);
}

/* What is wrong first is what is told: nothing behind it is looked at. */
Test(sn_term, what_is_refused_with_others_behind_it)
{
    uint8_t tuple[256] = "h\2";

    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        memcpy(tuple + 2, BAD[i].data, BAD[i].len);
        tuple[2 + BAD[i].len] = 'b'; /* an integer that is cut off */
        cr_assert_eq(check(tuple, 3 + BAD[i].len), SN_TERM_BAD, "term %zu", i);
    }
}

Test(sn_term, an_atom_has_255_characters_at_most)
{
    uint8_t term[3 + 4 * 256] = {'v'};
    size_t len;

    for (size_t chars = 255; chars <= 256; chars++) {
        len = 2 * chars;
        term[1] = (uint8_t)(len >> 8);
        term[2] = (uint8_t)len;
        for (size_t i = 0; i < chars; i++)
            memcpy(term + 3 + 2 * i, "\xc3\xa9", 2);
        cr_assert_eq(check(term, 3 + len), chars == 255 ? SN_TERM_OK : SN_TERM_BAD);
    }
}

/* [[...[]...]] by tuples of one, and by tails. */
static size_t nested(uint8_t *term, unsigned depth, bool by_tail)
{
    size_t len = 0;

    for (unsigned i = 0; i < depth; i++) {
        if (by_tail) {
            memcpy(term + len, "l\0\0\0\1a\1", 7);
            len += 7;
        } else {
            memcpy(term + len, "h\1", 2);
            len += 2;
        }
    }
    term[len++] = 'j';
    return len;
}

Test(sn_term, depth_does_not_matter)
{
    enum { DEEP = 1000000 };
    uint8_t *term = malloc(7 * DEEP + 1);

    for (int by_tail = 0; by_tail < 2; by_tail++) {
        size_t len = nested(term, DEEP, by_tail);

        cr_assert_eq(check(term, len), SN_TERM_OK);
        cr_assert_eq(used, len);
        cr_assert_eq(check(term, len - 1), SN_TERM_CUT);
    }
    free(term);
}

/* The variables of a fun end where it says. */
Test(sn_term, funs_within_funs)
{
    enum { LEN = 58, MOST = SN_TERM_FUNS_MAX + 1 };
    static uint8_t term[LEN * MOST + 2];

    for (unsigned depth = 1; depth <= MOST; depth++) {
        uint8_t *at = term;

        for (unsigned i = 0; i < depth; i++, at += LEN) {
            unsigned len = LEN * (depth - i);

            memcpy(at, FUN_HEAD("\0") "\0\0\0\1w\1ma\1b\0\0\0\1" PID, LEN);
            at[1] = (uint8_t)(len >> 24);
            at[2] = (uint8_t)(len >> 16);
            at[3] = (uint8_t)(len >> 8);
            at[4] = (uint8_t)len;
        }
        *at = 'j';
        cr_assert_eq(check(term, LEN * depth + 1), depth < MOST ? SN_TERM_OK : SN_TERM_DEEP,
                     "depth %u", depth);
        term[4]++;
        cr_assert_eq(check(term, LEN * depth + 2), depth < MOST ? SN_TERM_BAD : SN_TERM_DEEP);
    }
}

/* One term at a time, and up to any term, comes to the same. */
Test(sn_term, stops_after_any_term)
{
    for (size_t i = 0; i < WHOLE_COUNT; i++) {
        struct sn_term_check whole, pieces;
        size_t all = SIZE_MAX;

        sn_term_begin(&whole, WHOLE[i].data, WHOLE[i].len);
        cr_assert_eq(sn_term_go_on(&whole, 0, &all), SN_TERM_OK);
        cr_assert_eq(whole.terms, SIZE_MAX - all);
        sn_term_begin(&pieces, WHOLE[i].data, WHOLE[i].len);
        for (uint64_t n = 1; n < whole.terms; n++) {
            size_t one = 1;

            cr_assert_eq(sn_term_go_on(&pieces, 0, &one), SN_TERM_AGAIN, "term %zu", i);
            cr_assert_eq(one, 0);
            cr_assert_eq(pieces.terms, n);
        }
        all = 1;
        cr_assert_eq(sn_term_go_on(&pieces, 0, &all), SN_TERM_OK, "term %zu", i);
        cr_assert_eq(pieces.at, whole.at);
    }
}

Test(sn_term, stops_where_so_many_are_missing)
{
    const uint8_t *term = (const uint8_t *)"h\3h\1jh\0j";
    struct sn_term_check check;
    size_t pieces = 100;

    sn_term_begin(&check, term, 8);
    cr_assert_eq(sn_term_go_on(&check, 1, &pieces), SN_TERM_OK);
    cr_assert_eq(check.at, term, "it is missing itself");
    cr_assert_eq(sn_term_step(&check), SN_TERM_OK);
    for (uint64_t left = 2; left + 1 > 0; left--) {
        static const size_t ends[] = {8, 7, 5};

        cr_assert_eq(sn_term_go_on(&check, left, &pieces), SN_TERM_OK);
        cr_assert_eq((size_t)(check.at - term), ends[left]);
    }
    cr_assert_eq(pieces, 96);
}

Test(sn_term, huge_claims_are_refused_at_once)
{
    cr_assert_eq(check("l\xff\xff\xff\xff", 5), SN_TERM_CUT);
    cr_assert_eq(check("i\xff\xff\xff\xff", 5), SN_TERM_CUT);
    cr_assert_eq(check("t\xff\xff\xff\xff", 5), SN_TERM_CUT);
    cr_assert_eq(used, 5);
    cr_assert_eq(check("m\xff\xff\xff\xff", 5), SN_TERM_CUT);
    cr_assert_eq(check("o\xff\xff\xff\xff\0", 6), SN_TERM_CUT);
    cr_assert_eq(check("h\2l\0\0\0\3jjjj", 11), SN_TERM_CUT, "what is behind it counts as well");
    cr_assert_eq(used, 7);
}

Test(sn_term, each_result_has_its_words)
{
    for (int a = SN_TERM_OK; a <= SN_TERM_AGAIN; a++)
        for (int b = SN_TERM_OK; b < a; b++)
            cr_assert_str_neq(sn_term_result_text(a), sn_term_result_text(b));
}
