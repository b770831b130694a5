/* The transport of a worker that is no process. It has no operation of a stream: the core asks for none. */
#ifndef FAKE_WORKER_H
#define FAKE_WORKER_H

#include "core/conn/sp_transport.h"

static inline sp_status fake_worker_open(struct sp_conn *conn, const struct sp_addr *addr,
                                         const struct sp_sockopts *opts)
{
    (void)conn;
    (void)addr;
    (void)opts;
    return SP_OK;
}

static inline sp_status fake_worker_opened(struct sp_conn *conn)
{
    (void)conn;
    return SP_OK;
}

static inline void fake_worker_shutdown(struct sp_conn *conn)
{
    (void)conn;
}

/* `look`: what validate finds. */
#define FAKE_WORKER(look)                                                                          \
    {                                                                                              \
        .name = "worker", .open = fake_worker_open, .opened = fake_worker_opened,                  \
        .validate = (look), .shutdown = fake_worker_shutdown, .worker = true                       \
    }

#endif
