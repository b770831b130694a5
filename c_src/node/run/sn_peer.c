#include "sn_peer.h"

#include "node/serve/sn_io.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* 64 MB of data, and what is around them. */
#define FRAME_MAX ((size_t)64 * 1024 * 1024 + 65536)
#define HANDSHAKE_READ 2048
#define PIECES 16
#define TICK_BYTES 4
/* Lines of each kind in SN_LOG_PAUSE_NS: a node that comes and goes all the time does not fill the log. */
#define NODE_LINES_MOST 30
/* At most so often is a tick answered, lest two nodes that answer do nothing else. */
#define TICK_ANSWER_NS (200 * SP_MS)
/* What is queued at the end has this long to be written. */
#define FAREWELL_MS 1000

/* What is done for a node in one turn of the loop, before others have theirs: well below a millisecond. A piece is
 * a term, 64 bytes that are copied, or 8 that are read: the sender's part of TCP may be done within that. */
#define TURN_PIECES ((size_t)20000)
#define PIECE_BYTES_READ 8
/* A message that is understood. */
#define MESSAGE_PIECES 300
/* One read, so that the pieces are counted in between. */
#define READ_BYTES ((size_t)64 * 1024)
/* One write, and what is written in a turn before that waits for the next one. */
#define WRITE_BYTES ((size_t)256 * 1024)
#define TURN_WRITE_BYTES ((size_t)1024 * 1024)

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

/* It is a member, or goes. */
static void leave_handshakes(struct sn_peer *peer)
{
    sp_list_remove(&peer->in_handshakes);
    peer->server->handshake_count--;
}

void sn_peer_close(struct sn_peer *peer, const char *reason)
{
    unsigned count;

    if (peer->closing)
        return;
    peer->closing = true;
    if (!peer->up)
        leave_handshakes(peer);
    if (peer->up) {
        count = sn_log_allowed_of(&peer->server->goings, uv_hrtime(), NODE_LINES_MOST);
        if (count)
            sn_log(SN_LOG_INFO, "node_down", "node=%s reason=\"%s\" count=%u",
                   peer->handshake.peer_name, reason, count);
        sn_calls_client_down(&peer->server->service.calls, &peer->client);
    }
    sn_loop_drop(&peer->flush);
    sn_loop_drop(&peer->work);
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
    sn_sessions_resume(&peer->server->service.calls.sessions, &peer->client);
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

/* The oldest of what is queued, up to WRITE_BYTES; how many pieces. */
static int get_front(struct sn_peer *peer, uv_buf_t bufs[PIECES])
{
    struct iovec pieces[PIECES];
    int count = sn_queue_front(&peer->client.out, pieces, PIECES), used = 0;

    for (size_t room = WRITE_BYTES; used < count && room > 0; used++) {
        size_t len = pieces[used].iov_len < room ? pieces[used].iov_len : room;

        bufs[used] = uv_buf_init(pieces[used].iov_base, (unsigned)len);
        room -= len;
    }
    return used;
}

/* What the socket takes at once is out without libuv's bookkeeping, which costs a system call. */
static int write_now(struct sn_peer *peer, uv_buf_t bufs[PIECES], int *count)
{
    size_t len = 0;
    int written;

    for (;;) {
        *count = get_front(peer, bufs);
        if (*count == 0 || len >= TURN_WRITE_BYTES)
            return 0;
        written = uv_try_write((uv_stream_t *)&peer->tcp, bufs, (unsigned)*count);
        if (written == UV_EAGAIN)
            return 0;
        if (written < 0)
            return written;
        take_written(peer, (size_t)written);
        len += (size_t)written;
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
    sn_peer_close(peer, status == SP_BAD_DATA ? "a control message that no node sends"
                        : status == SP_FULL   ? "too much is waiting for it"
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

static void on_wake(struct sn_client *client)
{
    struct sn_peer *peer = SP_CONTAINER(client, struct sn_peer, client);

    if (!peer->closing)
        sn_loop_defer_to_end(&peer->server->turns, &peer->flush);
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

/* ---- frames ---- */

static void use(struct sn_peer *peer, size_t pieces)
{
    peer->pieces -= peer->pieces < pieces ? peer->pieces : pieces;
}

static sp_status begin_frame(struct sn_peer *peer)
{
    const uint8_t *frame;
    size_t len;
    sp_status status = sn_reader_next(&peer->reader, &frame, &len);

    if (status != SP_OK && status != SP_TOO_BIG)
        return status;
    if (len == 0)
        return answer_tick(peer);
    peer->is_cut = status == SP_TOO_BIG;
    if (peer->client.atoms) {
        peer->taking = SN_TAKING_ATOMS;
        return sn_atoms_in_begin(&peer->atoms, frame, len, FRAME_MAX);
    }
    peer->taking = SN_TAKING_TERMS;
    sn_message_begin(&peer->opening, frame, len, peer->is_cut);
    return SP_OK;
}

static sp_status take_atoms(struct sn_peer *peer)
{
    sp_status status = sn_atoms_in_go_on(&peer->atoms, &peer->pieces);

    if (status != SP_OK && status != SP_TOO_BIG)
        return status;
    peer->taking = SN_TAKING_TERMS;
    sn_message_begin(&peer->opening, peer->atoms.plain, peer->atoms.len,
                     peer->is_cut || status == SP_TOO_BIG);
    return SP_OK;
}

static sp_status take_terms(struct sn_peer *peer)
{
    struct sn_message *message = &peer->opening.message;
    enum sn_term_result result = sn_message_go_on(&peer->opening, &peer->pieces);

    if (result == SN_TERM_AGAIN)
        return SP_AGAIN;
    peer->taking = SN_TAKING_NOTHING;
    if (result != SN_TERM_OK)
        return SP_BAD_DATA;
    use(peer, MESSAGE_PIECES);
    if (message->result != SN_TERM_OK)
        log_dropped(peer, message->result);
    return sn_service_take(&peer->server->service, &peer->client, message);
}

/* SP_WANT_READ: all that is there is taken. SP_AGAIN: this turn's pieces are used up. SP_BUSY: the node does
 * not read its answers. Anything else: the connection cannot go on. */
static sp_status take_frames(struct sn_peer *peer)
{
    sp_status status = SP_OK;

    while (status == SP_OK) {
        if (peer->taking == SN_TAKING_NOTHING && peer->client.out.congested)
            return SP_BUSY;
        if (peer->pieces == 0)
            return SP_AGAIN;
        status = peer->taking == SN_TAKING_NOTHING ? begin_frame(peer)
                 : peer->taking == SN_TAKING_ATOMS ? take_atoms(peer)
                                                   : take_terms(peer);
    }
    return status;
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
    if (len > READ_BYTES)
        len = READ_BYTES;
    *buf = uv_buf_init((char *)space, (unsigned)len);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf);

/* Nothing is read while a frame is being taken, which lies where it was read, or while the node does not
 * read. */
static void pause_reading(struct sn_peer *peer, bool pause)
{
    int error = 0;

    if (pause && !peer->read_paused)
        (void)uv_read_stop((uv_stream_t *)&peer->tcp);
    else if (!pause && peer->read_paused)
        error = uv_read_start((uv_stream_t *)&peer->tcp, on_alloc, on_read);
    peer->read_paused = pause;
    if (error)
        sn_peer_close(peer, uv_strerror(error));
}

/* Takes the frames that are there, for this turn. */
static void work(struct sn_peer *peer)
{
    struct sn_loop *turns = &peer->server->turns;
    sp_status status;

    if (peer->turn != turns->turns) {
        peer->turn = turns->turns;
        peer->pieces = TURN_PIECES;
    }
    status = take_frames(peer);
    if (status != SP_WANT_READ && status != SP_AGAIN && status != SP_BUSY) {
        close_for(peer, status);
        return;
    }
    flush(peer);
    if (peer->closing)
        return;
    if (!peer->client.out.congested) {
        sn_sessions_resume(&peer->server->service.calls.sessions, &peer->client);
        if (status != SP_WANT_READ)
            sn_loop_defer(turns, &peer->work);
    }
    pause_reading(peer, status != SP_WANT_READ);
}

static void on_work(struct sn_task *task)
{
    work(SP_CONTAINER(task, struct sn_peer, work));
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

    for (struct sp_list_node *at = peers->head.next; at != &peers->head; at = at->next) {
        struct sn_peer *other = SP_CONTAINER(at, struct sn_peer, node);

        if (other != peer && other->up &&
            strcmp(other->handshake.peer_name, peer->handshake.peer_name) == 0)
            sn_peer_close(other, "it has connected anew");
    }
}

static sp_status come_up(struct sn_peer *peer)
{
    unsigned count;

    if (peer->handshake.peer_flags & SP_DIST_FLAG_ATOM_CACHE &&
        !(peer->client.atoms = sn_atoms_out_new()))
        return SP_NO_MEMORY;
    replace_older(peer);
    leave_handshakes(peer);
    peer->up = true;
    peer->client.name = peer->handshake.peer_name;
    peer->client.flags = peer->handshake.peer_flags;
    sn_calls_client_up(&peer->server->service.calls, &peer->client);
    sn_reader_init(&peer->reader, FRAME_MAX);
    sn_tick_begin(&peer->tick, peer->server->config->tick_time_ns, uv_hrtime());
    await_period(peer);
    count = sn_log_allowed_of(&peer->server->comings, uv_hrtime(), NODE_LINES_MOST);
    if (count)
        sn_log(SN_LOG_INFO, "node_up", "node=%s count=%u", peer->handshake.peer_name, count);
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
        use(peer, (size_t)len / PIECE_BYTES_READ);
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

/* Whoever says nothing must not keep others out. */
static void make_room(struct sn_server *server)
{
    struct sn_peer *oldest;

    if (server->handshake_count < server->handshakes_max)
        return;
    oldest = SP_CONTAINER(sp_list_oldest(&server->handshakes), struct sn_peer, in_handshakes);
    oldest->handshake.refusal = SN_REFUSED_CROWD;
    log_refusal(oldest);
    sn_peer_close(oldest, sn_refusal_text(SN_REFUSED_CROWD));
}

void sn_peer_not_accepted(struct sn_server *server, int status)
{
    unsigned count = sn_log_allowed(&server->not_accepted, uv_hrtime());

    if (count)
        sn_log(SN_LOG_ERROR, "not_accepted", "reason=\"%s\" count=%u", uv_strerror(status), count);
}

bool sn_peer_accept(struct sn_server *server, uv_stream_t *listener)
{
    struct sn_peer *peer = calloc(1, sizeof *peer);
    uint32_t challenge;
    int status;

    if (!peer) {
        sn_peer_not_accepted(server, UV_ENOMEM);
        return false;
    }
    peer->server = server;
    peer->open_handles = 2;
    sn_client_init(&peer->client);
    peer->client.wake = on_wake;
    peer->flush.run = on_flush;
    peer->work.run = on_work;
    make_room(server);
    sp_list_push_newest(&server->peers, &peer->node);
    sp_list_push_newest(&server->handshakes, &peer->in_handshakes);
    server->handshake_count++;
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
        sn_peer_not_accepted(server, status);
        sn_peer_close(peer, uv_strerror(status));
    }
    return true;
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
    sn_loop_drop(&peer->work);
    if (peer->read_paused)
        status = uv_read_start((uv_stream_t *)&peer->tcp, on_alloc, on_read);
    peer->read_paused = false;
    uv_timer_start(&peer->timer, on_farewell_over, FAREWELL_MS, 0);
    if (status == 0)
        flush(peer);
    else
        sn_peer_close(peer, uv_strerror(status));
}
