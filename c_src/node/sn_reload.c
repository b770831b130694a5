#include "sn_reload.h"

#include "sn_log.h"

#include <string.h>

#define ERROR_BYTES 1024

static void start_pool(struct sn_reload *reload, struct sn_settings_pool *pool)
{
    struct sp_tls_refusal refusal = {NULL, NULL};
    sp_status status = sn_pools_start(reload->pools, &pool->options, &refusal);

    if (status == SP_OK) {
        memset(&pool->options, 0, sizeof pool->options);
        sn_log(SN_LOG_INFO, "pool_started", "pool=%s", pool->name);
    } else if (status == SP_BAD_DATA) {
        sn_log(SN_LOG_ERROR, "pool_not_started", "pool=%s reason=\"tls.%s: %s\"", pool->name,
               refusal.option, refusal.why);
    } else {
        sn_log(SN_LOG_ERROR, "pool_not_started", "pool=%s reason=\"%s\"", pool->name,
               status == SP_BUSY ? "one of that name is being stopped" : sp_status_name(status));
    }
}

static bool is_running(struct sn_reload *reload, const struct sn_settings_pool *pool)
{
    return sn_pools_find(reload->pools, pool->name, strlen(pool->name)) != NULL;
}

static void reload_tls(struct sn_pools *pools, const char *name, size_t name_len)
{
    struct sp_tls_refusal refusal = {NULL, NULL};
    sp_status status = sn_pools_reload_tls(pools, name, name_len, &refusal);

    if (status == SP_BAD_DATA)
        sn_log(SN_LOG_ERROR, "tls_not_reloaded", "pool=%s reason=\"%s: %s\"", name, refusal.option,
               refusal.why);
    else if (status != SP_OK)
        sn_log(SN_LOG_ERROR, "tls_not_reloaded", "pool=%s reason=\"%s\"", name,
               sp_status_name(status));
}

static void start_missing(struct sn_reload *reload)
{
    for (struct sn_settings_pool *pool = reload->settings.pools; pool; pool = pool->next)
        if (!is_running(reload, pool))
            start_pool(reload, pool);
    sn_log(SN_LOG_INFO, "configured", "file=\"%s\"", reload->path);
}

static void on_stopped(void *arg)
{
    struct sn_reload *reload = arg;

    if (--reload->stopping > 0 || reload->pools->draining)
        return;
    start_missing(reload);
    if (reload->again) {
        reload->again = false;
        sn_reload_now(reload);
    }
}

static const struct sn_settings_pool *find(const struct sn_settings *settings, const char *name)
{
    const struct sn_settings_pool *pool = settings->pools;

    while (pool && strcmp(pool->name, name) != 0)
        pool = pool->next;
    return pool;
}

static bool is_same(const struct sn_settings_pool *a, const struct sn_settings_pool *b)
{
    return b && a->terms.index == b->terms.index &&
           memcmp(a->terms.buff, b->terms.buff, (size_t)a->terms.index) == 0;
}

static void stop_pool(struct sn_reload *reload, const struct sn_settings_pool *pool)
{
    sp_status status =
        sn_pools_stop(reload->pools, pool->name, strlen(pool->name), on_stopped, reload);

    if (status == SP_OK) {
        reload->stopping++;
        sn_log(SN_LOG_INFO, "pool_stopped", "pool=%s", pool->name);
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
                      : now->tick_time_s != next->tick_time_s       ? "tick_time"
                                                                    : NULL;

    if (key)
        sn_log(SN_LOG_WARNING, "needs_restart", "key=%s", key);
}

static void apply(struct sn_reload *reload, struct sn_settings *next)
{
    struct sn_settings now = reload->settings;

    warn(&now, next);
    reload->settings = *next;
    for (struct sn_settings_pool *pool = now.pools; pool; pool = pool->next) {
        if (!is_same(pool, find(next, pool->name)))
            stop_pool(reload, pool);
        else if (is_running(reload, pool))
            reload_tls(reload->pools, pool->name, strlen(pool->name));
    }
    sn_settings_free(&now);
    if (reload->stopping == 0)
        start_missing(reload);
}

void sn_reload_start(struct sn_reload *reload, struct sn_pools *pools, const char *path,
                     struct sn_settings *settings)
{
    *reload = (struct sn_reload){.pools = pools, .path = path, .settings = *settings};
    memset(settings, 0, sizeof *settings);
    if (path)
        start_missing(reload);
}

/* The error quotes values, and is in quotes itself. */
static void log_error(char *error)
{
    for (char *at = error; *at; at++)
        if (*at == '"')
            *at = '\'';
    sn_log(SN_LOG_ERROR, "not_configured", "reason=\"%s\"", error);
}

void sn_reload_now(struct sn_reload *reload)
{
    struct sn_settings next;
    char error[ERROR_BYTES];

    if (!reload->path) {
        for (struct sn_pool *pool = NULL; (pool = sn_pools_next(reload->pools, pool));)
            reload_tls(reload->pools, pool->options.name, pool->options.name_len);
        return;
    }
    if (reload->stopping > 0) {
        reload->again = true;
        return;
    }
    if (!sn_settings_read(reload->path, &next, error, sizeof error)) {
        log_error(error);
        return;
    }
    if (!sn_settings_check_tls(&next, reload->path, error, sizeof error)) {
        log_error(error);
        sn_settings_free(&next);
        return;
    }
    apply(reload, &next);
}

void sn_reload_free(struct sn_reload *reload)
{
    sn_settings_free(&reload->settings);
}
