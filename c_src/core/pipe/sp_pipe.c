#include "sp_pipe.h"

#include <stdlib.h>
#include <string.h>

/* A connection whose oldest reply is overdue by this part of what closes it takes nothing new. */
#define STALL_PARTS 10
/* Patience: how often one looks before it sleeps, where replies come in time; and how fast that is learned. */
#define LOOKS_SHIFT 4
#define LEARN_SHIFT 4
#define USUAL_SHIFT 8
#define USUAL_ONE (1u << USUAL_SHIFT)
#define PATIENCE_MAX 255
#define FIRST_BYTES 4096
/* A system call costs as much as some dozens of requests: fewer are written at once only where no more come; but nobody's
 * wait for others for so long, or until the next tick of a clock that goes by milliseconds. */
#define FEW_USUAL 8
#define BATCH 64
#define LATE_NS UINT64_C(250000)
/* Owners that are looked at without the lock. */
#define LOOKED_AT 64

struct sp_pipe *sp_pipe_new(const struct sp_host *host, void (*waiter_ref)(struct sp_waiter *),
                            void (*waiter_unref)(struct sp_waiter *), uint32_t index)
{
    void *memory = NULL;
    struct sp_pipe *pipe;
    pthread_mutexattr_t attr;

    if (posix_memalign(&memory, _Alignof(struct sp_pipe), sizeof *pipe) != 0)
        return NULL;
    pipe = memory;
    *pipe = (struct sp_pipe){.host = host,
                             .waiter_ref = waiter_ref,
                             .waiter_unref = waiter_unref,
                             .index = index,
                             .receiver = SP_NO_NUMBER,
                             .why = SP_WHY_STOPPED,
                             .patience = PATIENCE_MAX / 2};
    pipe->leftovers_end = &pipe->leftovers;
    if (!sp_intake_init(&pipe->intake)) {
        free(pipe);
        return NULL;
    }
    pthread_mutexattr_init(&attr);
#ifdef PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
#endif
    pthread_mutex_init(&pipe->lock, &attr);
    pthread_mutexattr_destroy(&attr);
    return pipe;
}

static void drop_reply(const struct sp_host *host, struct sp_reply *reply)
{
    if (reply->far)
        host->reply_free(reply);
    reply->far = NULL;
}

void sp_pipe_free(struct sp_pipe *pipe)
{
    struct sp_leftover *leftover;

    while ((leftover = pipe->leftovers)) {
        pipe->leftovers = leftover->next;
        drop_reply(pipe->host, &leftover->place.reply);
        free(leftover);
    }
    for (uint32_t i = 0; pipe->places && i <= pipe->mask; i++)
        if (pipe->places[i].state == SP_PLACE_DONE)
            drop_reply(pipe->host, &pipe->places[i].reply);
    sp_intake_free(&pipe->intake);
    pthread_mutex_destroy(&pipe->lock);
    free(pipe->places);
    free(pipe->filling.data);
    free(pipe->flight.data);
    free(pipe);
}

/* ---- places, under the lock ---- */

/* A reply whose owner has not come makes room, in the order of their numbers. False where memory is short. */
static bool put_aside(struct sp_pipe *pipe, struct sp_place *place)
{
    struct sp_leftover *leftover = malloc(sizeof *leftover);

    if (!leftover)
        return false;
    *leftover = (struct sp_leftover){.place = *place};
    *pipe->leftovers_end = leftover;
    pipe->leftovers_end = &leftover->next;
    place->state = SP_PLACE_FREE;
    return true;
}

/* The place of that number where its reply waits for its owner; else NULL. */
static struct sp_place *untaken(struct sp_pipe *pipe, uint64_t number)
{
    struct sp_place *place = sp_pipe_place(pipe, number);

    return place->state == SP_PLACE_DONE && place->number == number ? place : NULL;
}

/* What may be in the ring begins there. */
static uint64_t ring_begin(const struct sp_pipe *pipe)
{
    return pipe->tail > pipe->mask ? pipe->tail - pipe->mask - 1 : 0;
}

/* A ring for so many requests; nothing is under way. */
static bool make_places(struct sp_pipe *pipe, uint32_t limit)
{
    struct sp_place *places;
    uint32_t count = 1;

    while (count < limit)
        count *= 2;
    if (pipe->places && pipe->mask == count - 1)
        return true;
    for (uint64_t n = ring_begin(pipe); pipe->places && n < pipe->tail; n++)
        if (untaken(pipe, n) && !put_aside(pipe, untaken(pipe, n)))
            return false;
    places = calloc(count, sizeof *places);
    if (!places)
        return false;
    free(pipe->places);
    pipe->places = places;
    pipe->mask = count - 1;
    return true;
}

bool sp_pipe_attach(struct sp_pipe *pipe, const struct sp_call *call, struct sp_conn *conn,
                    uint64_t lease, const struct sp_pipe_limits *limits)
{
    bool attached;

    pthread_mutex_lock(&pipe->lock);
    attached = !pipe->conn && make_places(pipe, limits->requests);
    if (attached) {
        pipe->conn = conn;
        pipe->lease = lease;
        pipe->generation++;
        pipe->limit = limits->requests;
        pipe->bytes_max = limits->bytes;
        pipe->stall_ns = limits->stall_ns;
        pipe->progress_ns = call->now_ns;
        pipe->queued = 0;
        pipe->written = 0;
        pipe->skip = 0;
        pipe->first = pipe->tail;
        pipe->stop =
            limits->in_all < UINT64_MAX - pipe->tail ? pipe->tail + limits->in_all : UINT64_MAX;
        sp_pipe_count_places(pipe);
        atomic_store(&pipe->attached, true);
    }
    pthread_mutex_unlock(&pipe->lock);
    return attached;
}

static bool append_bytes(struct sp_bytes *bytes, const struct sp_ask *ask)
{
    size_t cap = bytes->cap ? bytes->cap : FIRST_BYTES;
    uint8_t *data;

    while (cap - bytes->len < ask->len)
        cap *= 2;
    if (cap != bytes->cap) {
        if (!(data = realloc(bytes->data, cap)))
            return false;
        bytes->data = data;
        bytes->cap = cap;
    }
    for (int i = 0; i < ask->count; i++) {
        if (ask->iov[i].iov_len > 0)
            memcpy(bytes->data + bytes->len, ask->iov[i].iov_base, ask->iov[i].iov_len);
        bytes->len += ask->iov[i].iov_len;
    }
    return true;
}

/* Whether there is room for it, in the ring and in the buffers. One that is alone always fits. */
static bool has_room(const struct sp_pipe *pipe, const struct sp_call *call, size_t len)
{
    size_t bytes = pipe->filling.len + pipe->flight_len;

    return sp_pipe_under_way(pipe) < pipe->limit && pipe->tail < pipe->stop &&
           (bytes == 0 || (len <= pipe->bytes_max && bytes <= pipe->bytes_max - len)) &&
           !sp_pipe_is_overdue(pipe, call->now_ns, pipe->stall_ns / STALL_PARTS);
}

/* Whether the last one who has appended writes for all. On average half of the callers have something under way: the
 * server works on these while the other half comes. */
static bool is_batch(struct sp_pipe *pipe, uint64_t now_ns)
{
    uint64_t count = pipe->tail - pipe->swapped;
    bool half = (count << USUAL_SHIFT) + USUAL_ONE / 2 >= pipe->usual;

    return (half && (count >= BATCH || pipe->usual <= FEW_USUAL * USUAL_ONE)) ||
           now_ns > sp_pipe_place(pipe, pipe->swapped)->placed_ns + LATE_NS;
}

static sp_status append(struct sp_pipe *pipe, const struct sp_call *call, const struct sp_ask *ask,
                        uint32_t *wishes)
{
    struct sp_place *place;
    size_t before = pipe->filling.len;
    uint64_t number = pipe->tail;

    if (!pipe->conn || pipe->breaking)
        return pipe->conn ? SP_FULL : SP_CLOSED;
    if (!has_room(pipe, call, ask->len)) {
        /* Until something moves others are not to look here. */
        atomic_store_explicit(&pipe->free_places, 0, memory_order_relaxed);
        return SP_FULL;
    }
    place = sp_pipe_place(pipe, number);
    if ((place->state == SP_PLACE_DONE && !put_aside(pipe, place)) ||
        !append_bytes(&pipe->filling, ask))
        return SP_NO_MEMORY;
    if (ask->waiter && !ask->claim(ask->waiter, pipe->index, number)) {
        pipe->filling.len = before;
        return SP_TIMEOUT;
    }
    if (pipe->head == pipe->tail)
        pipe->progress_ns = call->now_ns;
    place->state = ask->waiter ? SP_PLACE_ARMED : SP_PLACE_PENDING;
    place->want = ask->want;
    place->number = number;
    place->owner = ask->owner;
    place->begin = pipe->queued;
    place->end = pipe->queued += ask->len;
    place->placed_ns = call->now_ns;
    place->waiter = ask->waiter;
    pipe->armed += ask->waiter != NULL;
    pipe->tail++;
    sp_pipe_count_places(pipe);
    pipe->usual +=
        (uint32_t)(((int64_t)(sp_pipe_under_way(pipe) << USUAL_SHIFT) - (int64_t)pipe->usual) / 16);
    *wishes = is_batch(pipe, call->now_ns) ? SP_PIPE_WRITE : 0;
    return SP_OK;
}

sp_status sp_pipe_append(struct sp_pipe *pipe, const struct sp_call *call, const struct sp_ask *ask,
                         uint64_t *number, uint32_t *wishes)
{
    sp_status status;

    pthread_mutex_lock(&pipe->lock);
    *number = pipe->tail;
    status = append(pipe, call, ask, wishes);
    pthread_mutex_unlock(&pipe->lock);
    sp_take(call, sp_pieces_of_bytes(ask->len));
    return status;
}

/* NULL where the owner has no such place, or none any more. */
static struct sp_place *find(struct sp_pipe *pipe, uint64_t number, uint64_t owner)
{
    struct sp_place *place = pipe->places ? sp_pipe_place(pipe, number) : NULL;

    return place && place->number == number && place->owner == owner &&
                   place->state != SP_PLACE_FREE
               ? place
               : NULL;
}

static sp_status take_leftover(struct sp_pipe *pipe, uint64_t number, uint64_t owner,
                               struct sp_reply *reply)
{
    struct sp_leftover **at = &pipe->leftovers, *leftover;
    sp_status status;

    while (*at && (*at)->place.number < number)
        at = &(*at)->next;
    leftover = *at;
    if (!leftover || leftover->place.number != number || leftover->place.owner != owner)
        return SP_NOT_FOUND;
    *at = leftover->next;
    if (!*at)
        pipe->leftovers_end = at;
    status = leftover->place.status;
    *reply = leftover->place.reply;
    free(leftover);
    return status;
}

/* Of DONE. */
static sp_status take(struct sp_place *place, struct sp_reply *reply)
{
    if (place->status == SP_OK) {
        struct sp_reply *from = &place->reply;
        reply->offset = from->offset;
        reply->len = from->len;
        reply->far = from->far;
        reply->far_cap = from->far_cap;
        memcpy(reply->bytes, from->bytes, from->far ? sizeof reply->bytes : from->len);
        from->far = NULL;
    }
    place->state = SP_PLACE_FREE;
    return place->status;
}

/* The reply of that place, or of that number where there is none any more. SP_WANT_READ: there is no reply yet. */
static sp_status take_reply(struct sp_pipe *pipe, struct sp_place *place, uint64_t number,
                            uint64_t owner, struct sp_reply *reply)
{
    if (!place)
        return take_leftover(pipe, number, owner, reply);
    return place->state == SP_PLACE_DONE ? take(place, reply) : SP_WANT_READ;
}

static bool is_receiver(const struct sp_pipe *pipe, uint64_t number)
{
    return pipe->receiver == number && !pipe->receiver_fired;
}

/* Whose own request is out writes nobody's: those who have appended just now let others append. */
static uint32_t wishes_of(struct sp_pipe *pipe, uint64_t number)
{
    bool unwritten = number >= pipe->swapped;

    if (pipe->skip > 0 && !unwritten) {
        pipe->skip--;
        return 0;
    }
    return SP_PIPE_READ | (unwritten ? SP_PIPE_WRITE : 0);
}

sp_status sp_pipe_look(struct sp_pipe *pipe, uint64_t number, uint64_t owner, bool fired,
                       struct sp_reply *reply, uint32_t *wishes)
{
    struct sp_waiter *waiter = NULL;
    struct sp_place *place;
    sp_status status;

    *wishes = 0;
    pthread_mutex_lock(&pipe->lock);
    place = find(pipe, number, owner);
    if (fired && place && pipe->receiver == number)
        pipe->receiver_fired = true;
    if (fired && place && place->state == SP_PLACE_ARMED) {
        place->state = SP_PLACE_PENDING;
        waiter = place->waiter;
        pipe->armed--;
    }
    status = take_reply(pipe, place, number, owner, reply);
    if (status == SP_WANT_READ)
        *wishes = fired ? SP_PIPE_READ | SP_PIPE_WRITE : wishes_of(pipe, number);
    else if (place)
        pipe->patience += (PATIENCE_MAX - pipe->patience) >> LEARN_SHIFT;
    if (fired) /* others sleep, perhaps */
        *wishes |= SP_PIPE_SELECT;
    pthread_mutex_unlock(&pipe->lock);
    if (waiter)
        pipe->waiter_unref(waiter);
    return status;
}

bool sp_pipe_is_patient(struct sp_pipe *pipe, uint32_t looks)
{
    bool patient;

    pthread_mutex_lock(&pipe->lock);
    patient = sp_pipe_under_way(pipe) > 1 && looks <= pipe->patience >> LOOKS_SHIFT;
    pthread_mutex_unlock(&pipe->lock);
    return patient;
}

sp_status sp_pipe_arm(struct sp_pipe *pipe, uint64_t number, uint64_t owner,
                      struct sp_waiter *waiter, struct sp_reply *reply, uint64_t *placed_ns)
{
    struct sp_place *place;
    sp_status status;

    pthread_mutex_lock(&pipe->lock);
    place = find(pipe, number, owner);
    status = take_reply(pipe, place, number, owner, reply);
    if (status == SP_WANT_READ && place->state != SP_PLACE_PENDING) {
        status = SP_NOT_FOUND;
    } else if (status == SP_WANT_READ) {
        place->state = SP_PLACE_ARMED;
        place->waiter = waiter;
        *placed_ns = place->placed_ns;
        pipe->armed++;
        pipe->patience -= (pipe->patience + 15) >> LEARN_SHIFT;
    }
    pthread_mutex_unlock(&pipe->lock);
    return status;
}

/* Its owner takes nothing any more. */
static sp_status leave(struct sp_pipe *pipe, struct sp_place *place, bool sleeps,
                       struct sp_reply *reply, struct sp_waiter **waiter, uint32_t *wishes)
{
    if (place->state == SP_PLACE_ARMED && is_receiver(pipe, place->number)) {
        place->state = SP_PLACE_TOLD;
        pipe->armed--;
        *wishes = SP_PIPE_SELECT;
        return SP_WANT_READ;
    }
    if (place->state != SP_PLACE_ARMED && sleeps)
        return SP_WANT_READ;
    if (place->state == SP_PLACE_DONE)
        return take(place, reply);
    if (place->state == SP_PLACE_ARMED)
        pipe->armed--;
    if (place->state == SP_PLACE_ARMED || place->state == SP_PLACE_TOLD)
        *waiter = place->waiter;
    place->state = SP_PLACE_GIVEN_UP;
    return SP_TIMEOUT;
}

sp_status sp_pipe_give_up(struct sp_pipe *pipe, uint64_t number, uint64_t owner, bool sleeps,
                          struct sp_reply *reply, uint32_t *wishes)
{
    struct sp_waiter *waiter = NULL;
    struct sp_place *place;
    sp_status status;

    *wishes = 0;
    pthread_mutex_lock(&pipe->lock);
    place = find(pipe, number, owner);
    if (!sleeps && place && pipe->receiver == number)
        pipe->receiver_fired = true; /* it has its message */
    if (place)
        status = leave(pipe, place, sleeps, reply, &waiter, wishes);
    else
        status = sleeps ? SP_WANT_READ : take_leftover(pipe, number, owner, reply);
    pthread_mutex_unlock(&pipe->lock);
    if (waiter)
        pipe->waiter_unref(waiter);
    return status;
}

void sp_pipe_fired(struct sp_pipe *pipe, uint32_t generation, bool write)
{
    pthread_mutex_lock(&pipe->lock);
    if (generation == pipe->generation && write)
        pipe->write_fired = true;
    else if (generation == pipe->generation && pipe->receiver == SP_FOR_CONTROL)
        pipe->receiver_fired = true;
    pthread_mutex_unlock(&pipe->lock);
}

bool sp_pipe_is_over(struct sp_pipe *pipe, uint64_t now_ns)
{
    bool over;

    pthread_mutex_lock(&pipe->lock);
    over = pipe->conn && sp_conn_is_over(pipe->conn, now_ns);
    pthread_mutex_unlock(&pipe->lock);
    return over;
}

void sp_pipe_stop(struct sp_pipe *pipe)
{
    pthread_mutex_lock(&pipe->lock);
    pipe->stop = pipe->tail;
    sp_pipe_count_places(pipe);
    pthread_mutex_unlock(&pipe->lock);
}

/* A mark of this connection, not a wish, which could come when the pipe has the next one. */
void sp_pipe_end_before(struct sp_pipe *pipe, uint64_t epoch)
{
    pthread_mutex_lock(&pipe->lock);
    if (pipe->conn && pipe->conn->epoch < epoch) {
        pipe->breaking = true;
        sp_pipe_count_places(pipe);
    }
    pthread_mutex_unlock(&pipe->lock);
}

/* ---- owners that have died ---- */

struct looked_at {
    uint64_t number[LOOKED_AT], owner[LOOKED_AT];
    uint32_t count;
};

/* False: the list is full. */
static bool look_at(struct sp_pipe *pipe, struct looked_at *list, const struct sp_place *place,
                    uint64_t before_ns)
{
    if (list->count == LOOKED_AT)
        return false;
    pipe->looked = place->number + 1;
    if (place->placed_ns < before_ns) {
        list->number[list->count] = place->number;
        list->owner[list->count++] = place->owner;
    }
    return true;
}

/* From the cursor on, in the order of their numbers. True: to the end. */
static bool list_some(struct sp_pipe *pipe, struct looked_at *list, uint64_t before_ns)
{
    uint64_t from = ring_begin(pipe);

    for (struct sp_leftover *it = pipe->leftovers; it; it = it->next)
        if (it->place.number >= pipe->looked && !look_at(pipe, list, &it->place, before_ns))
            return false;
    for (uint64_t n = from > pipe->looked ? from : pipe->looked; n < pipe->head; n++)
        if (untaken(pipe, n) && !look_at(pipe, list, untaken(pipe, n), before_ns))
            return false;
    pipe->looked = 0;
    return true;
}

bool sp_pipe_drop_dead(struct sp_pipe *pipe, const struct sp_call *call, uint64_t before_ns)
{
    struct looked_at list;
    struct sp_reply reply;
    bool all;

    do {
        if (sp_spent(call))
            return true;
        list.count = 0;
        pthread_mutex_lock(&pipe->lock);
        all = !pipe->places || list_some(pipe, &list, before_ns);
        sp_take(call, (int)(pipe->mask / SP_LOOKS_PER_PIECE));
        pthread_mutex_unlock(&pipe->lock);
        for (uint32_t i = 0; i < list.count; i++) {
            uint32_t wishes;
            sp_take(call, SP_PIECES_LOOK);
            if (pipe->host->owner_alive(call, list.owner[i]))
                continue;
            reply.far = NULL;
            if (sp_pipe_look(pipe, list.number[i], list.owner[i], false, &reply, &wishes) == SP_OK)
                drop_reply(pipe->host, &reply);
        }
    } while (!all);
    return false;
}

bool sp_pipe_has_untaken(struct sp_pipe *pipe)
{
    bool any;

    pthread_mutex_lock(&pipe->lock);
    any = pipe->leftovers != NULL;
    for (uint64_t n = pipe->places ? ring_begin(pipe) : pipe->head; n < pipe->head && !any; n++)
        any = untaken(pipe, n) != NULL;
    pthread_mutex_unlock(&pipe->lock);
    return any;
}
