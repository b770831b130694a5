/* Allocations of our own that fail: calloc, realloc and posix_memalign, by the linker's --wrap. */
#ifndef FAIL_ALLOC_H
#define FAIL_ALLOC_H

/* The n-th call from now on (0: the next) of any of them fails, once. */
void fail_alloc_after(unsigned n);

#endif
