#include "sn_value.h"

#include "sn_tag.h"

#include <string.h>

static bool big_integer(const struct sn_head *head, int64_t *number)
{
    size_t len = (size_t)head->count;
    const uint8_t *digits = head->end + 1;
    bool is_negative = head->end[0] != 0;
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
    struct sn_head head = sn_head_of(term.data);

    switch (head.kind) {
    case SN_KIND_BYTE:
        *number = head.end[0];
        return true;
    case SN_KIND_INTEGER:
        *number = (int32_t)sp_get(head.end, 4);
        return true;
    case SN_KIND_BIG:
        return big_integer(&head, number);
    default:
        return false;
    }
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
    struct sn_head head = sn_head_of(term.data);
    bool is_latin1 = sn_is_latin1(term.data[0]);

    if (head.kind != SN_KIND_ATOM)
        return false;
    for (size_t i = 0; i < head.count; i++) {
        if (!is_latin1)
            put_byte(&out, head.end[i]);
        else if (!put_char(&out, head.end[i]))
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
    if (term.data[0] != SN_TAG_BINARY)
        return false;
    *bytes = sn_slice_after(term, sn_head_of(term.data).end);
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
    struct sn_head head = sn_head_of(list.data);

    if (head.kind != SN_KIND_LIST)
        return false;
    *items = (struct sn_items){.rest = sn_slice_after(list, head.end),
                               .left = (uint32_t)head.count,
                               .is_string = list.data[0] == SN_TAG_STRING,
                               .is_proper = list.data[0] != SN_TAG_LIST};
    return true;
}

bool sn_items_next(struct sn_items *items, struct sn_slice *item)
{
    if (items->left == 0) {
        /* What is left is the tail. */
        if (!items->is_proper)
            items->is_proper = items->rest.len == 1 && items->rest.data[0] == SN_TAG_NIL;
        return false;
    }
    items->left--;
    if (!items->is_string)
        return sn_slice_take(&items->rest, item);
    items->byte[0] = SN_TAG_SMALL_INTEGER;
    items->byte[1] = items->rest.data[0];
    items->rest = sn_slice_after(items->rest, items->rest.data + 1);
    *item = (struct sn_slice){items->byte, sizeof items->byte};
    return true;
}

bool sn_pairs_begin(struct sn_slice map, struct sn_pairs *pairs)
{
    struct sn_head head = sn_head_of(map.data);

    if (head.kind != SN_KIND_MAP)
        return false;
    pairs->left = (uint32_t)head.count;
    pairs->rest = sn_slice_after(map, head.end);
    return true;
}

bool sn_pairs_next(struct sn_pairs *pairs, struct sn_slice *key, struct sn_slice *value)
{
    if (pairs->left == 0)
        return false;
    pairs->left--;
    return sn_slice_take(&pairs->rest, key) && sn_slice_take(&pairs->rest, value);
}
