/* Allocations of the core's own that fail: realloc and posix_memalign, by the linker's --wrap. */
#ifndef FAIL_ALLOC_H
#define FAIL_ALLOC_H

/* The n-th call from now on (0: the next) of either fails, once. */
void fail_alloc_after(unsigned n);

#endif
