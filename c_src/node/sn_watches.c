#include "sn_watches.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS_LEAST 16

void sn_watches_init(struct sn_watches *watches)
{
    *watches = (struct sn_watches){0};
}

static struct sn_watch *watch_of(struct sp_node *node)
{
    return SP_CONTAINER(node, struct sn_watch, node);
}

void sn_watches_free(struct sn_watches *watches)
{
    for (size_t i = 0; i < watches->bucket_count; i++) {
        while (!sp_list_empty(&watches->buckets[i])) {
            struct sp_node *node = sp_list_newest(&watches->buckets[i]);

            sp_list_remove(node);
            free(watch_of(node));
        }
    }
    free(watches->buckets);
    sn_watches_init(watches);
}

static uint64_t hash_of(struct sn_slice key)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ key.data[i]) * UINT64_C(0x100000001b3);
    return hash ^ hash >> 32;
}

static struct sn_slice key_of(const struct sn_watch *watch)
{
    return watch->kind == SN_WATCH_MONITOR ? watch->reference : watch->from;
}

static struct sp_list *bucket_of(const struct sn_watches *watches, uint64_t hash)
{
    return &watches->buckets[hash & (watches->bucket_count - 1)];
}

static struct sn_watch *find(const struct sn_watches *watches, enum sn_watch_kind kind,
                             struct sn_slice key)
{
    uint64_t hash = hash_of(key);
    struct sp_list *bucket;

    if (watches->count == 0)
        return NULL;
    bucket = bucket_of(watches, hash);
    for (struct sp_node *at = bucket->head.next; at != &bucket->head; at = at->next) {
        struct sn_watch *watch = watch_of(at);

        if (watch->hash == hash && watch->kind == kind && sn_slice_equals(key_of(watch), key))
            return watch;
    }
    return NULL;
}

/* So many buckets as watches, at least. */
static sp_status grow(struct sn_watches *watches)
{
    struct sn_watches grown = {.count = watches->count};

    if (watches->count < watches->bucket_count)
        return SP_OK;
    grown.bucket_count = watches->bucket_count ? 2 * watches->bucket_count : BUCKETS_LEAST;
    grown.buckets = malloc(grown.bucket_count * sizeof *grown.buckets);
    if (!grown.buckets)
        return SP_NO_MEMORY;
    for (size_t i = 0; i < grown.bucket_count; i++)
        sp_list_init(&grown.buckets[i]);
    for (size_t i = 0; i < watches->bucket_count; i++) {
        while (!sp_list_empty(&watches->buckets[i])) {
            struct sp_node *node = sp_list_oldest(&watches->buckets[i]);

            sp_list_remove(node);
            sp_list_push_newest(bucket_of(&grown, watch_of(node)->hash), node);
        }
    }
    free(watches->buckets);
    *watches = grown;
    return SP_OK;
}

static struct sn_slice copy(uint8_t **at, struct sn_slice term)
{
    struct sn_slice result = {*at, term.len};

    if (term.len)
        memcpy(*at, term.data, term.len);
    *at += term.len;
    return result;
}

sp_status sn_watches_add(struct sn_watches *watches, enum sn_watch_kind kind, struct sn_slice from,
                         struct sn_slice reference, struct sn_slice target)
{
    struct sn_watch *watch;
    uint8_t *at;
    sp_status status;

    if (find(watches, kind, kind == SN_WATCH_MONITOR ? reference : from))
        return SP_OK;
    if (watches->count == SN_WATCHES_MAX)
        return SP_FULL;
    status = grow(watches);
    if (status != SP_OK)
        return status;
    watch = malloc(sizeof *watch + from.len + reference.len + target.len);
    if (!watch)
        return SP_NO_MEMORY;
    at = (uint8_t *)(watch + 1);
    watch->kind = kind;
    watch->from = copy(&at, from);
    watch->reference = copy(&at, reference);
    watch->target = copy(&at, target);
    watch->hash = hash_of(key_of(watch));
    sp_list_push_newest(bucket_of(watches, watch->hash), &watch->node);
    watches->count++;
    return SP_OK;
}

void sn_watches_drop(struct sn_watches *watches, enum sn_watch_kind kind, struct sn_slice key)
{
    struct sn_watch *watch = find(watches, kind, key);

    if (!watch)
        return;
    sp_list_remove(&watch->node);
    free(watch);
    watches->count--;
}

void sn_watches_each(const struct sn_watches *watches,
                     void (*each)(const struct sn_watch *watch, void *arg), void *arg)
{
    for (size_t i = 0; i < watches->bucket_count; i++) {
        struct sp_list *bucket = &watches->buckets[i];

        for (struct sp_node *at = bucket->head.next; at != &bucket->head; at = at->next)
            each(watch_of(at), arg);
    }
}
