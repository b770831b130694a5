/* Clients of epmd: one keeps the node registered with that of this host; others ask one at which port a node
 * listens. Never blocks. */
#ifndef SN_EPMD_H
#define SN_EPMD_H

#include "node/dist/sn_epmd_message.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <uv.h>

/* Whenever epmd is not there, is another one, or restarts, it tries again, with growing pauses. */
struct sn_epmd {
    uv_loop_t *loop;
    struct sockaddr_in addr;
    uint8_t request[SN_EPMD_REGISTER_MAX];
    size_t request_len;

    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    uv_timer_t retry;
    uint8_t answer[SN_EPMD_REGISTER_ANSWER_MAX];
    size_t answer_len;
    uint64_t pause_ms;
    bool registered, stopping, complained;
};

/* Begins to register the node `name` (name@host) that listens on `port` with the epmd on this host
 * at `epmd_port`. The struct stays where it is until the loop has ended. */
void sn_epmd_start(struct sn_epmd *epmd, uv_loop_t *loop, uint16_t epmd_port, const char *name,
                   uint16_t port);

/* Takes the name out of epmd, by closing the connection, and ends. */
void sn_epmd_stop(struct sn_epmd *epmd);

struct sn_epmd_query;

/* Asks the epmd at that address, whose port is set there, for the node of that name, which is what stands
 * before the @. told() is called once, never within this call: with the port, or with 0 where it does not
 * know the node, or does not answer. NULL where memory is short. */
struct sn_epmd_query *sn_epmd_ask(uv_loop_t *loop, const struct sockaddr_storage *epmd,
                                  const char *name, void (*told)(void *arg, uint16_t port),
                                  void *arg);
/* Ends it before told(), which then does not come. */
void sn_epmd_drop(struct sn_epmd_query *query);

#endif
