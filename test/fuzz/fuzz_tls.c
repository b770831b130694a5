/* libFuzzer over the tls transport: a client against a real server in memory, whose bytes are cut,
 * spoiled, held back, mixed with forged ones, and ended as the input says.
 *
 * The first byte is the version and how the socket is cut; each further step is an operation and its
 * arguments. What must hold, besides memory: data that came through an unspoiled stream is what the
 * server sent; a fault stays a fault; nothing runs for ever. */
#include "core/tls/sp_tls_error.h"
#include "kit/tls_kit.h"

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 200

static struct sp_tls_slot slot;
static struct tkit_server servers[2]; /* TLS 1.2, TLS 1.3 */

struct input {
    const uint8_t *data;
    size_t left;
};

struct run {
    struct sp_conn conn;
    struct tkit_server *server;
    struct input input;
    bool spoiled;              /* what came may be anything */
    uint8_t next_out, next_in; /* the stream is a count */
};

static uint8_t next(struct input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->data++;
}

static void must(bool holds, const char *what)
{
    if (!holds)
        fake_die("%s", what);
}

static void set_up(void)
{
    struct sp_tls_options options;

    tkit_world_make();
    options = tkit_options();
    sp_tls_slot_init(&slot);
    sp_tls_slot_set(&slot, tkit_ctx(&options), 1);
    servers[0] = tkit_server_new(&tkit_world.leaf, TLS1_2_VERSION);
    servers[1] = tkit_server_new(&tkit_world.leaf, TLS1_3_VERSION);
}

/* ---- the server's steps ---- */

static void server_says(struct run *run, size_t len)
{
    uint8_t data[4096];

    for (size_t i = 0; i < len; i++)
        data[i] = run->next_out++;
    ERR_clear_error();
    if (len == 0 || SSL_write(run->server->ssl, data, (int)len) != (int)len)
        run->next_out -= (uint8_t)len;
}

/* What the server has ready, up to `len` bytes of it, with one byte changed where `mask` is not 0. */
static void deliver(struct run *run, size_t len, size_t at, uint8_t mask)
{
    BIO *bio = SSL_get_wbio(run->server->ssl);
    uint8_t data[2048];
    int got = BIO_read(bio, data, (int)(len < sizeof data ? len : sizeof data));

    if (got <= 0)
        return;
    if (mask) {
        data[at % (size_t)got] ^= mask;
        run->spoiled = true;
    }
    fake_peer_sends(run->conn.fd, data, (size_t)got);
}

static void forge(struct run *run)
{
    uint8_t data[64];
    size_t len = next(&run->input) % sizeof data;

    for (size_t i = 0; i < len; i++)
        data[i] = next(&run->input);
    fake_peer_sends(run->conn.fd, data, len);
    run->spoiled = run->spoiled || len > 0;
}

static void update_keys(struct run *run, bool answer)
{
    if (SSL_version(run->server->ssl) == TLS1_3_VERSION && SSL_is_init_finished(run->server->ssl) &&
        SSL_key_update(run->server->ssl,
                       answer ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED) == 1)
        (void)SSL_do_handshake(run->server->ssl);
}

static void give_ticket(struct run *run)
{
    if (SSL_is_init_finished(run->server->ssl) && SSL_version(run->server->ssl) == TLS1_3_VERSION &&
        SSL_new_session_ticket(run->server->ssl) == 1)
        (void)SSL_do_handshake(run->server->ssl);
}

/* ---- the client's steps ---- */

static void check_fault(struct run *run, sp_status fault_before)
{
    must(fault_before == SP_OK || run->conn.fault == fault_before, "a fault changed");
}

static void client_receives(struct run *run, size_t cap)
{
    static uint8_t data[70000];
    size_t got;
    sp_status fault = run->conn.fault;
    sp_status status = run->conn.transport->recv(&run->conn, data, cap ? cap : 1, &got);

    must((status == SP_OK) == (got > 0), "bytes and status disagree");
    must(status != SP_OK || fault == SP_OK, "bytes after a fault");
    check_fault(run, fault);
    for (size_t i = 0; i < got && !run->spoiled; i++)
        must(data[i] == run->next_in++, "other bytes than the server's");
}

static void client_sends(struct run *run, size_t len)
{
    static const uint8_t ZERO[4096];
    struct iovec iov[] = {{(void *)(uintptr_t)ZERO, len / 3},
                          {(void *)(uintptr_t)ZERO, len - len / 3}};
    size_t sent;
    sp_status fault = run->conn.fault;
    sp_status status = run->conn.transport->send(&run->conn, iov, 2, &sent);

    must(sent <= len, "more sent than there was");
    must(status != SP_OK || len == 0 || sent > 0, "sent nothing and said so not");
    check_fault(run, fault);
}

static void client_validates(struct run *run)
{
    sp_status fault = run->conn.fault;
    enum sp_clean clean = run->conn.transport->validate(&run->conn);

    must(fault == SP_OK || clean == SP_DEAD, "a fault came alive");
    check_fault(run, fault);
}

static void step(struct run *run, bool shaken)
{
    uint8_t op = next(&run->input), arg = next(&run->input);
    size_t len = (size_t)arg * 16;

    ERR_clear_error();
    switch (op % 12) {
    case 0:
        server_says(run, len);
        break;
    case 1:
        deliver(run, len, 0, 0);
        break;
    case 2:
        deliver(run, len, next(&run->input), next(&run->input));
        break;
    case 3:
        forge(run);
        break;
    case 4:
        update_keys(run, arg & 1);
        break;
    case 5:
        give_ticket(run);
        break;
    case 6:
        (void)SSL_shutdown(run->server->ssl);
        break;
    case 7:
        if (arg & 1)
            fake_peer_closes(run->conn.fd);
        else
            fake_peer_resets(run->conn.fd);
        run->spoiled = true;
        break;
    case 8:
        fake_send_room(run->conn.fd, len);
        break;
    case 9:
        if (shaken)
            client_sends(run, len);
        break;
    case 10:
        if (shaken)
            client_validates(run);
        break;
    default:
        if (shaken)
            client_receives(run, len);
    }
}

/* Either cleanly, or step by step as the input says. */
static bool shake(struct run *run, bool cleanly)
{
    sp_status status;

    if (cleanly) {
        must(tkit_shake(&run->conn, run->server) == SP_OK, "a clean handshake failed");
        run->server->held = true;
        return true;
    }
    run->server->held = true;
    for (int i = 0; i < STEPS_MAX; i++) {
        status = run->conn.transport->handshake(&run->conn);
        if (status == SP_OK)
            return true;
        if (!sp_wants(status) || run->input.left == 0)
            return false;
        tkit_pump(&run->conn, run->server);
        step(run, false);
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run run = {.input = {data, size}};
    uint8_t mode;
    bool shaken;

    if (!servers[0].ctx)
        set_up();
    fake_sys_reset();
    mode = next(&run.input);
    run.server = &servers[mode & 1];
    run.server->held = false;
    tkit_server_again(run.server);
    tkit_open(&run.conn, &slot, "localhost");
    if (mode & 2)
        fake_recv_slice(run.conn.fd, 1 + mode / 16);
    shaken = shake(&run, mode & 4);
    for (int i = 0; shaken && i < STEPS_MAX && run.input.left > 0; i++) {
        step(&run, true);
        tkit_pump(&run.conn, run.server);
    }
    tkit_close(&run.conn);
    return 0;
}
