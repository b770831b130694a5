#include "sn_place.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>

#define HOSTS_SHOWN 3

void sn_place_server(const struct sn_options *options, char server[SERVER_CHARS])
{
    int len = 0;

    if (options->path)
        len = snprintf(server, SERVER_CHARS, "%s", options->path);
    else if (options->node)
        len = snprintf(server, SERVER_CHARS, "%s", options->node);
    for (size_t i = 0; !options->path && !options->node && i < options->host_count; i++) {
        const struct sn_host *host = &options->hosts[i];
        bool is_v6 = host->family == AF_INET6;

        if (i == HOSTS_SHOWN || len >= SERVER_CHARS) {
            snprintf(server + (len < SERVER_CHARS - 20 ? len : SERVER_CHARS - 20), 20, " and more");
            break;
        }
        len += snprintf(server + len, SERVER_CHARS - (size_t)len, "%s%s%s%s:%u", i ? ", " : "",
                        is_v6 ? "[" : "", host->text, is_v6 ? "]" : "", options->port);
    }
}

/* "IP:PORT"; false where there is none, or no port: a node's, whose epmd is asked. */
bool sn_place_address(const struct sockaddr_storage *address, char text[ADDRESS_CHARS])
{
    bool is_v6 = address->ss_family == AF_INET6;
    char host[INET6_ADDRSTRLEN], port[sizeof "65535"];

    if ((!is_v6 && address->ss_family != AF_INET) ||
        getnameinfo((const struct sockaddr *)address,
                    is_v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in), host,
                    sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0 ||
        strcmp(port, "0") == 0)
        return false;
    snprintf(text, ADDRESS_CHARS, is_v6 ? "[%s]:%s" : "%s:%s", host, port);
    return true;
}
