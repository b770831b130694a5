#include "readiness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(__linux__) && !defined(BENCH_USE_POLL)

#include <sys/epoll.h>

struct readiness {
    int epoll_fd;
};

static uint32_t events_of(enum interest want)
{
    return want == WANT_READ ? EPOLLIN : EPOLLOUT;
}

struct readiness *readiness_open(void)
{
    struct readiness *set = malloc(sizeof *set);
    if (set == NULL)
        return NULL;
    set->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (set->epoll_fd < 0) {
        int error = errno;
        free(set);
        errno = error;
        return NULL;
    }
    return set;
}

void readiness_close(struct readiness *set)
{
    close(set->epoll_fd);
    free(set);
}

int readiness_add(struct readiness *set, int fd, enum interest want, void *owner)
{
    struct epoll_event event = {.events = events_of(want), .data.ptr = owner};
    return epoll_ctl(set->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

int readiness_change(struct readiness *set, int fd, enum interest want, void *owner)
{
    struct epoll_event event = {.events = events_of(want), .data.ptr = owner};
    return epoll_ctl(set->epoll_fd, EPOLL_CTL_MOD, fd, &event);
}

int readiness_remove(struct readiness *set, int fd)
{
    struct epoll_event unused = {0};
    return epoll_ctl(set->epoll_fd, EPOLL_CTL_DEL, fd, &unused);
}

int readiness_wait(struct readiness *set, void **owners, int max, int timeout_ms)
{
    struct epoll_event events[256];
    int room = max < 256 ? max : 256;
    int count = epoll_wait(set->epoll_fd, events, room, timeout_ms);
    if (count < 0)
        return errno == EINTR ? 0 : -1;
    for (int i = 0; i < count; i++)
        owners[i] = events[i].data.ptr;
    return count;
}

#else

#include <poll.h>

struct readiness {
    struct pollfd *polled;
    void **owners;
    nfds_t used;
    nfds_t room;
    nfds_t next; /* where the next wait starts to look, so that none is starved */
};

static short events_of(enum interest want)
{
    return want == WANT_READ ? POLLIN : POLLOUT;
}

struct readiness *readiness_open(void)
{
    return calloc(1, sizeof(struct readiness));
}

void readiness_close(struct readiness *set)
{
    free(set->polled);
    free(set->owners);
    free(set);
}

static int grow(struct readiness *set)
{
    nfds_t room = set->room == 0 ? 64 : set->room * 2;
    struct pollfd *polled = realloc(set->polled, room * sizeof *polled);
    if (polled == NULL)
        return -1;
    set->polled = polled;
    void **owners = realloc(set->owners, room * sizeof *owners);
    if (owners == NULL)
        return -1;
    set->owners = owners;
    set->room = room;
    return 0;
}

static int find(const struct readiness *set, int fd, nfds_t *at)
{
    for (nfds_t i = 0; i < set->used; i++) {
        if (set->polled[i].fd == fd) {
            *at = i;
            return 0;
        }
    }
    errno = ENOENT;
    return -1;
}

int readiness_add(struct readiness *set, int fd, enum interest want, void *owner)
{
    if (set->used == set->room && grow(set) != 0)
        return -1;
    set->polled[set->used] = (struct pollfd){.fd = fd, .events = events_of(want)};
    set->owners[set->used] = owner;
    set->used++;
    return 0;
}

int readiness_change(struct readiness *set, int fd, enum interest want, void *owner)
{
    nfds_t at;
    if (find(set, fd, &at) != 0)
        return -1;
    set->polled[at].events = events_of(want);
    set->owners[at] = owner;
    return 0;
}

int readiness_remove(struct readiness *set, int fd)
{
    nfds_t at;
    if (find(set, fd, &at) != 0)
        return -1;
    set->used--;
    set->polled[at] = set->polled[set->used];
    set->owners[at] = set->owners[set->used];
    return 0;
}

int readiness_wait(struct readiness *set, void **owners, int max, int timeout_ms)
{
    int ready = poll(set->polled, set->used, timeout_ms);
    if (ready < 0)
        return errno == EINTR ? 0 : -1;
    int count = 0;
    nfds_t start = set->next;
    for (nfds_t i = 0; i < set->used && count < ready && count < max; i++) {
        nfds_t at = (start + i) % set->used;
        if (set->polled[at].revents != 0) {
            owners[count++] = set->owners[at];
            set->next = at + 1;
        }
    }
    return count;
}

#endif

int descriptor_prepare(int fd)
{
    int status = fcntl(fd, F_GETFL);
    if (status < 0 || fcntl(fd, F_SETFL, status | O_NONBLOCK) != 0)
        return -1;
    return fcntl(fd, F_SETFD, FD_CLOEXEC);
}

void descriptor_limit_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

bool not_now(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}
