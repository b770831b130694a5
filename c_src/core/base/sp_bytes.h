/* Big-endian numbers in a buffer. */
#ifndef SP_BYTES_H
#define SP_BYTES_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t sp_get(const uint8_t *bytes, size_t width)
{
    uint64_t number = 0;

    for (size_t i = 0; i < width; i++)
        number = number << 8 | bytes[i];
    return number;
}

static inline void sp_put(uint8_t *bytes, size_t width, uint64_t number)
{
    for (size_t i = 0; i < width; i++)
        bytes[i] = (uint8_t)(number >> (8 * (width - 1 - i)));
}

#endif
