#include "feed.h"

#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_MAX (UINT8_MAX + SP_FRAME_HEADER_MAX)

/* As many bytes of the stream as have come. */
static sp_status look(const struct feed *feed, struct sp_search *search, const uint8_t *bytes,
                      size_t have, struct sp_frame *frame)
{
    sp_status status;
    size_t turns = 0;

    do {
        size_t budget = feed->budget;
        status = sp_frame_next(feed->framing, search, bytes, have, feed->limit, &budget, frame);
        if (budget > feed->budget || ++turns > 4 * FEED_MAX)
            abort();
        if (status == SP_AGAIN && budget == feed->budget)
            abort();
    } while (status == SP_AGAIN);
    return status;
}

/* More of them, after a message that is not whole. */
static size_t more(const struct feed *feed, size_t have, size_t needed, size_t len)
{
    size_t next = feed->piece ? have + feed->piece : needed;

    return next < len ? next : len;
}

void feed_run(const struct feed *feed, const uint8_t *bytes, size_t len, struct story *story)
{
    uint8_t *stream = malloc(len ? len : 1);
    size_t at = 0, have = feed->first < len ? feed->first : len, asked = 0;
    struct sp_search search = {0};
    struct sp_frame frame;

    memcpy(stream, bytes, len);
    story->count = 0;
    ASAN_POISON_MEMORY_REGION(stream + have, len - have);
    for (;;) {
        story->status = look(feed, &search, stream + at, have - at, &frame);
        if (story->status == SP_OK) {
            if (frame.total == 0 || frame.total > have - at || asked > frame.total ||
                frame.offset + frame.len != frame.total)
                abort();
            story->messages[story->count++] = frame;
            at += frame.total;
            search = (struct sp_search){0};
            asked = 0;
        } else if (story->status == SP_WANT_READ) {
            if (frame.total <= have - at || frame.total > feed->limit + HEADER_MAX)
                abort();
            asked = frame.total;
            if (have == len)
                break;
            have = more(feed, have, at + frame.total, len);
            ASAN_UNPOISON_MEMORY_REGION(stream, have);
        } else {
            break;
        }
    }
    ASAN_UNPOISON_MEMORY_REGION(stream, len);
    free(stream);
}

static void assert_same(const struct story *a, const struct story *b)
{
    if (a->count != b->count || a->status != b->status ||
        memcmp(a->messages, b->messages, a->count * sizeof *a->messages) != 0)
        abort();
}

void feed_every_way(const struct sp_framing *framing, size_t limit, size_t piece, size_t budget,
                    const uint8_t *bytes, size_t len, struct story *story)
{
    static struct story other;
    struct feed feed = {framing, limit, len, 1, SIZE_MAX};

    feed_run(&feed, bytes, len, story);
    feed.piece = len;
    for (feed.first = 0; feed.first < len; feed.first++) {
        feed_run(&feed, bytes, len, &other);
        assert_same(story, &other);
    }
    for (feed.piece = 0; feed.piece <= piece; feed.piece += piece) {
        feed.first = 0;
        feed.budget = SIZE_MAX;
        feed_run(&feed, bytes, len, &other);
        assert_same(story, &other);
        feed.budget = budget;
        feed_run(&feed, bytes, len, &other);
        assert_same(story, &other);
    }
    feed.first = len;
    feed_run(&feed, bytes, len, &other);
    assert_same(story, &other);
}

size_t feed_resp(const uint8_t *data, size_t len, uint8_t bytes[FEED_MAX])
{
    static const char *const PARTS[] = {
        "\r\n",        "+a\r\n", "-E\r\n", ":1\r\n",  "_\r\n",      ",.\r\n", "#t\r\n",
        "(9\r\n",      "$",      "!",      "=",       ";",          "*",      "%",
        "~",           ">",      "|",      ".\r\n",   "?\r\n",      "-1\r\n", "0\r\n",
        "1\r\n",       "2\r\n",  "3\r\n",  "*1\r\n",  "*2\r\n",     "%1\r\n", "~1\r\n",
        ">1\r\n",      "|1\r\n", "|0\r\n", "$1\r\nx", "$0\r\n\r\n", "$?\r\n", "*?\r\n",
        ";1\r\nx\r\n", ";0\r\n", "1",      "9",       "\r",         "\n"};
    size_t total = 0;

    for (size_t i = 0; i < len; i++) {
        const char literal[2] = {(char)(data[i] & 0x7f)};
        const char *part =
            data[i] & 0x80 ? literal : PARTS[data[i] % (sizeof PARTS / sizeof *PARTS)];
        size_t size = part == literal ? 1 : strlen(part);
        if (size > FEED_MAX - total)
            break;
        memcpy(bytes + total, part, size);
        total += size;
    }
    return total;
}
