/* The socket at which metrics are told: of an IP address and a port, or a Unix socket. */
#ifndef SN_SCRAPE_LISTEN_H
#define SN_SCRAPE_LISTEN_H

#include <stdbool.h>
#include <sys/socket.h>

struct sn_scrape_listen {
    struct sockaddr_storage address; /* with the port once it is bound */
    socklen_t len;
    int fd;
};

#define SN_SCRAPE_LISTEN_ALLOWED                                                                   \
    "ADDRESS:PORT, [IPv6]:PORT, or a Unix socket's path with a / at its begin, of up to 107 bytes"

/* False: the text is none of SN_SCRAPE_LISTEN_ALLOWED. Port 0 is one that is free. */
bool sn_scrape_listen_parse(struct sn_scrape_listen *listen, const char *text);

/* 0, or -errno. A Unix socket that nobody listens on any more gives way. */
int sn_scrape_listen_bind(struct sn_scrape_listen *listen);
/* Whether that would work, but for a node that runs already and has it: 0, or -errno. */
int sn_scrape_listen_check(struct sn_scrape_listen *listen);
/* What is left of it in the file system, once it is closed. */
void sn_scrape_listen_remove(const struct sn_scrape_listen *listen);

/* NULL where it is an IP address. */
const char *sn_scrape_listen_path(const struct sn_scrape_listen *listen);

#endif
