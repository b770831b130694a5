/* The pools of the configuration file: started in the beginning, and at SIGHUP made what the file says
 * then. It is read, and what it says of TLS is made, in one of libuv's threads, since that
 * takes long. A pool that has changed is stopped and started anew; the files of TLS are read again for the
 * others. Where the file cannot be used nothing changes. Everything runs in the loop's thread. */
#ifndef SN_RELOAD_H
#define SN_RELOAD_H

#include "node/pool/sn_pools.h"
#include "sn_settings.h"

struct sn_reload {
    struct sn_pools *pools;
    const char *path;            /* NULL: there is no file */
    struct sn_settings settings; /* what the file said last */
    unsigned stopping;           /* pools on whose end others wait to be started */
    bool again;                  /* asked for meanwhile */
    bool reading;
    uv_work_t work;
    /* While it is read, the thread's. */
    struct sn_settings next;
    bool is_good;
    struct sn_complaint complaint;
    /* Without a file: */
    struct sn_task task;
    unsigned round;
};

/* Starts the pools of what was read from the file at `path'. Moves the settings. `path' is the
 * caller's, and NULL where there is none. */
void sn_reload_start(struct sn_reload *reload, struct sn_pools *pools, const char *path,
                     struct sn_settings *settings);
/* Reads the file again. Without one, only the files of TLS of all pools. */
void sn_reload_now(struct sn_reload *reload);
/* Once no pool is being stopped any more. */
void sn_reload_free(struct sn_reload *reload);

#endif
