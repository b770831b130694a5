#include "tls_pair.h"

#include <criterion/criterion.h>

struct tls_pair pair;

void tpair_make(void)
{
    struct sp_tls_options options;

    tkit_world_make();
    options = tkit_options();
    sp_tls_slot_init(&pair.slot);
    sp_tls_slot_set(&pair.slot, tkit_ctx(&options), 1);
    pair.server = tkit_server_new(&tkit_world.leaf, TLS1_3_VERSION);
}

void tpair_connect(void)
{
    tkit_open(&pair.conn, &pair.slot, "localhost");
    cr_assert_eq(tkit_shake(&pair.conn, &pair.server), SP_OK);
    tkit_pump(&pair.conn, &pair.server);
}

void tpair_open(void)
{
    tpair_make();
    tpair_connect();
    /* The tickets. */
    cr_assert_eq(pair.conn.transport->validate(&pair.conn), SP_CLEAN);
}

void tpair_close(void)
{
    tkit_close(&pair.conn);
    tkit_server_free(&pair.server);
    sp_tls_slot_destroy(&pair.slot);
    cr_assert_eq(sp_tls_ctx_count(tkit_registry), 0);
    tkit_world_free();
    cr_assert_eq(fake_fds_open(), 0);
}

/* A connection that speaks TLS 1.2 instead. */
void tpair_open_12(void)
{
    tpair_make();
    tkit_server_free(&pair.server);
    pair.server = tkit_server_new(&tkit_world.leaf, TLS1_2_VERSION);
    tpair_connect();
}

void tpair_server_sends(const void *data, size_t len)
{
    cr_assert_eq(SSL_write(pair.server.ssl, data, (int)len), (int)len);
    tkit_pump(&pair.conn, &pair.server);
}

int tpair_server_reads(void *buf, size_t cap)
{
    tkit_pump(&pair.conn, &pair.server);
    return SSL_read(pair.server.ssl, buf, (int)cap);
}
