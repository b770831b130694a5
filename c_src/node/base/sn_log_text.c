#include "sn_log_text.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct text {
    char *at, *end; /* the end leaves room for a last quote and the zero byte */
    bool quoted, cut;
};

/* All of it or nothing, and then nothing any more: half an escape says something else. */
static void put(struct text *text, const char *bytes, size_t len)
{
    if (text->cut || len > (size_t)(text->end - text->at)) {
        text->cut = true;
        return;
    }
    memcpy(text->at, bytes, len);
    text->at += len;
}

static bool is_plain(const char *value)
{
    return *value && value[strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                         "0123456789-_.:@/+")] == '\0';
}

/* Those of Unicode beyond ASCII as well: U+0080 to U+009F, of which one is a new line. */
static size_t control_bytes(const char *at)
{
    unsigned char first = (unsigned char)at[0], second = (unsigned char)at[1];

    if (first == 0xc2 && second >= 0x80 && second <= 0x9f)
        return 2;
    return first < ' ' || first == 0x7f;
}

static void put_escaped(struct text *text, const char *value)
{
    char escape[sizeof "\\x00\\x00"];
    size_t count;

    for (; *value; value++) {
        if (*value == '"' || *value == '\\') {
            put(text, (const char[]){'\\', *value}, 2);
        } else if ((count = control_bytes(value)) > 0) {
            for (size_t i = 0; i < count; i++)
                snprintf(escape + 4 * i, 5, "\\x%02x", (unsigned char)value[i]);
            put(text, escape, 4 * count);
            value += count - 1;
        } else {
            put(text, value, 1);
        }
    }
}

static void put_value(struct text *text, const char *value)
{
    if (text->quoted || is_plain(value)) {
        put_escaped(text, value);
        return;
    }
    put(text, "\"", 1);
    text->quoted = !text->cut;
    put_escaped(text, value);
    if (text->cut)
        return;
    put(text, "\"", 1);
    text->quoted = text->cut;
}

size_t sn_log_text(char *buf, size_t size, const char *format, va_list args)
{
    struct text text = {.at = buf, .end = buf + size - 2};
    char number[sizeof "4294967295"];

    for (; *format; format++) {
        if (*format != '%') {
            put(&text, format, 1);
            text.quoted ^= *format == '"' && !text.cut;
        } else if (*++format == 's') {
            put_value(&text, va_arg(args, const char *));
        } else {
            assert(*format == 'u');
            snprintf(number, sizeof number, "%u", va_arg(args, unsigned));
            put(&text, number, strlen(number));
        }
    }
    if (text.quoted)
        *text.at++ = '"';
    *text.at = '\0';
    return (size_t)(text.at - buf);
}
