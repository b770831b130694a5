#include "sp_pipe_io.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Replies that are delivered at once. */
#define CUTS 64
/* What a reply costs, beside its bytes: so many for a piece. */
#define REPLIES_PER_PIECE 16
/* After one who received nothing, so many times as many as are under way look before one receives again; where they are
 * few, each does. */
#define SKIPS 2
#define FEW 8
/* Buffers that have grown beyond this are not kept for the next connection. */
#define KEPT_BYTES (256 * 1024)

/* One round of the holder. */
struct round {
    struct sp_pipe *pipe;
    const struct sp_call *call;
    struct sp_conn *conn;
    uint32_t left; /* wishes that the call has no time for */
    bool stalled;  /* the oldest is late, and all that is there has been read */
};

struct told {
    struct sp_waiter *waiter;
    struct sp_reply *reply;
    sp_status status;
};

static bool is_owner(uint64_t receiver)
{
    return receiver < SP_FOR_CONTROL;
}

/* ---- pins of selects ---- */

static void unpin(const struct round *round, bool *pin)
{
    if (*pin)
        sp_conn_unpin(round->conn, round->call);
    *pin = false;
}

/* A connection that is pinned takes another pin, closing or not. */
static void pin(const struct round *round, bool *pin)
{
    if (!*pin)
        atomic_fetch_add(&round->conn->pins, 1);
    *pin = true;
}

/* What was told since the last round. False: the connection is to be ended. */
static bool note_told(struct round *round)
{
    struct sp_pipe *pipe = round->pipe;
    bool read, write, ending;

    pthread_mutex_lock(&pipe->lock);
    read = pipe->receiver_fired;
    write = pipe->write_fired;
    if (read)
        pipe->receiver = SP_NO_NUMBER;
    pipe->receiver_fired = pipe->write_fired = false;
    ending = pipe->breaking;
    pthread_mutex_unlock(&pipe->lock);
    if (read)
        unpin(round, &pipe->read_pin);
    if (write)
        unpin(round, &pipe->write_pin);
    return !ending;
}

/* ---- the receiver ---- */

/* The receiver waits for the descriptor no longer. Who sleeps gets one message: where the select was not cancelled that is
 * its message, and it comes by itself. Of the control process one that comes too late does no harm. */
static void release(struct round *round, bool cancelled)
{
    struct sp_pipe *pipe = round->pipe;
    uint64_t number = pipe->receiver;
    struct sp_waiter *waiter = NULL;
    struct sp_place *place;
    bool tell = false;

    pthread_mutex_lock(&pipe->lock);
    place = is_owner(number) && !pipe->receiver_fired ? sp_pipe_place(pipe, number) : NULL;
    pipe->receiver = SP_NO_NUMBER;
    pipe->receiver_fired = false;
    if (place && place->state == SP_PLACE_TOLD) {
        place->state = SP_PLACE_GIVEN_UP;
        waiter = place->waiter;
        tell = cancelled;
    } else if (place && place->state == SP_PLACE_ARMED && !cancelled) {
        place->state = SP_PLACE_PENDING;
        waiter = place->waiter;
        pipe->armed--;
    }
    pthread_mutex_unlock(&pipe->lock);
    unpin(round, &pipe->read_pin);
    if (tell) {
        sp_take(round->call, SP_PIECES_TELL);
        pipe->host->reply_notify(round->call, waiter, SP_TIMEOUT, NULL);
    }
    if (waiter)
        pipe->waiter_unref(waiter);
}

/* Of an owner. */
static void dismiss(struct round *round)
{
    release(round, round->pipe->host->pipe_unselect(round->call, round->conn));
}

/* ---- deliver ---- */

static void drop(struct sp_pipe *pipe, struct sp_reply *reply)
{
    if (reply && reply->far)
        pipe->host->reply_free(reply);
}

static void tell_all(struct round *round, struct told *told, int count)
{
    struct sp_pipe *pipe = round->pipe;

    for (int i = 0; i < count; i++) {
        if (!told[i].waiter) {
            drop(pipe, told[i].reply);
            continue;
        }
        sp_take(round->call, SP_PIECES_TELL);
        pipe->host->reply_notify(round->call, told[i].waiter, told[i].status, told[i].reply);
        pipe->waiter_unref(told[i].waiter);
    }
}

/* Under the lock: the oldest is over. What is to be told, or dropped, afterwards is noted. */
static int end_oldest(struct sp_pipe *pipe, sp_status status, const struct sp_cut *cut,
                      struct sp_reply *far, struct told *told)
{
    struct sp_place *place = sp_pipe_place(pipe, pipe->head++);

    assert(place->number == pipe->head - 1 && place->state != SP_PLACE_TOLD);
    if (place->state == SP_PLACE_PENDING) {
        place->state = SP_PLACE_DONE;
        place->status = status;
        place->reply.far = NULL;
        if (far && far->far) {
            place->reply = *far;
        } else if (cut) {
            place->reply.offset = 0;
            place->reply.len = cut->len;
            memcpy(place->reply.bytes, cut->near, cut->len);
        }
        return 0;
    }
    *told = (struct told){.status = status, .reply = far};
    if (place->state == SP_PLACE_ARMED) {
        told->waiter = place->waiter;
        pipe->armed--;
    }
    place->state = SP_PLACE_FREE;
    return 1;
}

/* To the oldest `count` that are under way. */
static void deliver(struct round *round, struct sp_cut *cuts, int count)
{
    struct sp_pipe *pipe = round->pipe;
    struct told told[CUTS];
    int many = 0;

    if (is_owner(pipe->receiver) && pipe->receiver < pipe->head + (uint64_t)count)
        dismiss(round);
    /* Of a small one that goes by message a copy, since a message is made of a reply. */
    pthread_mutex_lock(&pipe->lock);
    for (int i = 0; i < count; i++) {
        struct sp_cut *cut = &cuts[i];
        if (!cut->far.far) {
            cut->far.offset = 0;
            cut->far.len = cut->len;
        }
        if (end_oldest(pipe, SP_OK, cut, &cut->far, &told[many])) {
            if (!cut->far.far && told[many].waiter)
                memcpy(cut->far.bytes, cut->near, cut->len);
            many++;
        }
    }
    pipe->progress_ns = round->call->now_ns;
    sp_pipe_count_places(pipe);
    pthread_mutex_unlock(&pipe->lock);
    sp_take(round->call, 1 + count / REPLIES_PER_PIECE);
    tell_all(round, told, many);
}

/* ---- the end of a connection ---- */

static void shrink(struct sp_bytes *bytes)
{
    bytes->len = 0;
    if (bytes->cap <= KEPT_BYTES)
        return;
    free(bytes->data);
    *bytes = (struct sp_bytes){.cap = 0};
}

static void forget(struct sp_pipe *pipe)
{
    pipe->conn = NULL;
    pipe->breaking = false;
    shrink(&pipe->filling);
    pipe->flight_len = 0;
    pipe->swapped = pipe->head;
    pipe->receiver = SP_NO_NUMBER;
    pipe->receiver_fired = pipe->write_fired = false;
    atomic_store(&pipe->attached, false);
}

/* By the holder, once the pipe has no connection any more. */
static void clean_up(struct round *round)
{
    struct sp_pipe *pipe = round->pipe;

    unpin(round, &pipe->read_pin);
    unpin(round, &pipe->write_pin);
    shrink(&pipe->flight);
    pipe->flown = 0;
    pipe->failed = pipe->broken = SP_OK;
    pipe->why = SP_WHY_STOPPED;
    sp_intake_reset(&pipe->intake, pipe->host);
}

/* True where nothing is under way, and the pipe has given its connection up. */
static bool became_idle(struct round *round, struct sp_pipe_ended *ended)
{
    struct sp_pipe *pipe = round->pipe;
    bool idle;

    pthread_mutex_lock(&pipe->lock);
    idle = pipe->head == pipe->tail && pipe->flight_len == 0;
    if (idle) {
        *ended = (struct sp_pipe_ended){.conn = pipe->conn, .lease = pipe->lease};
        if (!sp_intake_is_empty(&pipe->intake))
            sp_conn_taint(pipe->conn, SP_WHY_UNREAD); /* bytes that nobody has asked for */
        if (pipe->tail > pipe->first)
            sp_conn_used(pipe->conn, pipe->tail - pipe->first - 1); /* its lease has counted one */
        assert(pipe->armed == 0 && !is_owner(pipe->receiver));
        forget(pipe);
    }
    pthread_mutex_unlock(&pipe->lock);
    if (idle)
        clean_up(round);
    return idle;
}

/* Those of whose requests a part is out are told that it is closed, the oldest perhaps why; the others may go elsewhere.
 * False where the call may do no more. */
static bool break_up(struct round *round, struct sp_pipe_ended *ended)
{
    struct sp_pipe *pipe = round->pipe;
    struct told told[CUTS];
    bool over = false;

    if (is_owner(pipe->receiver))
        dismiss(round);
    while (!over) {
        int many = 0;
        pthread_mutex_lock(&pipe->lock);
        pipe->breaking = true;
        for (int i = 0; i < CUTS && pipe->head != pipe->tail; i++) {
            bool out = sp_pipe_place(pipe, pipe->head)->begin < pipe->written;
            many += end_oldest(pipe,
                               !out           ? SP_AGAIN
                               : pipe->broken ? pipe->broken
                                              : SP_CLOSED,
                               NULL, NULL, &told[many]);
            pipe->broken = SP_OK;
        }
        over = pipe->head == pipe->tail;
        if (over) {
            *ended =
                (struct sp_pipe_ended){.conn = pipe->conn, .lease = pipe->lease, .why = pipe->why};
            forget(pipe);
        }
        sp_pipe_count_places(pipe);
        pthread_mutex_unlock(&pipe->lock);
        tell_all(round, told, many);
        if (!over && sp_spent(round->call)) {
            round->left |= SP_PIPE_SELECT; /* any round goes on with it */
            return false;
        }
    }
    clean_up(round);
    return true;
}

/* ---- write ---- */

/* What was appended since, where all of that before is out. False: nothing is to be written. */
static bool take_flight(struct sp_pipe *pipe)
{
    if (pipe->flown < pipe->flight.len)
        return true;
    pipe->flown = 0;
    pthread_mutex_lock(&pipe->lock);
    struct sp_bytes out = pipe->flight;
    pipe->flight = pipe->filling;
    pipe->filling = out;
    pipe->filling.len = 0;
    pipe->flight_len = pipe->flight.len;
    pipe->swapped = pipe->tail;
    pthread_mutex_unlock(&pipe->lock);
    return pipe->flight.len > 0;
}

static void note_written(struct round *round, size_t sent)
{
    struct sp_pipe *pipe = round->pipe;

    pipe->flown += sent;
    pthread_mutex_lock(&pipe->lock);
    /* Of the oldest: who has all of its request owes a reply. */
    if (pipe->head == pipe->tail || pipe->written < sp_pipe_place(pipe, pipe->head)->end)
        pipe->progress_ns = round->call->now_ns;
    pipe->written += sent;
    if (pipe->flown == pipe->flight.len)
        pipe->flight_len = pipe->flight.len = pipe->flown = 0;
    sp_pipe_count_places(pipe);
    pthread_mutex_unlock(&pipe->lock);
}

/* The control process is told when the transport can write again. */
static void await_room(struct round *round)
{
    struct sp_pipe *pipe = round->pipe;

    pin(round, &pipe->write_pin);
    if (!pipe->host->pipe_select(round->call, round->conn, NULL, pipe->index, pipe->generation,
                                 true))
        pipe->failed = SP_CLOSED;
}

static void write_round(struct round *round)
{
    struct sp_pipe *pipe = round->pipe;
    struct sp_conn *conn = round->conn;

    /* While it is full nobody tries but who is told that there is room. */
    if (pipe->failed != SP_OK || pipe->write_pin)
        return;
    conn->touched = true;
    while (take_flight(pipe)) {
        struct iovec iov = {.iov_base = pipe->flight.data + pipe->flown,
                            .iov_len = pipe->flight.len - pipe->flown};
        size_t sent = 0;
        sp_status status = conn->transport->send(conn, &iov, 1, &sent);
        sp_conn_settle(conn, round->call);
        if (status == SP_OK) {
            note_written(round, sent);
        } else if (status ==
                   SP_WANT_READ) { /* the next round tries again, whose reason will be a read */
            round->left |= SP_PIPE_SELECT;
            return;
        } else if (status == SP_WANT_WRITE) {
            await_room(round);
            return;
        } else {
            pipe->failed = status; /* what the server has said before is read first */
            return;
        }
        if (sp_spent(round->call)) {
            round->left |= SP_PIPE_WRITE;
            return;
        }
    }
}

/* ---- read ---- */

/* Cuts as many as are there for those whose requests have begun to go out. */
static sp_status cut_some(struct round *round, struct sp_cut *cuts, int *count)
{
    struct sp_pipe *pipe = round->pipe;
    sp_status status = SP_OK;

    *count = 0;
    while (*count < CUTS) {
        /* Who is in flight stays so until this thread delivers. */
        uint64_t number = pipe->head + (uint64_t)*count;
        struct sp_place *place = sp_pipe_place(pipe, number);
        /* What is there now nobody has asked for. */
        if (number == pipe->swapped || place->begin >= pipe->written)
            return sp_intake_is_empty(&pipe->intake) ? SP_EMPTY : SP_BAD_FRAME;
        status =
            sp_intake_next(&pipe->intake, round->conn, round->call, &place->want, &cuts[*count]);
        if (status != SP_OK)
            break;
        ++*count;
    }
    return status;
}

static void note_received(struct round *round, bool delivered)
{
    struct sp_pipe *pipe = round->pipe;

    pthread_mutex_lock(&pipe->lock);
    round->stalled = !(round->left & SP_PIPE_READ) &&
                     sp_pipe_is_overdue(pipe, round->call->now_ns, pipe->stall_ns);
    uint32_t under_way = (uint32_t)sp_pipe_under_way(pipe);
    pipe->skip = delivered || under_way <= FEW ? 0 : SKIPS * under_way;
    pthread_mutex_unlock(&pipe->lock);
}

/* SP_OK: all that there was. Otherwise it has broken. */
static sp_status read_round(struct round *round)
{
    struct sp_pipe *pipe = round->pipe;
    struct sp_cut cuts[CUTS];
    bool delivered = false, filled = false, spent = false;
    int count;

    for (;;) {
        sp_status status = cut_some(round, cuts, &count);
        if (count > 0)
            deliver(round, cuts, count);
        delivered = delivered || count > 0;
        if (status == SP_EMPTY)
            break;
        if (status != SP_OK && status != SP_WANT_READ && status != SP_AGAIN) {
            pipe->broken = status;
            return status;
        }
        spent = sp_spent(round->call);
        if (spent) {
            round->left |= SP_PIPE_READ;
            break;
        }
        if (status != SP_WANT_READ)
            continue;
        if (filled && pipe->intake.dry && pipe->failed == SP_OK)
            break;
        status = sp_intake_fill(&pipe->intake, round->conn, round->call);
        filled = true;
        /* To hear more it has to say something first. */
        if (status == SP_WANT_WRITE && !pipe->write_pin)
            await_room(round);
        if (sp_wants(status))
            break;
        if (status != SP_OK)
            return status;
    }
    note_received(round, delivered);
    /* What was said before the end is read first. */
    return spent ? SP_OK : pipe->failed;
}

/* ---- select ---- */

/* The owner of the place, if nothing else is under way, with a reference to its waiter; the control process, if somebody
 * sleeps; or nobody. */
static bool choose(struct sp_pipe *pipe, struct sp_waiter **waiter)
{
    bool chosen;

    *waiter = NULL;
    pthread_mutex_lock(&pipe->lock);
    chosen = pipe->receiver == SP_NO_NUMBER && pipe->armed > 0;
    if (chosen && pipe->host->pipe_unselect && sp_pipe_under_way(pipe) == 1) {
        pipe->receiver = pipe->head;
        *waiter = sp_pipe_place(pipe, pipe->head)->waiter;
        pipe->waiter_ref(*waiter);
    } else if (chosen) {
        pipe->receiver = SP_FOR_CONTROL;
    }
    pthread_mutex_unlock(&pipe->lock);
    return chosen;
}

/* The receiver is an owner whose message others would have to wait for, or who has given up. */
static bool is_unfit(struct sp_pipe *pipe)
{
    bool unfit;

    pthread_mutex_lock(&pipe->lock);
    unfit =
        is_owner(pipe->receiver) && (sp_pipe_under_way(pipe) != 1 ||
                                     sp_pipe_place(pipe, pipe->receiver)->state != SP_PLACE_ARMED);
    pthread_mutex_unlock(&pipe->lock);
    return unfit;
}

static sp_status select_round(struct round *round)
{
    struct sp_pipe *pipe = round->pipe;
    struct sp_waiter *waiter;
    bool selected;

    if (is_unfit(pipe))
        dismiss(round);
    if (!choose(pipe, &waiter))
        return SP_OK;
    pin(round, &pipe->read_pin);
    selected = pipe->host->pipe_select(round->call, round->conn, waiter, pipe->index,
                                       pipe->generation, false);
    if (waiter)
        pipe->waiter_unref(waiter);
    if (selected)
        return SP_OK;
    release(round, true); /* nothing will fire */
    return SP_CLOSED;
}

/* ---- rounds ---- */

static sp_status carry_out(struct round *round, uint32_t wishes)
{
    sp_status status = SP_OK;

    if (wishes & SP_PIPE_WRITE)
        write_round(round);
    if ((wishes & SP_PIPE_READ) || round->pipe->failed != SP_OK)
        status = read_round(round);
    if (status == SP_OK && (wishes & SP_PIPE_SELECT))
        status = select_round(round);
    return status;
}

static enum sp_pipe_end attached_round(struct round *round, uint32_t wishes,
                                       struct sp_pipe_ended *ended)
{
    struct sp_pipe *pipe = round->pipe;

    enum sp_pipe_end end = SP_PIPE_ON;
    bool goes_on = note_told(round);
    sp_status status;

    if (!sp_conn_enter(round->conn, pipe->lease, round->call))
        return break_up(round, ended) ? SP_PIPE_LOST : SP_PIPE_ON;
    if (goes_on) {
        status = carry_out(round, wishes);
        goes_on = status == SP_OK && !round->stalled;
        if (!goes_on)
            pipe->why = status == SP_OK ? SP_WHY_IO_TIMEOUT : sp_why_of(status);
    }
    if (!goes_on)
        end = break_up(round, ended) ? SP_PIPE_BROKEN : SP_PIPE_ON;
    else if (became_idle(round, ended))
        end = SP_PIPE_IDLE;
    sp_conn_leave(round->conn, round->call);
    return end;
}

enum sp_pipe_end sp_pipe_round(struct sp_pipe *pipe, const struct sp_call *call,
                               struct sp_pipe_ended *ended, bool *due)
{
    uint32_t wishes = atomic_fetch_and(&pipe->io, SP_PIPE_HELD);
    struct round round = {.pipe = pipe, .call = call};
    enum sp_pipe_end end;

    *due = false;
    pthread_mutex_lock(&pipe->lock);
    round.conn = pipe->conn;
    pthread_mutex_unlock(&pipe->lock);
    if (!round.conn)
        return SP_PIPE_ON;
    end = attached_round(&round, wishes, ended);
    if (round.left) {
        atomic_fetch_or(&pipe->due, round.left);
        *due = true;
    }
    return end;
}
