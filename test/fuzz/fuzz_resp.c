/* libFuzzer over sp_resp: whatever comes, in whatever pieces and budgets, is the same messages and the same error,
 * and these are what a second reader says, which reads all at once and calls itself for what is within. */
#include "feed.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of one message, as many as may be looked at, and how far they were read. */
struct reader {
    const uint8_t *bytes;
    size_t len, limit, at;
};

/* What a value may be where it stands. */
enum place { ANY, CHUNK, MAY_END };

static sp_status read_line(struct reader *reader, const uint8_t **line, size_t *line_len)
{
    size_t begin = reader->at, most = reader->len < reader->limit ? reader->len : reader->limit;

    while (reader->at < most && reader->bytes[reader->at] != '\n')
        reader->at++;
    if (reader->at == most)
        return reader->len >= reader->limit ? SP_TOO_BIG : SP_WANT_READ;
    reader->at++;
    *line = reader->bytes + begin;
    *line_len = reader->at - begin - 2;
    return reader->at - begin < 3 || (*line)[*line_len] != '\r' ? SP_BAD_FRAME : SP_OK;
}

static sp_status read_number(const uint8_t *digits, size_t len, size_t most, size_t *number)
{
    *number = 0;
    if (len == 0)
        return SP_BAD_FRAME;
    for (size_t i = 0; i < len; i++) {
        if (digits[i] < '0' || digits[i] > '9')
            return SP_BAD_FRAME;
        *number = *number * 10 + digits[i] - '0';
        if (*number > most)
            return SP_TOO_BIG;
    }
    return SP_OK;
}

static sp_status read_bytes(struct reader *reader, size_t count)
{
    if (count + 2 > reader->limit - reader->at)
        return SP_TOO_BIG;
    if (count + 2 > reader->len - reader->at)
        return SP_WANT_READ;
    reader->at += count + 2;
    return memcmp(reader->bytes + reader->at - 2, "\r\n", 2) == 0 ? SP_OK : SP_BAD_FRAME;
}

static sp_status read_value(struct reader *reader, unsigned depth, enum place place, bool *ended);

/* Values of one kind, so many or up to an end. */
static sp_status read_values(struct reader *reader, unsigned depth, enum place place, size_t count)
{
    sp_status status = SP_OK;
    bool ended = false;

    if (depth == SP_RESP_DEPTH_MAX)
        return SP_TOO_BIG;
    for (size_t i = 0; status == SP_OK && !ended && (place != ANY || i < count); i++)
        status = read_value(reader, depth + 1, place, &ended);
    return status;
}

static sp_status read_string(struct reader *reader, unsigned depth, char kind, const uint8_t *text,
                             size_t text_len)
{
    size_t count;
    sp_status status;

    if (kind == '$' && text_len == 2 && memcmp(text, "-1", 2) == 0)
        return SP_OK;
    if (kind == '$' && text_len == 1 && text[0] == '?')
        return read_values(reader, depth, CHUNK, 0);
    status = read_number(text, text_len, reader->limit, &count);
    return status == SP_OK ? read_bytes(reader, count) : status;
}

static sp_status read_aggregate(struct reader *reader, unsigned depth, char kind,
                                const uint8_t *text, size_t text_len)
{
    size_t count;
    sp_status status;

    if (kind == '*' && text_len == 2 && memcmp(text, "-1", 2) == 0)
        return SP_OK;
    if (kind != '|' && text_len == 1 && text[0] == '?')
        return read_values(reader, depth, MAY_END, 0);
    status = read_number(text, text_len, reader->limit / 3, &count);
    if (kind == '%' || kind == '|')
        count *= 2;
    if (kind == '|') /* and the value that it belongs to */
        count++;
    return status == SP_OK && count > 0 ? read_values(reader, depth, ANY, count) : status;
}

static sp_status read_chunk(struct reader *reader, const uint8_t *text, size_t text_len,
                            bool *ended)
{
    size_t count;
    sp_status status = read_number(text, text_len, reader->limit, &count);

    *ended = status == SP_OK && count == 0;
    return status == SP_OK && count > 0 ? read_bytes(reader, count) : status;
}

static sp_status read_value(struct reader *reader, unsigned depth, enum place place, bool *ended)
{
    const uint8_t *line;
    size_t len;
    sp_status status = read_line(reader, &line, &len);

    if (status != SP_OK)
        return status;
    if ((line[0] == ';') != (place == CHUNK))
        return SP_BAD_FRAME;
    if (line[0] == ';')
        return read_chunk(reader, line + 1, len - 1, ended);
    if (line[0] == '.') {
        *ended = true;
        return place == MAY_END && len == 1 ? SP_OK : SP_BAD_FRAME;
    }
    if (memchr("+-:_,#(", line[0], 7))
        return SP_OK;
    if (memchr("$!=", line[0], 3))
        return read_string(reader, depth, (char)line[0], line + 1, len - 1);
    if (!memchr("*%~>|", line[0], 5))
        return SP_BAD_FRAME;
    return read_aggregate(reader, depth, (char)line[0], line + 1, len - 1);
}

static void compare(const struct story *story, const uint8_t *bytes, size_t len, size_t limit)
{
    struct reader reader = {.limit = limit};
    sp_status status = SP_OK;
    size_t at = 0;
    bool ended;

    for (size_t i = 0; status == SP_OK; i++) {
        reader.bytes = bytes + at;
        reader.len = len - at;
        reader.at = 0;
        status = read_value(&reader, 0, ANY, &ended);
        if (status != SP_OK ? i != story->count || status != story->status
                            : i >= story->count || story->messages[i].total != reader.at)
            abort();
        at += reader.at;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct sp_framing framing = {.kind = SP_FRAMING_RESP};
    static struct story story;
    uint8_t bytes[FEED_MAX];
    size_t limit;

    if (len < 3)
        return 0;
    limit = data[0] & 1 ? 1 + data[0] / 2u : 1000000;
    len = feed_resp(data + 3, len - 3, bytes);
    feed_every_way(&framing, limit, 1 + data[1] % 16u, 1 + data[2] % 64u, bytes, len, &story);
    compare(&story, bytes, len, limit);
    return 0;
}
