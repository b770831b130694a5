/* A connection without a pool, on a fake socket, for tests of the transports. */
#ifndef LONE_CONN_H
#define LONE_CONN_H

#include "fake_sys.h"
#include "core/conn/sp_conn.h"
#include "core/stream/sp_stream.h"

static inline struct sp_conn lone_conn(const struct sp_transport *transport)
{
    return (struct sp_conn){.sys = &fake_sys, .transport = transport, .fd = -1};
}

/* Connected. */
static inline struct sp_conn lone_open(const struct sp_transport *transport)
{
    static const struct sp_addr ADDR = {.storage.ss_family = AF_INET, .len = sizeof ADDR.storage};
    static const struct sp_sockopts OPTS = {.nodelay = false};
    struct sp_conn conn = lone_conn(transport);

    fake_sys_reset();
    fake_connect_at_once(true);
    if (transport->open(&conn, &ADDR, &OPTS) != SP_OK)
        fake_die("open");
    return conn;
}

#endif
