#include "sn_server.h"

#include "sn_descriptors.h"
#include "sn_peer.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG 1024
/* For the farewell to all nodes, which takes a second at most. */
#define LAST_CALL_MS 2000
#define BUSY_WAIT_NS UINT64_C(200000)

/* A lookup of a name cannot be ended. Nobody waits for it any more. */
static void on_last_call(uv_timer_t *timer)
{
    struct sn_server *server = timer->data;

    server->over = true;
}

/* What is queued for the nodes is written before their connections end. */
static void say_goodbye(void *arg)
{
    struct sn_server *server = arg;
    struct sp_node *at, *next;

    uv_close((uv_handle_t *)&server->listener, NULL);
    uv_close((uv_handle_t *)&server->sigterm, NULL);
    uv_close((uv_handle_t *)&server->sigint, NULL);
    uv_close((uv_handle_t *)&server->sighup, NULL);
    uv_timer_start(&server->drain, on_last_call, LAST_CALL_MS, 0);
    uv_unref((uv_handle_t *)&server->drain);
    if (server->config->ends_with_stdin)
        uv_close((uv_handle_t *)&server->input, NULL);
    sn_epmd_stop(&server->epmd);
    for (at = server->peers.head.next; at != &server->peers.head; at = next) {
        next = at->next;
        sn_peer_stop(SP_CONTAINER(at, struct sn_peer, node));
    }
}

static void stop(void *arg)
{
    struct sn_server *server = arg;

    if (server->stopping)
        return;
    server->stopping = true;
    sn_pools_close(&server->service.pools, say_goodbye, server);
}

static void on_drain_over(uv_timer_t *timer)
{
    struct sn_server *server = timer->data;

    sn_log(SN_LOG_WARNING, "not_drained", "reason=\"leases are still held\"");
    stop(server);
}

/* A second time ends the wait for those who have leases. */
static void drain(struct sn_server *server, const char *reason)
{
    sn_log(SN_LOG_INFO, "ending", "reason=\"%s\"", reason);
    if (server->draining) {
        stop(server);
        return;
    }
    server->draining = true;
    uv_timer_start(&server->drain, on_drain_over, server->config->drain_time_ns / SP_MS, 0);
    sn_pools_drain(&server->service.pools, stop, server);
}

static void on_signal(uv_signal_t *signal, int number)
{
    drain(signal->data, number == SIGTERM ? "SIGTERM" : "SIGINT");
}

static void on_sighup(uv_signal_t *signal, int number)
{
    struct sn_server *server = signal->data;

    (void)number;
    if (!server->draining)
        sn_reload_now(&server->reload);
}

static void on_input_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static char dropped[1024];

    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(dropped, sizeof dropped);
}

static void on_input(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    (void)buf;
    if (len != 0)
        drain(stream->data, len < 0 ? "stdin was closed" : "told to on stdin");
}

void sn_server_not_accepted(struct sn_server *server, int status)
{
    unsigned count = sn_log_allowed(&server->not_accepted, uv_hrtime());

    if (count)
        sn_log(SN_LOG_ERROR, "not_accepted", "reason=\"%s\" count=%u", uv_strerror(status), count);
}

static void on_connection(uv_stream_t *listener, int status)
{
    if (status == 0)
        sn_peer_accept(listener->data);
    else
        sn_server_not_accepted(listener->data, status);
}

static int listen_on(struct sn_server *server, uint16_t *port)
{
    struct sockaddr_storage bound;
    int len = sizeof bound, status;

    status = uv_tcp_bind(&server->listener, (const struct sockaddr *)&server->config->listen, 0);
    if (status == 0)
        status = uv_listen((uv_stream_t *)&server->listener, BACKLOG, on_connection);
    if (status == 0)
        status = uv_tcp_getsockname(&server->listener, (struct sockaddr *)&bound, &len);
    if (status != 0)
        return status;
    *port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                              : ((struct sockaddr_in *)&bound)->sin_port);
    return 0;
}

static int start(struct sn_server *server, uint16_t *port)
{
    int status = listen_on(server, port);

    if (status == 0)
        status = uv_signal_start(&server->sigterm, on_signal, SIGTERM);
    if (status == 0)
        status = uv_signal_start(&server->sigint, on_signal, SIGINT);
    if (status == 0)
        status = uv_signal_start(&server->sighup, on_sighup, SIGHUP);
    if (status == 0 && server->config->ends_with_stdin)
        status = uv_pipe_open(&server->input, 0);
    if (status == 0 && server->config->ends_with_stdin)
        status = uv_read_start((uv_stream_t *)&server->input, on_input_alloc, on_input);
    return status;
}

/* Whoever has just called often calls again at once. To wait in the kernel for that and to be woken takes
 * longer than the answer, so the loop goes on looking for a while, as an Erlang scheduler does. With one
 * processor that would be in the caller's way. */
static void serve(struct sn_server *server)
{
    uint64_t busy_wait_ns = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? BUSY_WAIT_NS : 0;
    int alive;

    do
        alive = uv_run(&server->loop,
                       uv_hrtime() - server->heard_ns < busy_wait_ns ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    while (alive && !server->over);
}

int sn_server_run(struct sn_server *server, const struct sn_config *config)
{
    uint16_t port = 0;
    int status;

    memset(server, 0, sizeof *server);
    server->config = config;
    server->here = (struct sn_here){.host = strchr(config->us.name, '@') + 1,
                                    .cookie = config->us.cookie,
                                    .epmd_port = config->epmd_port};
    sp_list_init(&server->peers);
    sp_list_init(&server->handshakes);
    server->handshakes_max = sn_descriptors_handshakes();
    status = uv_loop_init(&server->loop);
    if (status == 0)
        status = sn_loop_init(&server->turns, &server->loop);
    if (status == 0 &&
        sn_service_init(&server->service, &config->us, &server->here, &server->turns) != SP_OK)
        status = UV_ENOMEM;
    if (status != 0)
        return status;
    (void)uv_tcp_init(&server->loop, &server->listener);
    (void)uv_signal_init(&server->loop, &server->sigterm);
    (void)uv_signal_init(&server->loop, &server->sigint);
    (void)uv_signal_init(&server->loop, &server->sighup);
    (void)uv_timer_init(&server->loop, &server->drain);
    (void)uv_pipe_init(&server->loop, &server->input, 0);
    server->listener.data = server->sigterm.data = server->sigint.data = server;
    server->sighup.data = server;
    server->input.data = server->drain.data = server;
    status = start(server, &port);
    if (status != 0)
        return status;
    sn_epmd_start(&server->epmd, &server->loop, config->epmd_port, config->us.name, port);
    sn_log(SN_LOG_INFO, "listening", "node=%s port=%u", config->us.name, port);
    sn_reload_start(&server->reload, &server->service.pools, config->settings_path,
                    config->settings);
    serve(server);
    if (uv_loop_alive(&server->loop))
        _exit(EXIT_SUCCESS); /* exit() would wait for libuv's threads, and so for the lookup */
    sn_reload_free(&server->reload);
    uv_close((uv_handle_t *)&server->drain, NULL);
    sn_loop_close(&server->turns);
    (void)uv_run(&server->loop, UV_RUN_DEFAULT);
    sn_service_free(&server->service);
    sn_loop_free(&server->turns);
    status = uv_loop_close(&server->loop);
    assert(status == 0); /* every handle was closed */
    return 0;
}
