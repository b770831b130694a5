#include "sn_log_ring.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NOTICE_BYTES 80

static struct {
    pthread_mutex_t lock;
    pthread_cond_t filled, ended;
    pthread_t thread;
    int fd;
    /* Under the lock: */
    bool is_running, ends;
    size_t start, len;
    unsigned dropped; /* lines, since the last that fitted */
    char bytes[SN_LOG_RING_BYTES];
} ring = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .filled = PTHREAD_COND_INITIALIZER,
          .ended = PTHREAD_COND_INITIALIZER,
          .fd = STDERR_FILENO};

static void write_out(const char *bytes, size_t len)
{
    struct pollfd poll_fd = {.fd = ring.fd, .events = POLLOUT};

    while (len > 0) {
        ssize_t written = write(ring.fd, bytes, len);

        if (written > 0) {
            bytes += written;
            len -= (size_t)written;
        } else if (written < 0 && errno == EAGAIN) {
            (void)poll(&poll_fd, 1, -1); /* somebody else has made it non-blocking */
        } else if (written == 0 || errno != EINTR) {
            return; /* nobody is there to be told */
        }
    }
}

static void put_bytes(const char *bytes, size_t len)
{
    size_t at = (ring.start + ring.len) % sizeof ring.bytes;
    size_t first = len < sizeof ring.bytes - at ? len : sizeof ring.bytes - at;

    memcpy(ring.bytes + at, bytes, first);
    memcpy(ring.bytes, bytes + first, len - first);
    ring.len += len;
}

/* With the lock. Says what is missing, if that and so many bytes more have room. */
static bool put_notice(size_t more)
{
    char notice[NOTICE_BYTES];
    int len = 0;

    if (ring.dropped)
        len = snprintf(notice, sizeof notice, "level=warning event=log_dropped count=%u\n",
                       ring.dropped);
    if ((size_t)len + more > sizeof ring.bytes - ring.len)
        return false;
    put_bytes(notice, (size_t)len);
    ring.dropped = 0;
    return true;
}

static void *run(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&ring.lock);
    for (;;) {
        char piece[4096];
        size_t len;

        (void)put_notice(0);
        while (ring.len == 0 && !ring.ends)
            pthread_cond_wait(&ring.filled, &ring.lock);
        if (ring.len == 0)
            break;
        len = sizeof ring.bytes - ring.start;
        len = ring.len < len ? ring.len : len;
        len = len < sizeof piece ? len : sizeof piece;
        memcpy(piece, ring.bytes + ring.start, len);
        pthread_mutex_unlock(&ring.lock);
        write_out(piece, len);
        pthread_mutex_lock(&ring.lock);
        ring.start = (ring.start + len) % sizeof ring.bytes;
        ring.len -= len;
    }
    ring.is_running = false;
    pthread_cond_signal(&ring.ended);
    pthread_mutex_unlock(&ring.lock);
    return NULL;
}

void sn_log_ring_start(int fd)
{
    sigset_t all, before;

    ring.fd = fd;
    ring.ends = false;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    ring.is_running = pthread_create(&ring.thread, NULL, run, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void sn_log_ring_put(const char *line, size_t len)
{
    pthread_mutex_lock(&ring.lock);
    if (!ring.is_running) {
        write_out(line, len);
    } else {
        if (put_notice(len))
            put_bytes(line, len);
        else
            ring.dropped++;
        pthread_cond_signal(&ring.filled);
    }
    pthread_mutex_unlock(&ring.lock);
}

void sn_log_ring_stop(unsigned ms)
{
    struct timespec until;
    bool is_over, was_running;
    int error = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&ring.lock);
    was_running = ring.is_running;
    ring.ends = true;
    pthread_cond_signal(&ring.filled);
    while (ring.is_running && error == 0)
        error = pthread_cond_timedwait(&ring.ended, &ring.lock, &until);
    is_over = !ring.is_running;
    pthread_mutex_unlock(&ring.lock);
    /* One that is stuck in a write ends with the process. */
    if (was_running && is_over)
        pthread_join(ring.thread, NULL);
}
