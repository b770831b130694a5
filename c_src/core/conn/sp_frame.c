#include "sp_frame.h"

#include "sp_resp.h"

#include <string.h>

static sp_status next_delimited(const struct sp_framing *framing, struct sp_search *search,
                                const uint8_t *buf, size_t len, size_t limit, size_t *budget,
                                struct sp_frame *frame)
{
    size_t size = framing->delimiter_len,
           from = search->looked < size ? 0 : search->looked - size + 1;
    size_t until = len - search->looked > *budget ? search->looked + *budget : len;
    const uint8_t *end = NULL;

    *budget -= until - search->looked;
    if (size == 1 && until > from)
        end = memchr(buf + from, framing->delimiter[0], until - from);
    else if (until - from >= size)
        end = memmem(buf + from, until - from, framing->delimiter, size);
    *frame = (struct sp_frame){.total = len + 1};
    if (!end) {
        search->looked = until;
        if (until >= limit)
            return SP_TOO_BIG;
        return until < len ? SP_AGAIN : SP_WANT_READ;
    }
    frame->len = frame->total = (size_t)(end - buf) + size;
    return frame->len > limit ? SP_TOO_BIG : SP_OK;
}

static uint64_t get_length(const struct sp_framing *framing, const uint8_t *bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < framing->bytes; i++)
        value = value << 8 | bytes[framing->little ? framing->bytes - 1u - i : i];
    return value;
}

static sp_status next_with_length(const struct sp_framing *framing, const uint8_t *buf, size_t len,
                                  size_t limit, struct sp_frame *frame)
{
    size_t header_len = (size_t)framing->offset + framing->bytes;
    uint64_t value, behind;

    *frame = (struct sp_frame){.total = header_len};
    if (len < header_len)
        return SP_WANT_READ;
    value = get_length(framing, buf + framing->offset);
    if (framing->adjust < 0 && value < (uint64_t) - (int64_t)framing->adjust)
        return SP_BAD_FRAME;
    if (value > INT64_MAX)
        return SP_TOO_BIG;
    behind = value + (uint64_t)(int64_t)framing->adjust;
    if (behind > limit)
        return SP_TOO_BIG;
    frame->total = header_len + (size_t)behind;
    frame->offset = framing->strip ? header_len : 0;
    frame->len = frame->total - frame->offset;
    return len < frame->total ? SP_WANT_READ : SP_OK;
}

static sp_status next_fixed(const struct sp_framing *framing, size_t len, size_t limit,
                            struct sp_frame *frame)
{
    *frame = (struct sp_frame){.len = framing->fixed, .total = framing->fixed};
    if (framing->fixed > limit)
        return SP_TOO_BIG;
    return len < framing->fixed ? SP_WANT_READ : SP_OK;
}

sp_status sp_frame_next(const struct sp_framing *framing, struct sp_search *search,
                        const uint8_t *buf, size_t len, size_t limit, size_t *budget,
                        struct sp_frame *frame)
{
    switch ((enum sp_framing_kind)framing->kind) {
    case SP_FRAMING_DELIMITER:
        return next_delimited(framing, search, buf, len, limit, budget, frame);
    case SP_FRAMING_LENGTH:
        return next_with_length(framing, buf, len, limit, frame);
    case SP_FRAMING_RESP:
        return sp_resp_next(search, buf, len, limit, budget, frame);
    case SP_FRAMING_FIXED:
    case SP_FRAMING_RAW:
    case SP_FRAMING_FUN:
        break;
    }
    return next_fixed(framing, len, limit, frame);
}

sp_status sp_frame_header(const struct sp_framing *framing, size_t len,
                          uint8_t header[SP_FRAME_HEADER_MAX], size_t *header_len)
{
    uint64_t value = (uint64_t)len - (uint64_t)(int64_t)framing->adjust;
    unsigned bytes = framing->bytes;

    *header_len = 0;
    if (!sp_framing_adds_header(framing))
        return SP_OK;
    if (framing->adjust > 0 && len < (size_t)framing->adjust)
        return SP_TOO_BIG;
    if (bytes < 8 && value >> (8 * bytes))
        return SP_TOO_BIG;
    for (unsigned i = 0; i < bytes; i++)
        header[framing->little ? i : bytes - 1 - i] = (uint8_t)(value >> (8 * i));
    *header_len = bytes;
    return SP_OK;
}
