/* One option: a row of a table, and how a map of options is checked against such a table. The tables
 * are those of sockpool_opts.erl and sockpool_tls.erl, in C: the same keys, defaults, bounds and words,
 * so that a caller sees the same whatever serves. test/daemon/sockpool_node_options_tests.erl compares them. */
#ifndef SN_OPTION_H
#define SN_OPTION_H

#include "node/base/sn_memory.h"
#include "node/etf/sn_slice.h"

#define SN_OPTION_WORDS_MAX 4
#define SN_OPTION_ROWS_MAX 32

enum sn_verdict { SN_RIGHT, SN_WRONG, SN_NO_MEMORY };

/* What a check makes of a value. Each kind of value has its own use of this. */
struct sn_parsed {
    uint64_t number, other;
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
    SN_WRITTEN_TLS,     /* options in an object of their own */
    SN_WRITTEN_NOT
};

struct sn_option {
    /* As terms: a small atom, and the default. */
    struct {
        uint8_t tag, len;
        char text[18];
    } key;
    struct {
        uint8_t len;
        uint8_t term[31];
    } def;

    enum sn_verdict (*check)(const struct sn_option *option, struct sn_slice value,
                             struct sn_memory *memory, struct sn_parsed *parsed);
    int64_t min, max;
    uint64_t scale;                         /* of a number; 0 is 1 */
    const char *words[SN_OPTION_WORDS_MAX]; /* `number` is the index of the given one */
    /* One atom more: `infinity', whose number is UINT64_MAX, or `undefined', which is 0. */
    const char *also;
    bool also_unsaid; /* it goes without saying */
    enum sn_written written;

    /* For users: what is allowed, where that does not follow from the above; a unit; a remark. */
    const char *what, *unit, *note;
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
/* "an integer from 1 to 65535, or undefined (a remark)"; cut where it does not fit. */
void sn_option_allowed(const struct sn_option *option, char *buf, size_t size);

/* A static atom of at most 30 characters as a term, from a literal: SN_ATOM("\2", "ok"). */
#define SN_ATOM(len, text) ((struct sn_slice){(const uint8_t *)"w" len text, sizeof(text) + 1})

/* What was given for each row; .data is NULL where nothing was. */
struct sn_given {
    struct sn_slice values[SN_OPTION_ROWS_MAX];
};

/* Puts one pair where it belongs. False: no row has such a key. A second value of a key is dropped. */
bool sn_option_take(const struct sn_option *rows, size_t count, struct sn_given *given,
                    struct sn_slice key, struct sn_slice value);
/* Instead of a value in which a password may be, such as that of an unknown option. */
#define SN_NOT_SHOWN SN_ATOM("\11", "not_shown")

/* All pairs of the map. False, and key and value of bad: one is unknown. */
bool sn_option_take_map(const struct sn_option *rows, size_t count, struct sn_given *given,
                        struct sn_slice map, struct sn_bad_option *bad);
/* Checks all rows, the defaults where nothing was given. SN_WRONG: bad says which is the first. */
enum sn_verdict sn_option_check(const struct sn_option *rows, size_t count,
                                const struct sn_given *given, struct sn_memory *memory,
                                struct sn_parsed *parsed, struct sn_bad_option *bad);

/* Checks that both tables use. */
enum sn_verdict sn_check_number(const struct sn_option *option, struct sn_slice value,
                                struct sn_memory *memory, struct sn_parsed *parsed);
enum sn_verdict sn_check_word(const struct sn_option *option, struct sn_slice value,
                              struct sn_memory *memory, struct sn_parsed *parsed);
/* A text of min to max bytes, without zeros; `data` is it with a 0 after it, `len` is without that. */
enum sn_verdict sn_check_text(const struct sn_option *option, struct sn_slice value,
                              struct sn_memory *memory, struct sn_parsed *parsed);
/* Nothing but what `also` says. */
enum sn_verdict sn_check_nothing(const struct sn_option *option, struct sn_slice value,
                                 struct sn_memory *memory, struct sn_parsed *parsed);

/* In a table. */
#define SN_KEY(text) .key = {'w', sizeof(text) - 1, text}
#define SN_INT(number)                                                                             \
    {                                                                                              \
        5,                                                                                         \
        {                                                                                          \
            'b', (number) >> 24 & 255, (number) >> 16 & 255, (number) >> 8 & 255, (number)&255     \
        }                                                                                          \
    }
#define SN_WORD(len, text)                                                                         \
    {                                                                                              \
        sizeof(text) + 1, "w" len text                                                             \
    }
#define SN_UNDEFINED SN_WORD("\x9", "undefined")

#endif
