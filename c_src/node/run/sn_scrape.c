#include "sn_scrape.h"

#include "node/pool/sn_metrics.h"
#include "sn_scrape_request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKLOG 64

struct sn_scrape_client {
    struct sp_list_node node; /* in the list of clients, or of free ones */
    struct sn_scrape *scrape;
    union sn_scrape_stream io;
    uv_timer_t timer;
    unsigned open_handles;
    enum { READING, MAKING, WRITING, LINGERING, CLOSING } phase;
    char head[SN_SCRAPE_HEAD_MAX];
    size_t head_len;
    struct sn_scrape_request request;
    struct sn_metrics *metrics;
    struct sn_task work;
    char answer[256];
    uv_write_t write;
    uv_shutdown_t shutdown;
};

static void accept_next(struct sn_scrape *scrape);

static void on_closed(uv_handle_t *handle)
{
    struct sn_scrape_client *client = handle->data;
    struct sn_scrape *scrape = client->scrape;

    if (--client->open_handles > 0)
        return;
    sn_metrics_free(client->metrics);
    sp_list_push_newest(&scrape->free, &client->node);
    if (scrape->unaccepted && !scrape->stopping)
        accept_next(scrape);
}

static void close_client(struct sn_scrape_client *client)
{
    if (client->phase == CLOSING)
        return;
    client->phase = CLOSING;
    sp_list_remove(&client->node);
    sn_loop_drop(&client->work);
    uv_close(&client->io.handle, on_closed);
    uv_close((uv_handle_t *)&client->timer, on_closed);
}

static void on_limit(uv_timer_t *timer)
{
    close_client(timer->data);
}

/* ---- the answer ---- */

static void on_shutdown(uv_shutdown_t *shutdown, int status)
{
    struct sn_scrape_client *client = shutdown->data;

    if (status != 0)
        close_client(client);
}

/* To close with bytes unread would take the answer out of the other's hands. */
static void on_written(uv_write_t *write, int status)
{
    struct sn_scrape_client *client = write->data;

    if (client->phase == CLOSING)
        return;
    client->phase = LINGERING;
    client->shutdown.data = client;
    if (status != 0 || uv_shutdown(&client->shutdown, &client->io.stream, on_shutdown) != 0) {
        close_client(client);
        return;
    }
    uv_timer_start(&client->timer, on_limit, SN_SCRAPE_LINGER_MS, 0);
}

/* Of a text that is there, or of what there is none for. */
static void answer(struct sn_scrape_client *client, int status, const char *words)
{
    static const char plain[] = "text/plain; version=0.0.4; charset=utf-8",
                      open[] = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    size_t len = strlen(words) + 1;
    const char *text = NULL;
    uv_buf_t bufs[3];
    int head;

    if (status == 200)
        text = sn_metrics_text(client->metrics, &len);
    head = snprintf(client->answer, sizeof client->answer,
                    "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s"
                    "Connection: close\r\n\r\n",
                    status, words,
                    status != 200                 ? "text/plain; charset=utf-8"
                    : client->request.openmetrics ? open
                                                  : plain,
                    len, status == 405 ? "Allow: GET, HEAD\r\n" : "");
    bufs[0] = uv_buf_init(client->answer, (unsigned)head);
    bufs[1] = text ? uv_buf_init((char *)(uintptr_t)text, (unsigned)len)
                   : uv_buf_init((char *)(uintptr_t)words, (unsigned)len - 1);
    bufs[2] = uv_buf_init((char *)(uintptr_t) "\n", text ? 0 : 1);
    client->phase = WRITING;
    client->write.data = client;
    if (uv_write(&client->write, &client->io.stream, bufs, client->request.head_only ? 1 : 3,
                 on_written) != 0)
        close_client(client);
}

/* In pieces, between which others have their turns. */
static void on_work(struct sn_task *task)
{
    struct sn_scrape_client *client = SP_CONTAINER(task, struct sn_scrape_client, work);
    sp_status status = sn_metrics_go_on(client->metrics);

    if (status == SP_BUSY)
        sn_loop_defer_to_end(client->scrape->pools->loop, task);
    else if (status == SP_OK)
        answer(client, 200, "OK");
    else
        answer(client, 503, "Service Unavailable");
}

static void refuse(struct sn_scrape_client *client, int status)
{
    answer(client, status,
           status == 404   ? "Not Found"
           : status == 405 ? "Method Not Allowed"
           : status == 431 ? "Request Header Fields Too Large"
           : status == 503 ? "Service Unavailable"
           : status == 505 ? "HTTP Version Not Supported"
                           : "Bad Request");
}

static void begin(struct sn_scrape_client *client)
{
    client->metrics = sn_metrics_begin(client->scrape->pools, client->request.openmetrics);
    if (!client->metrics) {
        refuse(client, 503);
        return;
    }
    client->phase = MAKING;
    sn_loop_defer_to_end(client->scrape->pools->loop, &client->work);
}

/* ---- the request ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static char dropped[4096];
    struct sn_scrape_client *client = handle->data;

    (void)suggested;
    if (client->phase == READING)
        *buf = uv_buf_init(client->head + client->head_len,
                           (unsigned)(sizeof client->head - client->head_len));
    else
        *buf = uv_buf_init(dropped, sizeof dropped);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    struct sn_scrape_client *client = stream->data;
    int status;

    (void)buf;
    if (len < 0 && len == UV_EOF && (client->phase == MAKING || client->phase == WRITING)) {
        (void)uv_read_stop(stream); /* it has said all, and still reads */
    } else if (len < 0) {
        close_client(client);
    } else if (len > 0 && client->phase == READING) {
        client->head_len += (size_t)len;
        status = sn_scrape_request(client->head, client->head_len, &client->request);
        if (status == 200)
            begin(client);
        else if (status != 0)
            refuse(client, status);
    }
}

/* ---- connections ---- */

static void init_stream(struct sn_scrape *scrape, union sn_scrape_stream *io, void *data)
{
    if (sn_scrape_listen_path(scrape->listen))
        (void)uv_pipe_init(scrape->uv, &io->pipe, 0);
    else
        (void)uv_tcp_init(scrape->uv, &io->tcp);
    io->handle.data = data;
}

/* Whoever connects and says nothing does not keep others away. */
static void make_room(struct sn_scrape *scrape)
{
    struct sp_list_node *at = sp_list_oldest(&scrape->clients);

    for (; at; at = sp_list_newer(&scrape->clients, at)) {
        struct sn_scrape_client *client = SP_CONTAINER(at, struct sn_scrape_client, node);

        if (client->phase == READING || client->phase == LINGERING) {
            close_client(client);
            return;
        }
    }
}

static void accept_next(struct sn_scrape *scrape)
{
    struct sp_list_node *free = sp_list_oldest(&scrape->free);
    struct sn_scrape_client *client;

    scrape->unaccepted = !free;
    if (!free) {
        make_room(scrape); /* and go on when that one is closed, or another */
        return;
    }
    sp_list_remove(free);
    client = SP_CONTAINER(free, struct sn_scrape_client, node);
    memset(client, 0, sizeof *client);
    client->scrape = scrape;
    client->open_handles = 2;
    client->work.run = on_work;
    init_stream(scrape, &client->io, client);
    (void)uv_timer_init(scrape->uv, &client->timer);
    client->timer.data = client;
    sp_list_push_newest(&scrape->clients, &client->node);
    if (uv_accept(&scrape->listener.stream, &client->io.stream) != 0 ||
        uv_timer_start(&client->timer, on_limit, SN_SCRAPE_LIMIT_MS, 0) != 0 ||
        uv_read_start(&client->io.stream, on_alloc, on_read) != 0)
        close_client(client);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct sn_scrape *scrape = listener->data;

    if (status == 0)
        accept_next(scrape);
    else if (sn_log_allowed(&scrape->refused, uv_hrtime()))
        sn_log(SN_LOG_WARNING, "metrics_refused", "reason=\"%s\"", uv_strerror(status));
}

int sn_scrape_start(struct sn_scrape *scrape, uv_loop_t *uv, struct sn_pools *pools,
                    const struct sn_scrape_listen *listen)
{
    int status;

    memset(scrape, 0, sizeof *scrape);
    scrape->slots = calloc(SN_SCRAPE_CLIENTS, sizeof *scrape->slots);
    if (!scrape->slots)
        return UV_ENOMEM;
    scrape->listen = listen;
    scrape->uv = uv;
    scrape->pools = pools;
    sp_list_init(&scrape->clients);
    sp_list_init(&scrape->free);
    for (int i = 0; i < SN_SCRAPE_CLIENTS; i++)
        sp_list_push_newest(&scrape->free, &scrape->slots[i].node);
    init_stream(scrape, &scrape->listener, scrape);
    status = sn_scrape_listen_path(listen) ? uv_pipe_open(&scrape->listener.pipe, listen->fd)
                                           : uv_tcp_open(&scrape->listener.tcp, listen->fd);
    if (status == 0)
        status = uv_listen(&scrape->listener.stream, BACKLOG, on_connection);
    return status;
}

void sn_scrape_stop(struct sn_scrape *scrape)
{
    struct sp_list_node *at, *next;

    scrape->stopping = true;
    sn_scrape_listen_remove(scrape->listen);
    uv_close(&scrape->listener.handle, NULL);
    for (at = sp_list_oldest(&scrape->clients); at; at = next) {
        next = sp_list_newer(&scrape->clients, at);
        close_client(SP_CONTAINER(at, struct sn_scrape_client, node));
    }
}

void sn_scrape_free(struct sn_scrape *scrape)
{
    free(scrape->slots);
    scrape->slots = NULL;
}
