/* libFuzzer over the configuration file: what cannot be used is told in one line that begins with the
 * path, and what can be leaves nothing behind. */
#include "node/run/sn_settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char path[64];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static int fd = -1;
    struct sn_settings settings;
    struct sn_complaint complaint = {0};

    if (fd < 0) {
        fd = memfd_create("settings", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, data, len, 0) != (ssize_t)len)
        abort();
    if (sn_settings_read(path, &settings, &complaint)) {
        for (struct sn_settings_pool *pool = settings.pools; pool; pool = pool->next)
            if (strlen(pool->name) == 0 || pool->terms.index < 5 || !pool->options.config.transport)
                abort();
        sn_settings_free(&settings);
    } else {
        if (strncmp(complaint.text, path, strlen(path)) != 0)
            abort();
        for (const char *at = complaint.text; *at; at++)
            if ((unsigned char)*at < ' ')
                abort();
    }
    return 0;
}
