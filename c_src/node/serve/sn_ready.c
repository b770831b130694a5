#include "sn_ready.h"

#include "sn_answer.h"
#include "sn_node_calls.h"
#include "node/pool/sn_pool_term.h"
#include "core/pool/sp_health.h"

#include <stdlib.h>

/* Of one pool: who dies while he waits is not noticed before his time is over. */
#define WAITS_MAX 4096

struct wait {
    struct sp_list_node node; /* in the pool's */
    struct sn_pool *pool;
    struct sn_outbox *outbox;
    struct sn_promise *promise;
    struct sn_limit limit;
    uint64_t count; /* 0: as many as its size is */
};

static bool is_ready(struct sn_pool *pool, uint64_t count)
{
    return sp_health_ups(&pool->hosted.core) >= (count ? count : pool->options.config.size);
}

static void end(struct wait *wait)
{
    sp_list_remove(&wait->node);
    wait->pool->readying_count--;
    sn_loop_unlimit(wait->pool->hosted.loop, &wait->limit);
    sn_promise_free(wait->promise);
    free(wait);
}

/* The time is over. */
static void answer_not_ready(struct sn_outbox *outbox, struct sn_client *client,
                             const struct sn_caller *caller, struct sn_pool *pool)
{
    struct sn_writer reply = sn_outbox_begin_reply(outbox, caller);

    sn_pool_put_not_ready(&reply, pool);
    sn_answer_end(outbox, client, caller, &reply);
}

static void on_over(struct sn_limit *limit)
{
    struct wait *wait = SP_CONTAINER(limit, struct wait, limit);
    struct sn_promise *promise = wait->promise;

    if (promise->client)
        answer_not_ready(wait->outbox, promise->client, &promise->caller, wait->pool);
    end(wait);
}

/* More are up than before, or are enough, or the pool ends. */
static void look(struct sn_pool *pool)
{
    struct sp_list_node *at, *next;

    for (at = pool->readying.head.next; at != &pool->readying.head; at = next) {
        struct wait *wait = SP_CONTAINER(at, struct wait, node);
        struct sn_promise *promise = wait->promise;

        next = at->next;
        if (promise->client && (pool->stopping || is_ready(pool, wait->count)))
            sn_answer_status(wait->outbox, promise->client, &promise->caller,
                             pool->stopping ? SP_DRAINING : SP_OK);
        else if (promise->client)
            continue;
        end(wait);
    }
}

static sp_status begin(struct sn_outbox *outbox, struct sn_client *client,
                       const struct sn_caller *caller, struct sn_pool *pool, uint64_t count,
                       uint64_t timeout_ns)
{
    struct sn_loop *loop = pool->hosted.loop;
    struct wait *wait;

    if (pool->readying_count >= WAITS_MAX)
        return SP_FULL;
    wait = malloc(sizeof *wait);
    if (!wait)
        return SP_NO_MEMORY;
    *wait =
        (struct wait){.pool = pool, .outbox = outbox, .count = count, .limit = {.over = on_over}};
    wait->promise = sn_promise_new(client, caller);
    if (!wait->promise) {
        free(wait);
        return SP_NO_MEMORY;
    }
    pool->readied = look;
    pool->readying_count++;
    sp_list_push_newest(&pool->readying, &wait->node);
    if (timeout_ns == SP_NEVER ||
        sn_loop_limit(loop, &wait->limit, sn_loop_now_ns(loop) + timeout_ns) == SP_OK)
        return SP_OK;
    end(wait);
    return SP_NO_MEMORY;
}

static bool get_count(struct sn_slice term, uint64_t *count)
{
    int64_t number;

    *count = 0;
    if (sn_slice_is_atom(term, "size"))
        return true;
    if (!sn_value_integer(term, &number) || number < 1 || number > UINT32_MAX)
        return false;
    *count = (uint64_t)number;
    return true;
}

bool sn_ready_await(struct sn_outbox *outbox, struct sn_pools *pools, struct sn_client *client,
                    const struct sn_caller *caller, const struct sn_slice *parts)
{
    char name[SN_ATOM_BYTES_MAX + 1];
    bool is_default = sn_slice_is_atom(parts[4], "default");
    uint64_t count, timeout_ns = 0;
    struct sn_pool *pool;
    sp_status status = SP_NOT_FOUND;
    size_t len;

    if (!sn_slice_is_reference(parts[1]) || !sn_value_atom(parts[2], name, &len))
        return false;
    if (!get_count(parts[3], &count)) {
        sn_answer_bad_argument(outbox, client, caller, "count", parts[3]);
        return true;
    }
    if (!is_default && !sn_node_calls_timeout(parts[4], &timeout_ns)) {
        sn_answer_bad_argument(outbox, client, caller, "timeout", parts[4]);
        return true;
    }
    pool = sn_pools_find(pools, name, len);
    if (pool && is_default)
        timeout_ns = pool->options.checkout_timeout_ns;
    if (pool && !is_ready(pool, count)) {
        if (timeout_ns == 0) {
            answer_not_ready(outbox, client, caller, pool);
            return true;
        }
        status = begin(outbox, client, caller, pool, count, timeout_ns);
        if (status == SP_OK)
            return true;
    } else if (pool) {
        status = SP_OK;
    }
    sn_answer_status(outbox, client, caller, status);
    return true;
}
