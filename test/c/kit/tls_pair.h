/* A connection and the server that it is connected to, as fixtures of tests: one of each. */
#ifndef TLS_PAIR_H
#define TLS_PAIR_H

#include "tls_kit.h"

struct tls_pair {
    struct sp_tls_slot slot;
    struct tkit_server server;
    struct sp_conn conn;
};
extern struct tls_pair pair;

/* The world, a slot with a context of tkit_options(), and a server of TLS 1.3, unconnected. */
void tpair_make(void);
/* Connects to "localhost"; what the server says after the handshake is there, unread. */
void tpair_connect(void);
/* Both of these, and the tickets are taken. */
void tpair_open(void);
/* Connected by TLS 1.2. */
void tpair_open_12(void);
/* Ends all of it. Fails where a context or a descriptor is left. */
void tpair_close(void);

void tpair_server_sends(const void *data, size_t len);
/* What SSL_read returned. */
int tpair_server_reads(void *buf, size_t cap);

#endif
