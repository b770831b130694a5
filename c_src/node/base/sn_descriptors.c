#include "sn_descriptors.h"

#include <errno.h>
#include <sys/resource.h>
#include <unistd.h>

/* Of an eighth each. */
#define OF_POOLS 6
#define OF_HANDSHAKES 1

void sn_descriptors_raise(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= SN_DESCRIPTORS_MOST)
        return;
    limit.rlim_cur = limit.rlim_max < SN_DESCRIPTORS_MOST ? limit.rlim_max : SN_DESCRIPTORS_MOST;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static unsigned eighth(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > SN_DESCRIPTORS_MOST)
        return SN_DESCRIPTORS_MOST / 8;
    return limit.rlim_cur < 64 ? 8 : (unsigned)(limit.rlim_cur / 8);
}

unsigned sn_descriptors_handshakes(void)
{
    return OF_HANDSHAKES * eighth();
}

/* The system gives the lowest number that is free, so a high one says how many are in use. */
static int pool_socket(int family)
{
    int fd = sp_sys_posix.socket(family);

    if (fd < 0 || (unsigned)fd < OF_POOLS * eighth())
        return fd;
    (void)close(fd);
    errno = EMFILE;
    return -1;
}

const struct sp_sys *sn_descriptors_sys(void)
{
    static struct sp_sys sys;

    if (!sys.socket) {
        sys = sp_sys_posix;
        sys.socket = pool_socket;
    }
    return &sys;
}
