/* A lease whose owner receives: by a number of bytes, whatever is there, or a message. */
#ifndef RECV_KIT_H
#define RECV_KIT_H

#include "pool_kit.h"

#include <criterion/criterion.h>
#include <string.h>

#define SCRATCH_MAX 4096

static struct handle *handle;
static struct sp_conn *conn;
static uint8_t scratch[SCRATCH_MAX];
static size_t scratch_cap;
static struct sp_received received;

static inline void leased(void)
{
    kit_start(1, 0);
    handle = kit_checkout(KIT_OWNER);
    conn = handle->conn;
    scratch_cap = SCRATCH_MAX;
}

static inline void sends(const char *bytes, size_t len)
{
    fake_peer_sends(conn->fd, bytes, len);
}

static inline sp_status want(bool packet, size_t len)
{
    return sp_recv(conn, kit_call(), &(struct sp_want){.packet = packet, .len_bytes = len}, scratch,
                   scratch_cap, &received);
}

static inline sp_status exactly(size_t len)
{
    return want(false, len);
}

static inline sp_status any(void)
{
    return want(false, 0);
}

static inline sp_status packet(void)
{
    return want(true, 0);
}

/* The answer is SP_OK, the message is this, and it is taken. */
static inline void got(sp_status status, const char *bytes, size_t len)
{
    cr_assert_eq(status, SP_OK, "%s", sp_status_name(status));
    cr_assert_eq(received.len, len);
    cr_assert_eq(memcmp(received.data, bytes, len), 0);
    sp_recv_taken(conn, &received);
}

#endif
