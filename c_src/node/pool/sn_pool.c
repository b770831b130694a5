#include "sn_pool.h"

#include "sn_place.h"

#include "node/base/sn_descriptors.h"
#include "node/base/sn_log.h"
#include "core/conn/sp_tcp_info.h"
#include "core/pool/sp_due.h"
#include "core/pool/sp_health.h"
#include "core/pool/sp_piped.h"
#include "core/pool/sp_settings.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ATTEMPTS_PER_STEP 32
#define CHECKS_PER_STEP 32
#define CHECK_LOG_EVERY_NS (10000 * SP_MS)
/* Connecting has not failed for that long. */
#define OUTAGE_ENDS_NS (5000 * SP_MS)

static const struct sockaddr_storage NOWHERE = {.ss_family = AF_UNSPEC};

static struct sn_pool *pool_of(struct sn_hosted_pool *hosted)
{
    return SP_CONTAINER(hosted, struct sn_pool, hosted);
}

/* ---- connecting ---- */

static void log_failure(const struct sn_pool *pool, struct sn_reason reason, const char *step,
                        const struct sockaddr_storage *at)
{
#define FAILURE "pool=%s server=\"%s\" transport=%s reason=\"%s\""
    static const char *const formats[2][2] = {{FAILURE, FAILURE " address=%s"},
                                              {FAILURE " step=%s", FAILURE " step=%s address=%s"}};
    bool is_timeout = !reason.kind && strcmp(reason.word, sp_status_name(SP_TIMEOUT)) == 0;
    char server[SERVER_CHARS], text[SN_REASON_TEXT_MAX], address[ADDRESS_CHARS] = "";
    bool has_address = sn_place_address(at, address);

    sn_place_server(&pool->options, server);
    sn_log(SN_LOG_WARNING, "cannot_connect", formats[is_timeout][has_address], pool->options.name,
           server, pool->options.config.transport->name, sn_reason_text(reason, text),
           is_timeout ? step : address, address);
}

static void note(struct sn_pool *pool, struct sn_reason reason)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    pool->last_error = reason;
    pool->last_error_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Each outage is logged, not every attempt, and not every turn where it fails now and then. */
static void note_end(struct sn_pool *pool, struct sn_reason reason, const char *step,
                     const struct sockaddr_storage *at)
{
    if (reason.word) {
        note(pool, reason);
        if (pool->failures++ == 0)
            log_failure(pool, reason, step, at);
        pool->outage_ends_ns = 0;
    } else if (pool->failures && !pool->outage_ends_ns) {
        pool->outage_ends_ns = sn_loop_now_ns(pool->hosted.loop) + OUTAGE_ENDS_NS;
    }
}

static void look_for_the_end(struct sn_pool *pool, uint64_t now_ns)
{
    char server[SERVER_CHARS];

    if (!pool->outage_ends_ns || now_ns < pool->outage_ends_ns)
        return;
    sn_place_server(&pool->options, server);
    sn_log(SN_LOG_INFO, "connected_again", "pool=%s server=\"%s\" failures=%u", pool->options.name,
           server, pool->failures);
    pool->failures = 0;
    pool->outage_ends_ns = 0;
}

static void readied(struct sn_pool *pool)
{
    if (pool->readied)
        pool->readied(pool);
}

static void on_attempt_ended(struct sn_attempt *attempt, struct sn_reason reason)
{
    struct sn_pool *pool = pool_of(attempt->hosted);

    note_end(pool, reason, attempt->step, &attempt->reason_at);
    readied(pool);
}

/* One that was opened without what it needs for TLS looks whether that is there now. */
static bool has_tls(struct sn_pool *pool)
{
    struct sp_tls_refusal refusal;

    if (pool->lacks_tls && sn_pool_reload_tls(pool, &refusal) != SP_OK)
        note_end(pool, sn_reason_of_tls(&refusal), "files", &NOWHERE);
    return !pool->lacks_tls;
}

/* One line at once, and then one in a while. */
static void on_check_ended(struct sn_check *check, struct sn_reason reason)
{
    struct sn_pool *pool = pool_of(check->hosted);
    uint64_t now_ns = sn_loop_now_ns(pool->hosted.loop);
    char server[SERVER_CHARS], text[SN_REASON_TEXT_MAX];

    if (!reason.word)
        return;
    if (pool->check_logged_ns && now_ns < pool->check_logged_ns + CHECK_LOG_EVERY_NS) {
        pool->check_failures++;
        return;
    }
    sn_place_server(&pool->options, server);
    sn_log(SN_LOG_WARNING, "check_failed", "pool=%s server=\"%s\" reason=\"%s\" suppressed=%u",
           pool->options.name, server, sn_reason_text(reason, text), pool->check_failures);
    pool->check_logged_ns = now_ns;
    pool->check_failures = 0;
}

static void begin_checks(struct sn_pool *pool)
{
    struct sp_call call = sn_loop_call(pool->hosted.loop);
    struct sp_check checks[CHECKS_PER_STEP];
    struct sp_check_plan plan;
    uint64_t at_ns;

    sp_check_step(&pool->hosted.core, &call, checks, CHECKS_PER_STEP, &plan);
    if (plan.more)
        sn_loop_defer(pool->hosted.loop, &pool->task);
    at_ns = plan.wait_ns == SP_NEVER ? UINT64_MAX : call.now_ns + plan.wait_ns;
    if (sn_loop_limit(pool->hosted.loop, &pool->check_limit, at_ns) != SP_OK)
        sn_loop_defer(pool->hosted.loop, &pool->task);
    for (size_t i = 0; i < plan.count; i++)
        sn_check_start(&pool->hosted, &pool->options.health, &checks[i], &pool->checks,
                       on_check_ended);
}

static void step(struct sn_pool *pool);

static void on_check_due(struct sn_limit *limit)
{
    step(SP_CONTAINER(limit, struct sn_pool, check_limit));
}

/* In that time at the latest; where memory is short, now. */
static void tick_at(struct sn_pool *pool, uint64_t at_ns)
{
    if (pool->ticking || (pool->tick.deadline.place && pool->tick.deadline.at_ns <= at_ns))
        return;
    if (sn_loop_limit(pool->hosted.loop, &pool->tick, at_ns) != SP_OK)
        sn_loop_defer(pool->hosted.loop, &pool->tick_task);
}

static void step(struct sn_pool *pool)
{
    struct sp_call call = sn_loop_call(pool->hosted.loop);
    struct sp_attempt attempts[ATTEMPTS_PER_STEP];
    struct sp_plan plan;
    sp_status status;

    sn_loop_drop(&pool->linger);
    pool->lingers = false;
    sp_control_step(&pool->hosted.core, &call, attempts, ATTEMPTS_PER_STEP, &plan);
    if (plan.more)
        sn_loop_defer(pool->hosted.loop, &pool->task);
    status = sn_loop_limit(pool->hosted.loop, &pool->retry,
                           plan.wait_ns == SP_NEVER ? UINT64_MAX : call.now_ns + plan.wait_ns);
    (void)status; /* the tick steps too */
    begin_checks(pool);
    tick_at(pool, call.now_ns + SP_TICK_NS);
    if (plan.attempts > 0 && !has_tls(pool)) {
        for (size_t i = 0; i < plan.attempts; i++)
            sn_attempt_refuse(&pool->hosted, &attempts[i]);
        return;
    }
    for (size_t i = 0; i < plan.attempts; i++)
        if (!sn_attempt_start(&pool->hosted, pool->lookups, &pool->options, pool->here,
                              &attempts[i], pool->turn++, &pool->attempts, on_attempt_ended))
            note(pool, sn_reason_of(SP_NO_MEMORY));
}

/* Those who ask have one turn more: they run meanwhile, if they have waited for a processor, and what they ask goes out
 * with this. */
static void on_linger(struct sn_task *task)
{
    struct sn_pool *pool = SP_CONTAINER(task, struct sn_pool, linger);

    if (pool->stopping)
        return;
    if (pool->lingers) {
        step(pool);
        return;
    }
    pool->lingers = true;
    sched_yield();
    sn_loop_defer(pool->hosted.loop, &pool->linger);
}

void sn_pool_linger(struct sn_pool *pool)
{
    sn_loop_defer(pool->hosted.loop, &pool->linger);
}

static void on_retry(struct sn_limit *limit)
{
    step(SP_CONTAINER(limit, struct sn_pool, retry));
}

static void on_tick_task(struct sn_task *task)
{
    struct sn_pool *pool = SP_CONTAINER(task, struct sn_pool, tick_task);
    struct sp_call call = sn_loop_call(pool->hosted.loop);
    uint64_t due_ns;

    if (pool->stopping)
        return;
    if (sp_control_tick(&pool->hosted.core, &call, &pool->tick_cursor)) {
        sn_loop_defer(pool->hosted.loop, task);
        return;
    }
    if (pool->options.config.max_hold_ns != SP_NEVER)
        pool->ended_leases(pool);
    look_for_the_end(pool, call.now_ns);
    pool->ticking = false;
    due_ns = sp_due_next(&pool->hosted.core, &call);
    if (pool->outage_ends_ns && pool->outage_ends_ns < due_ns)
        due_ns = pool->outage_ends_ns;
    if (due_ns != SP_NEVER)
        tick_at(pool, due_ns);
}

/* The step first: after one there has to be a tick. */
static void on_tick(struct sn_limit *limit)
{
    struct sn_pool *pool = SP_CONTAINER(limit, struct sn_pool, tick);

    pool->ticking = true;
    step(pool);
    on_tick_task(&pool->tick_task);
}

static void on_wake(struct sn_hosted_pool *hosted)
{
    sn_loop_defer(hosted->loop, &pool_of(hosted)->task);
}

/* ---- life ---- */

static void pool_free(struct sn_pool *pool)
{
    sn_loop_unlimit(pool->hosted.loop, &pool->retry);
    sn_loop_unlimit(pool->hosted.loop, &pool->check_limit);
    sn_loop_unlimit(pool->hosted.loop, &pool->tick);
    sn_loop_drop(&pool->tick_task);
    sn_loop_drop(&pool->task);
    sn_loop_drop(&pool->linger);
    sp_piped_destroy(&pool->hosted.core);
    sp_pool_destroy(&pool->hosted.core);
    sp_tls_slot_destroy(&pool->tls);
    sn_options_free(&pool->options);
    free(pool);
}

static void free_later(struct sn_pool *pool);

static void stop_slice(struct sn_pool *pool)
{
    struct sp_call call = sn_loop_call(pool->hosted.loop);

    if (pool->stopped) {
        if (pool->hosted.conns == 0 && sp_list_empty(&pool->sessions))
            pool_free(pool);
        return;
    }
    if (sp_control_shut_slice(&pool->hosted.core, &call, SP_DRAINING)) {
        sn_loop_defer(pool->hosted.loop, &pool->task);
        return;
    }
    pool->stopped = true;
    pool->ended_leases(pool);
    pool->on_stopped(pool);
    free_later(pool);
}

static void on_task(struct sn_task *task)
{
    struct sn_pool *pool = SP_CONTAINER(task, struct sn_pool, task);

    if (pool->stopping)
        stop_slice(pool);
    else
        step(pool);
}

/* The core may be in the middle of something. */
static void free_later(struct sn_pool *pool)
{
    if (pool->stopped)
        sn_loop_defer(pool->hosted.loop, &pool->task);
}

void sn_pool_released(struct sn_pool *pool)
{
    pool->released(pool);
    free_later(pool);
}

static void on_emptied(struct sn_hosted_pool *hosted)
{
    free_later(pool_of(hosted));
}

static void on_stalled(struct sn_hosted_pool *hosted, const struct sp_conn *conn,
                       const struct sp_tcp_info *info, uint64_t held_ns)
{
    char address[ADDRESS_CHARS] = "";

    (void)sn_place_address(&conn->peer.storage, address);
    sn_log(SN_LOG_WARNING, "stalled",
           "pool=%s address=%s held_ms=%llu unacked=%llu retransmits=%llu",
           pool_of(hosted)->options.name, address, (unsigned long long)(held_ns / SP_MS),
           (unsigned long long)info->unacked, (unsigned long long)info->retransmits);
}

static void on_refused(struct sn_hosted_pool *hosted, const struct sp_conn *conn, sp_status why,
                       bool is_outage)
{
    struct sn_pool *pool = pool_of(hosted);

    if (is_outage)
        note_end(pool, sn_reason_of_conn(conn, why), "", &conn->peer.storage);
    else
        note(pool, sn_reason_of_conn(conn, why));
}

static void on_leak(struct sn_hosted_pool *hosted, struct sp_conn *conn, uint64_t owner,
                    uint64_t held_ns)
{
    struct sn_pool *pool = pool_of(hosted);

    pool->leaked(pool, conn, held_ns, owner == SP_OWNER_POOL);
}

void sn_pool_set_tls(struct sn_pool *pool, struct sp_tls_ctx *ctx)
{
    sp_tls_slot_set(&pool->tls, ctx, ++pool->tls_turn);
    pool->lacks_tls = false;
}

sp_status sn_pool_reload_tls(struct sn_pool *pool, struct sp_tls_refusal *refusal)
{
    struct sp_tls_ctx *ctx;

    if (!pool->options.has_tls)
        return SP_OK;
    ctx = sp_tls_ctx_get(pool->registry, &pool->options.tls, refusal);
    if (!ctx)
        return SP_BAD_DATA;
    sn_pool_set_tls(pool, ctx);
    return SP_OK;
}

/* For the first time. */
static sp_status set_up_tls(struct sn_pool *pool, struct sp_tls_refusal *refusal)
{
    struct sp_tls_ctx *ctx = pool->options.tls_ctx;

    if (!ctx)
        return sn_pool_reload_tls(pool, refusal);
    pool->options.tls_ctx = NULL;
    sn_pool_set_tls(pool, ctx);
    return SP_OK;
}

sp_status sn_pool_open(struct sn_pool **made, struct sn_loop *loop, const struct sn_here *here,
                       struct sp_tls_registry *registry, struct sn_options *options, uint64_t seed,
                       struct sp_tls_refusal *refusal)
{
    struct sp_call call = sn_loop_call(loop);
    struct sp_tls_refusal unheard;
    struct sn_pool *pool;
    void *memory = NULL;
    sp_status status;

    if (posix_memalign(&memory, _Alignof(struct sn_pool), sizeof *pool) != 0)
        return SP_NO_MEMORY;
    pool = memset(memory, 0, sizeof *pool);
    if (sp_pool_init(&pool->hosted.core, &sn_uv_host, sn_descriptors_sys(), 1) != SP_OK) {
        free(pool);
        return SP_NO_MEMORY;
    }
    if (options->config.pipeline > 1 && sp_piped_open(&pool->hosted.core) != SP_OK) {
        sp_pool_destroy(&pool->hosted.core);
        free(pool);
        return SP_NO_MEMORY;
    }
    pool->hosted.loop = loop;
    pool->here = here;
    pool->hosted.wake = on_wake;
    pool->hosted.refused = on_refused;
    pool->hosted.stalled = on_stalled;
    pool->hosted.leak = on_leak;
    pool->hosted.emptied = on_emptied;
    pool->registry = registry;
    sp_tls_slot_init(&pool->tls);
    pool->task.run = on_task;
    pool->linger.run = on_linger;
    pool->retry.over = on_retry;
    pool->check_limit.over = on_check_due;
    pool->tick.over = on_tick;
    pool->tick_task.run = on_tick_task;
    sp_list_init(&pool->attempts);
    sp_list_init(&pool->checks);
    sp_list_init(&pool->sessions);
    sp_list_init(&pool->readying);
    pool->options = *options;
    if (options->node)
        pool->options.config.sockopts.silence_s = here->tick_time_s;
    status = set_up_tls(pool, refusal ? refusal : &unheard);
    pool->lacks_tls = status != SP_OK;
    if (status != SP_OK && refusal) {
        pool->options = (struct sn_options){0};
        pool_free(pool);
        return status;
    }
    pool->options.config.sockopts.settings = &pool->tls;
    *options = (struct sn_options){0};
    sp_control_open(&pool->hosted.core, &call, &pool->options.config, seed);
    *made = pool;
    return SP_OK;
}

sp_status sn_pool_update(struct sn_pool *pool, struct sn_slice terms, struct sn_bad_option *bad,
                         bool *needs_restart)
{
    sp_status status = sn_options_change(&pool->options, terms, bad, needs_restart);

    if (status == SP_OK) {
        sp_settings_update(&pool->hosted.core, &pool->options.config);
        readied(pool);
        sn_loop_defer(pool->hosted.loop, &pool->task);
    }
    return status;
}

void sn_pool_stop(struct sn_pool *pool)
{
    struct sp_list_node *node;

    pool->stopping = true;
    readied(pool);
    sn_loop_unlimit(pool->hosted.loop, &pool->retry);
    sn_loop_unlimit(pool->hosted.loop, &pool->check_limit);
    sn_loop_unlimit(pool->hosted.loop, &pool->tick);
    sn_loop_drop(&pool->tick_task);
    while ((node = sp_list_oldest(&pool->attempts)))
        sn_attempt_abort(SP_CONTAINER(node, struct sn_attempt, node));
    sp_control_shut_begin(&pool->hosted.core, SP_PHASE_CLOSED);
    while ((node = sp_list_oldest(&pool->checks)))
        sn_check_abort(SP_CONTAINER(node, struct sn_check, node));
    sp_tls_slot_set(&pool->tls, NULL, ++pool->tls_turn);
    sn_loop_defer(pool->hosted.loop, &pool->task);
}
