/* The stress program's processes: they check out, wait, time out, use, give away, lose and die. */
#include "stress_threads.h"

#include "core/conn/sp_recv.h"

#include <sched.h>
#include <stdlib.h>
#include <time.h>

enum expect { NOTHING, ONE, AT_MOST_ONE };

struct letter {
    struct mail mail;
    enum expect expect;
};

static _Atomic uint64_t next_owner = 1;
static char request_bytes[] = "request";
static const struct iovec REQUEST = {request_bytes, sizeof request_bytes};

uint64_t new_owner(void)
{
    return atomic_fetch_add(&next_owner, 1);
}

/* ---- handles ---- */

void drop(struct handle *handle)
{
    struct sp_call call = stress_call();

    if (handle->waiter)
        sp_waiter_abandon(handle->waiter, &call);
    if (handle->conn) {
        (void)sp_pool_abandon(pool, &call, handle->conn, handle->lease);
        stress_host.conn_unref(handle->conn);
    }
    if (handle->keepsake)
        stress_keepsake_free(handle->keepsake);
    *handle = (struct handle){0};
}

/* The handle of a dead process is collected at once, or lives on for a while. */
static void bury(struct worker *self, struct handle *handle)
{
    struct handle *grave = &self->graves[stress_random(GRAVES)];

    drop(stress_random(2) ? handle : grave);
    if (handle->waiter || handle->conn)
        *grave = *handle;
}

static void release(struct handle *handle, bool keep)
{
    struct sp_call call = stress_call();
    void *keepsake = handle->keepsake ? handle->keepsake : stress_keepsake_new();
    sp_status status =
        keep ? sp_pool_checkin(pool, &call, handle->conn, handle->lease, keepsake)
             : sp_pool_discard(pool, &call, handle->conn, handle->lease, SP_WHY_DISCARDED);

    if (status == SP_BUSY)
        stress_die("a connection that nobody waits on is busy");
    if (!keep || status != SP_OK)
        stress_keepsake_free(keepsake);
    stress_host.conn_unref(handle->conn);
    *handle = (struct handle){0};
}

/* ---- using a lease ---- */

static bool enter(struct handle *handle, const struct sp_call *call)
{
    uint64_t epoch = atomic_load(&usable_epoch);

    if (!sp_conn_enter(handle->conn, handle->lease, call))
        return false;
    if (handle->conn->epoch < epoch && handle->lasting)
        stress_die("a lease outlived the shut of its pool");
    if (atomic_fetch_add(&SP_CONTAINER(handle->conn, struct stress_conn, core)->inside, 1) != 0)
        stress_die("two are in one connection");
    return true;
}

static void leave(struct handle *handle, const struct sp_call *call)
{
    atomic_fetch_sub(&SP_CONTAINER(handle->conn, struct stress_conn, core)->inside, 1);
    sp_conn_leave(handle->conn, call);
}

/* Receives, having waited armed where nothing is there yet. False: the connection is of no use. */
static bool receive(struct handle *handle)
{
    struct sp_call call = stress_call();
    struct sp_want want = {.len_bytes = 1};
    struct sp_received received;
    uint8_t scratch[16];
    sp_status status;

    if (!enter(handle, &call))
        return false;
    status = sp_recv(handle->conn, &call, &want, scratch, sizeof scratch, &received);
    if (status == SP_OK)
        sp_recv_taken(handle->conn, &received);
    leave(handle, &call);
    return status == SP_OK;
}

/* Armed. False where the owner has died: its arm ends with it, and with the arm the descriptor. True
 * also where it died just now: as if it were in a call still. */
static bool wait_readable(struct handle *handle, uint64_t owner)
{
    time_t began = time(NULL);

    while (!stress_readable(handle->conn->fd)) {
        if (!stress_alive(owner))
            return false;
        if (time(NULL) - began > STUCK_S)
            stress_die("an armed owner was forgotten");
        sched_yield();
    }
    return true;
}

/* The request is out: waits for the reply, armed, and mostly receives it. False: the connection is
 * of no use any more. */
static bool await_reply(struct handle *handle, uint64_t owner)
{
    struct sp_call call = stress_call();
    bool armed;

    if (!enter(handle, &call))
        return false;
    armed = sp_conn_arming(handle->conn, handle->lease);
    leave(handle, &call);
    if (!armed || !wait_readable(handle, owner))
        return false;
    sp_conn_disarmed(handle->conn, handle->lease, &call);
    return stress_random(16) && receive(handle);
}

/* One exchange with the server. False: the connection is of no use any more. */
static bool exchange(struct handle *handle, uint64_t owner)
{
    struct sp_call call = stress_call();
    size_t sent;
    sp_status status;

    if (!enter(handle, &call))
        return false;
    if (stress_unread(handle->conn->fd))
        stress_die("a connection was handed out with an unread reply");
    handle->conn->touched = true;
    status = handle->conn->transport->send(handle->conn, &REQUEST, 1, &sent);
    leave(handle, &call);
    return status == SP_OK && sent == REQUEST.iov_len && await_reply(handle, owner);
}

/* As a change of the transport: what is written is what was there, now and again, so that others meet it. */
static bool change(struct handle *handle)
{
    const struct sp_transport *volatile *place = &handle->conn->transport;

    if (!sp_conn_still(handle->conn, handle->lease))
        return false;
    for (int i = 0; i < 5; i++) {
        *place = *place;
        sched_yield();
    }
    sp_conn_go_on(handle->conn, handle->lease);
    return true;
}

/* From hand to hand, quickly, so that others meet a number that is just changing. */
static void give_around(struct worker *self, struct handle *handle)
{
    uint64_t lease, owner = atomic_load(&self->owner);

    for (int i = 0; i < 100; i++) {
        lease = sp_conn_give_away(handle->conn, handle->lease, owner);
        if (lease == SP_LEASE_NONE)
            return;
        handle->lease = lease;
        if (i % 10 == 0 && !change(handle))
            return;
    }
    owner = new_owner();
    lease = sp_conn_give_away(handle->conn, handle->lease, owner);
    if (lease == SP_LEASE_NONE)
        return;
    handle->lease = lease;
    atomic_store(&self->owner, owner);
}

static void use(struct worker *self, struct handle *handle)
{
    bool fine = true;

    if (stress_random(8) == 0)
        give_around(self, handle);
    if (stress_random(4))
        fine = exchange(handle, atomic_load(&self->owner));
    if (!stress_alive(atomic_load(&self->owner)) || stress_random(64) == 0)
        bury(self, handle);
    else
        release(handle, fine && stress_random(32));
}

/* ---- waiting ---- */

static bool wait_for(struct mail *mail, uint64_t owner, unsigned turns)
{
    time_t began = time(NULL);

    for (unsigned i = 0; i < turns; i++) {
        if (atomic_load_explicit(&mail->told, memory_order_acquire) || !stress_alive(owner))
            return atomic_load_explicit(&mail->told, memory_order_acquire) > 0;
        if (time(NULL) - began > STUCK_S)
            stress_die("a waiter was forgotten");
        sched_yield();
    }
    return false;
}

static void granted(struct worker *self, struct handle *handle, struct mail *mail, bool request)
{
    uint64_t owner = atomic_load(&self->owner);
    sp_status status = atomic_load(&mail->status);
    bool fine;

    if (status != SP_OK) {
        drop(handle);
        return;
    }
    if (!sp_waiter_adopt(handle->waiter, &handle->conn, &handle->lease))
        stress_die("there is nothing to adopt after a grant");
    handle->waiter = NULL;
    if (!request) {
        use(self, handle);
        return;
    }
    fine = atomic_load(&mail->sent) == REQUEST.iov_len && await_reply(handle, owner);
    if (fine || stress_alive(owner))
        release(handle, fine);
    else
        bury(self, handle);
}

/* The owner's time is over, or it is dead. */
static void give_up(struct worker *self, struct handle *handle, struct letter *letter, bool request)
{
    uint64_t owner = atomic_load(&self->owner);
    struct sp_call call = stress_call();

    /* Who waits for a reply has the handle to the end of its life. */
    if (request && stress_random(8) == 0)
        stress_kill(owner);
    if (!stress_alive(owner) || (!request && stress_random(8) == 0)) {
        letter->expect = AT_MOST_ONE;
        bury(self, handle);
    } else if (sp_waiter_cancel(handle->waiter, &call) == SP_CANCELLED) {
        letter->expect = NOTHING;
        drop(handle);
    } else if (request && stress_random(2) &&
               sp_waiter_adopt(handle->waiter, &handle->conn, &handle->lease)) {
        /* As the face does: given up though it was sent. The handle lives until the message is
         * there. */
        handle->waiter = NULL;
        sp_pool_discard(pool, &call, handle->conn, handle->lease, SP_WHY_DISCARDED);
        if (!wait_for(&letter->mail, owner, -1u))
            letter->expect = AT_MOST_ONE;
        drop(handle);
    } else if (wait_for(&letter->mail, owner, -1u)) {
        granted(self, handle, &letter->mail, request);
    } else {
        letter->expect = AT_MOST_ONE;
        bury(self, handle);
    }
}

static void await(struct worker *self, uint64_t owner)
{
    struct letter *letter = &self->letters[self->letter_count];
    struct stress_waiter *waiter = stress_waiter_new(pool, owner, &letter->mail);
    struct handle handle = {.waiter = &waiter->core};
    struct sp_call call = stress_call();
    bool request = stress_random(2);

    if (stress_random(2))
        waiter->core.expires_ns = call.now_ns + stress_random(3) * SP_EXPIRY_GRAIN_NS + 1;
    if (request) {
        waiter->core.iov = &REQUEST;
        waiter->core.iov_count = 1;
    }
    if (sp_pool_enqueue(pool, &call, &waiter->core) != SP_OK) {
        stress_host.waiter_free(&waiter->core);
        return;
    }
    self->letter_count++;
    letter->expect = ONE;
    if (wait_for(&letter->mail, owner, stress_random(3) ? -1u : (unsigned)stress_random(20)))
        granted(self, &handle, &letter->mail, request);
    else
        give_up(self, &handle, letter, request);
}

/* ---- the worker ---- */

void worker_start(struct worker *self, unsigned ops)
{
    *self = (struct worker){.owner = new_owner(), .ops = ops};
    self->letters = calloc(ops, sizeof *self->letters);
}

static void operate(struct worker *self)
{
    uint64_t owner = atomic_load(&self->owner);
    struct sp_call call = stress_call();
    struct handle handle = {0};
    sp_status status;

    if (!stress_alive(owner)) {
        owner = new_owner();
        atomic_store(&self->owner, owner);
    }
    status = sp_pool_checkout(pool, &call, owner, &handle.conn, &handle.lease, &handle.keepsake);
    handle.lasting = true;
    if (status == SP_OK)
        use(self, &handle);
    else if (status == SP_EMPTY && stress_random(4))
        await(self, owner);
    else if (status == SP_EMPTY)
        sp_pool_want(pool, &call);
    else
        sched_yield();
}

void worker_run(struct worker *self)
{
    for (unsigned i = 0; i < self->ops; i++) {
        operate(self);
        if (stress_random(16) == 0)
            drop(&self->graves[stress_random(GRAVES)]);
    }
    /* The others still need this process's connections back. */
    for (unsigned i = 0; i < GRAVES; i++)
        drop(&self->graves[i]);
}

unsigned worker_judge(struct worker *self)
{
    static const char *const WANTED[] = {"none", "exactly one", "one at most"};

    for (unsigned i = 0; i < self->letter_count; i++) {
        const struct letter *letter = &self->letters[i];
        unsigned told = atomic_load(&letter->mail.told);
        bool fine = letter->expect == NOTHING ? told == 0
                    : letter->expect == ONE   ? told == 1
                                              : told <= 1;
        if (!fine)
            stress_die("a waiter was told %u times, not %s", told, WANTED[letter->expect]);
    }
    free(self->letters);
    return self->letter_count;
}
