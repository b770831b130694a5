/* One option: a row of a table, and how a map of options is checked against such a table. The rows are made of
 * src/option/sockpool_option_table.erl by ../../option_rows.escript, so that a caller sees the same whatever serves. */
#ifndef SN_OPTION_H
#define SN_OPTION_H

#include "core/base/sp_status.h"
#include "node/base/sn_memory.h"
#include "node/etf/sn_slice.h"
#include "node/etf/sn_tag.h"

#define SN_OPTION_WORDS_MAX 4
#define SN_OPTION_ROWS_MAX 64

enum sn_verdict { SN_RIGHT, SN_WRONG, SN_NO_MEMORY };

/* What a check makes of a value. Each kind of value has its own use of this. */
struct sn_parsed {
    uint64_t number, other;
    bool also;  /* it is the one atom more */
    void *data; /* in the memory that the check was given, or NULL */
    size_t len;
};

/* How a value is written where there are no terms, in a configuration file. */
enum sn_written {
    SN_WRITTEN_PLAIN,   /* numbers and true and false as they are, strings are atoms */
    SN_WRITTEN_TEXT,    /* strings are binaries */
    SN_WRITTEN_ADDRESS, /* a string is an IP address */
    SN_WRITTEN_TUPLE,   /* a list of two is a tuple */
    SN_WRITTEN_AFTER,   /* {"after": Ms} is a tuple */
    SN_WRITTEN_FRAMING, /* {"fixed": N} and the like are tuples */
    SN_WRITTEN_OBJECT,  /* true and false as they are, or an object of numbers */
    SN_WRITTEN_TLS,     /* options in an object of their own */
    SN_WRITTEN_NOT
};

/* A static atom as a term. */
struct sn_atom {
    uint8_t tag, len;
    char text[22];
};
#define SN_ATOM(text)                                                                              \
    {                                                                                              \
        SN_TAG_SMALL_ATOM_UTF8, sizeof(text) - 1, text                                             \
    }
struct sn_slice sn_atom_slice(const struct sn_atom *atom);

struct sn_option {
    struct sn_atom key;
    struct {
        uint8_t len;
        uint8_t term[31];
    } def; /* what it is where it is not given */
    enum sn_verdict (*check)(const struct sn_option *option, struct sn_slice value,
                             struct sn_memory *memory, struct sn_parsed *parsed);
    int64_t min, max;
    uint64_t scale;                         /* of a number; 0 is 1 */
    const char *words[SN_OPTION_WORDS_MAX]; /* `number` is the index of the given one */
    /* One atom more: `infinity', whose number is UINT64_MAX, or `undefined', which is 0. */
    const char *also;
    enum sn_written written;
    unsigned required, refused; /* with which transports: bits of 1 << SN_TCP and so on */
    bool restart;               /* cannot change while the pool runs */
    const char *allowed;        /* in words */
};

#define SN_SHOWN_MAX 300

/* What is wrong: the option's key, its value. Both lie in what was given, are static, or lie in `shown`. */
struct sn_bad_option {
    bool is_tls; /* an option of the map `tls': the key of the error is {tls, Key} */
    struct sn_slice key, value;
    uint8_t shown[SN_SHOWN_MAX]; /* a term that was made of the value */
};

struct sn_slice sn_option_key(const struct sn_option *option);
struct sn_slice sn_option_default(const struct sn_option *option);

/* What was given for each row; .data is NULL where nothing was. */
struct sn_given {
    struct sn_slice values[SN_OPTION_ROWS_MAX];
};

/* Puts one pair where it belongs. False: no row has such a key. A second value of a key is dropped. */
bool sn_option_take(const struct sn_option *rows, size_t count, struct sn_given *given,
                    struct sn_slice key, struct sn_slice value);
/* Instead of a value in which a password may be, such as that of an unknown option. */
extern const struct sn_atom sn_not_shown, sn_not_a_fun;

/* Has `take' have all pairs of the map, or of the list of pairs, in their order. False where it says so, or it is neither. */
SP_MUST_CHECK bool
sn_option_each(struct sn_slice pairs,
               bool (*take)(void *arg, struct sn_slice key, struct sn_slice value), void *arg);

/* All pairs of the map. False, and key and value of bad: one is unknown. */
bool sn_option_take_map(const struct sn_option *rows, size_t count, struct sn_given *given,
                        struct sn_slice map, struct sn_bad_option *bad);
/* Checks all rows, the defaults where nothing was given. SN_WRONG: bad says which is the first. */
enum sn_verdict sn_option_check(const struct sn_option *rows, size_t count,
                                const struct sn_given *given, struct sn_memory *memory,
                                struct sn_parsed *parsed, struct sn_bad_option *bad);

/* Those rows only for which something was given. */
enum sn_verdict sn_option_check_given(const struct sn_option *rows, size_t count,
                                      const struct sn_given *given, struct sn_memory *memory,
                                      struct sn_parsed *parsed, struct sn_bad_option *bad);

/* The check of a kind of values, under its name in the table. */
#define SN_CHECK(kind)                                                                             \
    SP_MUST_CHECK enum sn_verdict sn_check_##kind(const struct sn_option *option,                  \
                                                  struct sn_slice value, struct sn_memory *memory, \
                                                  struct sn_parsed *parsed)

SN_CHECK(number);
SN_CHECK(word);
/* A text of min to max bytes, without zeros; `data` is it with a 0 after it, `len` is without that. */
SN_CHECK(text);
/* Nothing but what `also` says. */
SN_CHECK(nothing);

#endif
