#include "sn_memory.h"

#include <stdint.h>
#include <stdlib.h>

struct sn_block {
    struct sn_block *older;
    max_align_t data[];
};

void *sn_memory_get(struct sn_memory *memory, size_t count, size_t size)
{
    struct sn_block *block;

    if (size > 0 && count > (SIZE_MAX - sizeof *block) / size)
        return NULL;
    block = calloc(1, sizeof *block + count * size);
    if (!block)
        return NULL;
    block->older = memory->newest;
    memory->newest = block;
    return block->data;
}

void sn_memory_free(struct sn_memory *memory)
{
    struct sn_block *block, *older;

    for (block = memory->newest; block; block = older) {
        older = block->older;
        free(block);
    }
    memory->newest = NULL;
}
