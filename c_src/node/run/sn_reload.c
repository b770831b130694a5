#include "sn_reload.h"

#include "node/base/sn_log.h"
#include "sn_notify.h"

#include <openssl/crypto.h>
#include <string.h>

static struct sn_pool *running(struct sn_reload *reload, const char *name)
{
    return sn_pools_find(reload->pools, name, strlen(name));
}

/* Whether it runs now. */
static bool start_pool(struct sn_reload *reload, struct sn_settings_pool *pool)
{
    sp_status status = sn_pools_start(reload->pools, &pool->options, NULL);

    if (status == SP_OK) {
        memset(&pool->options, 0, sizeof pool->options);
        running(reload, pool->name)->of_file = true;
        sn_log(SN_LOG_INFO, "pool_started", "pool=%s", pool->name);
    } else {
        sn_log(SN_LOG_ERROR, "pool_not_started", "pool=%s reason=\"%s\"", pool->name,
               status == SP_BUSY ? "one of that name is being stopped" : sp_status_name(status));
    }
    return status == SP_OK;
}

static void reload_tls(struct sn_pool *pool)
{
    struct sp_tls_refusal refusal = {NULL, NULL};

    if (sn_pool_reload_tls(pool, &refusal) != SP_OK)
        sn_log(SN_LOG_ERROR, "tls_not_reloaded", "pool=%s reason=\"%s: %s\"", pool->options.name,
               refusal.option, refusal.why);
}

static void start_missing(struct sn_reload *reload)
{
    bool all = true;

    for (struct sn_settings_pool *pool = reload->settings.pools; pool; pool = pool->next)
        all &= running(reload, pool->name) || start_pool(reload, pool);
    if (all)
        sn_log(SN_LOG_INFO, "configured", "file=%s", reload->path);
    sn_notify_ready();
}

static void do_again(struct sn_reload *reload)
{
    if (!reload->again || reload->pools->draining)
        return;
    reload->again = false;
    sn_reload_now(reload);
}

static void on_stopped(void *arg)
{
    struct sn_reload *reload = arg;

    if (--reload->stopping > 0 || reload->pools->draining)
        return;
    start_missing(reload);
    do_again(reload);
}

static struct sn_settings_pool *find(const struct sn_settings *settings, const char *name)
{
    struct sn_settings_pool *pool = settings->pools;

    while (pool && strcmp(pool->name, name) != 0)
        pool = pool->next;
    return pool;
}

static bool is_same(const struct sn_settings_pool *a, const struct sn_settings_pool *b)
{
    return b && a->terms.index == b->terms.index &&
           memcmp(a->terms.buff, b->terms.buff, (size_t)a->terms.index) == 0;
}

static void stop_pool(struct sn_reload *reload, const struct sn_options *options)
{
    sp_status status =
        sn_pools_stop(reload->pools, options->name, options->name_len, on_stopped, reload);

    if (status == SP_OK) {
        reload->stopping++;
        sn_log(SN_LOG_INFO, "pool_stopped", "pool=%s", options->name);
    }
}

static bool differ(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) != 0 : a != b;
}

/* What a running node cannot change. */
static void warn(const struct sn_settings *now, const struct sn_settings *next)
{
    const char *key = differ(now->name, next->name)                 ? "name"
                      : differ(now->cookie_file, next->cookie_file) ? "cookie_file"
                      : differ(now->listen, next->listen)           ? "listen"
                      : differ(now->metrics, next->metrics)         ? "metrics"
                      : now->tick_time_s != next->tick_time_s       ? "tick_time"
                                                                    : NULL;

    if (key)
        sn_log(SN_LOG_WARNING, "needs_restart", "key=%s", key);
}

static void hand_over_tls(struct sn_pool *pool, struct sn_options *options)
{
    sn_pool_set_tls(pool, options->tls_ctx);
    options->tls_ctx = NULL;
}

static void apply(struct sn_reload *reload, struct sn_settings *next)
{
    struct sn_settings now = reload->settings;

    warn(&now, next);
    reload->settings = *next;
    for (struct sn_pool *pool = NULL; (pool = sn_pools_next(reload->pools, pool));) {
        const struct sn_options *options = &pool->options;
        struct sn_settings_pool *wanted = find(next, options->name);

        /* One that was started by call gives way to the file's. */
        if (pool->of_file ? !is_same(find(&now, options->name), wanted) : wanted != NULL)
            stop_pool(reload, options);
        else if (pool->of_file && wanted->options.tls_ctx)
            hand_over_tls(pool, &wanted->options);
    }
    sn_settings_free(&now);
    if (reload->stopping == 0)
        start_missing(reload);
}

/* The next pool's files are read again; one in each turn, for that takes some milliseconds. */
static void on_task(struct sn_task *task)
{
    struct sn_reload *reload = SP_CONTAINER(task, struct sn_reload, task);
    struct sn_pool *pool = NULL;

    while ((pool = sn_pools_next(reload->pools, pool)))
        if (pool->options.has_tls && pool->tls_round != reload->round)
            break;
    if (!pool) {
        sn_notify_ready();
        return;
    }
    pool->tls_round = reload->round;
    reload_tls(pool);
    sn_loop_defer(reload->pools->loop, &reload->task);
}

void sn_reload_start(struct sn_reload *reload, struct sn_pools *pools, const char *path,
                     struct sn_settings *settings)
{
    *reload = (struct sn_reload){
        .pools = pools, .path = path, .settings = *settings, .task.run = on_task};
    memset(settings, 0, sizeof *settings);
    if (path)
        start_missing(reload);
    else
        sn_notify_ready();
}

/* The error quotes values, and is in quotes itself. */
static void log_error(char *error)
{
    for (char *at = error; *at; at++)
        if (*at == '"')
            *at = '\'';
    sn_log(SN_LOG_ERROR, "not_configured", "reason=\"%s\"", error);
}

static void on_work(uv_work_t *work)
{
    struct sn_reload *reload = SP_CONTAINER(work, struct sn_reload, work);

    reload->is_good = sn_settings_read(reload->path, &reload->next, &reload->complaint);
    if (reload->is_good && !sn_settings_check_tls(&reload->next, reload->pools->tls, reload->path,
                                                  &reload->complaint)) {
        sn_settings_free(&reload->next);
        reload->is_good = false;
    }
    /* libuv's thread lives as long as the process: nobody else would free what OpenSSL keeps for it. */
    OPENSSL_thread_stop();
}

static void on_read(uv_work_t *work, int status)
{
    struct sn_reload *reload = SP_CONTAINER(work, struct sn_reload, work);

    (void)status; /* it is never cancelled */
    reload->reading = false;
    if (reload->is_good && reload->pools->draining) {
        sn_settings_free(&reload->next);
        return;
    }
    if (reload->is_good) {
        apply(reload, &reload->next);
    } else {
        log_error(reload->complaint.text);
        sn_notify_ready();
    }
    if (reload->stopping == 0)
        do_again(reload);
}

void sn_reload_now(struct sn_reload *reload)
{
    int status;

    sn_notify_reloading();
    if (!reload->path) {
        reload->round++;
        sn_loop_defer(reload->pools->loop, &reload->task);
        return;
    }
    if (reload->reading || reload->stopping > 0) {
        reload->again = true;
        return;
    }
    status = uv_queue_work(reload->pools->loop->uv, &reload->work, on_work, on_read);
    reload->reading = status == 0;
    if (status == 0)
        return;
    sn_log(SN_LOG_ERROR, "not_configured", "reason=\"%s\"", uv_strerror(status));
    sn_notify_ready();
}

void sn_reload_free(struct sn_reload *reload)
{
    sn_loop_drop(&reload->task);
    sn_settings_free(&reload->settings);
}
