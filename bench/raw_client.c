/*
 * The limit that the pools are measured against: one thread, one epoll set, no VM.
 *
 *     raw_client PORT CONNECTIONS BYTES WARMUP_MS WINDOW_MS     for a time
 *     raw_client PORT CONNECTIONS BYTES ops COUNT               COUNT operations, all counted
 *
 * Each connection to 127.0.0.1:PORT sends BYTES bytes, waits for the same bytes, and starts
 * again. Prints one line of JSON: operations, errors by reason, seconds, operations per second,
 * and latency in microseconds. Status 1 when it could not measure.
 */
#include "readiness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Histogram: 32 buckets for each power of two of nanoseconds, so 3 % wide at most. */
enum { SUB_BITS = 5, SUBS = 1 << SUB_BITS, BUCKETS = (64 - SUB_BITS + 1) * SUBS };
enum { BATCH = 256, MAX_ERRNO = 256 };

struct link {
    int fd;
    bool alive;
    char *request;
    size_t received_bytes;
    uint64_t started_ns;
};

struct job {
    unsigned port;
    size_t connections;
    size_t message_bytes;
    uint64_t warmup_ns;
    uint64_t window_ns; /* 0 = until max_ops were done */
    uint64_t max_ops;
};

struct tally {
    uint64_t ops;     /* finished inside the window */
    uint64_t timed;   /* finished in the window or after it; all of them are in latency */
    uint64_t started; /* in all; only max_ops looks at it */
    uint64_t window_start_ns;
    uint64_t window_end_ns; /* UINT64_MAX while only max_ops ends the run */
    uint64_t max_ns;
    uint64_t errors[MAX_ERRNO];
    uint64_t latency[BUCKETS];
    size_t busy; /* links with an operation under way */
};

static char *reply; /* one message; only one link is read at a time */

static void fail(const char *what)
{
    fprintf(stderr, "raw_client: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
        fail("clock_gettime");
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static size_t bucket_of(uint64_t value)
{
    if (value < SUBS)
        return (size_t)value;
    unsigned shift = (unsigned)(63 - __builtin_clzll(value)) - SUB_BITS;
    return (size_t)(shift + 1) * SUBS + (size_t)((value >> shift) - SUBS);
}

/* The first value above the bucket: a percentile is never reported too low. */
static uint64_t bucket_end(size_t bucket)
{
    if (bucket < SUBS)
        return bucket + 1;
    size_t shift = bucket / SUBS - 1;
    return (uint64_t)(bucket % SUBS + SUBS + 1) << shift;
}

static uint64_t percentile(const struct tally *tally, double fraction)
{
    uint64_t rank = (uint64_t)(fraction * (double)tally->timed);
    uint64_t seen = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        seen += tally->latency[i];
        if (seen > rank)
            return bucket_end(i) < tally->max_ns ? bucket_end(i) : tally->max_ns;
    }
    return tally->max_ns;
}

static int link_connect(struct link *link, unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    link->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (link->fd < 0)
        return -1;
    if (connect(link->fd, (struct sockaddr *)&address, sizeof address) != 0)
        return -1;
    if (setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
        return -1;
    return descriptor_prepare(link->fd);
}

static struct link *links_open(const struct job *job, struct readiness *set)
{
    struct link *links = calloc(job->connections, sizeof *links);
    if (links == NULL)
        fail("calloc");
    for (size_t i = 0; i < job->connections; i++) {
        if (link_connect(&links[i], job->port) != 0)
            fail("connect");
        links[i].request = malloc(job->message_bytes);
        if (links[i].request == NULL)
            fail("malloc");
        for (size_t b = 0; b < job->message_bytes; b++)
            links[i].request[b] = (char)(i >> (8 * (b % sizeof i)));
        if (readiness_add(set, links[i].fd, WANT_READ, &links[i]) != 0)
            fail("readiness_add");
        links[i].alive = true;
    }
    return links;
}

static void links_close(struct link *links, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (links[i].alive)
            close(links[i].fd);
        free(links[i].request);
    }
    free(links);
}

/* Counts the error and closes the connection; its operation is over. */
static void link_fail(struct link *link, struct readiness *set, struct tally *tally, int error)
{
    tally->errors[error > 0 && error < MAX_ERRNO ? error : 0]++;
    tally->busy--;
    if (readiness_remove(set, link->fd) != 0)
        fail("readiness_remove");
    close(link->fd);
    link->alive = false;
}

/* A short write counts as an error: a small message always fits into an empty send buffer. */
static void operation_start(struct link *link, struct readiness *set, const struct job *job,
                            struct tally *tally, uint64_t at_ns)
{
    tally->started++;
    tally->busy++;
    link->received_bytes = 0;
    link->started_ns = at_ns;
    ssize_t sent;
    do {
        sent = send(link->fd, link->request, job->message_bytes, 0);
    } while (sent < 0 && errno == EINTR);
    if (sent != (ssize_t)job->message_bytes)
        link_fail(link, set, tally, sent < 0 ? errno : EMSGSIZE);
}

static void operation_end(const struct link *link, struct tally *tally, uint64_t at_ns)
{
    tally->busy--;
    if (at_ns < tally->window_start_ns)
        return;
    uint64_t took_ns = at_ns - link->started_ns;
    if (at_ns < tally->window_end_ns)
        tally->ops++;
    tally->timed++;
    tally->latency[bucket_of(took_ns)]++;
    if (took_ns > tally->max_ns)
        tally->max_ns = took_ns;
}

static bool wants_more(const struct job *job, const struct tally *tally, uint64_t at_ns)
{
    if (job->window_ns == 0)
        return tally->started < job->max_ops;
    return at_ns < tally->window_end_ns;
}

static void link_ready(struct link *link, struct readiness *set, const struct job *job,
                       struct tally *tally)
{
    size_t missing = job->message_bytes - link->received_bytes;
    ssize_t got = recv(link->fd, reply + link->received_bytes, missing, 0);
    if (got < 0 && not_now(errno))
        return;
    if (got <= 0) {
        link_fail(link, set, tally, got < 0 ? errno : ECONNRESET);
        return;
    }
    if (memcmp(reply + link->received_bytes, link->request + link->received_bytes, (size_t)got) !=
        0) {
        link_fail(link, set, tally, EBADMSG);
        return;
    }
    link->received_bytes += (size_t)got;
    if (link->received_bytes < job->message_bytes)
        return;
    uint64_t at_ns = now_ns();
    operation_end(link, tally, at_ns);
    if (wants_more(job, tally, at_ns))
        operation_start(link, set, job, tally, at_ns);
}

static void run(const struct job *job, struct readiness *set, struct link *links,
                struct tally *tally)
{
    void *ready[BATCH];
    uint64_t start_ns = now_ns();

    tally->window_start_ns = start_ns + job->warmup_ns;
    tally->window_end_ns =
        job->window_ns == 0 ? UINT64_MAX : tally->window_start_ns + job->window_ns;
    for (size_t i = 0; i < job->connections && wants_more(job, tally, start_ns); i++)
        operation_start(&links[i], set, job, tally, now_ns());
    while (tally->busy > 0) {
        int count = readiness_wait(set, ready, BATCH, 5000);
        if (count < 0)
            fail("readiness_wait");
        if (count == 0) {
            errno = ETIMEDOUT;
            fail("no reply for 5 s");
        }
        for (int i = 0; i < count; i++)
            link_ready(ready[i], set, job, tally);
    }
    if (job->window_ns == 0)
        tally->window_end_ns = now_ns();
}

static void report(const struct tally *tally)
{
    const char *separator = "";
    double seconds = (double)(tally->window_end_ns - tally->window_start_ns) / 1e9;

    printf("{\"ops\":%" PRIu64 ",\"errors\":{", tally->ops);
    for (int i = 0; i < MAX_ERRNO; i++) {
        if (tally->errors[i] > 0) {
            printf("%s\"%s\":%" PRIu64, separator, strerror(i), tally->errors[i]);
            separator = ",";
        }
    }
    printf("},\"seconds\":%.6f,\"ops_per_s\":%.1f", seconds, (double)tally->ops / seconds);
    printf(",\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f}\n",
           (double)percentile(tally, 0.50) / 1e3, (double)percentile(tally, 0.99) / 1e3,
           (double)tally->max_ns / 1e3);
}

static uint64_t number(const char *name, const char *text, uint64_t least)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-' || value < least) {
        fprintf(stderr, "raw_client: %s must be a number >= %" PRIu64 ", not %s\n", name, least,
                text);
        exit(2);
    }
    return value;
}

static struct job job_read(char **argv)
{
    struct job job = {0};
    job.port = (unsigned)number("PORT", argv[1], 1);
    job.connections = (size_t)number("CONNECTIONS", argv[2], 1);
    job.message_bytes = (size_t)number("BYTES", argv[3], 1);
    if (strcmp(argv[4], "ops") == 0) {
        job.max_ops = number("COUNT", argv[5], 1);
    } else {
        job.warmup_ns = number("WARMUP_MS", argv[4], 0) * 1000000u;
        job.window_ns = number("WINDOW_MS", argv[5], 1) * 1000000u;
    }
    return job;
}

int main(int argc, char **argv)
{
    static struct tally tally;

    if (argc != 6) {
        fprintf(stderr,
                "usage: raw_client PORT CONNECTIONS BYTES (WARMUP_MS WINDOW_MS | ops COUNT)\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    descriptor_limit_raise();
    struct job job = job_read(argv);
    struct readiness *set = readiness_open();
    if (set == NULL)
        fail("readiness_open");
    reply = malloc(job.message_bytes);
    if (reply == NULL)
        fail("malloc");
    struct link *links = links_open(&job, set);
    run(&job, set, links, &tally);
    report(&tally);
    links_close(links, job.connections);
    readiness_close(set);
    free(reply);
    return tally.ops > 0 ? 0 : 1;
}
