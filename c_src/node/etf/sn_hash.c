#include "sn_hash.h"

#include <stdlib.h>

#define BUCKETS_LEAST 16

void sn_hash_init(struct sn_hash *hash)
{
    *hash = (struct sn_hash){0};
}

void sn_hash_free(struct sn_hash *hash)
{
    free(hash->buckets);
    sn_hash_init(hash);
}

static struct sn_hash_node *hash_node(struct sp_list_node *node)
{
    return SP_CONTAINER(node, struct sn_hash_node, node);
}

static struct sp_list *bucket_of(const struct sn_hash *hash, uint64_t key)
{
    return &hash->buckets[key & (hash->bucket_count - 1)];
}

/* So many buckets as nodes, at least. */
sp_status sn_hash_make_room(struct sn_hash *hash)
{
    struct sn_hash grown = {.count = hash->count};

    if (hash->count < hash->bucket_count)
        return SP_OK;
    grown.bucket_count = hash->bucket_count ? 2 * hash->bucket_count : BUCKETS_LEAST;
    grown.buckets = malloc(grown.bucket_count * sizeof *grown.buckets);
    if (!grown.buckets)
        return SP_NO_MEMORY;
    for (size_t i = 0; i < grown.bucket_count; i++)
        sp_list_init(&grown.buckets[i]);
    for (size_t i = 0; i < hash->bucket_count; i++) {
        while (!sp_list_empty(&hash->buckets[i])) {
            struct sp_list_node *node = sp_list_oldest(&hash->buckets[i]);

            sp_list_remove(node);
            sp_list_push_newest(bucket_of(&grown, hash_node(node)->hash), node);
        }
    }
    free(hash->buckets);
    *hash = grown;
    return SP_OK;
}

sp_status sn_hash_add(struct sn_hash *hash, struct sn_hash_node *node, uint64_t key)
{
    sp_status status = sn_hash_make_room(hash);

    if (status != SP_OK)
        return status;
    node->hash = key;
    sp_list_push_newest(bucket_of(hash, key), &node->node);
    hash->count++;
    return SP_OK;
}

void sn_hash_remove(struct sn_hash *hash, struct sn_hash_node *node)
{
    sp_list_remove(&node->node);
    hash->count--;
}

static struct sn_hash_node *find_from(const struct sn_hash *hash, const struct sp_list_node *before,
                                      uint64_t key)
{
    const struct sp_list *bucket = bucket_of(hash, key);

    for (struct sp_list_node *at = before->next; at != &bucket->head; at = at->next)
        if (hash_node(at)->hash == key)
            return hash_node(at);
    return NULL;
}

struct sn_hash_node *sn_hash_first(const struct sn_hash *hash, uint64_t key)
{
    return hash->count ? find_from(hash, &bucket_of(hash, key)->head, key) : NULL;
}

struct sn_hash_node *sn_hash_next(const struct sn_hash *hash, const struct sn_hash_node *node)
{
    return find_from(hash, &node->node, node->hash);
}

void sn_hash_each(const struct sn_hash *hash, void (*each)(struct sn_hash_node *node, void *arg),
                  void *arg)
{
    for (size_t i = 0; i < hash->bucket_count; i++) {
        struct sp_list *bucket = &hash->buckets[i];
        struct sp_list_node *at, *next;

        for (at = bucket->head.next; at != &bucket->head; at = next) {
            next = at->next;
            each(hash_node(at), arg);
        }
    }
}

uint64_t sn_hash_bytes(struct sn_slice bytes)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < bytes.len; i++)
        hash = (hash ^ bytes.data[i]) * UINT64_C(0x100000001b3);
    return hash ^ hash >> 32;
}
