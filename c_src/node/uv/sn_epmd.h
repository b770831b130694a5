/* Keeps the node registered with epmd. Whenever epmd is not there, is another one, or restarts, it
 * tries again, with growing pauses. Never blocks. */
#ifndef SN_EPMD_H
#define SN_EPMD_H

#include "node/dist/sn_alive.h"

#include <stdbool.h>
#include <uv.h>

struct sn_epmd {
    uv_loop_t *loop;
    struct sockaddr_in addr;
    uint8_t request[SN_ALIVE_MAX];
    size_t request_len;

    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    uv_timer_t retry;
    uint8_t answer[SN_ALIVE_ANSWER_MAX];
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

#endif
