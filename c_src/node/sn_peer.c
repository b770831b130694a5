#include "sn_peer.h"

#include "sn_io.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* 64 MB of data, and what is around them. */
#define FRAME_MAX ((size_t)64 * 1024 * 1024 + 65536)
#define HANDSHAKE_READ 2048
#define PIECES 16
#define TICK_BYTES 4
/* At most so often is a tick answered, lest two nodes that answer do nothing else. */
#define TICK_ANSWER_NS (200 * SP_MS)
/* What is queued at the end has this long to be written. */
#define FAREWELL_MS 1000

static const struct sn_term_limits LIMITS = {
    .bytes = FRAME_MAX, .depth = 64, .terms = (size_t)1024 * 1024};

static void work(struct sn_peer *peer);

static void on_closed(uv_handle_t *handle)
{
    struct sn_peer *peer = handle->data;

    if (--peer->open_handles > 0)
        return;
    sp_list_remove(&peer->node);
    sn_reader_free(&peer->reader);
    sn_atoms_in_free(&peer->atoms);
    sn_client_free(&peer->client);
    free(peer);
}

void sn_peer_close(struct sn_peer *peer, const char *reason)
{
    if (peer->closing)
        return;
    peer->closing = true;
    if (peer->up) {
        sn_log(SN_LOG_INFO, "node_down", "node=%s reason=\"%s\"", peer->handshake.peer_name,
               reason);
        sn_calls_client_down(&peer->server->service.calls, &peer->client);
    }
    sn_loop_drop(&peer->flush);
    uv_close((uv_handle_t *)&peer->tcp, on_closed);
    uv_close((uv_handle_t *)&peer->timer, on_closed);
}

/* ---- writing ---- */

static void flush(struct sn_peer *peer);

/* The node reads its answers: what was kept back for that goes on. */
static void go_on(struct sn_peer *peer)
{
    if (peer->closing || peer->client.out.congested)
        return;
    sn_jobs_resume(&peer->server->service.calls.jobs, &peer->client);
    if (peer->read_paused)
        work(peer);
}

static void take_written(struct sn_peer *peer, size_t len)
{
    sn_queue_written(&peer->client.out, len);
    /* A tick that was sent at a period's end must not spare the next one. */
    if (len > TICK_BYTES)
        sn_tick_written(&peer->tick);
}

static void on_written(uv_write_t *write, int status)
{
    struct sn_peer *peer = write->data;

    if (peer->closing)
        return;
    if (status != 0) {
        sn_peer_close(peer, uv_strerror(status));
        return;
    }
    take_written(peer, peer->write_len);
    peer->write_len = 0;
    if (peer->read_paused)
        sn_tick_read(&peer->tick); /* it reads: the silence is ours */
    flush(peer);
    go_on(peer);
}

/* The node closes its side when it has read all; closing ours now could take it from its hands. */
static void end_output(struct sn_peer *peer)
{
    int status = uv_shutdown(&peer->shutdown, (uv_stream_t *)&peer->tcp, NULL);

    peer->ended = true;
    if (status != 0)
        sn_peer_close(peer, uv_strerror(status));
}

/* What the socket takes at once is out without libuv's bookkeeping, which costs a system call. */
static int write_now(struct sn_peer *peer, uv_buf_t bufs[PIECES], int *count)
{
    struct iovec pieces[PIECES];
    int written;

    for (;;) {
        *count = sn_queue_front(&peer->client.out, pieces, PIECES);
        if (*count == 0)
            return 0;
        for (int i = 0; i < *count; i++)
            bufs[i] = uv_buf_init(pieces[i].iov_base, (unsigned)pieces[i].iov_len);
        written = uv_try_write((uv_stream_t *)&peer->tcp, bufs, (unsigned)*count);
        if (written == UV_EAGAIN)
            return 0;
        if (written < 0)
            return written;
        take_written(peer, (size_t)written);
    }
}

static void flush(struct sn_peer *peer)
{
    uv_buf_t bufs[PIECES];
    int count, status;

    if (peer->closing || peer->write_len || peer->ended)
        return;
    status = write_now(peer, bufs, &count);
    if (status == 0 && count == 0) {
        if (peer->ending)
            end_output(peer);
        return;
    }
    if (status == 0) {
        for (int i = 0; i < count; i++)
            peer->write_len += bufs[i].len;
        peer->write.data = peer;
        status =
            uv_write(&peer->write, (uv_stream_t *)&peer->tcp, bufs, (unsigned)count, on_written);
    }
    if (status != 0)
        sn_peer_close(peer, uv_strerror(status));
}

static void close_for(struct sn_peer *peer, sp_status status)
{
    sn_peer_close(peer, status == SP_BAD_DATA  ? "a control message that no node sends"
                        : status == SP_TOO_BIG ? "a frame that is too long"
                        : status == SP_FULL    ? "too much is waiting for it"
                                               : sp_status_name(status));
}

static void on_flush(struct sn_task *task)
{
    struct sn_peer *peer = SP_CONTAINER(task, struct sn_peer, flush);

    if (peer->client.fault != SP_OK)
        close_for(peer, peer->client.fault);
    else {
        flush(peer);
        go_on(peer);
    }
}

static void on_stirred(struct sn_client *client)
{
    struct sn_peer *peer = SP_CONTAINER(client, struct sn_peer, client);

    if (!peer->closing)
        sn_loop_last(&peer->server->turns, &peer->flush);
}

/* ---- the node is up ---- */

static sp_status answer_tick(struct sn_peer *peer)
{
    uint64_t now_ns = uv_hrtime();

    if (peer->client.out.bytes || now_ns - peer->tick_answered_ns < TICK_ANSWER_NS)
        return SP_OK;
    peer->tick_answered_ns = now_ns;
    return sn_queue_tick(&peer->client.out);
}

static void log_dropped(const struct sn_peer *peer, enum sn_term_result result)
{
    unsigned count = sn_log_allowed(&peer->server->drops, uv_hrtime());

    if (count)
        sn_log(SN_LOG_WARNING, "message_dropped", "node=%s reason=\"%s\" count=%u",
               peer->handshake.peer_name, sn_term_result_text(result), count);
}

static sp_status take_frame(struct sn_peer *peer, const uint8_t *frame, size_t len)
{
    struct sn_message message;
    sp_status status = SP_OK;

    if (len == 0)
        return answer_tick(peer);
    if (peer->client.atoms)
        status = sn_atoms_in_take(&peer->atoms, frame, len, FRAME_MAX, &frame, &len);
    if (status != SP_OK)
        return status;
    if (sn_message_open(frame, len, &LIMITS, &message) != SN_TERM_OK)
        return SP_BAD_DATA;
    if (message.payload_result != SN_TERM_OK) {
        log_dropped(peer, message.payload_result);
        return SP_OK;
    }
    return sn_service_take(&peer->server->service, &peer->client, &message);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct sn_peer *peer = handle->data;
    static uint8_t scratch[HANDSHAKE_READ];
    uint8_t *space = scratch;
    size_t len = sizeof scratch;

    (void)suggested;
    if (peer->up && !peer->ending && sn_reader_space(&peer->reader, &space, &len) != SP_OK)
        len = 0; /* libuv then reads UV_ENOBUFS */
    *buf = uv_buf_init((char *)space, (unsigned)len);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf);

/* Takes the frames that are there, unless the node does not read its answers: then it stops, and
 * reads no more, until they are gone. */
static void work(struct sn_peer *peer)
{
    sp_status status = SP_OK;
    const uint8_t *frame;
    size_t len;
    int error = 0;

    do {
        while (status == SP_OK && !peer->client.out.congested) {
            status = sn_reader_next(&peer->reader, &frame, &len);
            if (status == SP_OK)
                status = take_frame(peer, frame, len);
        }
        if (status == SP_OK || status == SP_WANT_READ)
            flush(peer);
        else
            close_for(peer, status);
        if (peer->closing)
            return;
    } while (status == SP_OK && !peer->client.out.congested);
    if (!peer->client.out.congested)
        sn_jobs_resume(&peer->server->service.calls.jobs, &peer->client);
    if (peer->client.out.congested && !peer->read_paused)
        (void)uv_read_stop((uv_stream_t *)&peer->tcp);
    else if (!peer->client.out.congested && peer->read_paused)
        error = uv_read_start((uv_stream_t *)&peer->tcp, on_alloc, on_read);
    peer->read_paused = peer->client.out.congested;
    if (error)
        sn_peer_close(peer, uv_strerror(error));
}

static void on_period(uv_timer_t *timer);

/* In whole milliseconds, not before the period ends. */
static void await_period(struct sn_peer *peer)
{
    uint64_t now_ns = uv_hrtime();
    uint64_t left_ns = peer->tick.next_ns > now_ns ? peer->tick.next_ns - now_ns : 0;

    uv_update_time(&peer->server->loop);
    uv_timer_start(&peer->timer, on_period, left_ns / SP_MS + 1, 0);
}

static void on_period(uv_timer_t *timer)
{
    struct sn_peer *peer = timer->data;
    enum sn_tick_due due = sn_tick_due(&peer->tick, uv_hrtime());

    await_period(peer);
    switch (due) {
    case SN_TICK_NOTHING:
        return;
    case SN_TICK_GONE:
        sn_peer_close(peer, "silent for the tick time");
        return;
    case SN_TICK_SEND:
        if (peer->client.out.bytes == 0 && sn_queue_tick(&peer->client.out) != SP_OK)
            sn_peer_close(peer, "no memory");
        else
            flush(peer);
    }
}

/* A node that comes again has lost its older connection, even if we do not know it yet. */
static void replace_older(struct sn_peer *peer)
{
    struct sp_list *peers = &peer->server->peers;

    for (struct sp_node *at = peers->head.next; at != &peers->head; at = at->next) {
        struct sn_peer *other = SP_CONTAINER(at, struct sn_peer, node);

        if (other != peer && other->up &&
            strcmp(other->handshake.peer_name, peer->handshake.peer_name) == 0)
            sn_peer_close(other, "it has connected anew");
    }
}

static sp_status come_up(struct sn_peer *peer)
{
    if (peer->handshake.peer_flags & SP_DIST_FLAG_ATOM_CACHE &&
        !(peer->client.atoms = sn_atoms_out_new()))
        return SP_NO_MEMORY;
    replace_older(peer);
    peer->up = true;
    peer->client.name = peer->handshake.peer_name;
    peer->client.flags = peer->handshake.peer_flags;
    sn_calls_client_up(&peer->server->service.calls, &peer->client);
    sn_reader_init(&peer->reader, FRAME_MAX);
    sn_tick_begin(&peer->tick, peer->server->config->tick_time_ns, uv_hrtime());
    await_period(peer);
    sn_log(SN_LOG_INFO, "node_up", "node=%s", peer->handshake.peer_name);
    return SP_OK;
}

/* ---- the handshake ---- */

static void log_refusal(const struct sn_peer *peer)
{
    const struct sn_handshake *handshake = &peer->handshake;
    unsigned count = sn_log_allowed(&peer->server->refusals[handshake->refusal], uv_hrtime());

    if (count)
        sn_log(SN_LOG_WARNING, "refused", "node=%s reason=\"%s\" count=%u", handshake->peer_name,
               sn_refusal_text(handshake->refusal), count);
}

static void shake_hands(struct sn_peer *peer, const uint8_t *data, size_t len)
{
    size_t taken = sn_handshake_take(&peer->handshake, uv_hrtime(), data, len);
    sp_status status;
    uint8_t *space;
    size_t room;

    if (peer->handshake.state == SN_HANDSHAKE_REFUSED) {
        log_refusal(peer);
        sn_peer_close(peer, sn_refusal_text(peer->handshake.refusal));
        return;
    }
    status = sn_queue_bytes(&peer->client.out, peer->handshake.out, peer->handshake.out_len);
    peer->handshake.out_len = 0;
    if (status == SP_OK && peer->handshake.state == SN_HANDSHAKE_DONE) {
        status = come_up(peer);
        if (status == SP_OK)
            status = sn_reader_space(&peer->reader, &space, &room);
        if (status == SP_OK) {
            memcpy(space, data + taken, len - taken);
            sn_reader_filled(&peer->reader, len - taken);
        }
    }
    if (status != SP_OK)
        close_for(peer, status);
    else if (peer->up)
        work(peer);
    else
        flush(peer);
}

_Static_assert(HANDSHAKE_READ <= SN_READER_BYTES, "what follows a handshake fits a new reader");

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
    struct sn_peer *peer = stream->data;

    if (len < 0) {
        sn_peer_close(peer, len == UV_EOF ? "it has closed the connection" : uv_strerror((int)len));
    } else if (peer->ending) {
        return;
    } else if (len > 0 && peer->up) {
        peer->server->heard_ns = uv_hrtime();
        sn_tick_read(&peer->tick);
        sn_reader_filled(&peer->reader, (size_t)len);
        work(peer);
    } else if (len > 0) {
        shake_hands(peer, (const uint8_t *)buf->base, (size_t)len);
    }
}

static void on_handshake_limit(uv_timer_t *timer)
{
    struct sn_peer *peer = timer->data;

    peer->handshake.deadline_ns = 0;
    shake_hands(peer, NULL, 0);
}

void sn_peer_accept(struct sn_server *server, uv_stream_t *listener)
{
    struct sn_peer *peer = calloc(1, sizeof *peer);
    uint32_t challenge;
    int status;

    if (!peer) {
        sn_server_not_accepted(server, UV_ENOMEM);
        return;
    }
    peer->server = server;
    peer->open_handles = 2;
    sn_client_init(&peer->client);
    peer->client.stirred = on_stirred;
    peer->flush.run = on_flush;
    sp_list_push_newest(&server->peers, &peer->node);
    (void)uv_tcp_init(&server->loop, &peer->tcp);
    (void)uv_timer_init(&server->loop, &peer->timer);
    peer->tcp.data = peer->timer.data = peer;
    status = uv_accept(listener, (uv_stream_t *)&peer->tcp);
    if (status == 0 && getrandom(&challenge, sizeof challenge, 0) != sizeof challenge)
        status = UV_EIO;
    if (status == 0) {
        sn_handshake_begin(&peer->handshake, &server->config->us, challenge, uv_hrtime());
        (void)uv_tcp_nodelay(&peer->tcp, 1);
        uv_timer_start(&peer->timer, on_handshake_limit, SN_HANDSHAKE_LIMIT_NS / SP_MS, 0);
        status = uv_read_start((uv_stream_t *)&peer->tcp, on_alloc, on_read);
    }
    if (status != 0) {
        sn_server_not_accepted(server, status);
        sn_peer_close(peer, uv_strerror(status));
    }
}

static void on_farewell_over(uv_timer_t *timer)
{
    sn_peer_close(timer->data, "it does not read");
}

void sn_peer_stop(struct sn_peer *peer)
{
    int status = 0;

    if (peer->closing)
        return;
    if (!peer->up) {
        sn_peer_close(peer, "this node ends");
        return;
    }
    sn_service_stop(&peer->server->service, &peer->client);
    peer->ending = true;
    if (peer->read_paused)
        status = uv_read_start((uv_stream_t *)&peer->tcp, on_alloc, on_read);
    peer->read_paused = false;
    uv_timer_start(&peer->timer, on_farewell_over, FAREWELL_MS, 0);
    if (status == 0)
        flush(peer);
    else
        sn_peer_close(peer, uv_strerror(status));
}
