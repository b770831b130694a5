/* Tells whoever asks by HTTP what the pools have counted: GET and HEAD of /metrics, one request on a connection. Those who
 * ask are few and have little time; nobody else waits for them. Everything runs in the loop's thread. */
#ifndef SN_SCRAPE_H
#define SN_SCRAPE_H

#include "node/base/sn_log.h"
#include "node/pool/sn_pools.h"
#include "sn_scrape_listen.h"

#include <uv.h>

/* At the same time. Where one more comes, the oldest that has not asked yet goes; where all have, it waits. */
#define SN_SCRAPE_CLIENTS 16
/* From its begin, a connection has this long. */
#define SN_SCRAPE_LIMIT_MS 10000
/* An end that was told and not seen. */
#define SN_SCRAPE_LINGER_MS 1000

struct sn_scrape_client;

union sn_scrape_stream {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
};

struct sn_scrape {
    const struct sn_scrape_listen *listen;
    uv_loop_t *uv;
    struct sn_pools *pools;
    union sn_scrape_stream listener;
    struct sn_scrape_client *slots;
    struct sp_list clients, free; /* all of these but for those that are being closed */
    bool unaccepted;              /* one waits for a free slot */
    bool stopping;
    struct sn_log_limit refused;
};

/* `listen' is bound; it outlives this. 0 or a libuv error, after which the program ends. */
int sn_scrape_start(struct sn_scrape *scrape, uv_loop_t *uv, struct sn_pools *pools,
                    const struct sn_scrape_listen *listen);
/* Ends all of it; run the loop until it ends by itself, then sn_scrape_free(), which does nothing where none was started. */
void sn_scrape_stop(struct sn_scrape *scrape);
void sn_scrape_free(struct sn_scrape *scrape);

#endif
