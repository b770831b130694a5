#include "sn_reload.h"

#include "sn_log.h"
#include "sn_notify.h"

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
    bool all = true;

    for (struct sn_settings_pool *pool = reload->settings.pools; pool; pool = pool->next)
        all &= running(reload, pool->name) || start_pool(reload, pool);
    if (all)
        sn_log(SN_LOG_INFO, "configured", "file=%s", reload->path);
    sn_notify_ready();
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
    for (struct sn_pool *pool = NULL; (pool = sn_pools_next(reload->pools, pool));) {
        const struct sn_options *options = &pool->options;
        const struct sn_settings_pool *wanted = find(next, options->name);

        /* One that was started by call gives way to the file's. */
        if (pool->of_file ? !is_same(find(&now, options->name), wanted) : wanted != NULL)
            stop_pool(reload, options);
        else if (pool->of_file)
            reload_tls(reload->pools, options->name, options->name_len);
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

/* Whether the pools become those of the file; it says so by itself. */
static bool read_again(struct sn_reload *reload)
{
    struct sn_settings next;
    struct sn_complaint complaint;

    if (!sn_settings_read(reload->path, &next, &complaint)) {
        log_error(complaint.text);
        return false;
    }
    if (!sn_settings_check_tls(&next, reload->path, &complaint)) {
        log_error(complaint.text);
        sn_settings_free(&next);
        return false;
    }
    apply(reload, &next);
    return true;
}

void sn_reload_now(struct sn_reload *reload)
{
    sn_notify_reloading();
    if (reload->stopping > 0) {
        reload->again = true;
        return;
    }
    if (!reload->path)
        for (struct sn_pool *pool = NULL; (pool = sn_pools_next(reload->pools, pool));)
            reload_tls(reload->pools, pool->options.name, pool->options.name_len);
    if (!reload->path || !read_again(reload))
        sn_notify_ready();
}

void sn_reload_free(struct sn_reload *reload)
{
    sn_settings_free(&reload->settings);
}
