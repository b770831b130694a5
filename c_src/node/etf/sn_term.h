/* Checks a term in external format before anybody looks at its parts, where they lie: what passes here is
 * whole, and holds only what an encoder makes. Three tags that libei knows are refused, because nodes that
 * may connect never send them: floats as text (99), and references (101) and funs (117) of old.
 *
 * Flat: a container is so many terms more that have to come, so depth does not matter, and the check may
 * stop after any term and go on later. Only of funs is it told where they end, so those within others are
 * on a stack. Pure; the time is linear in the terms, the memory a fixed array. */
#ifndef SN_TERM_H
#define SN_TERM_H

#include <stddef.h>
#include <stdint.h>

/* Funs among the variables of funs. */
#define SN_TERM_FUNS_MAX 256

enum sn_term_result {
    SN_TERM_OK,
    SN_TERM_CUT,  /* goes on after the end of the input */
    SN_TERM_BAD,  /* a tag that is not decoded here, or contents that no encoder makes */
    SN_TERM_LONG, /* for the reader of frames: longer than what is kept of them */
    SN_TERM_DEEP, /* exceeds SN_TERM_FUNS_MAX */
    SN_TERM_AGAIN /* nothing is wrong so far: go on later */
};

struct sn_term_check {
    const uint8_t *at, *end;
    uint64_t missing; /* terms that have to come */
    uint64_t terms;   /* that came */
    enum sn_term_result result;
    unsigned fun_count;
    struct {
        uint64_t missing;   /* once it is over */
        const uint8_t *end; /* where that must be */
    } funs[SN_TERM_FUNS_MAX];
};

/* Begins with the one term at the start of buf[0..len), without a version byte before it. Bytes after it
 * are not looked at. */
void sn_term_begin(struct sn_term_check *check, const uint8_t *buf, size_t len);

/* Takes one term, or the head of a container. SN_TERM_OK, or what is wrong, near check->at. */
enum sn_term_result sn_term_step(struct sn_term_check *check);

/* Goes on until no more than `left` terms are missing: SN_TERM_OK. Each term takes one off *pieces;
 * SN_TERM_AGAIN where they are used up. */
enum sn_term_result sn_term_go_on(struct sn_term_check *check, uint64_t left, size_t *pieces);

/* All of it in one call. On SN_TERM_OK *used is the term's length; otherwise *used is where the trouble
 * is. */
enum sn_term_result sn_term_check(const uint8_t *buf, size_t len, size_t *used);

/* Words for a log: "nested too deep". */
const char *sn_term_result_text(enum sn_term_result result);

#endif
