#include "sn_scrape_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static bool parse_path(struct sn_scrape_listen *listen, const char *path)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&listen->address;

    if (strlen(path) >= sizeof un->sun_path)
        return false;
    un->sun_family = AF_UNIX;
    strcpy(un->sun_path, path);
    listen->len = sizeof *un;
    return true;
}

static bool parse_port(const char *text, in_port_t *port)
{
    char *end;
    unsigned long number;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    number = strtoul(text, &end, 10);
    *port = htons((uint16_t)number);
    return errno == 0 && *end == '\0' && number <= UINT16_MAX;
}

bool sn_scrape_listen_parse(struct sn_scrape_listen *listen, const char *text)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&listen->address;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&listen->address;
    const char *colon = strrchr(text, ':');
    char host[INET6_ADDRSTRLEN + 2];
    size_t len = colon ? (size_t)(colon - text) : 0;

    memset(listen, 0, sizeof *listen);
    listen->fd = -1;
    if (*text == '/')
        return parse_path(listen, text);
    if (len == 0 || len >= sizeof host)
        return false;
    memcpy(host, text, len);
    host[len] = '\0';
    if (host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        in6->sin6_family = AF_INET6;
        listen->len = sizeof *in6;
        return inet_pton(AF_INET6, host + 1, &in6->sin6_addr) == 1 &&
               parse_port(colon + 1, &in6->sin6_port);
    }
    in->sin_family = AF_INET;
    listen->len = sizeof *in;
    return inet_pton(AF_INET, host, &in->sin_addr) == 1 && parse_port(colon + 1, &in->sin_port);
}

const char *sn_scrape_listen_path(const struct sn_scrape_listen *listen)
{
    return listen->address.ss_family == AF_UNIX
               ? ((const struct sockaddr_un *)&listen->address)->sun_path
               : NULL;
}

/* Left by one that was killed. */
static bool is_stale(const struct sn_scrape_listen *listen)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct stat stat;
    bool stale;

    if (fd < 0)
        return false;
    stale = lstat(sn_scrape_listen_path(listen), &stat) == 0 && S_ISSOCK(stat.st_mode) &&
            connect(fd, (const struct sockaddr *)&listen->address, listen->len) != 0 &&
            errno == ECONNREFUSED;
    close(fd);
    return stale;
}

static int bind_to(int fd, struct sn_scrape_listen *listen)
{
    const char *path = sn_scrape_listen_path(listen);

    if (bind(fd, (struct sockaddr *)&listen->address, listen->len) == 0)
        return 0;
    if (errno != EADDRINUSE || !path)
        return -errno;
    if (!is_stale(listen) || unlink(path) != 0)
        return -EADDRINUSE;
    return bind(fd, (struct sockaddr *)&listen->address, listen->len) == 0 ? 0 : -errno;
}

int sn_scrape_listen_bind(struct sn_scrape_listen *listen)
{
    int fd = socket(listen->address.ss_family, SOCK_STREAM, 0), on = 1, status = 0;
    bool is_ip = !sn_scrape_listen_path(listen);

    if (fd < 0)
        return -errno;
    /* Connections that it closed keep the port for a minute. */
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 ||
        (is_ip && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0))
        status = -errno;
    if (status == 0)
        status = bind_to(fd, listen);
    if (status == 0 && is_ip &&
        getsockname(fd, (struct sockaddr *)&listen->address, &listen->len) != 0)
        status = -errno;
    if (status == 0)
        listen->fd = fd;
    else
        close(fd);
    return status;
}

static int check_path(const char *path)
{
    char folder[sizeof((struct sockaddr_un *)NULL)->sun_path];
    char *slash;

    strcpy(folder, path);
    slash = strrchr(folder, '/');
    slash[slash == folder] = '\0';
    return access(folder, W_OK) == 0 ? 0 : -errno;
}

int sn_scrape_listen_check(struct sn_scrape_listen *listen)
{
    const char *path = sn_scrape_listen_path(listen);
    int status = path ? check_path(path) : sn_scrape_listen_bind(listen);

    if (!path && status == 0)
        close(listen->fd);
    return status == -EADDRINUSE ? 0 : status;
}

void sn_scrape_listen_remove(const struct sn_scrape_listen *listen)
{
    const char *path = sn_scrape_listen_path(listen);

    if (path)
        (void)unlink(path);
}
