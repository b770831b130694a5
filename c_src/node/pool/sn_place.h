/* Servers and addresses as text, for the log. */
#ifndef SN_PLACE_H
#define SN_PLACE_H

#include "node/option/sn_options.h"

#include <arpa/inet.h>

#define SERVER_CHARS 300
#define ADDRESS_CHARS (sizeof "[]:65535" + INET6_ADDRSTRLEN)

/* To whom a pool connects. */
void sn_place_server(const struct sn_options *options, char server[SERVER_CHARS]);
/* "IP:PORT"; false where there is none, or no port. */
bool sn_place_address(const struct sockaddr_storage *address, char text[ADDRESS_CHARS]);

#endif
