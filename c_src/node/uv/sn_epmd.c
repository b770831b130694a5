#include "sn_epmd.h"

#include "node/base/sn_log.h"

#include <stdlib.h>
#include <string.h>

#define PAUSE_FIRST_MS 50
#define PAUSE_MOST_MS 5000
#define ANSWER_MS 5000

/* ---- our own name ---- */

static void try_once(uv_timer_t *timer);

static void on_closed(uv_handle_t *handle)
{
    struct sn_epmd *epmd = handle->data;

    if (epmd->stopping)
        return;
    uv_timer_start(&epmd->retry, try_once, epmd->pause_ms, 0);
    epmd->pause_ms = 2 * epmd->pause_ms < PAUSE_MOST_MS ? 2 * epmd->pause_ms : PAUSE_MOST_MS;
}

/* Complains once for each time that it was, or should have been, registered. */
static void give_up(struct sn_epmd *epmd, const char *reason)
{
    if (uv_is_closing((uv_handle_t *)&epmd->tcp))
        return;
    if (!epmd->complained)
        sn_log(SN_LOG_WARNING, "not_registered", "reason=\"%s\"", reason);
    epmd->complained = true;
    epmd->registered = false;
    uv_close((uv_handle_t *)&epmd->tcp, on_closed);
}

static void on_silent(uv_timer_t *timer)
{
    give_up(timer->data, "epmd does not answer");
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct sn_epmd *epmd = handle->data;

    (void)suggested;
    /* What comes after the answer is not for us; it takes the last byte's place. */
    if (epmd->answer_len == sizeof epmd->answer)
        epmd->answer_len--;
    *buf = uv_buf_init((char *)epmd->answer + epmd->answer_len,
                       (unsigned)(sizeof epmd->answer - epmd->answer_len));
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    struct sn_epmd *epmd = stream->data;
    sp_status status;

    (void)buf;
    if (len < 0) {
        give_up(epmd, len == UV_EOF ? "epmd has closed the connection" : uv_strerror((int)len));
        return;
    }
    if (epmd->registered)
        return;
    epmd->answer_len += (size_t)len;
    status = sn_epmd_register_answer(epmd->answer, epmd->answer_len);
    if (status == SP_BUSY) {
        give_up(epmd, "the name is taken");
    } else if (status == SP_BAD_DATA) {
        give_up(epmd, "what answers is not epmd");
    } else if (status == SP_OK) {
        epmd->registered = true;
        uv_timer_stop(&epmd->retry);
        epmd->complained = false;
        epmd->pause_ms = PAUSE_FIRST_MS;
        sn_log(SN_LOG_INFO, "registered", "epmd_port=%u", ntohs(epmd->addr.sin_port));
    }
}

static void on_written(uv_write_t *write, int status)
{
    if (status != 0 && status != UV_ECANCELED)
        give_up(write->data, uv_strerror(status));
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct sn_epmd *epmd = connect->data;
    uv_buf_t request = uv_buf_init((char *)epmd->request, (unsigned)epmd->request_len);

    if (status == UV_ECANCELED)
        return;
    if (status == 0)
        status = uv_read_start((uv_stream_t *)&epmd->tcp, on_alloc, on_read);
    epmd->write.data = epmd;
    if (status == 0)
        status = uv_write(&epmd->write, (uv_stream_t *)&epmd->tcp, &request, 1, on_written);
    if (status != 0)
        give_up(epmd, uv_strerror(status));
}

static void try_once(uv_timer_t *timer)
{
    struct sn_epmd *epmd = timer->data;
    int status;

    epmd->answer_len = 0;
    uv_timer_start(&epmd->retry, on_silent, ANSWER_MS, 0);
    (void)uv_tcp_init(epmd->loop, &epmd->tcp); /* cannot fail: no socket is made yet */
    epmd->tcp.data = epmd;
    epmd->connect.data = epmd;
    status = uv_tcp_connect(&epmd->connect, &epmd->tcp, (const struct sockaddr *)&epmd->addr,
                            on_connected);
    if (status != 0)
        give_up(epmd, uv_strerror(status));
}

void sn_epmd_start(struct sn_epmd *epmd, uv_loop_t *loop, uint16_t epmd_port, const char *name,
                   uint16_t port)
{
    memset(epmd, 0, sizeof *epmd);
    epmd->loop = loop;
    epmd->pause_ms = PAUSE_FIRST_MS;
    epmd->addr.sin_family = AF_INET;
    epmd->addr.sin_port = htons(epmd_port);
    epmd->addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    epmd->request_len =
        sn_epmd_register_request(epmd->request, name, (size_t)(strchr(name, '@') - name), port);
    (void)uv_timer_init(loop, &epmd->retry);
    epmd->retry.data = epmd;
    try_once(&epmd->retry);
}

void sn_epmd_stop(struct sn_epmd *epmd)
{
    epmd->stopping = true;
    uv_close((uv_handle_t *)&epmd->retry, NULL);
    if (!uv_is_closing((uv_handle_t *)&epmd->tcp))
        uv_close((uv_handle_t *)&epmd->tcp, NULL);
}

/* ---- the port of another node ---- */

struct sn_epmd_query {
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    void (*told)(void *arg, uint16_t port); /* NULL: nobody waits any more */
    void *arg;
    uint16_t port;
    uint8_t request[SN_EPMD_PORT_REQUEST_MAX];
    size_t request_len;
    uint8_t answer[SN_EPMD_PORT_ANSWER_BYTES];
    size_t answer_len;
};

static void on_query_closed(uv_handle_t *handle)
{
    struct sn_epmd_query *query = handle->data;

    if (query->told)
        query->told(query->arg, query->port);
    free(query);
}

static void finish_query(struct sn_epmd_query *query)
{
    if (!uv_is_closing((uv_handle_t *)&query->tcp))
        uv_close((uv_handle_t *)&query->tcp, on_query_closed);
}

void sn_epmd_drop(struct sn_epmd_query *query)
{
    query->told = NULL;
    finish_query(query);
}

static void on_query_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct sn_epmd_query *query = handle->data;

    (void)suggested;
    *buf = uv_buf_init((char *)query->answer + query->answer_len,
                       (unsigned)(sizeof query->answer - query->answer_len));
}

static void on_query_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    struct sn_epmd_query *query = stream->data;

    (void)buf;
    if (len > 0)
        query->answer_len += (size_t)len;
    if (len < 0 ||
        sn_epmd_port_answer(query->answer, query->answer_len, &query->port) != SP_WANT_READ)
        finish_query(query);
}

static void on_query_written(uv_write_t *write, int status)
{
    if (status != 0)
        finish_query(write->data);
}

static void on_query_connected(uv_connect_t *connect, int status)
{
    struct sn_epmd_query *query = connect->data;
    uv_buf_t request = uv_buf_init((char *)query->request, (unsigned)query->request_len);

    if (status == 0)
        status = uv_read_start((uv_stream_t *)&query->tcp, on_query_alloc, on_query_read);
    if (status == 0)
        status = uv_write(&query->write, (uv_stream_t *)&query->tcp, &request, 1, on_query_written);
    if (status != 0)
        finish_query(query);
}

struct sn_epmd_query *sn_epmd_ask(uv_loop_t *loop, const struct sockaddr_storage *epmd,
                                  const char *name, void (*told)(void *arg, uint16_t port),
                                  void *arg)
{
    struct sn_epmd_query *query = calloc(1, sizeof *query);
    size_t len = strcspn(name, "@");

    if (!query || len > SP_DIST_NODE_NAME_MAX) {
        free(query);
        return NULL;
    }
    (void)uv_tcp_init(loop, &query->tcp); /* cannot fail: no socket is made yet */
    query->tcp.data = query->connect.data = query->write.data = query;
    query->told = told;
    query->arg = arg;
    query->request_len = sn_epmd_port_request(query->request, name, len);
    if (uv_tcp_connect(&query->connect, &query->tcp, (const struct sockaddr *)epmd,
                       on_query_connected) != 0)
        finish_query(query);
    return query;
}
