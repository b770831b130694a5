/* The external term format as one table: what follows each tag. Those who check terms, go over them, or take
 * them apart have it from here. */
#ifndef SN_TAG_H
#define SN_TAG_H

#include "core/base/sp_bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Behind a tag are `before` bytes, a count of `width` bytes, and then: `behind` bytes and `bytes` more for each
 * that is counted; `more` terms and `terms` more for each that is counted.
 *
 * A pid, a port and a reference have an atom before those bytes. A fun has a size, an arity, an MD5 and an
 * index before its count, and a module, two numbers and a pid before the terms that it counts. */
/* clang-format off */
#define SN_TAGS(row)                                                                              \
    /*  name             tag  kind       before width behind bytes more terms */                  \
    row(NEW_FLOAT,       70,  FLOAT,     0,     0,    8,     0,    0,   0)                        \
    row(BIT_BINARY,      77,  BITS,      0,     4,    1,     1,    0,   0)                        \
    row(CACHED_ATOM,     82,  CACHED,    0,     0,    1,     0,    0,   0)                        \
    row(NEW_PID,         88,  PID,       0,     0,    12,    0,    0,   0)                        \
    row(NEW_PORT,        89,  PORT,      0,     0,    8,     0,    0,   0)                        \
    row(NEWER_REFERENCE, 90,  REFERENCE, 0,     2,    4,     4,    0,   0)                        \
    row(SMALL_INTEGER,   97,  BYTE,      0,     0,    1,     0,    0,   0)                        \
    row(INTEGER,         98,  INTEGER,   0,     0,    4,     0,    0,   0)                        \
    row(ATOM,            100, ATOM,      0,     2,    0,     1,    0,   0)                        \
    row(PORT,            102, PORT,      0,     0,    5,     0,    0,   0)                        \
    row(PID,             103, PID,       0,     0,    9,     0,    0,   0)                        \
    row(SMALL_TUPLE,     104, TUPLE,     0,     1,    0,     0,    0,   1)                        \
    row(LARGE_TUPLE,     105, TUPLE,     0,     4,    0,     0,    0,   1)                        \
    row(NIL,             106, LIST,      0,     0,    0,     0,    0,   0)                        \
    row(STRING,          107, LIST,      0,     2,    0,     1,    0,   0)                        \
    row(LIST,            108, LIST,      0,     4,    0,     0,    1,   1)                        \
    row(BINARY,          109, BINARY,    0,     4,    0,     1,    0,   0)                        \
    row(SMALL_BIG,       110, BIG,       0,     1,    1,     1,    0,   0)                        \
    row(LARGE_BIG,       111, BIG,       0,     4,    1,     1,    0,   0)                        \
    row(NEW_FUN,         112, FUN,       25,    4,    0,     0,    4,   1)                        \
    row(EXPORT,          113, EXPORT,    0,     0,    0,     0,    3,   0)                        \
    row(NEW_REFERENCE,   114, REFERENCE, 0,     2,    1,     4,    0,   0)                        \
    row(SMALL_ATOM,      115, ATOM,      0,     1,    0,     1,    0,   0)                        \
    row(MAP,             116, MAP,       0,     4,    0,     0,    0,   2)                        \
    row(ATOM_UTF8,       118, ATOM,      0,     2,    0,     1,    0,   0)                        \
    row(SMALL_ATOM_UTF8, 119, ATOM,      0,     1,    0,     1,    0,   0)                        \
    row(V4_PORT,         120, PORT,      0,     0,    12,    0,    0,   0)
/* clang-format on */

enum sn_tag {
#define SN_ROW(name, tag, ...) SN_TAG_##name = tag,
    SN_TAGS(SN_ROW)
#undef SN_ROW
};

enum sn_kind {
    SN_KIND_NONE, /* a tag that no node sends */
    SN_KIND_BYTE,
    SN_KIND_INTEGER,
    SN_KIND_BIG,
    SN_KIND_FLOAT,
    SN_KIND_ATOM,
    SN_KIND_CACHED, /* an atom, as its number in the frame's header */
    SN_KIND_PID,
    SN_KIND_PORT,
    SN_KIND_REFERENCE,
    SN_KIND_TUPLE,
    SN_KIND_LIST,
    SN_KIND_BINARY,
    SN_KIND_BITS,
    SN_KIND_MAP,
    SN_KIND_FUN,
    SN_KIND_EXPORT
};

static inline enum sn_kind sn_kind_of(uint8_t tag)
{
    switch (tag) {
#define SN_ROW(name, tag, what, ...)                                                               \
    case tag:                                                                                      \
        return SN_KIND_##what;
        SN_TAGS(SN_ROW)
#undef SN_ROW
    default:
        return SN_KIND_NONE;
    }
}

/* A tag and its count. */
struct sn_head {
    enum sn_kind kind;
    const uint8_t *end;
    uint64_t count, bytes, terms; /* what is counted, and what is behind `end`, by the table */
};

/* Of what may be a term. False where that is cut off: then there is a kind at most.
 *
 * A branch for each row, in the caller's own code, and no look into an array: where the next term begins is then
 * known before anything is read. Checks would be slower by a third otherwise. */
static inline __attribute__((always_inline)) bool sn_head_at(const uint8_t *at, size_t len,
                                                             struct sn_head *head)
{
    if (len == 0)
        return false;
    switch (*at) {
#define SN_ROW(name, tag, what, before, width, behind, each_bytes, more, each_terms)               \
    case tag:                                                                                      \
        head->kind = SN_KIND_##what;                                                               \
        if (len < 1 + before + width)                                                              \
            return false;                                                                          \
        head->count = sp_get(at + 1 + before, width);                                              \
        head->end = at + 1 + before + width;                                                       \
        head->bytes = behind + head->count * each_bytes;                                           \
        head->terms = more + head->count * each_terms;                                             \
        return true;
        SN_TAGS(SN_ROW)
#undef SN_ROW
    default:
        *head = (struct sn_head){.kind = SN_KIND_NONE, .end = at + 1};
        return true;
    }
}

/* Of a term that was checked. */
static inline struct sn_head sn_head_of(const uint8_t *term)
{
    struct sn_head head = {.kind = SN_KIND_NONE};

    (void)sn_head_at(term, SIZE_MAX, &head);
    return head;
}

static inline bool sn_is_integer(uint8_t tag)
{
    return sn_kind_of(tag) == SN_KIND_BYTE || sn_kind_of(tag) == SN_KIND_INTEGER ||
           sn_kind_of(tag) == SN_KIND_BIG;
}

static inline bool sn_is_latin1(uint8_t atom_tag)
{
    return atom_tag == SN_TAG_ATOM || atom_tag == SN_TAG_SMALL_ATOM;
}

#endif
