#include "sn_scrape_request.h"

#include <string.h>
#include <strings.h>

#define PATH "/metrics"
#define OPENMETRICS "application/openmetrics-text"

struct text {
    const char *bytes;
    size_t len;
};

static bool is(struct text text, const char *word)
{
    return text.len == strlen(word) && memcmp(text.bytes, word, text.len) == 0;
}

static bool begins_with(struct text text, const char *word)
{
    return text.len >= strlen(word) && memcmp(text.bytes, word, strlen(word)) == 0;
}

/* Takes the next line, without its end. False: it is not whole. */
static bool next_line(struct text *rest, struct text *line)
{
    const char *end = memchr(rest->bytes, '\n', rest->len);

    if (!end)
        return false;
    *line = (struct text){rest->bytes, (size_t)(end - rest->bytes)};
    rest->len -= line->len + 1;
    rest->bytes = end + 1;
    if (line->len > 0 && line->bytes[line->len - 1] == '\r')
        line->len--;
    return true;
}

/* Takes what stands before a space, or all. */
static struct text next_word(struct text *rest)
{
    const char *space = memchr(rest->bytes, ' ', rest->len);
    struct text word = {rest->bytes, space ? (size_t)(space - rest->bytes) : rest->len};
    size_t taken = space ? word.len + 1 : word.len;

    rest->bytes += taken;
    rest->len -= taken;
    return word;
}

static bool is_clean(struct text line)
{
    for (size_t i = 0; i < line.len; i++)
        if (((unsigned char)line.bytes[i] < ' ' && line.bytes[i] != '\t') || line.bytes[i] == 0x7f)
            return false;
    return true;
}

static int status_of(struct text line, struct sn_scrape_request *request)
{
    struct text method = next_word(&line), target = next_word(&line), version = line;

    if (!is_clean(method) || method.len == 0 || target.len == 0 || !is_clean(target) ||
        version.len != strlen("HTTP/1.1") || !begins_with(version, "HTTP/"))
        return 400;
    if (!begins_with(version, "HTTP/1."))
        return 505;
    request->head_only = is(method, "HEAD");
    if (!request->head_only && !is(method, "GET"))
        return 405;
    if (!is(target, PATH) && !begins_with(target, PATH "?"))
        return 404;
    return 200;
}

static bool accepts_openmetrics(struct text line)
{
    static const char name[] = "accept:";

    if (line.len < sizeof name - 1 || strncasecmp(line.bytes, name, sizeof name - 1) != 0)
        return false;
    for (; line.len > 0; line.bytes++, line.len--)
        if (begins_with(line, OPENMETRICS))
            return true;
    return false;
}

int sn_scrape_request(const char *bytes, size_t len, struct sn_scrape_request *request)
{
    struct text rest = {bytes, len}, line;
    bool is_good = true;
    int status;

    *request = (struct sn_scrape_request){.head_only = false};
    if (!next_line(&rest, &line))
        return len < SN_SCRAPE_HEAD_MAX ? 0 : 431;
    status = status_of(line, request);
    if (status == 400)
        return status;
    while (next_line(&rest, &line)) {
        if (line.len == 0)
            return is_good ? status : 400;
        is_good = is_good && is_clean(line) && memchr(line.bytes, ':', line.len);
        request->openmetrics = request->openmetrics || accepts_openmetrics(line);
    }
    return len < SN_SCRAPE_HEAD_MAX ? 0 : 431;
}
