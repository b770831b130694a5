#include "sn_port.h"

#include "node/dist/sn_please.h"

#include <stdlib.h>
#include <string.h>

struct sn_port {
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    void (*told)(void *arg, uint16_t port); /* NULL: nobody waits any more */
    void *arg;
    uint16_t port;
    uint8_t request[SN_PLEASE_MAX];
    size_t request_len;
    uint8_t answer[SN_PLEASE_ANSWER_BYTES];
    size_t answer_len;
};

static void on_closed(uv_handle_t *handle)
{
    struct sn_port *port = handle->data;

    if (port->told)
        port->told(port->arg, port->port);
    free(port);
}

static void finish(struct sn_port *port)
{
    if (!uv_is_closing((uv_handle_t *)&port->tcp))
        uv_close((uv_handle_t *)&port->tcp, on_closed);
}

void sn_port_drop(struct sn_port *port)
{
    port->told = NULL;
    finish(port);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct sn_port *port = handle->data;

    (void)suggested;
    *buf = uv_buf_init((char *)port->answer + port->answer_len,
                       (unsigned)(sizeof port->answer - port->answer_len));
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    struct sn_port *port = stream->data;

    (void)buf;
    if (len > 0)
        port->answer_len += (size_t)len;
    if (len < 0 || sn_please_answer(port->answer, port->answer_len, &port->port) != SP_WANT_READ)
        finish(port);
}

static void on_written(uv_write_t *write, int status)
{
    if (status != 0)
        finish(write->data);
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct sn_port *port = connect->data;
    uv_buf_t request = uv_buf_init((char *)port->request, (unsigned)port->request_len);

    if (status == 0)
        status = uv_read_start((uv_stream_t *)&port->tcp, on_alloc, on_read);
    if (status == 0)
        status = uv_write(&port->write, (uv_stream_t *)&port->tcp, &request, 1, on_written);
    if (status != 0)
        finish(port);
}

struct sn_port *sn_port_ask(uv_loop_t *loop, const struct sockaddr_storage *epmd, const char *name,
                            void (*told)(void *arg, uint16_t port), void *arg)
{
    struct sn_port *port = calloc(1, sizeof *port);
    size_t len = strcspn(name, "@");

    if (!port || len > SP_DIST_NODE_NAME_MAX) {
        free(port);
        return NULL;
    }
    (void)uv_tcp_init(loop, &port->tcp); /* cannot fail: no socket is made yet */
    port->tcp.data = port->connect.data = port->write.data = port;
    port->told = told;
    port->arg = arg;
    port->request_len = sn_please_request(port->request, name, len);
    if (uv_tcp_connect(&port->connect, &port->tcp, (const struct sockaddr *)epmd, on_connected) !=
        0)
        finish(port);
    return port;
}
