#include "sn_pool_term.h"

#include "core/pool/sp_health.h"
#include "core/pool/sp_snapshot.h"
#include "core/pool/sp_times.h"

#include <string.h>

static void put_unavailable(struct sn_writer *writer, struct sn_pool *pool)
{
    sn_put_tuple(writer, 2);
    sn_put_atom(writer, "error");
    sn_put_tuple(writer, 2);
    sn_put_atom(writer, "unavailable");
    sn_put_reason(writer, pool->last_error);
}

void sn_pool_put_give_up(struct sn_writer *writer, struct sn_pool *pool)
{
    if (sp_health_unavailable(&pool->hosted.core) && pool->last_error.word)
        put_unavailable(writer, pool);
    else
        sn_put_error(writer, sn_reason_of(SP_TIMEOUT));
}

void sn_pool_put_not_ready(struct sn_writer *writer, struct sn_pool *pool)
{
    if (sp_health_failing(&pool->hosted.core) && pool->last_error.word)
        put_unavailable(writer, pool);
    else
        sn_put_error(writer, sn_reason_of(SP_TIMEOUT));
}

void sn_pool_put_refusal(struct sn_writer *writer, struct sn_pool *pool, sp_status status)
{
    if (status == SP_UNAVAILABLE && pool->last_error.word)
        put_unavailable(writer, pool);
    else
        sn_put_error(writer, sn_reason_of(status));
}

static void put_counts(struct sn_writer *writer, const char *key, const char *const *words,
                       const uint64_t *counts, int count)
{
    sn_put_atom(writer, key);
    sn_put_map(writer, count);
    for (int i = 0; i < count; i++) {
        sn_put_atom(writer, words[i]);
        sn_put_number(writer, counts[i]);
    }
}

static void put_reasons(struct sn_writer *writer, const struct sp_snapshot *snapshot)
{
#define WORD(name, word) #word,
    static const char *const WHYS[] = {SP_WHY_MAP(WORD)},
                             *const FAILURES[] = {SP_FAILURE_MAP(WORD)},
                             *const ERRORS[] = {SP_ERROR_MAP(WORD)};
#undef WORD

    put_counts(writer, "closed_by", WHYS, snapshot->closed_by, SP_WHYS);
    put_counts(writer, "connect_failed_by", FAILURES, snapshot->failed_by, SP_FAILURES);
    put_counts(writer, "errors", ERRORS, snapshot->errors, SP_ERRORS);
}

void sn_pool_put_stats(struct sn_writer *writer, struct sn_pool *pool)
{
    struct sp_call call = sn_loop_call(pool->hosted.loop);
    struct sp_snapshot snapshot = {0};
    uint32_t cursor = 0;
#define ONE_MORE(name) +1
    enum { KEYS = 6 SP_SNAPSHOT_MAP(ONE_MORE) };
#undef ONE_MORE

    while (sp_pool_snapshot(&pool->hosted.core, &call, &snapshot, &cursor))
        ;
    sn_put_map(writer, KEYS);
    sn_put_atom(writer, "name");
    sn_put_atom_len(writer, pool->options.name, pool->options.name_len);
    sn_put_atom(writer, "last_error");
    sn_put_reason(writer, pool->last_error.word ? pool->last_error
                                                : (struct sn_reason){.word = "undefined"});
    sn_put_atom(writer, "last_error_at");
    if (pool->last_error.word)
        sn_put_number(writer, pool->last_error_ms);
    else
        sn_put_atom(writer, "undefined");
#define PUT(field)                                                                                 \
    sn_put_atom(writer, #field);                                                                   \
    sn_put_number(writer, snapshot.field);
    SP_SNAPSHOT_MAP(PUT)
#undef PUT
    put_reasons(writer, &snapshot);
}

static void put_numbers(struct sn_writer *writer, const uint64_t *numbers, int count, uint64_t unit)
{
    sn_put_list(writer, count);
    for (int i = 0; i < count; i++)
        sn_put_number(writer, numbers[i] / unit);
    sn_put_nil(writer);
}

static void put_histogram(struct sn_writer *writer, struct sn_pool *pool, enum sp_time time)
{
#define SP_TIME_WORD(name, word) #word,
    static const char *const WORDS[] = {SP_TIME_MAP(SP_TIME_WORD)};
#undef SP_TIME_WORD
    struct sp_distribution times;

    sp_times_read(&pool->hosted.core, time, &times);
    sn_put_atom(writer, WORDS[time]);
    sn_put_map(writer, 3);
    sn_put_atom(writer, "count");
    sn_put_number(writer, sp_distribution_count(&times));
    sn_put_atom(writer, "sum");
    sn_put_number(writer, times.sum_ns / SP_TIMES_UNIT_NS);
    sn_put_atom(writer, "buckets");
    put_numbers(writer, times.buckets, SP_HISTOGRAM_BUCKETS, 1);
}

void sn_pool_put_histograms(struct sn_writer *writer, struct sn_pool *pool)
{
    int of_connects = 0;

    for (int i = 0; i < SP_TIMES; i++)
        of_connects += sp_time_is_of_connects((enum sp_time)i);
    sn_put_map(writer, 2 + SP_TIMES - of_connects);
    sn_put_atom(writer, "bounds");
    put_numbers(writer, sp_histogram_bounds_ns, SP_HISTOGRAM_BOUNDS, SP_TIMES_UNIT_NS);
    for (int i = 0; i < SP_TIMES; i++)
        if (!sp_time_is_of_connects((enum sp_time)i))
            put_histogram(writer, pool, (enum sp_time)i);
    sn_put_atom(writer, "connect");
    sn_put_map(writer, of_connects);
    for (int i = 0; i < SP_TIMES; i++)
        if (sp_time_is_of_connects((enum sp_time)i))
            put_histogram(writer, pool, (enum sp_time)i);
}
