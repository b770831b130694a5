/* What the node consists of: a libuv loop, listening sockets, the connections of other nodes, epmd, pools. All
 * of it is the loop's thread's. */
#ifndef SN_SERVER_H
#define SN_SERVER_H

#include "node/uv/sn_epmd.h"
#include "sn_listen.h"
#include "node/base/sn_log.h"
#include "sn_reload.h"
#include "sn_scrape.h"
#include "node/serve/sn_service.h"
#include "core/base/sp_list.h"

#include <uv.h>

struct sn_config {
    struct sn_identity us;
    const struct sn_listen *listen; /* bound; taken over once it serves, else the caller's still */
    const struct sn_scrape_listen *metrics; /* likewise; NULL: they are told nobody */
    uint64_t tick_time_ns;
    uint16_t epmd_port;
    uint64_t drain_time_ns;    /* the most that leases may take to end, at the end */
    const char *settings_path; /* NULL: there is no configuration file */
    struct sn_settings
        *settings; /* what is in it; taken over once it serves, else the caller's still */
    bool
        is_port; /* of Erlang: a line on stdin is the order to end, its end is that of who wants it */
};

struct sn_server {
    const struct sn_config *config;
    struct sn_here here;
    uv_loop_t loop;
    struct sn_loop turns;
    uv_tcp_t listeners[SN_LISTEN_MAX];
    uv_signal_t sigterm, sigint, sighup;
    uv_pipe_t input;
    struct sn_epmd epmd;
    struct sn_service service;
    struct sn_reload reload;
    struct sn_scrape scrape;
    struct sp_list peers;      /* all whose handle is not closed yet */
    struct sp_list handshakes; /* of them, those that are not members yet */
    unsigned handshake_count, handshakes_max;
    struct sn_log_limit refusals[SN_REFUSED_CRYPTO + 1], drops, not_accepted, comings, goings;
    uv_timer_t drain, watchdog, accept_again;
    unsigned unaccepted; /* a bit for each listener: a connection waits there for memory */
    uint64_t heard_ns;   /* when a node was last read from */
    bool draining, stopping, over;
};

#endif
