#include "sp_frame.h"

#include <string.h>

static sp_status next_line(const uint8_t *buf, size_t len, size_t searched, size_t limit,
                           struct sp_frame *frame)
{
    const uint8_t *end = len > searched ? memchr(buf + searched, '\n', len - searched) : NULL;

    *frame = (struct sp_frame){.offset = 0, .len = 0, .total = len + 1};
    if (!end)
        return len >= limit ? SP_TOO_BIG : SP_WANT_READ;
    frame->len = frame->total = (size_t)(end - buf) + 1;
    return frame->len > limit ? SP_TOO_BIG : SP_OK;
}

sp_status sp_frame_next(enum sp_packet packet, const uint8_t *buf, size_t len, size_t searched,
                        size_t limit, struct sp_frame *frame)
{
    size_t header_len = (size_t)packet, message_len = 0;

    if (packet == SP_PACKET_LINE)
        return next_line(buf, len, searched, limit, frame);
    *frame = (struct sp_frame){.offset = header_len, .len = 0, .total = header_len};
    if (len < header_len)
        return SP_WANT_READ;
    for (size_t i = 0; i < header_len; i++)
        message_len = message_len << 8 | buf[i];
    if (message_len > limit)
        return SP_TOO_BIG;
    frame->len = message_len;
    frame->total = header_len + message_len;
    return len < frame->total ? SP_WANT_READ : SP_OK;
}

sp_status sp_frame_header(enum sp_packet packet, size_t len, uint8_t header[SP_FRAME_HEADER_MAX],
                          size_t *header_len)
{
    *header_len = packet == SP_PACKET_LINE ? 0 : (size_t)packet;
    if (*header_len && (uint64_t)len >> (8 * *header_len))
        return SP_TOO_BIG;
    for (size_t i = 0; i < *header_len; i++)
        header[i] = (uint8_t)((uint64_t)len >> (8 * (*header_len - 1 - i)));
    return SP_OK;
}
