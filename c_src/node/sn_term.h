/* Checks a term in external format before libei may see it: libei's decoders know no end of their
 * input and recurse or loop as the term tells them to. What passes here is whole, of bounded depth
 * and size, and holds only what libei decodes. Three tags that it knows are refused, because nodes
 * that may connect never send them: floats as text (99), and references (101) and funs (117) of old.
 *
 * Pure and iterative: the time is linear in the bytes, the memory a fixed array. */
#ifndef SN_TERM_H
#define SN_TERM_H

#include <stddef.h>
#include <stdint.h>

/* The most that sn_term_limits.depth may be. */
#define SN_TERM_DEPTH_MAX 256

struct sn_term_limits {
    size_t bytes;   /* of the whole term */
    unsigned depth; /* containers within each other: [] is 0, [1] is 1, [[1]] is 2; the tail of a
                       list counts as within it */
    size_t terms;   /* all terms and subterms together */
};

enum sn_term_result {
    SN_TERM_OK,
    SN_TERM_CUT,  /* goes on after the end of the input */
    SN_TERM_BAD,  /* a tag that is not decoded here, or contents that no encoder makes */
    SN_TERM_LONG, /* exceeds limits.bytes */
    SN_TERM_DEEP, /* exceeds limits.depth */
    SN_TERM_MANY  /* exceeds limits.terms */
};

/* Checks the one term at the start of buf[0..len), without a version byte before it. On SN_TERM_OK
 * *used is its length; otherwise *used is where the trouble is. Bytes after it are not looked at. */
enum sn_term_result sn_term_check(const uint8_t *buf, size_t len,
                                  const struct sn_term_limits *limits, size_t *used);

/* The same for a term with the version byte 131 before it, which *used counts. */
enum sn_term_result sn_term_check_versioned(const uint8_t *buf, size_t len,
                                            const struct sn_term_limits *limits, size_t *used);

/* Words for a log: "nested too deep". */
const char *sn_term_result_text(enum sn_term_result result);

#endif
