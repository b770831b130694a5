/* Addresses of names, by uv_getaddrinfo(), which works in half of libuv's threads. A name is asked for once at
 * a time, however many attempts of however many pools want it; so a name server that does not answer holds one
 * thread for each name. Those beyond wait for a thread, and keep their place when an attempt gives up. */
#ifndef SN_LOOKUP_H
#define SN_LOOKUP_H

#include "sn_loop.h"

struct sn_lookups {
    struct sn_loop *loop;
    struct sp_list running; /* of struct sn_lookup */
};

/* Somebody who waits. */
struct sn_lookup_waiter {
    struct sp_list_node node;
    bool waits;
    /* status is libuv's; found lives during the call. */
    void (*answer)(struct sn_lookup_waiter *waiter, int status, const struct addrinfo *found);
};

void sn_lookups_init(struct sn_lookups *lookups, struct sn_loop *loop);
/* Nobody waits any more: gives up those that have no thread yet. */
void sn_lookups_close(struct sn_lookups *lookups);

/* waiter->answer() is called, never within this call. 0, or a libuv error: then it is not. */
int sn_lookups_ask(struct sn_lookups *lookups, const char *name, struct sn_lookup_waiter *waiter);
/* It waits no longer. Does nothing where it does not wait. */
void sn_lookup_waiter_leave(struct sn_lookup_waiter *waiter);

#endif
