/* Loaded before the C library: the next calloc() of one thing fails where the file that FAIL_CALLOC names has
 * something in it, which is then gone. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

void *__libc_calloc(size_t count, size_t size);

void *calloc(size_t count, size_t size)
{
    const char *path = getenv("FAIL_CALLOC");
    struct stat info;

    if (count == 1 && path && stat(path, &info) == 0 && info.st_size > 0 &&
        truncate(path, 0) == 0) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_calloc(count, size);
}
