#include "fail_alloc.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *ptr, size_t size);
int __real_posix_memalign(void **ptr, size_t alignment, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *ptr, size_t size);
int __wrap_posix_memalign(void **ptr, size_t alignment, size_t size);

static bool set;
static unsigned left;

void fail_alloc_after(unsigned n)
{
    set = true;
    left = n;
}

static bool fails_now(void)
{
    if (!set || left-- > 0)
        return false;
    set = false;
    return true;
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *ptr, size_t size)
{
    return fails_now() ? NULL : __real_realloc(ptr, size);
}

int __wrap_posix_memalign(void **ptr, size_t alignment, size_t size)
{
    return fails_now() ? ENOMEM : __real_posix_memalign(ptr, alignment, size);
}
