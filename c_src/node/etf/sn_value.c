#include "sn_value.h"

#include "core/base/sp_bytes.h"

#include <string.h>

static bool big_integer(struct sn_slice term, size_t width, int64_t *number)
{
    size_t len = (size_t)sp_get(term.data + 1, width);
    const uint8_t *digits = term.data + 1 + width + 1;
    bool is_negative = term.data[1 + width] != 0;
    uint64_t size = 0;

    while (len > 0 && digits[len - 1] == 0)
        len--;
    if (len > 8)
        return false;
    while (len-- > 0)
        size = size << 8 | digits[len];
    if (size > INT64_MAX)
        return false;
    *number = is_negative ? -(int64_t)size : (int64_t)size;
    return true;
}

bool sn_value_integer(struct sn_slice term, int64_t *number)
{
    switch (term.data[0]) {
    case 'a':
        *number = term.data[1];
        return true;
    case 'b':
        *number = (int32_t)sp_get(term.data + 1, 4);
        return true;
    case 'n':
        return big_integer(term, 1, number);
    case 'o':
        return big_integer(term, 4, number);
    }
    return false;
}

/* ---- texts ---- */

struct text {
    char *buf;
    size_t room, len;
};

static void put_byte(struct text *text, uint32_t byte)
{
    if (text->len < text->room)
        text->buf[text->len] = (char)byte;
    text->len++;
}

/* False where it is no character. */
static bool put_char(struct text *text, int64_t code)
{
    uint32_t c = (uint32_t)code;

    if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return false;
    if (c < 0x80) {
        put_byte(text, c);
        return true;
    }
    if (c < 0x800) {
        put_byte(text, 0xc0 | c >> 6);
    } else {
        if (c < 0x10000) {
            put_byte(text, 0xe0 | c >> 12);
        } else {
            put_byte(text, 0xf0 | c >> 18);
            put_byte(text, 0x80 | (c >> 12 & 0x3f));
        }
        put_byte(text, 0x80 | (c >> 6 & 0x3f));
    }
    put_byte(text, 0x80 | (c & 0x3f));
    return true;
}

bool sn_value_atom(struct sn_slice term, char text[SN_ATOM_BYTES_MAX + 1], size_t *len)
{
    struct text out = {.buf = text, .room = SN_ATOM_BYTES_MAX};
    bool is_latin1 = term.data[0] == 'd' || term.data[0] == 's';
    size_t head = term.data[0] == 'w' || term.data[0] == 's' ? 2 : 3;

    if (!is_latin1 && term.data[0] != 'w' && term.data[0] != 'v')
        return false;
    for (size_t i = head; i < term.len; i++) {
        if (!is_latin1)
            put_byte(&out, term.data[i]);
        else if (!put_char(&out, term.data[i]))
            return false;
    }
    if (out.len > SN_ATOM_BYTES_MAX)
        return false;
    text[out.len] = '\0';
    *len = out.len;
    return true;
}

bool sn_value_binary(struct sn_slice term, struct sn_slice *bytes)
{
    if (term.data[0] != 'm')
        return false;
    *bytes = (struct sn_slice){term.data + 5, term.len - 5};
    return true;
}

bool sn_value_text(struct sn_slice term, char *buf, size_t room, size_t *len)
{
    struct text out = {.buf = buf, .room = room};
    struct sn_items items;
    struct sn_slice bytes, item;
    int64_t code;

    if (sn_value_binary(term, &bytes)) {
        *len = bytes.len;
        if (room > 0)
            memcpy(buf, bytes.data, bytes.len < room ? bytes.len : room);
        return true;
    }
    if (!sn_items_begin(term, &items))
        return false;
    while (sn_items_next(&items, &item))
        if (!sn_value_integer(item, &code) || !put_char(&out, code))
            return false;
    *len = out.len;
    return items.is_proper;
}

/* ---- lists and maps ---- */

bool sn_items_begin(struct sn_slice list, struct sn_items *items)
{
    size_t head;

    *items = (struct sn_items){.is_string = list.data[0] == 'k', .is_proper = true};
    if (list.data[0] == 'j')
        return true;
    if (list.data[0] != 'k' && list.data[0] != 'l')
        return false;
    head = items->is_string ? 3 : 5;
    items->left = (uint32_t)sp_get(list.data + 1, head - 1);
    items->rest = (struct sn_slice){list.data + head, list.len - head};
    items->is_proper = items->is_string;
    return true;
}

bool sn_items_next(struct sn_items *items, struct sn_slice *item)
{
    if (items->left == 0) {
        /* What is left is the tail. */
        if (!items->is_proper)
            items->is_proper = items->rest.len == 1 && items->rest.data[0] == 'j';
        return false;
    }
    items->left--;
    if (!items->is_string)
        return sn_slice_take(&items->rest, item);
    items->byte[0] = 'a';
    items->byte[1] = items->rest.data[0];
    items->rest = (struct sn_slice){items->rest.data + 1, items->rest.len - 1};
    *item = (struct sn_slice){items->byte, sizeof items->byte};
    return true;
}

bool sn_pairs_begin(struct sn_slice map, struct sn_pairs *pairs)
{
    if (map.data[0] != 't')
        return false;
    pairs->left = (uint32_t)sp_get(map.data + 1, 4);
    pairs->rest = (struct sn_slice){map.data + 5, map.len - 5};
    return true;
}

bool sn_pairs_next(struct sn_pairs *pairs, struct sn_slice *key, struct sn_slice *value)
{
    if (pairs->left == 0)
        return false;
    pairs->left--;
    return sn_slice_take(&pairs->rest, key) && sn_slice_take(&pairs->rest, value);
}
