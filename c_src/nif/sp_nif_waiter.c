/* Those who wait, and what they carry; kept for reuse by each thread. */
#include "sp_nif.h"

#include <string.h>

/* Waiters are kept for reuse, so many per thread. */
#define CACHED_WAITERS_MAX 256
/* So many references fit into the least memory that an environment takes at a time. */
#define REFS_PER_ENV 60

/* Waiters' references, in an environment that only the thread which made it writes to. Others read there, and what
 * was written once stays. An environment for each waiter is 5-10 % of a hand-over, memory of its own in one 5 %:
 * it is allocated on one scheduler and freed on another. */
struct sp_nif_refs {
    _Atomic unsigned users; /* the waiters, and the cache whose newest one it is */
    unsigned count;
    ErlNifEnv *env;
};

struct waiter_cache {
    struct sp_nif_waiter *first;
    unsigned count;
    struct sp_nif_refs *refs;
};

/* The thread's own, which every library finds by the roots' key: one that was taken over from would keep
 * its waiters for ever. */
static __thread struct waiter_cache *thread_cache;
static ErlNifTSDKey cache_key;

static struct waiter_cache *find_cache(void)
{
    struct waiter_cache *cache = enif_tsd_get(cache_key);

    if (!cache && (cache = enif_alloc(sizeof *cache))) {
        *cache = (struct waiter_cache){.count = 0};
        enif_tsd_set(cache_key, cache);
    }
    return thread_cache = cache;
}

/* NULL where there is no memory for it. */
static struct waiter_cache *waiter_cache(void)
{
    return thread_cache ? thread_cache : find_cache();
}

static void refs_unref(struct sp_nif_refs *refs)
{
    if (refs && atomic_fetch_sub(&refs->users, 1) == 1) {
        enif_free_env(refs->env);
        enif_free(refs);
    }
}

/* NULL where there is no memory for it. */
static struct sp_nif_refs *refs_with_room(struct waiter_cache *cache)
{
    struct sp_nif_refs *refs = cache->refs;

    if (refs && refs->count < REFS_PER_ENV)
        return refs;
    refs_unref(refs);
    cache->refs = refs = enif_alloc(sizeof *refs);
    if (refs)
        *refs = (struct sp_nif_refs){.users = 1, .env = enif_alloc_env()};
    return refs;
}

struct sp_nif_waiter *sp_nif_waiter_new(struct sp_nif_pool *pool, ERL_NIF_TERM ref)
{
    struct waiter_cache *cache = waiter_cache();
    struct sp_nif_refs *refs = cache ? refs_with_room(cache) : NULL;
    struct sp_nif_waiter *waiter = refs ? cache->first : NULL;

    if (waiter) {
        cache->first = waiter->next;
        cache->count--;
    } else if (!refs || !(waiter = enif_alloc(sizeof *waiter))) {
        return NULL;
    }
    waiter->core = (struct sp_waiter){.pool = &pool->core};
    waiter->iov = NULL;
    enif_keep_resource(pool->resource);
    refs->count++;
    atomic_fetch_add(&refs->users, 1);
    waiter->refs = refs;
    waiter->ref = enif_make_copy(refs->env, ref);
    return waiter;
}

void sp_nif_keep_waiters(const struct sp_nif_roots *roots)
{
    cache_key = roots->waiters;
}

void sp_nif_keep_no_waiters(void)
{
    static struct waiter_cache full = {.count = CACHED_WAITERS_MAX};

    thread_cache = &full;
}

/* Into the waiter's own bytes. False: more than fit there, or not a list of binaries. */
static bool carry_small(ErlNifEnv *env, struct sp_nif_waiter *waiter, ERL_NIF_TERM request)
{
    ERL_NIF_TERM head;
    ErlNifBinary bin;
    size_t len = 0;

    while (enif_get_list_cell(env, request, &head, &request)) {
        if (!enif_inspect_binary(env, head, &bin) || bin.size > sizeof waiter->small - len)
            return false;
        memcpy(waiter->small + len, bin.data, bin.size);
        len += bin.size;
    }
    waiter->small_iov = (struct iovec){.iov_base = waiter->small, .iov_len = len};
    waiter->core.iov = &waiter->small_iov;
    waiter->core.iov_count = len > 0;
    waiter->len = len;
    return enif_is_empty_list(env, request);
}

bool sp_nif_waiter_carry(ErlNifEnv *env, struct sp_nif_waiter *waiter, ERL_NIF_TERM request)
{
    ERL_NIF_TERM tail;

    if (carry_small(env, waiter, request))
        return true;
    /* Without an environment: it outlives this call, and its large binaries are not copied. */
    if (!enif_inspect_iovec(NULL, SIZE_MAX, request, &tail, &waiter->iov) ||
        !enif_is_empty_list(env, tail))
        return false;
    waiter->core.iov = (const struct iovec *)waiter->iov->iov;
    waiter->core.iov_count = waiter->iov->iovcnt;
    waiter->len = waiter->iov->size;
    return true;
}

void sp_nif_waiter_free(struct sp_waiter *core)
{
    struct sp_nif_waiter *waiter = SP_CONTAINER(core, struct sp_nif_waiter, core);
    struct waiter_cache *cache = waiter_cache();

    if (waiter->iov)
        enif_free_iovec(waiter->iov);
    enif_release_resource(SP_CONTAINER(core->pool, struct sp_nif_pool, core)->resource);
    refs_unref(waiter->refs);
    if (!cache || cache->count == CACHED_WAITERS_MAX) {
        enif_free(waiter);
        return;
    }
    waiter->next = cache->first;
    cache->first = waiter;
    cache->count++;
}
