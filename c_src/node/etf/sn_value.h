/* What parts of a checked term mean: numbers, atoms, texts, lists, maps. Nothing is copied but texts,
 * which terms have in several encodings. Pure; the time is linear in the term's bytes. */
#ifndef SN_VALUE_H
#define SN_VALUE_H

#include "sn_slice.h"

/* An integer in any encoding; false also where it does not fit. */
bool sn_value_integer(struct sn_slice term, int64_t *number);

/* The text of an atom in UTF-8, with a 0 after it. An atom may have zeros in it, too. */
#define SN_ATOM_BYTES_MAX 1020
bool sn_value_atom(struct sn_slice term, char text[SN_ATOM_BYTES_MAX + 1], size_t *len);

bool sn_value_binary(struct sn_slice term, struct sn_slice *bytes);

/* A binary as it is, or a list of characters in UTF-8. *len is how long it is; the first `room` bytes of
 * it are written. False where it is neither. */
bool sn_value_text(struct sn_slice term, char *buf, size_t room, size_t *len);

/* The elements of a list, one after the other. */
struct sn_items {
    struct sn_slice rest;
    uint32_t left;
    bool is_string;
    bool is_proper;  /* once sn_items_next() has said false: nothing is wrong with its end */
    uint8_t byte[2]; /* the last element of a string, as a term */
};

/* False where it is no list. `items` must not be moved while its elements are looked at. */
bool sn_items_begin(struct sn_slice list, struct sn_items *items);
bool sn_items_next(struct sn_items *items, struct sn_slice *item);

/* The pairs of a map. */
struct sn_pairs {
    struct sn_slice rest;
    uint32_t left;
};

bool sn_pairs_begin(struct sn_slice map, struct sn_pairs *pairs);
bool sn_pairs_next(struct sn_pairs *pairs, struct sn_slice *key, struct sn_slice *value);

#endif
