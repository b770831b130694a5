#include "sn_writer.h"

#include "sn_tag.h"

#include <stdio.h>
#include <string.h>

struct sn_writer sn_write_to(ei_x_buff *buf)
{
    buf->index = 0;
    return (struct sn_writer){buf, ei_x_encode_version(buf) != 0};
}

struct sn_slice sn_written(const ei_x_buff *buf)
{
    return (struct sn_slice){(const uint8_t *)buf->buff, (size_t)buf->index};
}

void sn_put_tuple(struct sn_writer *writer, long arity)
{
    writer->failed |= ei_x_encode_tuple_header(writer->buf, arity) != 0;
}

void sn_put_list(struct sn_writer *writer, long count)
{
    writer->failed |= count && ei_x_encode_list_header(writer->buf, count) != 0;
}

void sn_put_nil(struct sn_writer *writer)
{
    writer->failed |= ei_x_encode_empty_list(writer->buf) != 0;
}

void sn_put_map(struct sn_writer *writer, long count)
{
    writer->failed |= ei_x_encode_map_header(writer->buf, count) != 0;
}

void sn_put_number(struct sn_writer *writer, uint64_t number)
{
    writer->failed |= ei_x_encode_ulonglong(writer->buf, number) != 0;
}

void sn_put_integer(struct sn_writer *writer, int64_t number)
{
    writer->failed |= ei_x_encode_longlong(writer->buf, number) != 0;
}

/* Not by libei, which goes over the text twice, to count and to convert it. */
void sn_put_atom_len(struct sn_writer *writer, const char *text, size_t len)
{
    uint8_t head[3] = {SN_TAG_SMALL_ATOM_UTF8, (uint8_t)len};
    size_t head_len = 2;

    if (len > UINT8_MAX) {
        head[0] = SN_TAG_ATOM_UTF8;
        sp_put(head + 1, 2, len);
        head_len = 3;
    }
    sn_put_slice(writer, (struct sn_slice){head, head_len});
    sn_put_slice(writer, (struct sn_slice){(const uint8_t *)text, len});
}

void sn_put_atom(struct sn_writer *writer, const char *text)
{
    sn_put_atom_len(writer, text, strlen(text));
}

void sn_put_pid(struct sn_writer *writer, const char *node, uint32_t number, uint32_t creation)
{
    erlang_pid pid = {.num = number, .creation = creation};

    snprintf(pid.node, sizeof pid.node, "%s", node);
    writer->failed |= ei_x_encode_pid(writer->buf, &pid) != 0;
}

/* Not in the first word, of which ERTS keeps 18 bits. */
void sn_put_reference(struct sn_writer *writer, const char *node, uint64_t number,
                      uint32_t creation)
{
    erlang_ref ref = {.len = SN_REFERENCE_WORDS, .creation = creation};

    snprintf(ref.node, sizeof ref.node, "%s", node);
    ref.n[1] = (unsigned)(number >> 32);
    ref.n[2] = (unsigned)(number & UINT32_MAX);
    writer->failed |= ei_x_encode_ref(writer->buf, &ref) != 0;
}

void sn_put_flag(struct sn_writer *writer, bool flag)
{
    sn_put_atom(writer, flag ? "true" : "false");
}

void sn_put_binary(struct sn_writer *writer, const void *data, size_t len)
{
    writer->failed |= ei_x_encode_binary(writer->buf, data, (long)len) != 0;
}

void sn_put_binary_head(struct sn_writer *writer, size_t len)
{
    uint8_t head[5] = {SN_TAG_BINARY};

    sp_put(head + 1, 4, len);
    sn_put_slice(writer, (struct sn_slice){head, sizeof head});
}

void sn_put_slice(struct sn_writer *writer, struct sn_slice term)
{
    writer->failed |= ei_x_append_buf(writer->buf, (const char *)term.data, (int)term.len) != 0;
}
