/* Asks an epmd at which port a node listens. No more than a port is read of what comes. */
#ifndef SN_PORT_H
#define SN_PORT_H

#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

struct sn_port;

/* Asks the epmd at that address, whose port is set there, for the node of that name, which is what stands
 * before the @. told() is called once, never within this call: with the port, or with 0 where it does not
 * know the node, or does not answer. NULL where memory is short. */
struct sn_port *sn_port_ask(uv_loop_t *loop, const struct sockaddr_storage *epmd, const char *name,
                            void (*told)(void *arg, uint16_t port), void *arg);
/* Ends it before told(), which then does not come. */
void sn_port_drop(struct sn_port *port);

#endif
