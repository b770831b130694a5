/* Terms for tests, from what one writes in Erlang. */
#ifndef TERM_KIT_H
#define TERM_KIT_H

#include "node/etf/sn_slice.h"

/* The term of "#{host => \"a\", port => 80, validate => {'after', 5}}" in memory of exactly its size,
 * which stays until the test ends. There are integers, atoms, strings, <<"binaries">>, tuples, lists, maps, and
 * `fun', which is fun m:f/0. Fails the test where the text is something else. */
struct sn_slice term_of(const char *text);
/* Of those bytes, likewise copied. */
struct sn_slice term_of_bytes(const void *bytes, size_t len);

#endif
