#include "sp_piped.h"

#include "core/pipe/sp_pipe_io.h"
#include "sp_age.h"
#include "sp_due.h"
#include "sp_grant.h"
#include "sp_health.h"
#include "sp_lease.h"
#include "sp_queued_ask.h"
#include "sp_shard.h"
#include "sp_times.h"

#include <stdlib.h>

#define PIPES_PER_BLOCK 1024
#define BLOCKS (SP_PIPES_MAX / PIPES_PER_BLOCK)
/* A newcomer that meets a pipe which was taken just now looks for another, so often. */
#define TRIES 4
/* A reply that was not taken for so long may be one of a dead owner. */
#define UNTAKEN_NS (1000 * SP_MS)

/* Pipes are made one after the other, and stay. */
struct sp_pipes {
    pthread_mutex_t lock; /* of making one */
    _Atomic uint32_t count;
    _Atomic bool due;   /* some have wishes for the control process */
    uint32_t next_tick; /* the control process's */
    struct sp_pipe **_Atomic blocks[BLOCKS];
};

/* ---- which pipes there are ---- */

static uint32_t count_of(struct sp_pool *pool)
{
    return pool->pipes ? atomic_load(&pool->pipes->count) : 0;
}

/* Of those that there are. */
static struct sp_pipe *pipe_at(struct sp_pool *pool, uint32_t index)
{
    return atomic_load(&pool->pipes->blocks[index / PIPES_PER_BLOCK])[index % PIPES_PER_BLOCK];
}

/* NULL: no such pipe. */
static struct sp_pipe *pipe_of(struct sp_pool *pool, uint64_t at)
{
    uint32_t index = (uint32_t)(at % SP_PIPES_MAX);

    return index < count_of(pool) ? pipe_at(pool, index) : NULL;
}

void sp_piped_destroy(struct sp_pool *pool)
{
    struct sp_pipes *pipes = pool->pipes;

    if (!pipes)
        return;
    for (uint32_t i = 0; i < atomic_load(&pipes->count); i++)
        sp_pipe_free(pipe_at(pool, i));
    for (int i = 0; i < BLOCKS; i++)
        free(atomic_load(&pipes->blocks[i]));
    pthread_mutex_destroy(&pipes->lock);
    free(pipes);
}

/* Under pipes->lock. */
static struct sp_pipe *make_pipe(struct sp_pool *pool)
{
    struct sp_pipes *pipes = pool->pipes;
    uint32_t index = atomic_load(&pipes->count);
    struct sp_pipe **block, *pipe;

    if (index == SP_PIPES_MAX)
        return NULL;
    block = atomic_load(&pipes->blocks[index / PIPES_PER_BLOCK]);
    if (!block && !(block = calloc(PIPES_PER_BLOCK, sizeof *block)))
        return NULL;
    atomic_store(&pipes->blocks[index / PIPES_PER_BLOCK], block);
    pipe = sp_pipe_new(pool->host, sp_waiter_ref, sp_waiter_unref, index);
    if (!pipe)
        return NULL;
    block[index % PIPES_PER_BLOCK] = pipe;
    atomic_store(&pipes->count, index + 1);
    return pipe;
}

/* Each shard has the pipe of its number, so that schedulers do not meet on one as long as connections last. */
static bool make_first(struct sp_pool *pool)
{
    bool made = true;

    if (count_of(pool) >= pool->shard_count)
        return true;
    pthread_mutex_lock(&pool->pipes->lock);
    while (made && count_of(pool) < pool->shard_count)
        made = make_pipe(pool) != NULL;
    pthread_mutex_unlock(&pool->pipes->lock);
    return made;
}

/* One that has no connection just now: this shard's, or one that is nobody's. NULL where memory is short. */
static struct sp_pipe *vacant_pipe(struct sp_pool *pool, const struct sp_call *call)
{
    uint32_t count;
    struct sp_pipe *pipe;

    if (!make_first(pool))
        return NULL;
    pipe = pipe_at(pool, call->shard % pool->shard_count);
    if (!atomic_load(&pipe->attached))
        return pipe;
    count = count_of(pool);
    for (uint32_t i = pool->shard_count; i < count; i++) {
        pipe = pipe_at(pool, i);
        if (!atomic_load(&pipe->attached))
            return pipe;
    }
    sp_take(call, (int)(count / SP_LOOKS_PER_PIECE));
    pthread_mutex_lock(&pool->pipes->lock);
    pipe = make_pipe(pool);
    pthread_mutex_unlock(&pool->pipes->lock);
    return pipe;
}

static bool has_places(const struct sp_pipe *pipe)
{
    return atomic_load_explicit(&pipe->attached, memory_order_relaxed) &&
           atomic_load_explicit(&pipe->free_places, memory_order_relaxed) > 0;
}

static struct sp_pipe *pipe_with_room(struct sp_pool *pool, const struct sp_call *call)
{
    uint32_t count = count_of(pool), home = call->shard % pool->shard_count;

    sp_take(call, (int)(count / SP_LOOKS_PER_PIECE));
    for (uint32_t i = 0; i < count; i++)
        if (has_places(pipe_at(pool, (home + i) % count)))
            return pipe_at(pool, (home + i) % count);
    return NULL;
}

/* The lease becomes a pipe's. NULL where memory is short. */
static struct sp_pipe *attach(struct sp_pool *pool, const struct sp_call *call,
                              struct sp_conn *conn, uint64_t lease)
{
    struct sp_pipe_limits limits = {.requests = atomic_load(&pool->pipeline),
                                    .bytes = atomic_load(&pool->pipeline_bytes),
                                    .stall_ns = atomic_load(&pool->pipeline_stall_ns),
                                    .in_all = sp_age_uses_left(pool, conn)};
    struct sp_pipe *pipe;

    for (;;) {
        pipe = vacant_pipe(pool, call);
        if (!pipe || sp_pipe_attach(pipe, call, conn, lease, &limits))
            return pipe;
        if (!atomic_load(&pipe->attached))
            return NULL;
    }
}

/* ---- who has io ---- */

static void note_due(struct sp_pool *pool, struct sp_pipe *pipe, uint32_t wishes)
{
    atomic_fetch_or(&pipe->due, wishes);
    atomic_store(&pool->pipes->due, true);
}

static void postpone(struct sp_pool *pool, const struct sp_call *call, struct sp_pipe *pipe,
                     uint32_t wishes)
{
    note_due(pool, pipe, wishes);
    sp_pool_wake(pool, call);
}

static void settle(struct sp_pool *pool, const struct sp_call *call, enum sp_pipe_end end,
                   const struct sp_pipe_ended *ended)
{
    if (end == SP_PIPE_ON)
        return;
    /* Whoever else has ended the lease meanwhile has the connection. */
    if (end == SP_PIPE_IDLE)
        (void)(sp_pool_finish(pool, call, ended->conn, ended->lease) == SP_OK);
    else if (end == SP_PIPE_BROKEN)
        (void)sp_pool_discard(pool, call, ended->conn, ended->lease, ended->why);
    pool->host->conn_unref(ended->conn);
}

static bool admit_to(struct sp_pool *pool, const struct sp_call *call, struct sp_pipe *pipe);

static void do_io(struct sp_pool *pool, const struct sp_call *call, struct sp_pipe *pipe,
                  uint32_t wishes)
{
    if (!sp_pipe_hold(pipe, wishes))
        return;
    do {
        struct sp_pipe_ended ended;
        bool due;
        enum sp_pipe_end end = sp_pipe_round(pipe, call, &ended, &due);

        if (due)
            postpone(pool, call, pipe, 0);
        settle(pool, call, end, &ended);
        if (end == SP_PIPE_ON && admit_to(pool, call, pipe))
            atomic_fetch_or(&pipe->io, SP_PIPE_WRITE | SP_PIPE_SELECT);
        if (sp_spent(call)) {
            uint32_t left = atomic_fetch_and(&pipe->io, SP_PIPE_HELD) & ~SP_PIPE_HELD;
            if (left)
                postpone(pool, call, pipe, left);
        }
    } while (!sp_pipe_release(pipe));
}

/* ---- those who wait for a place ---- */

/* It is the oldest waiter again, or told that the pool is not open any more. */
static void give_back(struct sp_pool *pool, const struct sp_call *call, struct sp_waiter *waiter)
{
    sp_status closed;

    if (sp_queue_put_back(pool, call, waiter)) {
        /* Whoever had a connection for it meanwhile has put that away. */
        if (sp_shard_has_any(pool))
            sp_pool_wake(pool, call);
        return;
    }
    closed = sp_pool_phase_status(sp_pool_phase(pool));
    sp_queue_refuse(call, waiter, closed == SP_OK ? SP_CLOSED : closed);
}

/* Takes over the queue's reference, or puts the waiter back. False: there is no room. */
static bool place(struct sp_pool *pool, const struct sp_call *call, struct sp_pipe *pipe,
                  struct sp_waiter *waiter)
{
    struct sp_ask ask = sp_queued_ask(waiter);
    uint64_t number, queued_ns = waiter->queued_ns;
    uint32_t wishes;
    sp_status status = SP_TIMEOUT;

    sp_take(call, SP_PIECES_LOOK);
    if (pool->host->owner_alive(call, waiter->owner))
        status = sp_pipe_append(pipe, call, &ask, &number, &wishes);
    if (status == SP_OK)
        sp_times_waited(pool, call, queued_ns, true);
    else if (status == SP_TIMEOUT)
        sp_waiter_unref(waiter);
    else if (status == SP_NO_MEMORY)
        sp_queue_refuse(call, waiter, status);
    else
        give_back(pool, call, waiter);
    return status == SP_OK || status == SP_TIMEOUT;
}

/* True where something is to be written. */
static bool admit_to(struct sp_pool *pool, const struct sp_call *call, struct sp_pipe *pipe)
{
    bool placed = false;

    while (atomic_load(&pool->nwait) && !sp_spent(call) && has_places(pipe)) {
        struct sp_waiter *waiter = sp_queue_take_piped(pool, call->now_ns);
        if (!waiter || !place(pool, call, pipe, waiter))
            break;
        placed = true;
    }
    return placed;
}

static void admit(struct sp_pool *pool, const struct sp_call *call)
{
    struct sp_pipe *pipe;

    /* One that refuses has no places from then on. */
    while (atomic_load(&pool->nwait) && !sp_spent(call) && (pipe = pipe_with_room(pool, call)) &&
           sp_queue_first_is_piped(pool))
        if (admit_to(pool, call, pipe))
            postpone(pool, call, pipe, SP_PIPE_WRITE | SP_PIPE_SELECT);
}

/* What is to be done with it the control process does: this may be called from within a round. */
static void start(struct sp_pool *pool, const struct sp_call *call, struct sp_conn *conn,
                  uint64_t lease)
{
    struct sp_pipe *pipe = attach(pool, call, conn, lease);

    if (!pipe) {
        (void)sp_pool_discard(pool, call, conn, lease, SP_WHY_IO_ERROR);
        pool->host->conn_unref(conn);
        return;
    }
    (void)admit_to(pool, call, pipe);
    postpone(pool, call, pipe, SP_PIPE_WRITE | SP_PIPE_SELECT);
}

sp_status sp_piped_open(struct sp_pool *pool)
{
    struct sp_pipes *pipes = pool->pipes;

    if (pipes)
        return SP_OK;
    pipes = calloc(1, sizeof *pipes);
    if (!pipes)
        return SP_NO_MEMORY;
    pthread_mutex_init(&pipes->lock, NULL);
    pool->start_pipe = start;
    pool->admit = admit;
    pool->pipes = pipes;
    return SP_OK;
}

/* ---- requests ---- */

/* An idle connection becomes a pipe of this shard; no worker, as which the pool may have been started anew. */
static sp_status take_idle(struct sp_pool *pool, const struct sp_call *call)
{
    struct sp_conn *conn;
    struct sp_pipe *pipe;
    void *keepsake;
    uint64_t lease;
    sp_status status = sp_pool_checkout(pool, call, SP_OWNER_POOL, &conn, &lease, &keepsake);

    if (status != SP_OK)
        return status;
    if (keepsake) {
        conn->keepsake = keepsake;
        pool->host->keepsake_drop(conn);
    }
    pipe = sp_is_worker(conn->transport) ? NULL : attach(pool, call, conn, lease);
    if (!pipe) {
        (void)(sp_pool_checkin(pool, call, conn, lease, NULL) == SP_OK);
        pool->host->conn_unref(conn);
        return SP_NO_MEMORY;
    }
    atomic_store_explicit(&sp_pool_home(pool, call)->pipe, pipe->index, memory_order_relaxed);
    return SP_OK;
}

/* Where it is put: *on is the pipe. */
struct found {
    struct sp_pipe *on;
    uint64_t at;
    uint32_t wishes;
};

static sp_status append(const struct sp_call *call, const struct sp_ask *ask, struct sp_pipe *pipe,
                        struct found *found)
{
    uint64_t number;
    sp_status status = sp_pipe_append(pipe, call, ask, &number, &found->wishes);

    found->on = pipe;
    found->at = sp_piped_at(pipe->index, number);
    return status;
}

static bool is_final(sp_status status)
{
    return status == SP_OK || status == SP_NO_MEMORY;
}

/* The pipe that this shard used last. SP_EMPTY: none, or another shard's, and this one's has no connection. */
static sp_status append_as_before(struct sp_pool *pool, const struct sp_call *call,
                                  const struct sp_ask *ask, struct found *found, bool own_first)
{
    uint32_t index = atomic_load_explicit(&sp_pool_home(pool, call)->pipe, memory_order_relaxed);
    struct sp_pipe *pipe = pipe_of(pool, index);

    if (!pipe || !atomic_load_explicit(&pipe->attached, memory_order_relaxed) ||
        (own_first && index < pool->shard_count && index != call->shard % pool->shard_count))
        return SP_EMPTY;
    return append(call, ask, pipe, found);
}

static sp_status append_anywhere(struct sp_pool *pool, const struct sp_call *call,
                                 const struct sp_ask *ask, struct found *found)
{
    sp_status status = SP_EMPTY;
    struct sp_pipe *pipe = NULL;

    /* One that refuses has no places from then on. */
    while (!is_final(status) && !sp_spent(call) && (pipe = pipe_with_room(pool, call))) {
        sp_take(call, SP_PIECES_LOOK);
        status = append(call, ask, pipe, found);
    }
    if (status == SP_OK)
        atomic_store_explicit(&sp_pool_home(pool, call)->pipe, pipe->index, memory_order_relaxed);
    return status;
}

static sp_status find_place(struct sp_pool *pool, const struct sp_call *call,
                            const struct sp_ask *ask, struct found *found)
{
    bool own_first = true;

    for (int tries = 0; tries < TRIES; tries++) {
        sp_status status = append_as_before(pool, call, ask, found, own_first);
        if (is_final(status))
            return status;
        status = take_idle(pool, call);
        if (status == SP_OK)
            continue;
        if (status != SP_EMPTY)
            return status;
        if (own_first && is_final(status = append_as_before(pool, call, ask, found, false)))
            return status;
        own_first = false;
        status = append_anywhere(pool, call, ask, found);
        if (is_final(status) || status == SP_EMPTY)
            return status;
    }
    return SP_EMPTY;
}

static sp_status put(struct sp_pool *pool, const struct sp_call *call, const struct sp_ask *ask,
                     struct found *found)
{
    enum sp_phase phase = sp_pool_phase(pool);
    sp_status status;

    if (phase != SP_PHASE_OPEN)
        return sp_pool_refuse(pool, sp_pool_phase_status(phase));
    if (atomic_load(&pool->nwait))
        return SP_EMPTY;
    if ((status = find_place(pool, call, ask, found)) != SP_OK)
        return status;
    sp_count(sp_pool_home(pool, call), placed);
    /* A shut that was too early to see it is seen here. */
    if (sp_pool_phase(pool) != SP_PHASE_OPEN) {
        sp_pipe_end_before(found->on, atomic_load(&pool->epoch));
        found->wishes = SP_PIPE_SELECT;
    }
    return SP_OK;
}

sp_status sp_piped_request(struct sp_pool *pool, const struct sp_call *call,
                           const struct sp_ask *ask, uint64_t *at)
{
    struct found found;
    sp_status status = put(pool, call, ask, &found);

    if (status != SP_OK)
        return status;
    *at = found.at;
    if (found.wishes)
        do_io(pool, call, found.on, found.wishes);
    return SP_OK;
}

sp_status sp_piped_request_asleep(struct sp_pool *pool, const struct sp_call *call,
                                  struct sp_waiter *waiter, bool *may_linger)
{
    struct sp_ask ask = sp_queued_ask(waiter);
    struct found found;
    sp_status status;

    atomic_store(&waiter->refs, 2);
    waiter->state = SP_GRANTED;
    if ((status = put(pool, call, &ask, &found)) != SP_OK) {
        atomic_store(&waiter->refs, 0);
        return status;
    }
    *may_linger = !found.wishes;
    note_due(pool, found.on, SP_PIPE_WRITE | SP_PIPE_SELECT);
    if (found.wishes)
        sp_pool_wake(pool, call);
    return SP_OK;
}

sp_status sp_piped_look(struct sp_pool *pool, const struct sp_call *call, uint64_t at,
                        uint64_t owner, bool fired, struct sp_reply *reply)
{
    struct sp_pipe *pipe = pipe_of(pool, at);
    uint32_t wishes, none;
    sp_status status;

    if (!pipe)
        return SP_NOT_FOUND;
    status = sp_pipe_look(pipe, at / SP_PIPES_MAX, owner, fired, reply, &wishes);
    if (!wishes)
        return status;
    do_io(pool, call, pipe, wishes);
    return status == SP_WANT_READ
               ? sp_pipe_look(pipe, at / SP_PIPES_MAX, owner, false, reply, &none)
               : status;
}

bool sp_piped_is_patient(struct sp_pool *pool, uint64_t at, uint32_t looks)
{
    struct sp_pipe *pipe = pipe_of(pool, at);

    return pipe && sp_pipe_is_patient(pipe, looks);
}

sp_status sp_piped_arm(struct sp_pool *pool, const struct sp_call *call, uint64_t at,
                       uint64_t owner, struct sp_waiter *waiter, struct sp_reply *reply,
                       uint64_t *placed_ns)
{
    struct sp_pipe *pipe = pipe_of(pool, at);
    sp_status status;

    if (!pipe)
        return SP_NOT_FOUND;
    do_io(pool, call, pipe, SP_PIPE_WRITE | SP_PIPE_READ);
    status = sp_pipe_arm(pipe, at / SP_PIPES_MAX, owner, waiter, reply, placed_ns);
    if (status == SP_WANT_READ)
        do_io(pool, call, pipe, SP_PIPE_SELECT);
    return status;
}

sp_status sp_piped_give_up(struct sp_pool *pool, const struct sp_call *call, uint64_t at,
                           uint64_t owner, bool sleeps, struct sp_reply *reply)
{
    struct sp_pipe *pipe = pipe_of(pool, at);
    uint32_t wishes;
    sp_status status;

    if (!pipe)
        return SP_NOT_FOUND;
    status = sp_pipe_give_up(pipe, at / SP_PIPES_MAX, owner, sleeps, reply, &wishes);
    if (wishes)
        do_io(pool, call, pipe, wishes);
    return status;
}

/* ---- the control process ---- */

void sp_piped_event(struct sp_pool *pool, const struct sp_call *call, uint32_t index,
                    uint32_t generation, bool write)
{
    struct sp_pipe *pipe = pipe_of(pool, index);

    if (!pipe)
        return;
    sp_pipe_fired(pipe, generation, write);
    do_io(pool, call, pipe, SP_PIPE_WRITE | SP_PIPE_READ | SP_PIPE_SELECT);
}

bool sp_piped_step(struct sp_pool *pool, const struct sp_call *call)
{
    uint32_t count = count_of(pool);

    if (count == 0 || !atomic_exchange(&pool->pipes->due, false))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct sp_pipe *pipe = pipe_at(pool, i);
        uint32_t wishes = atomic_load(&pipe->due) ? atomic_exchange(&pipe->due, 0) : 0;
        if (wishes)
            do_io(pool, call, pipe, wishes);
        if (sp_spent(call)) {
            atomic_store(&pool->pipes->due, true);
            return true;
        }
    }
    sp_take(call, (int)(count / SP_LOOKS_PER_PIECE));
    return atomic_load(&pool->pipes->due);
}

/* True where it is to be done once more. */
static bool look_after(struct sp_pool *pool, const struct sp_call *call, struct sp_pipe *pipe)
{
    if (call->now_ns > UNTAKEN_NS && sp_pipe_drop_dead(pipe, call, call->now_ns - UNTAKEN_NS))
        return true;
    sp_due_at(pool, sp_pipe_has_untaken(pipe) ? 0 : SP_NEVER);
    if (sp_pipe_is_over(pipe, call->now_ns) && !sp_health_failing(pool))
        sp_pipe_stop(pipe);
    if (atomic_load(&pipe->attached))
        do_io(pool, call, pipe, SP_PIPE_WRITE | SP_PIPE_READ | SP_PIPE_SELECT);
    return false;
}

bool sp_piped_tick(struct sp_pool *pool, const struct sp_call *call)
{
    uint32_t count = count_of(pool), *next;

    if (count == 0)
        return false;
    for (next = &pool->pipes->next_tick; *next < count; ++*next)
        if (sp_spent(call) || look_after(pool, call, pipe_at(pool, *next)))
            return true;
    /* Not to begin anew when the rest of the tick finds nothing left of the allowance. */
    if (sp_spent(call))
        return true;
    *next = 0;
    return false;
}

bool sp_piped_shut(struct sp_pool *pool, const struct sp_call *call)
{
    uint32_t count = count_of(pool);
    bool more = false;

    for (uint32_t i = 0; i < count && !sp_spent(call); i++) {
        struct sp_pipe *pipe = pipe_at(pool, i);
        if (!atomic_load(&pipe->attached))
            continue;
        sp_pipe_end_before(pipe, atomic_load(&pool->epoch));
        do_io(pool, call, pipe, SP_PIPE_SELECT);
        more = more || atomic_load(&pipe->attached);
    }
    return more || sp_spent(call);
}
