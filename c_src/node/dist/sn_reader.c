#include "sn_reader.h"

#include "core/base/sp_bytes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_BYTES 4

void sn_reader_init(struct sn_reader *reader, size_t frame_max)
{
    *reader = (struct sn_reader){.frame_max = frame_max};
}

void sn_reader_free(struct sn_reader *reader)
{
    free(reader->buf);
    sn_reader_init(reader, reader->frame_max);
}

static sp_status resize(struct sn_reader *reader, size_t cap)
{
    uint8_t *buf = realloc(reader->buf, cap);

    if (!buf)
        return SP_NO_MEMORY;
    reader->buf = buf;
    reader->cap = cap;
    return SP_OK;
}

sp_status sn_reader_space(struct sn_reader *reader, uint8_t **space, size_t *len)
{
    size_t held = reader->end - reader->start;
    sp_status status = SP_OK;

    if (held && reader->start)
        memmove(reader->buf, reader->buf + reader->start, held);
    reader->start = 0;
    reader->end = held;
    if (held == reader->cap)
        status = resize(reader, reader->cap ? 2 * reader->cap : SN_READER_BYTES);
    else if (held < SN_READER_BYTES && reader->cap > SN_READER_BYTES)
        status = resize(reader, SN_READER_BYTES);
    *space = reader->buf + held;
    *len = reader->cap - held;
    return status;
}

void sn_reader_filled(struct sn_reader *reader, size_t len)
{
    assert(len <= reader->cap - reader->end);
    reader->end += len;
}

sp_status sn_reader_next(struct sn_reader *reader, const uint8_t **frame, size_t *len)
{
    size_t held = reader->end - reader->start;
    uint64_t frame_len;
    size_t dropped = held < reader->skipped ? held : (size_t)reader->skipped;

    reader->start += dropped;
    reader->skipped -= dropped;
    held -= dropped;
    if (held < HEADER_BYTES)
        return SP_WANT_READ;
    frame_len = sp_get(reader->buf + reader->start, HEADER_BYTES);
    *len = frame_len <= reader->frame_max             ? (size_t)frame_len
           : reader->frame_max < SN_READER_HEAD_BYTES ? reader->frame_max
                                                      : SN_READER_HEAD_BYTES;
    if (held - HEADER_BYTES < *len)
        return SP_WANT_READ;
    *frame = reader->buf + reader->start + HEADER_BYTES;
    reader->start += HEADER_BYTES + *len;
    reader->skipped = frame_len - *len;
    return reader->skipped ? SP_TOO_BIG : SP_OK;
}
