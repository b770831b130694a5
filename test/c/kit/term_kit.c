#include "term_kit.h"

#include "core/base/sp_bytes.h"
#include "node/etf/sn_term.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct text {
    const char *at;
    uint8_t *out;
    size_t len;
};

static void put(struct text *text, const void *bytes, size_t len)
{
    text->out = realloc(text->out, text->len + len);
    memcpy(text->out + text->len, bytes, len);
    text->len += len;
}

static void put_tagged(struct text *text, char tag, size_t width, uint64_t number)
{
    uint8_t bytes[9] = {(uint8_t)tag};

    sp_put(bytes + 1, width, number);
    put(text, bytes, 1 + width);
}

static void skip_space(struct text *text)
{
    while (isspace((unsigned char)*text->at))
        text->at++;
}

static bool take(struct text *text, const char *word)
{
    skip_space(text);
    if (strncmp(text->at, word, strlen(word)) != 0)
        return false;
    text->at += strlen(word);
    return true;
}

static void must_take(struct text *text, const char *word)
{
    cr_assert(take(text, word), "no %s before: %s", word, text->at);
}

/* Up to the quote; \0 is a zero. */
static size_t take_quoted(struct text *text, char quote, char *buf, size_t size)
{
    size_t len = 0;

    for (; *text->at != quote; text->at++) {
        cr_assert(*text->at && len < size);
        if (*text->at == '\\') {
            text->at++;
            cr_assert_eq(*text->at, '0');
            buf[len++] = '\0';
        } else {
            buf[len++] = *text->at;
        }
    }
    text->at++;
    return len;
}

static void put_term(struct text *text);

/* How many there were. The place of the count is filled in afterwards. */
static uint32_t put_terms(struct text *text, const char *end, bool are_pairs)
{
    size_t count_at = text->len - 4;
    uint32_t count = 0;

    while (!take(text, end)) {
        if (count > 0)
            must_take(text, ",");
        put_term(text);
        if (are_pairs) {
            must_take(text, "=>");
            put_term(text);
        }
        count++;
        if (take(text, "|")) {
            put_term(text);
            must_take(text, end);
            sp_put(text->out + count_at, 4, count);
            return UINT32_MAX;
        }
    }
    sp_put(text->out + count_at, 4, count);
    return count;
}

static void put_list(struct text *text)
{
    uint32_t count;

    if (take(text, "]")) {
        put(text, "j", 1);
        return;
    }
    put_tagged(text, 'l', 4, 0);
    count = put_terms(text, "]", false);
    if (count != UINT32_MAX)
        put(text, "j", 1);
}

static void put_number(struct text *text)
{
    long long number = strtoll(text->at, (char **)&text->at, 10);
    uint64_t size = (uint64_t)(number < 0 ? -number : number);
    uint8_t big[11] = {'n', 8, number < 0};

    if (number >= 0 && number < 256) {
        put_tagged(text, 'a', 1, (uint64_t)number);
    } else if (number >= INT32_MIN && number <= INT32_MAX) {
        put_tagged(text, 'b', 4, (uint32_t)number);
    } else {
        for (size_t i = 0; i < 8; i++)
            big[3 + i] = (uint8_t)(size >> 8 * i);
        put(text, big, sizeof big);
    }
}

static void put_term(struct text *text)
{
    char buf[2048];
    size_t len = 0;

    if (take(text, "#{")) {
        put_tagged(text, 't', 4, 0);
        (void)put_terms(text, "}", true);
    } else if (take(text, "{")) {
        put_tagged(text, 'i', 4, 0);
        (void)put_terms(text, "}", false);
    } else if (take(text, "[")) {
        put_list(text);
    } else if (take(text, "<<\"")) {
        len = take_quoted(text, '"', buf, sizeof buf);
        must_take(text, ">>");
        put_tagged(text, 'm', 4, len);
        put(text, buf, len);
    } else if (take(text, "\"")) {
        len = take_quoted(text, '"', buf, sizeof buf);
        put_tagged(text, 'k', 2, len);
        put(text, buf, len);
    } else if (*text->at == '-' || isdigit((unsigned char)*text->at)) {
        put_number(text);
    } else if (take(text, "fun")) {
        put(text, "qw\1mw\1fa\0", 9);
    } else {
        if (take(text, "'")) {
            len = take_quoted(text, '\'', buf, sizeof buf);
        } else {
            cr_assert(islower((unsigned char)*text->at), "not understood: %s", text->at);
            for (; isalnum((unsigned char)*text->at) || *text->at == '_'; text->at++)
                buf[len++] = *text->at;
        }
        cr_assert(len < 256);
        put_tagged(text, 'w', 1, len);
        put(text, buf, len);
    }
}

/* So that no leak is seen. */
static uint8_t *kept[10000];

struct sn_slice term_of_bytes(const void *bytes, size_t len)
{
    static size_t count;
    uint8_t *copy = malloc(len ? len : 1);
    size_t used;

    cr_assert_lt(count, sizeof kept / sizeof *kept);
    kept[count++] = copy;
    memcpy(copy, bytes, len);
    cr_assert_eq(sn_term_check(copy, len, &used), SN_TERM_OK);
    cr_assert_eq(used, len);
    return (struct sn_slice){copy, len};
}

struct sn_slice term_of(const char *source)
{
    struct text text = {.at = source};
    struct sn_slice term;

    put_term(&text);
    cr_assert_eq(*text.at, '\0', "not understood: %s", text.at);
    term = term_of_bytes(text.out, text.len);
    free(text.out);
    return term;
}
