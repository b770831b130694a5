/* Linked into a library for tests by ld's --wrap: the n-th of its allocations fails. What n is stands in the file
 * that SOCKPOOL_FAIL_ALLOC names: 8 bytes, counted down; 0 or less fails none. ERTS ends the VM itself where
 * an environment, a resource or a term gets no memory, so those are not among them. */
#include <erl_nif.h>

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static _Atomic int64_t *left;

__attribute__((constructor)) static void map_control(void)
{
    int fd = open(getenv("SOCKPOOL_FAIL_ALLOC"), O_RDWR | O_CLOEXEC);
    void *memory = mmap(NULL, sizeof *left, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (memory == MAP_FAILED)
        abort();
    left = memory;
    close(fd);
}

static bool fails_now(void)
{
    return atomic_load(left) > 0 && atomic_fetch_sub(left, 1) == 1;
}

#define WRAP(type, name, failure, parameters, arguments)                                           \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return fails_now() ? (failure) : __real_##name arguments;                                  \
    }

WRAP(void *, malloc, NULL, (size_t size), (size))
WRAP(void *, calloc, NULL, (size_t count, size_t size), (count, size))
WRAP(void *, realloc, NULL, (void *ptr, size_t size), (ptr, size))
WRAP(char *, strdup, NULL, (const char *text), (text))
WRAP(int, posix_memalign, ENOMEM, (void **ptr, size_t alignment, size_t size),
     (ptr, alignment, size))
WRAP(void *, enif_alloc, NULL, (size_t size), (size))
WRAP(int, enif_alloc_binary, 0, (size_t size, ErlNifBinary *bin), (size, bin))
WRAP(int, enif_realloc_binary, 0, (ErlNifBinary * bin, size_t size), (bin, size))
WRAP(ErlNifMutex *, enif_mutex_create, NULL, (char *name), (name))
