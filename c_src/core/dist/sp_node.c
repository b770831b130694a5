#include "sp_node.h"

#include "core/base/sp_bytes.h"
#include "core/conn/sp_conn.h"
#include "sp_dist_answer.h"
#include "sp_dist_connect.h"
#include "core/tls/sp_tls.h"
#include "core/tls/sp_tls_error.h"
#include "core/tls/sp_tls_exit.h"

#include <errno.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_BYTES 4
/* What is passed over on an idle connection, to which a node has little to say. */
#define IDLE_BUDGET_BYTES (64 * 1024)
#define IDLE_FRAMES_MAX 32

struct sp_node_state {
    struct sp_dist_connect *connect; /* until the handshake is over */
    bool shaken_below;               /* the stream below has no handshake left to do */
    bool shaken;
    struct sp_node_names names; /* once it is shaken */
};

static const struct sp_transport *below(const struct sp_conn *conn)
{
    return conn->transport == &sp_transport_node_tls ? &sp_transport_tls : &sp_transport_tcp;
}

/* ---- opening ---- */

static void end_handshake(struct sp_node_state *node)
{
    if (node->connect)
        sp_dist_connect_end(node->connect);
    free(node->connect);
    node->connect = NULL;
}

static bool random_number(uint32_t *number)
{
    bool done = false;

    if (sp_tls_enter()) {
        done = RAND_bytes((unsigned char *)number, sizeof *number) == 1;
        sp_tls_leave();
    }
    return done;
}

static sp_status begin_handshake(struct sp_conn *conn, const struct sp_node_target *target)
{
    struct sp_node_state *node = conn->dist;
    bool tls = below(conn) == &sp_transport_tls;
    uint32_t challenge;

    node->connect = malloc(sizeof *node->connect);
    if (!node->connect)
        return SP_NO_MEMORY;
    if (!random_number(&challenge))
        return SP_NODE_CRYPTO;
    return sp_dist_connect_begin(node->connect, target->name, target->host, target->cookie,
                                 challenge, tls ? SP_DIST_HEADER_TLS : SP_DIST_HEADER_TCP)
               ? SP_OK
               : -EINVAL;
}

static sp_status node_open(struct sp_conn *conn, const struct sp_addr *addr,
                           const struct sp_sockopts *opts)
{
    sp_status status;

    if (!addr->to)
        return -EDESTADDRREQ;
    conn->dist = calloc(1, sizeof *conn->dist);
    if (!conn->dist)
        return SP_NO_MEMORY;
    status = begin_handshake(conn, addr->to);
    return status == SP_OK ? below(conn)->open(conn, addr, opts) : status;
}

static sp_status node_opened(struct sp_conn *conn)
{
    return below(conn)->opened(conn);
}

static sp_status node_set(struct sp_conn *conn, enum sp_option option, int value)
{
    return below(conn)->set(conn, option, value);
}

/* ---- handshake ---- */

static sp_status flush(struct sp_conn *conn, struct sp_dist_connect *connect)
{
    sp_status status = SP_OK;
    size_t sent;

    while (status == SP_OK && connect->out_len > 0) {
        struct iovec iov = {connect->out, connect->out_len};
        status = below(conn)->send(conn, &iov, 1, &sent);
        if (status == SP_OK) {
            connect->out_len -= sent;
            memmove(connect->out, connect->out + sent, connect->out_len);
        }
    }
    return status;
}

static sp_status advance(struct sp_conn *conn, struct sp_dist_connect *connect)
{
    uint8_t bytes[SP_DIST_MESSAGE_MAX];
    sp_status status;
    size_t wanted, got;

    while ((status = flush(conn, connect)) == SP_OK &&
           (wanted = sp_dist_connect_wants(connect)) > 0) {
        status =
            below(conn)->recv(conn, bytes, wanted < sizeof bytes ? wanted : sizeof bytes, &got);
        if (status != SP_OK)
            break;
        (void)sp_dist_connect_take(connect, bytes, got);
    }
    if (connect->state == SP_DIST_FAILED)
        return connect->failure;
    /* A node refuses by ending the connection, with bytes of ours unread or not. */
    if (status == SP_CLOSED || status == -ECONNRESET || status == SP_TLS_TRUNCATED)
        return sp_dist_connect_closed(connect);
    return status;
}

static void keep_names(struct sp_node_state *node)
{
    struct sp_node_names *names = &node->names;

    memcpy(names->name, node->connect->name, sizeof names->name);
    memcpy(names->peer_name, node->connect->peer_name, sizeof names->peer_name);
    names->creation = node->connect->creation;
    node->shaken = true;
}

static sp_status node_handshake(struct sp_conn *conn)
{
    struct sp_node_state *node = conn->dist;
    sp_status status = SP_OK;

    if (!node || !node->connect)
        return SP_CLOSED;
    if (conn->fault != SP_OK)
        return conn->fault;
    if (below(conn)->handshake && !node->shaken_below) {
        status = below(conn)->handshake(conn);
        node->shaken_below = status == SP_OK;
    }
    if (status == SP_OK)
        status = advance(conn, node->connect);
    if (sp_wants(status))
        return status;
    if (status == SP_OK)
        keep_names(node);
    else
        conn->fault = status;
    end_handshake(node);
    return status;
}

/* ---- bytes ---- */

static sp_status node_send(struct sp_conn *conn, const struct iovec *iov, int count, size_t *sent)
{
    return below(conn)->send(conn, iov, count, sent);
}

static sp_status node_recv(struct sp_conn *conn, void *buf, size_t cap, size_t *got)
{
    return below(conn)->recv(conn, buf, cap, got);
}

/* ---- idle connections ---- */

/* All of them or none: SP_UNREAD where only some are there. */
static sp_status read_whole(struct sp_conn *conn, uint8_t *buf, size_t len)
{
    sp_status status;
    size_t have = 0, got;

    do {
        status = below(conn)->recv(conn, buf + have, len - have, &got);
        have += got;
    } while (status == SP_OK && have < len);
    return have > 0 && sp_wants(status) ? SP_UNREAD : status;
}

static sp_status pass_over(struct sp_conn *conn, size_t len)
{
    uint8_t scratch[4096];
    sp_status status = SP_OK;

    while (status == SP_OK && len > 0) {
        size_t part = len < sizeof scratch ? len : sizeof scratch;
        status = read_whole(conn, scratch, part);
        len -= part;
    }
    return sp_wants(status) ? SP_UNREAD : status;
}

/* With its length. One that does not read what it is told gets nothing further. */
static sp_status say(struct sp_conn *conn, const uint8_t *frame, size_t len)
{
    uint8_t header[HEADER_BYTES];
    struct iovec iov[] = {{header, sizeof header}, {(void *)frame, len}};
    size_t sent;
    sp_status status;

    sp_put(header, sizeof header, len);
    status = below(conn)->send(conn, iov, len > 0 ? 2 : 1, &sent);
    return sp_wants(status) || (status == SP_OK && sent < sizeof header + len) ? SP_UNREAD : status;
}

static sp_status take_frame(struct sp_conn *conn, size_t len)
{
    uint8_t question[SP_DIST_QUESTION_MAX], answer[SP_DIST_ANSWER_MAX];
    size_t part = len < sizeof question ? len : sizeof question;
    sp_status status = read_whole(conn, question, part);

    if (status == SP_OK)
        status = pass_over(conn, len - part);
    if (status != SP_OK)
        return sp_wants(status) ? SP_UNREAD : status;
    len = sp_dist_answer(question, part, NULL, answer);
    return len > 0 ? say(conn, answer, len) : SP_OK;
}

static sp_status service_frame(struct sp_conn *conn, size_t *budget_bytes)
{
    uint8_t header[HEADER_BYTES];
    sp_status status = read_whole(conn, header, sizeof header);
    size_t len;

    if (status != SP_OK)
        return status;
    len = (size_t)sp_get(header, sizeof header);
    /* No sums: size_t has 32 bits somewhere, as the length has. */
    if (len > *budget_bytes || sizeof header > *budget_bytes - len)
        return SP_UNREAD;
    *budget_bytes -= sizeof header;
    *budget_bytes -= len;
    /* A node takes for dead who is silent: a tick is answered by one. */
    return len == 0 ? say(conn, header, 0) : take_frame(conn, len);
}

static enum sp_clean node_validate(struct sp_conn *conn)
{
    enum sp_clean clean = below(conn)->validate(conn);
    size_t budget_bytes = IDLE_BUDGET_BYTES;
    unsigned frames = 0;
    sp_status status;

    if (clean != SP_DIRTY)
        return clean;
    do
        status = service_frame(conn, &budget_bytes);
    while (status == SP_OK && ++frames < IDLE_FRAMES_MAX);
    if (sp_wants(status))
        return SP_CLEAN;
    return status == SP_OK || status == SP_UNREAD ? SP_DIRTY : SP_DEAD;
}

/* ---- the end ---- */

static void node_shutdown(struct sp_conn *conn)
{
    below(conn)->shutdown(conn);
}

static void node_cleanup(struct sp_conn *conn)
{
    if (below(conn)->cleanup)
        below(conn)->cleanup(conn);
    if (conn->dist)
        end_handshake(conn->dist);
    free(conn->dist);
    conn->dist = NULL;
}

const struct sp_node_names *sp_node_names(const struct sp_conn *conn)
{
    return sp_is_node(conn->transport) && conn->dist && conn->dist->shaken ? &conn->dist->names
                                                                           : NULL;
}

static void node_describe(struct sp_conn *conn, sp_fact tell, void *arg)
{
    const struct sp_node_names *names = sp_node_names(conn);

    if (below(conn)->describe)
        below(conn)->describe(conn, tell, arg);
    if (!names)
        return;
    tell(arg, "node", SP_FACT_WORD, names->peer_name, strlen(names->peer_name));
    tell(arg, "name", SP_FACT_BYTES, names->name, strlen(names->name));
    tell(arg, "creation", SP_FACT_NUMBER, NULL, names->creation);
}

#define NODE_TRANSPORT                                                                             \
    {                                                                                              \
        .name = "node", .open = node_open, .opened = node_opened, .handshake = node_handshake,     \
        .set = node_set, .send = node_send, .recv = node_recv, .validate = node_validate,          \
        .shutdown = node_shutdown, .cleanup = node_cleanup, .describe = node_describe,             \
        .node = true,                                                                              \
    }

const struct sp_transport sp_transport_node = NODE_TRANSPORT;
const struct sp_transport sp_transport_node_tls = NODE_TRANSPORT;
