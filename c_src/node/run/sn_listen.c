#include "sn_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A port that is free at one address may be taken at the other. */
#define PORTS_TRIED 32

static void take(struct sn_listen *listen, const struct addrinfo *found, int family)
{
    while (found && found->ai_family != family)
        found = found->ai_next;
    if (found)
        memcpy(&listen->addresses[listen->count++], found->ai_addr, found->ai_addrlen);
}

int sn_listen_resolve(struct sn_listen *listen, const char *host, bool numeric)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = numeric ? AI_NUMERICHOST : 0};
    struct addrinfo *found;
    int error = getaddrinfo(host, NULL, &hints, &found);

    memset(listen, 0, sizeof *listen);
    if (error)
        return error;
    take(listen, found, AF_INET);
    take(listen, found, AF_INET6);
    freeaddrinfo(found);
    return listen->count ? 0 : EAI_NONAME;
}

static in_port_t *port_of(struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET6 ? &((struct sockaddr_in6 *)address)->sin6_port
                                          : &((struct sockaddr_in *)address)->sin_port;
}

uint16_t sn_listen_port(const struct sockaddr_storage *address)
{
    struct sockaddr_storage copy = *address;

    return ntohs(*port_of(&copy));
}

const char *sn_listen_text(const struct sockaddr_storage *address, char *text)
{
    const void *bytes = address->ss_family == AF_INET6
                            ? (const void *)&((const struct sockaddr_in6 *)address)->sin6_addr
                            : (const void *)&((const struct sockaddr_in *)address)->sin_addr;

    return inet_ntop(address->ss_family, bytes, text, INET6_ADDRSTRLEN) ? text : "";
}

/* The descriptor, or -errno. The address gets the port. */
static int bind_one(struct sockaddr_storage *address, bool only_ipv6)
{
    socklen_t len =
        address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    int fd = socket(address->ss_family, SOCK_STREAM, 0), only = only_ipv6, error;

    if (fd < 0)
        return -errno;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 &&
        (address->ss_family == AF_INET ||
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only) == 0) &&
        bind(fd, (struct sockaddr *)address, len) == 0 &&
        getsockname(fd, (struct sockaddr *)address, &len) == 0)
        return fd;
    error = errno;
    close(fd);
    return -error;
}

/* All at one port, that of the first. 0, or -errno and how far it came. */
static int bind_all(struct sn_listen *listen, unsigned *bound)
{
    for (*bound = 0; *bound < listen->count; ++*bound) {
        struct sockaddr_storage *address = &listen->addresses[*bound];

        *port_of(address) = *bound ? *port_of(&listen->addresses[0]) : 0;
        listen->fds[*bound] = bind_one(address, *bound > 0);
        if (listen->fds[*bound] < 0)
            return listen->fds[*bound];
    }
    return 0;
}

static void close_fds(struct sn_listen *listen, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        close(listen->fds[i]);
}

int sn_listen_bind(struct sn_listen *listen)
{
    unsigned bound;
    int status;

    for (int tried = 0; (status = bind_all(listen, &bound)) != 0; tried++) {
        close_fds(listen, bound);
        if (status == -EADDRINUSE && tried < PORTS_TRIED)
            continue;
        if (listen->count == 1 || (status != -EADDRNOTAVAIL && status != -EAFNOSUPPORT))
            return status;
        listen->addresses[0] = listen->addresses[1 - bound];
        listen->count = 1;
    }
    return 0;
}

void sn_listen_close(struct sn_listen *listen)
{
    close_fds(listen, listen->count);
}
