#include "sn_run.h"

#include "sn_notify.h"
#include "node/base/sn_descriptors.h"
#include "node/base/sn_log_ring.h"
#include "sn_peer.h"
#include "sn_process.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG 1024
/* For the farewell to all nodes, which takes a second at most. */
#define LAST_CALL_MS 2000
#define ACCEPT_AGAIN_MS 100
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
    struct sp_list_node *at, *next;

    for (unsigned i = 0; i < server->config->listen->count; i++)
        uv_close((uv_handle_t *)&server->listeners[i], NULL);
    uv_close((uv_handle_t *)&server->sigterm, NULL);
    uv_close((uv_handle_t *)&server->sigint, NULL);
    uv_close((uv_handle_t *)&server->sighup, NULL);
    uv_timer_start(&server->drain, on_last_call, LAST_CALL_MS, 0);
    uv_unref((uv_handle_t *)&server->drain);
    uv_close((uv_handle_t *)&server->watchdog, NULL);
    uv_close((uv_handle_t *)&server->accept_again, NULL);
    if (server->config->is_port)
        uv_close((uv_handle_t *)&server->input, NULL);
    if (server->config->metrics)
        sn_scrape_stop(&server->scrape);
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
    (void)uv_timer_stop(&server->drain);
    sn_pools_close(&server->service.pools, say_goodbye, server);
}

static void on_drain_over(uv_timer_t *timer)
{
    struct sn_server *server = timer->data;

    if (!sn_pools_are_unused(&server->service.pools))
        sn_log(SN_LOG_WARNING, "not_drained", "reason=\"leases are still held\"");
    stop(server);
}

static void begin_end(struct sn_server *server, const char *reason)
{
    sn_log(SN_LOG_INFO, "ending", "reason=\"%s\"", reason);
    server->draining = true;
    sn_notify_stopping();
}

/* A second time ends the wait for those who have leases. */
static void drain(struct sn_server *server, const char *reason)
{
    bool again = server->draining;

    begin_end(server, reason);
    if (again) {
        stop(server);
        return;
    }
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

/* Whoever started it is told to wait for a drain that it asked for. Where it is gone it was killed, and
 * its next one wants the name: so there is none. */
static void on_input(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    (void)buf;
    if (len > 0) {
        drain(stream->data, "told to on stdin");
    } else if (len < 0) {
        (void)uv_read_stop(stream);
        begin_end(stream->data, "stdin was closed");
        stop(stream->data);
    }
}

static void on_watchdog(uv_timer_t *timer)
{
    (void)timer;
    sn_notify_alive();
}

static void on_accept_again(uv_timer_t *timer);

static void accept_from(struct sn_server *server, unsigned index)
{
    if (sn_peer_accept(server, (uv_stream_t *)&server->listeners[index])) {
        server->unaccepted &= ~(1u << index);
    } else {
        server->unaccepted |= 1u << index;
        uv_timer_start(&server->accept_again, on_accept_again, ACCEPT_AGAIN_MS, 0);
    }
}

static void on_accept_again(uv_timer_t *timer)
{
    struct sn_server *server = timer->data;

    for (unsigned i = 0; i < server->config->listen->count; i++)
        if (server->unaccepted & 1u << i)
            accept_from(server, i);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct sn_server *server = listener->data;

    if (status == 0)
        accept_from(server, (unsigned)((uv_tcp_t *)listener - server->listeners));
    else
        sn_peer_not_accepted(server, status);
}

static int listen_on(struct sn_server *server)
{
    const struct sn_listen *listen = server->config->listen;
    int status = 0;

    for (unsigned i = 0; i < listen->count && status == 0; i++) {
        status = uv_tcp_open(&server->listeners[i], listen->fds[i]);
        if (status == 0)
            status = uv_listen((uv_stream_t *)&server->listeners[i], BACKLOG, on_connection);
    }
    return status;
}

static int start(struct sn_server *server)
{
    uint64_t watchdog_ms = sn_notify_alive_period_ms();
    int status = listen_on(server);

    if (status == 0)
        status = uv_signal_start(&server->sigterm, on_signal, SIGTERM);
    if (status == 0)
        status = uv_signal_start(&server->sigint, on_signal, SIGINT);
    if (status == 0)
        status = uv_signal_start(&server->sighup, on_sighup, SIGHUP);
    if (status == 0 && server->config->is_port)
        status = uv_pipe_open(&server->input, STDIN_FILENO);
    if (status == 0 && server->config->is_port)
        status = uv_read_start((uv_stream_t *)&server->input, on_input_alloc, on_input);
    if (status == 0 && server->config->metrics)
        status = sn_scrape_start(&server->scrape, &server->loop, &server->service.pools,
                                 server->config->metrics);
    if (status == 0 && watchdog_ms)
        status = uv_timer_start(&server->watchdog, on_watchdog, 0, watchdog_ms);
    uv_unref((uv_handle_t *)&server->watchdog);
    return status;
}

static void log_addresses(const struct sn_config *config)
{
    char text[INET6_ADDRSTRLEN];

    for (unsigned i = 0; i < config->listen->count; i++)
        sn_log(SN_LOG_INFO, "listening", "node=%s address=%s port=%u", config->us.name,
               sn_listen_text(&config->listen->addresses[i], text),
               sn_listen_port(&config->listen->addresses[i]));
    if (!config->metrics)
        return;
    if (sn_scrape_listen_path(config->metrics))
        sn_log(SN_LOG_INFO, "metrics", "path=%s", sn_scrape_listen_path(config->metrics));
    else
        sn_log(SN_LOG_INFO, "metrics", "address=%s port=%u",
               sn_listen_text(&config->metrics->address, text),
               sn_listen_port(&config->metrics->address));
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

static void init_handles(struct sn_server *server)
{
    for (unsigned i = 0; i < server->config->listen->count; i++) {
        (void)uv_tcp_init(&server->loop, &server->listeners[i]);
        server->listeners[i].data = server;
    }
    (void)uv_signal_init(&server->loop, &server->sigterm);
    (void)uv_signal_init(&server->loop, &server->sigint);
    (void)uv_signal_init(&server->loop, &server->sighup);
    (void)uv_timer_init(&server->loop, &server->drain);
    (void)uv_timer_init(&server->loop, &server->watchdog);
    (void)uv_timer_init(&server->loop, &server->accept_again);
    if (server->config->is_port)
        (void)uv_pipe_init(&server->loop, &server->input, 0);
    server->sigterm.data = server->sigint.data = server->sighup.data = server;
    server->input.data = server->drain.data = server->accept_again.data = server;
}

int sn_run(struct sn_server *server, const struct sn_config *config)
{
    int status;

    memset(server, 0, sizeof *server);
    server->config = config;
    server->here =
        (struct sn_here){.host = strchr(config->us.name, '@') + 1,
                         .cookie = config->us.cookie,
                         .epmd_port = config->epmd_port,
                         .tick_time_s = (unsigned)(config->tick_time_ns / (1000 * SP_MS))};
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
    init_handles(server);
    status = start(server);
    if (status != 0)
        return status;
    sn_process_serves();
    sn_epmd_start(&server->epmd, &server->loop, config->epmd_port, config->us.name,
                  sn_listen_port(&config->listen->addresses[0]));
    log_addresses(config);
    sn_reload_start(&server->reload, &server->service.pools, config->settings_path,
                    config->settings);
    serve(server);
    if (uv_loop_alive(&server->loop)) {
        sn_log_ring_stop(SN_LOG_LAST_MS);
        _exit(EXIT_SUCCESS); /* exit() would wait for libuv's threads, and so for the lookup */
    }
    sn_reload_free(&server->reload);
    uv_close((uv_handle_t *)&server->drain, NULL);
    sn_loop_close(&server->turns);
    (void)uv_run(&server->loop, UV_RUN_DEFAULT);
    sn_scrape_free(&server->scrape);
    sn_service_free(&server->service);
    sn_loop_free(&server->turns);
    status = uv_loop_close(&server->loop);
    assert(status == 0); /* every handle was closed */
    return 0;
}
