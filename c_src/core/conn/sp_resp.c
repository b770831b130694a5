#include "sp_resp.h"

#include <string.h>

/* The shortest value, an empty line: a kind and its end. */
#define VALUE_BYTES_MIN 3
/* A value costs as much as it takes to look through so many bytes. */
#define VALUE_COST_BYTES 32

/* What a value is within. */
enum level {
    COUNTED,    /* an aggregate of so many values; an attribute counts that which it belongs to */
    CHUNKS,     /* parts of a string, up to an empty one */
    UNTIL_POINT /* an aggregate that ends by a . */
};

/* A line: its kind, and what is behind that, without its end. */
struct line {
    uint8_t kind;
    const uint8_t *text;
    size_t len, end; /* of the bytes after its end */
};

/* SP_WANT_READ: it has no end yet. What is beyond the limit is not looked at: it may come later, and shall make no
 * difference. */
static sp_status get_line(struct sp_search *search, const uint8_t *buf, size_t len, size_t limit,
                          size_t *budget, struct line *line)
{
    size_t from = search->looked > search->at ? search->looked : search->at;
    size_t most = len < limit ? len : limit, until = most - from > *budget ? from + *budget : most;
    const uint8_t *end = until > from ? memchr(buf + from, '\n', until - from) : NULL;

    if (!end) {
        *budget -= until - from;
        search->looked = until;
        if (until == limit)
            return SP_TOO_BIG;
        return until < most ? SP_AGAIN : SP_WANT_READ;
    }
    line->end = (size_t)(end - buf) + 1;
    *budget -= line->end - from;
    if (line->end - search->at < VALUE_BYTES_MIN || end[-1] != '\r')
        return SP_BAD_FRAME;
    line->kind = buf[search->at];
    line->text = buf + search->at + 1;
    line->len = line->end - search->at - VALUE_BYTES_MIN;
    return SP_OK;
}

/* A number without a sign. SP_TOO_BIG: above the limit. */
static sp_status get_number(const struct line *line, size_t limit, size_t *number)
{
    *number = 0;
    if (line->len == 0)
        return SP_BAD_FRAME;
    for (size_t i = 0; i < line->len; i++) {
        if (line->text[i] < '0' || line->text[i] > '9')
            return SP_BAD_FRAME;
        *number = 10 * *number + (size_t)(line->text[i] - '0');
        if (*number > limit)
            return SP_TOO_BIG;
    }
    return SP_OK;
}

static bool is_text(const struct line *line, const char *text)
{
    return line->len == strlen(text) && memcmp(line->text, text, line->len) == 0;
}

static sp_status enter(struct sp_search *search, enum level level, size_t count)
{
    if (search->depth == SP_RESP_DEPTH_MAX)
        return SP_TOO_BIG;
    search->level[search->depth] = (uint8_t)level;
    search->left[search->depth] = (uint32_t)count;
    search->depth++;
    return SP_AGAIN;
}

/* A value is whole: so may be what it is within. SP_AGAIN: more is to come. */
static sp_status whole(struct sp_search *search)
{
    while (search->depth > 0) {
        uint32_t top = search->depth - 1;
        if (search->level[top] == CHUNKS || search->level[top] == UNTIL_POINT)
            return SP_AGAIN;
        if (--search->left[top] > 0)
            return SP_AGAIN;
        search->depth = top;
    }
    return SP_OK;
}

/* The end of what said at its begin that its end would be told. */
static sp_status told_end(struct sp_search *search, enum level level)
{
    if (search->depth == 0 || search->level[search->depth - 1] != level)
        return SP_BAD_FRAME;
    search->depth--;
    return whole(search);
}

static sp_status aggregate(struct sp_search *search, const struct line *line, size_t limit)
{
    size_t each = line->kind == '%' || line->kind == '|' ? 2 : 1, count;
    sp_status status;

    if (line->kind == '*' && is_text(line, "-1"))
        return whole(search);
    if (line->kind != '|' && is_text(line, "?"))
        return enter(search, UNTIL_POINT, 0);
    status = get_number(line, limit / VALUE_BYTES_MIN, &count);
    if (status != SP_OK)
        return status;
    if (count > UINT32_MAX / each)
        return SP_TOO_BIG;
    count = count * each + (line->kind == '|');
    return count > 0 ? enter(search, COUNTED, count) : whole(search);
}

/* A string of which the line says the length. *end: after it. */
static sp_status string(struct sp_search *search, const struct line *line, const uint8_t *buf,
                        size_t len, size_t limit, size_t *end)
{
    size_t bytes;
    sp_status status;

    if (line->kind == '$' && is_text(line, "-1"))
        return whole(search);
    if (line->kind == '$' && is_text(line, "?"))
        return enter(search, CHUNKS, 0);
    status = get_number(line, limit, &bytes);
    if (status != SP_OK)
        return status;
    if (line->kind == ';' && bytes == 0)
        return told_end(search, CHUNKS);
    *end = line->end + bytes + 2;
    if (*end > limit)
        return SP_TOO_BIG;
    if (len < *end)
        return SP_WANT_READ;
    if (buf[*end - 2] != '\r' || buf[*end - 1] != '\n')
        return SP_BAD_FRAME;
    return line->kind == ';' ? SP_AGAIN : whole(search);
}

/* One value, or the begin of one. SP_OK: the message is whole; SP_AGAIN: it is not, go on at *end. */
static sp_status value(struct sp_search *search, const struct line *line, const uint8_t *buf,
                       size_t len, size_t limit, size_t *end)
{
    bool in_chunks = search->depth > 0 && search->level[search->depth - 1] == CHUNKS;

    *end = line->end;
    if (in_chunks != (line->kind == ';'))
        return SP_BAD_FRAME;
    switch (line->kind) {
    case '+':
    case '-':
    case ':':
    case '_':
    case ',':
    case '#':
    case '(':
        return whole(search);
    case '$':
    case '!':
    case '=':
    case ';':
        return string(search, line, buf, len, limit, end);
    case '*':
    case '%':
    case '~':
    case '>':
    case '|':
        return aggregate(search, line, limit);
    case '.':
        return line->len == 0 ? told_end(search, UNTIL_POINT) : SP_BAD_FRAME;
    default:
        return SP_BAD_FRAME;
    }
}

sp_status sp_resp_next(struct sp_search *search, const uint8_t *buf, size_t len, size_t limit,
                       size_t *budget, struct sp_frame *frame)
{
    struct line line;
    sp_status status;
    size_t end;

    do {
        *frame = (struct sp_frame){.total = len + 1};
        if (*budget == 0)
            return SP_AGAIN;
        status = get_line(search, buf, len, limit, budget, &line);
        if (status != SP_OK)
            return status;
        *budget -= *budget < VALUE_COST_BYTES ? *budget : VALUE_COST_BYTES;
        status = value(search, &line, buf, len, limit, &end);
        if (status == SP_WANT_READ)
            frame->total = end; /* its line is read again then */
        else if (status == SP_AGAIN || status == SP_OK)
            search->at = end;
    } while (status == SP_AGAIN);
    frame->len = frame->total = status == SP_OK ? end : frame->total;
    return status;
}
