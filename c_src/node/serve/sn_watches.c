#include "sn_watches.h"

#include <stdlib.h>
#include <string.h>

void sn_watches_init(struct sn_watches *watches)
{
    sn_hash_init(&watches->hash);
}

static struct sn_watch *watch_of(struct sn_hash_node *node)
{
    return SP_CONTAINER(node, struct sn_watch, node);
}

static void free_one(struct sn_hash_node *node, void *arg)
{
    (void)arg;
    free(watch_of(node));
}

void sn_watches_free(struct sn_watches *watches)
{
    sn_hash_each(&watches->hash, free_one, NULL);
    sn_hash_free(&watches->hash);
}

static struct sn_slice key_of(const struct sn_watch *watch)
{
    return watch->kind == SN_WATCH_MONITOR ? watch->reference : watch->from;
}

static struct sn_watch *find(const struct sn_watches *watches, enum sn_watch_kind kind,
                             struct sn_slice key)
{
    struct sn_hash_node *node = sn_hash_first(&watches->hash, sn_hash_bytes(key));

    for (; node; node = sn_hash_next(&watches->hash, node))
        if (watch_of(node)->kind == kind && sn_slice_equals(key_of(watch_of(node)), key))
            return watch_of(node);
    return NULL;
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

    if (find(watches, kind, kind == SN_WATCH_MONITOR ? reference : from))
        return SP_OK;
    if (watches->hash.count == SN_WATCHES_MAX)
        return SP_FULL;
    watch = malloc(sizeof *watch + from.len + reference.len + target.len);
    if (!watch)
        return SP_NO_MEMORY;
    at = (uint8_t *)(watch + 1);
    watch->kind = kind;
    watch->from = copy(&at, from);
    watch->reference = copy(&at, reference);
    watch->target = copy(&at, target);
    if (sn_hash_add(&watches->hash, &watch->node, sn_hash_bytes(key_of(watch))) == SP_OK)
        return SP_OK;
    free(watch);
    return SP_NO_MEMORY;
}

void sn_watches_drop(struct sn_watches *watches, enum sn_watch_kind kind, struct sn_slice key)
{
    struct sn_watch *watch = find(watches, kind, key);

    if (!watch)
        return;
    sn_hash_remove(&watches->hash, &watch->node);
    free(watch);
}

struct visit {
    void (*each)(const struct sn_watch *watch, void *arg);
    void *arg;
};

static void visit_one(struct sn_hash_node *node, void *arg)
{
    const struct visit *visit = arg;

    visit->each(watch_of(node), visit->arg);
}

void sn_watches_each(const struct sn_watches *watches,
                     void (*each)(const struct sn_watch *watch, void *arg), void *arg)
{
    struct visit visit = {each, arg};

    sn_hash_each(&watches->hash, visit_one, &visit);
}
