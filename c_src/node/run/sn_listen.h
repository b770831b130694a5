/* The sockets that the node listens on: its host's address of each family, with one port, since epmd tells
 * one. An Erlang node looks for a name's IPv4 address, or its IPv6 address with -proto_dist inet6_tcp. */
#ifndef SN_LISTEN_H
#define SN_LISTEN_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#define SN_LISTEN_MAX 2

struct sn_listen {
    struct sockaddr_storage
        addresses[SN_LISTEN_MAX]; /* IPv4 first; with the port once it is bound */
    int fds[SN_LISTEN_MAX];
    unsigned count;
};

/* What a name stands for, at this moment; or with `numeric' an IP address. 0, or an error of
 * getaddrinfo(). */
int sn_listen_resolve(struct sn_listen *listen, const char *host, bool numeric);

/* Binds sockets to a port that is free at all addresses. An address that this host does not have is left
 * out, unless it is the only one. 0, or -errno. */
int sn_listen_bind(struct sn_listen *listen);
void sn_listen_close(struct sn_listen *listen);

/* An address as text, in a buffer of INET6_ADDRSTRLEN bytes, which is returned. */
const char *sn_listen_text(const struct sockaddr_storage *address, char *text);
uint16_t sn_listen_port(const struct sockaddr_storage *address);

#endif
