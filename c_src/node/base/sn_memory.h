/* Allocations that are freed together. */
#ifndef SN_MEMORY_H
#define SN_MEMORY_H

#include <stddef.h>

/* {NULL} at first. */
struct sn_memory {
    struct sn_block *newest;
};

/* Zeroed, or NULL. */
void *sn_memory_get(struct sn_memory *memory, size_t count, size_t size);
void sn_memory_free(struct sn_memory *memory);

#endif
