#include "pool_kit.h"

#include "core/pool/sp_piped.h"
#include "fake_pipe.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define HANDLES_MAX 4096
#define STEP_MAX 32

struct sp_pool *kit_pool;
struct sp_config kit_config;
static struct handle handles[HANDLES_MAX];
static unsigned home;
static int allowed;

/* ---- opening and closing ---- */

void kit_init(unsigned shards)
{
    fake_sys_reset();
    fake_host_reset();
    fake_connect_at_once(true);
    home = 0;
    allowed = SP_ALLOWANCE_PIECES;
    kit_config = (struct sp_config){.transport = &sp_transport_tcp,
                                    .size = 2,
                                    .overflow_ttl_ns = 10000 * SP_MS,
                                    .max_hold_ns = SP_NEVER,
                                    .idle_timeout_ns = SP_NEVER,
                                    .lifetime_max_ns = SP_NEVER,
                                    .max_uses = SP_NEVER,
                                    .max_waiting = SP_NEVER,
                                    .connect_parallelism = 64,
                                    .backoff_min_ns = 100 * SP_MS,
                                    .backoff_max_ns = 10000 * SP_MS,
                                    .recv_limit_bytes = 1 << 20,
                                    .replies = true,
                                    .strategy = SP_LIFO};
    kit_pool = aligned_alloc(_Alignof(struct sp_pool), sizeof *kit_pool);
    memset(kit_pool, 0, sizeof *kit_pool);
    cr_assert_eq(sp_pool_init(kit_pool, &fake_host, &fake_sys, shards), SP_OK);
}

void kit_open(void)
{
    if (kit_config.pipeline > 1)
        cr_assert_eq(sp_piped_open(kit_pool), SP_OK);
    sp_control_open(kit_pool, kit_call(), &kit_config, 1);
}

void kit_start(unsigned size, unsigned max_overflow)
{
    kit_init(1);
    kit_config.size = size;
    kit_config.max_overflow = max_overflow;
    kit_open();
    cr_assert_eq(kit_grow(), size);
}

/* Without handles, nobody but the table refers to a connection. */
static void check_references(void)
{
    for (uint32_t i = 0; i < kit_pool->table.count; i++)
        if (kit_pool->table.slots[i])
            cr_assert_eq(fake_conn_refs(kit_pool->table.slots[i]), 1);
    cr_assert_eq(kit_stats().leased + kit_stats().connecting, 0);
}

void kit_shut(enum sp_phase phase, sp_status status)
{
    sp_control_shut_begin(kit_pool, phase);
    while (sp_control_shut_slice(kit_pool, kit_call(), status))
        ;
    cr_assert_eq(sp_pool_phase(kit_pool), phase);
}

/* Every lease that was given has been counted as it ended. */
static void check_leases(void)
{
    struct sp_snapshot stats = kit_stats();

    cr_assert_eq(stats.leased, 0);
    cr_assert_eq(stats.checkouts, stats.checkins + stats.abandoned,
                 "%" PRIu64 " check-outs, %" PRIu64 " check-ins, %" PRIu64 " abandoned",
                 stats.checkouts, stats.checkins, stats.abandoned);
}

void kit_close(void)
{
    kit_check();
    for (unsigned i = 0; i < HANDLES_MAX; i++)
        kit_drop(&handles[i]);
    kit_check();
    check_leases();
    check_references();
    kit_shut(SP_PHASE_CLOSED, SP_DRAINING);
    kit_check();
    cr_assert_eq(atomic_load(&kit_pool->total), 0);
    cr_assert_eq(fake_conns(), 0, "%u connections leaked", fake_conns());
    cr_assert_eq(fake_keepsakes(), 0, "%u keepsakes leaked", fake_keepsakes());
    cr_assert_eq(fake_waiters(), 0, "%u waiters leaked", fake_waiters());
    cr_assert_eq(fake_fds_open(), 0, "%u descriptors leaked", fake_fds_open());
    cr_assert_eq(fake_replies(), 0, "%u replies leaked", fake_replies());
    sp_piped_destroy(kit_pool);
    sp_pool_destroy(kit_pool);
    free(kit_pool);
    fake_sys_reset();
}

struct sp_call *kit_call(void)
{
    return fake_host_call_of(home, allowed);
}

void kit_allow(int pieces)
{
    allowed = pieces;
}

void kit_home(unsigned shard)
{
    home = shard;
}

/* ---- handles ---- */

static struct handle *handle_new(uint64_t owner)
{
    for (unsigned i = 0; i < HANDLES_MAX; i++) {
        if (!handles[i].conn && !handles[i].waiter) {
            handles[i] = (struct handle){.owner = owner};
            return &handles[i];
        }
    }
    fake_die("too many handles");
}

static void forget(struct handle *handle)
{
    sp_conn_disarmed(handle->conn, handle->lease, kit_call());
    fake_host.conn_unref(handle->conn);
    if (handle->keepsake)
        fake_keepsake_free(handle->keepsake);
    *handle = (struct handle){0};
}

void kit_drop(struct handle *handle)
{
    if (handle->waiter)
        sp_waiter_abandon(handle->waiter, kit_call());
    if (handle->conn) {
        (void)sp_pool_abandon(kit_pool, kit_call(), handle->conn, handle->lease);
        fake_host.conn_unref(handle->conn);
    }
    if (handle->keepsake)
        fake_keepsake_free(handle->keepsake);
    *handle = (struct handle){0};
}

struct handle *kit_try_checkout(uint64_t owner, sp_status *status)
{
    struct sp_conn *conn;
    struct handle *handle;
    uint64_t lease;
    void *keepsake;

    *status = sp_pool_checkout(kit_pool, kit_call(), owner, &conn, &lease, &keepsake);
    if (*status != SP_OK)
        return NULL;
    handle = handle_new(owner);
    handle->conn = conn;
    handle->lease = lease;
    handle->keepsake = keepsake;
    return handle;
}

struct handle *kit_checkout(uint64_t owner)
{
    sp_status status;
    struct handle *handle = kit_try_checkout(owner, &status);

    cr_assert_eq(status, SP_OK, "checkout: %s", sp_status_name(status));
    return handle;
}

static struct handle *enqueue(struct sp_waiter *waiter, sp_status *status)
{
    struct handle *handle = handle_new(waiter->owner);

    handle->waiter = waiter;
    *status = sp_pool_enqueue(kit_pool, kit_call(), waiter);
    if (*status == SP_OK)
        return handle;
    handle->waiter = NULL;
    atomic_store(&waiter->refs, 0);
    fake_host.waiter_free(waiter);
    return NULL;
}

struct handle *kit_try_enqueue(uint64_t owner, const struct iovec *iov, int iov_count,
                               sp_status *status)
{
    return enqueue(fake_waiter_new(kit_pool, owner, iov, iov_count), status);
}

struct handle *kit_enqueue_growing(uint64_t owner, sp_status *status)
{
    struct sp_waiter *waiter = fake_waiter_new(kit_pool, owner, NULL, 0);

    waiter->growing_only = true;
    return enqueue(waiter, status);
}

struct handle *kit_enqueue_for(uint64_t owner, uint64_t ms)
{
    struct sp_waiter *waiter = fake_waiter_new(kit_pool, owner, NULL, 0);
    struct handle *handle;
    sp_status status;

    waiter->expires_ns = fake_now_ns() + ms * SP_MS;
    handle = enqueue(waiter, &status);
    cr_assert_eq(status, SP_OK, "enqueue: %s", sp_status_name(status));
    return handle;
}

struct handle *kit_request(uint64_t owner, const struct iovec *iov, int iov_count)
{
    sp_status status;
    struct handle *handle = kit_try_enqueue(owner, iov, iov_count, &status);

    cr_assert_eq(status, SP_OK, "enqueue: %s", sp_status_name(status));
    return handle;
}

struct handle *kit_enqueue(uint64_t owner)
{
    return kit_request(owner, NULL, 0);
}

enum sp_waiter_state kit_cancel(struct handle *handle)
{
    return sp_waiter_cancel(handle->waiter, kit_call());
}

bool kit_adopt(struct handle *handle)
{
    if (!sp_waiter_adopt(handle->waiter, &handle->conn, &handle->lease))
        return false;
    handle->waiter = NULL;
    return true;
}

static sp_status end_lease(struct handle *handle,
                           sp_status (*checkin)(struct sp_pool *pool, const struct sp_call *call,
                                                struct sp_conn *conn, uint64_t lease,
                                                void *keepsake))
{
    sp_status status = checkin(kit_pool, kit_call(), handle->conn, handle->lease, handle->keepsake);

    if (status == SP_OK)
        handle->keepsake = NULL;
    if (status != SP_BUSY)
        forget(handle);
    return status;
}

sp_status kit_checkin(struct handle *handle)
{
    return end_lease(handle, sp_pool_checkin);
}

sp_status kit_checkin_clean(struct handle *handle)
{
    return end_lease(handle, sp_pool_checkin_clean);
}

sp_status kit_discard(struct handle *handle)
{
    sp_status status =
        sp_pool_discard(kit_pool, kit_call(), handle->conn, handle->lease, SP_WHY_DISCARDED);

    forget(handle);
    return status;
}

/* ---- control ---- */

size_t kit_step(struct handle **attempts, size_t max, struct sp_plan *plan)
{
    struct sp_attempt made[STEP_MAX];

    cr_assert_leq(max, STEP_MAX);
    sp_control_step(kit_pool, kit_call(), made, max, plan);
    cr_assert_leq(plan->attempts, max);
    for (size_t i = 0; i < plan->attempts; i++) {
        attempts[i] = handle_new(0);
        attempts[i]->conn = made[i].conn;
        attempts[i]->lease = made[i].lease;
    }
    return plan->attempts;
}

void kit_connect(struct handle *attempt, uint64_t connector)
{
    static const struct sp_addr addr = {.storage.ss_family = AF_INET,
                                        .len = sizeof(struct sockaddr_storage)};
    sp_status status =
        sp_control_begin(kit_pool, kit_call(), attempt->conn, &attempt->lease, connector, &addr);

    cr_assert_eq(status, SP_OK, "begin: %s", sp_status_name(status));
    cr_assert_eq(sp_control_opened(attempt->conn, &attempt->lease, kit_call()), SP_OK);
    cr_assert_eq(sp_control_ready(kit_pool, kit_call(), attempt->conn, attempt->lease), SP_OK);
    forget(attempt);
}

unsigned kit_grow(void)
{
    struct handle *attempts[STEP_MAX];
    struct sp_plan plan;
    unsigned connected = 0;

    do {
        kit_step(attempts, STEP_MAX, &plan);
        for (size_t i = 0; i < plan.attempts; i++)
            kit_connect(attempts[i], KIT_OWNER);
        connected += (unsigned)plan.attempts;
    } while (plan.more || plan.attempts > 0);
    return connected;
}

void kit_tick(void)
{
    uint32_t cursor = 0;

    while (sp_control_tick(kit_pool, kit_call(), &cursor))
        ;
    cr_assert_eq(cursor, 0);
}

/* ---- checks ---- */

struct sp_snapshot kit_stats(void)
{
    struct sp_snapshot snapshot = {0};
    uint32_t cursor = 0;

    while (sp_pool_snapshot(kit_pool, kit_call(), &snapshot, &cursor))
        ;
    return snapshot;
}

static unsigned check_list(struct sp_list *list, unsigned shard, bool cold, bool aged)
{
    unsigned count = 0;

    for (struct sp_list_node *node = list->head.next; node != &list->head; node = node->next) {
        struct sp_conn *conn = SP_CONTAINER(node, struct sp_conn, node);
        cr_assert_eq(sp_conn_state(conn), SP_CONN_IDLE);
        cr_assert_eq(atomic_load(&conn->lease), SP_LEASE_NONE);
        cr_assert_eq(atomic_load(&conn->armed), SP_LEASE_NONE);
        cr_assert_eq(atomic_load(&conn->pins), 0);
        cr_assert_eq(atomic_load(&conn->shard), shard);
        cr_assert_eq(conn->cold, cold);
        cr_assert_eq(conn->aged, aged);
        cr_assert_not(conn->tainted);
        cr_assert_eq(conn->rbuf.len, 0);
        cr_assert_eq(node->next->prev, node);
        count++;
    }
    return count;
}

static unsigned check_table(void)
{
    unsigned leased = 0;

    for (uint32_t i = 0; i < kit_pool->table.count; i++) {
        struct sp_conn *conn = kit_pool->table.slots[i];
        if (!conn)
            continue;
        cr_assert_eq(conn->slot, i);
        if (sp_conn_state(conn) == SP_CONN_LEASED) {
            cr_assert_neq(atomic_load(&conn->lease), SP_LEASE_NONE, "a connection is nobody's");
            leased++;
        }
    }
    for (uint32_t i = 0; i < kit_pool->table.free_hint; i++)
        cr_assert(kit_pool->table.slots[i], "a free slot lies below the hint");
    return leased;
}

static unsigned length(const struct sp_list *list)
{
    unsigned count = 0;

    for (const struct sp_list_node *node = list->head.next; node != &list->head; node = node->next)
        count++;
    return count;
}

void kit_check(void)
{
    struct sp_snapshot stats = kit_stats();
    unsigned idle = 0, aged = 0;

    for (unsigned i = 0; i < kit_pool->shard_count; i++) {
        struct sp_shard *shard = &kit_pool->shards[i];
        unsigned old = check_list(&shard->aged, i, false, true);
        unsigned listed = check_list(&shard->fresh, i, false, false) +
                          check_list(&shard->cold, i, true, false) + old;
        cr_assert_eq(listed, atomic_load(&shard->top));
        idle += listed;
        aged += old;
    }
    cr_assert_eq(aged, atomic_load(&kit_pool->aged));
    cr_assert_eq(stats.idle, idle);
    cr_assert_eq(stats.leased, check_table());
    cr_assert_eq(stats.connecting, atomic_load(&kit_pool->connecting));
    cr_assert_eq(stats.idle + stats.leased + stats.connecting, stats.total,
                 "idle %u + leased %u + connecting %u != total %u", (unsigned)stats.idle,
                 (unsigned)stats.leased, (unsigned)stats.connecting, (unsigned)stats.total);
    cr_assert_eq(stats.waiting, length(&kit_pool->queue.list));
    cr_assert(stats.waiting == 0 || stats.idle == 0, "%u wait beside %u idle connections",
              (unsigned)stats.waiting, (unsigned)stats.idle);
    if (sp_pool_phase(kit_pool) != SP_PHASE_OPEN)
        cr_assert(stats.waiting == 0 && stats.idle == 0, "a shut pool has waiters or idle ones");
}
