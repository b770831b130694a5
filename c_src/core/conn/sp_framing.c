#include "sp_framing.h"

#include <string.h>

struct sp_framing sp_framing_header(uint8_t bytes)
{
    return (struct sp_framing){.kind = SP_FRAMING_LENGTH, .bytes = bytes, .strip = true};
}

struct sp_framing sp_framing_line(void)
{
    return (struct sp_framing){
        .kind = SP_FRAMING_DELIMITER, .delimiter_len = 1, .delimiter = {'\n'}};
}

bool sp_framing_equal(const struct sp_framing *a, const struct sp_framing *b)
{
    return a->kind == b->kind && a->offset == b->offset && a->bytes == b->bytes &&
           a->little == b->little && a->strip == b->strip && a->adjust == b->adjust &&
           a->fixed == b->fixed && a->own == b->own && a->delimiter_len == b->delimiter_len &&
           memcmp(a->delimiter, b->delimiter, a->delimiter_len) == 0;
}

bool sp_framing_is_width(const struct sp_framing *framing)
{
    const struct sp_framing same = sp_framing_header(framing->bytes);

    return sp_framing_equal(framing, &same) &&
           (framing->bytes == 1 || framing->bytes == 2 || framing->bytes == 4);
}

bool sp_framing_is_line(const struct sp_framing *framing)
{
    const struct sp_framing line = sp_framing_line();

    return sp_framing_equal(framing, &line);
}

uint64_t sp_framing_pack(const struct sp_framing *framing)
{
    return (uint64_t)(uint32_t)framing->adjust << 32 | (uint64_t)framing->kind << 8 |
           (uint64_t)framing->bytes << 4 | (uint64_t)framing->little << 1 | framing->strip;
}

struct sp_framing sp_framing_unpack(uint64_t packed)
{
    return (struct sp_framing){.kind = packed >> 8 & 0xff,
                               .bytes = packed >> 4 & 0xf,
                               .little = packed >> 1 & 1,
                               .strip = packed & 1,
                               .adjust = (int32_t)(uint32_t)(packed >> 32)};
}
