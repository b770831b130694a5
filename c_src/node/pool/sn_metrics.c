#include "sn_metrics.h"

#include "core/pool/sp_health.h"
#include "core/pool/sp_snapshot.h"
#include "core/pool/sp_times.h"

#include <stdlib.h>
#include <string.h>

#ifndef SN_VERSION
#define SN_VERSION ""
#endif

/* A piece: so many families of a pool, or one pool that is looked at. That is some 100 us. */
#define FAMILIES_A_PIECE 16
#define TEXT_AT_FIRST ((size_t)16 * 1024)
#define DIGITS_MAX 20

/* As a pool was when it was looked at. Histograms from SP_TIME_USE to SP_TIME_INIT. */
struct shot {
    char *name;
    size_t name_len;
    bool taken, up, draining;
    struct sp_snapshot snapshot;
    struct sp_distribution times[SP_TIME_INIT + 1];
};

struct sn_metrics {
    struct sn_pools *pools;
    bool openmetrics, failed;
    struct shot *shots;
    size_t count, at; /* the pool that is next, */
    size_t family;    /* in this family; of those that are looked at before there is one */
    uint32_t cursor;
    bool looking;
    char *text;
    size_t len, room;
};

enum type { GAUGE, COUNTER, HISTOGRAM, INFO };

struct family {
    const char *name, *help;
    enum type type;
    bool seconds; /* its unit */
    void (*put)(struct sn_metrics *metrics, const struct family *family, const struct shot *shot);
    size_t field;      /* of the snapshot */
    const char *label; /* where it has one, besides the pool's name */
    enum sp_time time; /* of a histogram */
};

/* ---- text ---- */

static void put_bytes(struct sn_metrics *metrics, const char *text, size_t len)
{
    char *grown;
    size_t room = metrics->room ? metrics->room : TEXT_AT_FIRST;

    while (room - metrics->len < len)
        room *= 2;
    if (room != metrics->room && !metrics->failed) {
        grown = realloc(metrics->text, room);
        if (grown) {
            metrics->text = grown;
            metrics->room = room;
        } else {
            metrics->failed = true;
        }
    }
    if (metrics->failed)
        return;
    memcpy(metrics->text + metrics->len, text, len);
    metrics->len += len;
}

static void put(struct sn_metrics *metrics, const char *text)
{
    put_bytes(metrics, text, strlen(text));
}

static void put_digits(struct sn_metrics *metrics, uint64_t number, int least)
{
    char digits[DIGITS_MAX];
    int at = DIGITS_MAX;

    for (; number || least > 0; number /= 10, least--)
        digits[--at] = (char)('0' + number % 10);
    put_bytes(metrics, digits + at, (size_t)(DIGITS_MAX - at));
}

/* In a label. A byte of 0 would end the text for some who read it: U+FFFD stands for it. */
static void put_escaped(struct sn_metrics *metrics, const char *text, size_t len)
{
    size_t plain = 0;

    for (size_t i = 0; i < len; i++) {
        const char *instead = text[i] == '\\'   ? "\\\\"
                              : text[i] == '"'  ? "\\\""
                              : text[i] == '\n' ? "\\n"
                              : text[i] == '\0' ? "\xef\xbf\xbd"
                                                : NULL;
        if (!instead)
            continue;
        put_bytes(metrics, text + plain, i - plain);
        put(metrics, instead);
        plain = i + 1;
    }
    put_bytes(metrics, text + plain, len - plain);
}

static const char *suffix(const struct family *family)
{
    return family->type == COUNTER ? "_total" : family->type == INFO ? "_info" : "";
}

/* Up to the labels that the pool's name is followed by. */
static void begin_line(struct sn_metrics *metrics, const struct family *family, const char *end,
                       const struct shot *shot)
{
    put(metrics, family->name);
    put(metrics, end);
    put(metrics, "{pool=\"");
    put_escaped(metrics, shot->name, shot->name_len);
    put(metrics, "\"");
}

static void put_label(struct sn_metrics *metrics, const char *label, const char *word)
{
    put(metrics, ",");
    put(metrics, label);
    put(metrics, "=\"");
    put(metrics, word);
    put(metrics, "\"");
}

static void end_line(struct sn_metrics *metrics, uint64_t number)
{
    put(metrics, "} ");
    put_digits(metrics, number, 1);
    put(metrics, "\n");
}

static void end_line_decimal(struct sn_metrics *metrics, uint64_t number, uint64_t scale,
                             int places)
{
    put(metrics, "} ");
    put_digits(metrics, number / scale, 1);
    put(metrics, ".");
    put_digits(metrics, number % scale, places);
    put(metrics, "\n");
}

/* ---- families ---- */

static uint64_t field_of(const struct shot *shot, size_t field)
{
    return *(const uint64_t *)(const void *)((const char *)&shot->snapshot + field);
}

static void put_word(struct sn_metrics *metrics, const struct family *family,
                     const struct shot *shot, const char *word, uint64_t number)
{
    begin_line(metrics, family, suffix(family), shot);
    put_label(metrics, family->label, word);
    end_line(metrics, number);
}

static void put_one(struct sn_metrics *metrics, const struct family *family,
                    const struct shot *shot, uint64_t number)
{
    begin_line(metrics, family, suffix(family), shot);
    end_line(metrics, number);
}

static void put_field(struct sn_metrics *metrics, const struct family *family,
                      const struct shot *shot)
{
    put_one(metrics, family, shot, field_of(shot, family->field));
}

static void put_ms(struct sn_metrics *metrics, const struct family *family, const struct shot *shot)
{
    begin_line(metrics, family, suffix(family), shot);
    end_line_decimal(metrics, field_of(shot, family->field), 1000, 3);
}

static void put_up(struct sn_metrics *metrics, const struct family *family, const struct shot *shot)
{
    put_one(metrics, family, shot, shot->up);
}

static void put_state(struct sn_metrics *metrics, const struct family *family,
                      const struct shot *shot)
{
    put_word(metrics, family, shot, "open", !shot->draining);
    put_word(metrics, family, shot, "draining", shot->draining);
    put_word(metrics, family, shot, "down", 0);
}

static void put_connections(struct sn_metrics *metrics, const struct family *family,
                            const struct shot *shot)
{
    put_word(metrics, family, shot, "idle", shot->snapshot.idle);
    put_word(metrics, family, shot, "leased", shot->snapshot.leased);
    put_word(metrics, family, shot, "connecting", shot->snapshot.connecting);
}

static void put_most(struct sn_metrics *metrics, const struct family *family,
                     const struct shot *shot)
{
    put_one(metrics, family, shot, shot->snapshot.size + shot->snapshot.max_overflow);
}

#define WORD(name, word) #word,

static void put_errors(struct sn_metrics *metrics, const struct family *family,
                       const struct shot *shot)
{
    static const char *const WORDS[] = {SP_ERROR_MAP(WORD)};

    for (int i = 0; i < SP_ERRORS; i++)
        put_word(metrics, family, shot, WORDS[i], shot->snapshot.errors[i]);
}

static void put_closed(struct sn_metrics *metrics, const struct family *family,
                       const struct shot *shot)
{
    static const char *const WORDS[] = {SP_WHY_MAP(WORD)};

    for (int i = 0; i < SP_WHYS; i++)
        put_word(metrics, family, shot, WORDS[i], shot->snapshot.closed_by[i]);
}

static void put_attempts(struct sn_metrics *metrics, const struct family *family,
                         const struct shot *shot)
{
    static const char *const WORDS[] = {SP_FAILURE_MAP(WORD)};

    put_word(metrics, family, shot, "ok", shot->snapshot.created);
    for (int i = 0; i < SP_FAILURES; i++)
        put_word(metrics, family, shot, WORDS[i], shot->snapshot.failed_by[i]);
}

static void put_checks(struct sn_metrics *metrics, const struct family *family,
                       const struct shot *shot)
{
    put_word(metrics, family, shot, "ok", shot->snapshot.health_ok);
    put_word(metrics, family, shot, "failed", shot->snapshot.health_failed);
}

/* The buckets that are written; the others are counted with the next of these. */
static const char *written(uint64_t bound_ns)
{
    static const struct {
        uint64_t us;
        const char *text;
    } WRITTEN[] = {{100, "0.0001"},  {500, "0.0005"},  {1000, "0.001"},   {5000, "0.005"},
                   {10000, "0.01"},  {50000, "0.05"},  {100000, "0.1"},   {500000, "0.5"},
                   {1000000, "1.0"}, {5000000, "5.0"}, {10000000, "10.0"}};

    for (size_t i = 0; i < sizeof WRITTEN / sizeof *WRITTEN; i++)
        if (WRITTEN[i].us * SP_TIMES_UNIT_NS == bound_ns)
            return WRITTEN[i].text;
    return NULL;
}

static void begin_of_histogram(struct sn_metrics *metrics, const struct family *family,
                               const char *end, const struct shot *shot, const char *phase)
{
    begin_line(metrics, family, end, shot);
    if (phase)
        put_label(metrics, family->label, phase);
}

static void put_distribution(struct sn_metrics *metrics, const struct family *family,
                             const struct shot *shot, enum sp_time time, const char *phase)
{
    const struct sp_distribution *times = &shot->times[time];
    uint64_t count = 0;

    for (int i = 0; i < SP_HISTOGRAM_BUCKETS; i++) {
        const char *le = i < SP_HISTOGRAM_BOUNDS ? written(sp_histogram_bounds_ns[i]) : "+Inf";

        count += times->buckets[i];
        if (!le)
            continue;
        begin_of_histogram(metrics, family, "_bucket", shot, phase);
        put_label(metrics, "le", le);
        end_line(metrics, count);
    }
    begin_of_histogram(metrics, family, "_sum", shot, phase);
    end_line_decimal(metrics, times->sum_ns / SP_TIMES_UNIT_NS, 1000000, 6);
    begin_of_histogram(metrics, family, "_count", shot, phase);
    end_line(metrics, count);
}

static void put_histogram(struct sn_metrics *metrics, const struct family *family,
                          const struct shot *shot)
{
    put_distribution(metrics, family, shot, family->time, NULL);
}

static void put_phases(struct sn_metrics *metrics, const struct family *family,
                       const struct shot *shot)
{
    static const char *const WORDS[] = {SP_TIME_MAP(WORD)};

    for (int i = SP_TIME_CONNECT; i <= SP_TIME_INIT; i++)
        put_distribution(metrics, family, shot, (enum sp_time)i, WORDS[i]);
}
#undef WORD

#define FIELD(name) .put = put_field, .field = offsetof(struct sp_snapshot, name)
#define MS(name) .put = put_ms, .seconds = true, .field = offsetof(struct sp_snapshot, name)

static const struct family FAMILIES[] = {
    {"sockpool_build", "The version that runs.", INFO, .put = NULL},
    {"sockpool_up",
     "1 unless the last attempt to connect failed and no connection is up, or the pool does not "
     "run.",
     GAUGE, .put = put_up},
    {"sockpool_pool_state", "1 for the state that the pool is in.", GAUGE, .put = put_state,
     .label = "state"},
    {"sockpool_connections", "Connections that there are, or are being made.", GAUGE,
     .put = put_connections, .label = "state"},
    {"sockpool_connections_size", "How many connections the pool keeps: its option size.", GAUGE,
     FIELD(size)},
    {"sockpool_connections_max", "How many there may be: size and max_overflow together.", GAUGE,
     .put = put_most},
    {"sockpool_waiting", "Processes that wait for a connection.", GAUGE, FIELD(waiting)},
    {"sockpool_oldest_wait_seconds", "For how long the first of them has waited.", GAUGE,
     MS(oldest_wait)},
    {"sockpool_checkouts", "Connections handed out, those of request included.", COUNTER,
     FIELD(checkouts)},
    {"sockpool_checkins", "Connections given back by their owners.", COUNTER, FIELD(checkins)},
    {"sockpool_pipelined", "Requests on a connection that several may have at once.", COUNTER,
     FIELD(pipelined)},
    {"sockpool_checkout_errors", "How often somebody got an error instead of a connection.",
     COUNTER, .put = put_errors, .label = "reason"},
    {"sockpool_waited", "Processes that had to wait for a connection.", COUNTER, FIELD(waited)},
    {"sockpool_reused", "Checkouts of a connection that had been used before.", COUNTER,
     FIELD(reused)},
    {"sockpool_connections_created", "Connections that became usable.", COUNTER, FIELD(created)},
    {"sockpool_connections_closed", "Usable connections that left the pool.", COUNTER,
     .put = put_closed, .label = "reason"},
    {"sockpool_connections_deferred", "Connections kept beyond their age, since connecting failed.",
     COUNTER, FIELD(deferred)},
    {"sockpool_connect_attempts", "Attempts to connect that have ended.", COUNTER,
     .put = put_attempts, .label = "result"},
    {"sockpool_leases_abandoned",
     "Connections taken back: the owner died, lost the handle or held it too long.", COUNTER,
     FIELD(abandoned)},
    {"sockpool_leases_leaked", "Leases that were reported for being held so long.", COUNTER,
     FIELD(leaked)},
    {"sockpool_health_checks", "Checks of idle connections.", COUNTER, .put = put_checks,
     .label = "result"},
    {"sockpool_exhausted_seconds", "Time in which somebody waited for a connection.", COUNTER,
     MS(exhausted)},
    {"sockpool_wait_seconds", "How long those waited who got a connection, or a place on one.",
     HISTOGRAM, .seconds = true, .put = put_histogram, .time = SP_TIME_WAIT},
    {"sockpool_use_seconds", "How long connections were held.", HISTOGRAM, .seconds = true,
     .put = put_histogram, .time = SP_TIME_USE},
    {"sockpool_connect_seconds", "How long attempts to connect that worked took, and their parts.",
     HISTOGRAM, .seconds = true, .put = put_phases, .label = "phase"},
};
#undef FIELD
#undef MS
#define FAMILY_COUNT (sizeof FAMILIES / sizeof *FAMILIES)

static void put_about(struct sn_metrics *metrics, const char *what, const struct family *family,
                      const char *text)
{
    put(metrics, what);
    put(metrics, family->name);
    put(metrics, metrics->openmetrics ? "" : suffix(family));
    put(metrics, " ");
    put(metrics, text);
    put(metrics, "\n");
}

/* The older format has no type for what is said of the node. */
static void put_head(struct sn_metrics *metrics, const struct family *family)
{
    static const char *const TYPES[] = {"gauge", "counter", "histogram", "info"};

    put_about(metrics, "# TYPE ", family,
              TYPES[family->type == INFO && !metrics->openmetrics ? GAUGE : family->type]);
    if (metrics->openmetrics && family->seconds)
        put_about(metrics, "# UNIT ", family, "seconds");
    put_about(metrics, "# HELP ", family, family->help);
    if (family->type == INFO) {
        put(metrics, family->name);
        put(metrics, "_info{version=\"" SN_VERSION "\"} 1\n");
    }
}

/* ---- pieces ---- */

struct sn_metrics *sn_metrics_begin(struct sn_pools *pools, bool openmetrics)
{
    struct sn_metrics *metrics = calloc(1, sizeof *metrics);
    size_t count = (size_t)sn_pools_count(pools);

    if (!metrics)
        return NULL;
    metrics->pools = pools;
    metrics->openmetrics = openmetrics;
    metrics->looking = true;
    metrics->shots = calloc(count ? count : 1, sizeof *metrics->shots);
    for (struct sn_pool *pool = NULL; metrics->shots && (pool = sn_pools_next(pools, pool));) {
        struct shot *shot = &metrics->shots[metrics->count];

        shot->name = malloc(pool->options.name_len + 1);
        if (!shot->name)
            break;
        memcpy(shot->name, pool->options.name, pool->options.name_len + 1);
        shot->name_len = pool->options.name_len;
        metrics->count++;
    }
    if (metrics->count == count && metrics->shots)
        return metrics;
    sn_metrics_free(metrics);
    return NULL;
}

/* The one that is next; there may be more to look at in it. */
static void look(struct sn_metrics *metrics)
{
    struct shot *shot = &metrics->shots[metrics->at];
    struct sn_pool *pool = sn_pools_find(metrics->pools, shot->name, shot->name_len);
    struct sp_call call = sn_loop_call(metrics->pools->loop);

    if (pool && sp_pool_snapshot(&pool->hosted.core, &call, &shot->snapshot, &metrics->cursor))
        return;
    if (pool) {
        for (int i = 0; i <= SP_TIME_INIT; i++)
            sp_times_read(&pool->hosted.core, (enum sp_time)i, &shot->times[i]);
        shot->taken = true;
        shot->up = !sp_health_unavailable(&pool->hosted.core);
        shot->draining = metrics->pools->draining;
        sp_take(&call, SP_PIECES_COUNTERS);
    }
    metrics->cursor = 0;
    metrics->at++;
}

static void write_families(struct sn_metrics *metrics)
{
    for (int left = FAMILIES_A_PIECE; left > 0 && metrics->family < FAMILY_COUNT; left--) {
        const struct family *family = &FAMILIES[metrics->family];

        if (metrics->at == 0)
            put_head(metrics, family);
        if (metrics->at < metrics->count && family->put && metrics->shots[metrics->at].taken)
            family->put(metrics, family, &metrics->shots[metrics->at]);
        if (++metrics->at >= metrics->count) {
            metrics->at = 0;
            metrics->family++;
        }
    }
}

sp_status sn_metrics_go_on(struct sn_metrics *metrics)
{
    if (metrics->looking && metrics->at < metrics->count) {
        look(metrics);
        return SP_BUSY;
    }
    if (metrics->looking)
        metrics->at = 0;
    metrics->looking = false;
    write_families(metrics);
    if (metrics->failed)
        return SP_NO_MEMORY;
    if (metrics->family < FAMILY_COUNT)
        return SP_BUSY;
    if (metrics->openmetrics)
        put(metrics, "# EOF\n");
    return metrics->failed ? SP_NO_MEMORY : SP_OK;
}

const char *sn_metrics_text(const struct sn_metrics *metrics, size_t *len)
{
    *len = metrics->len;
    return metrics->text;
}

void sn_metrics_free(struct sn_metrics *metrics)
{
    if (!metrics)
        return;
    for (size_t i = 0; i < metrics->count; i++)
        free(metrics->shots[i].name);
    free(metrics->shots);
    free(metrics->text);
    free(metrics);
}
