/* Finds things by a hash of their key. Intrusive: whoever owns a thing puts a node into it, and
 * compares the keys. No I/O. */
#ifndef SN_HASH_H
#define SN_HASH_H

#include "sn_slice.h"
#include "core/base/sp_list.h"
#include "core/base/sp_status.h"

struct sn_hash_node {
    struct sp_list_node node;
    uint64_t hash;
};

struct sn_hash {
    struct sp_list *buckets; /* NULL while nothing was added */
    size_t bucket_count, count;
};

void sn_hash_init(struct sn_hash *hash);
/* What is still in it is its owners'. */
void sn_hash_free(struct sn_hash *hash);

/* SP_OK or SP_NO_MEMORY. The node is in no table yet, and stays where it is. */
SP_MUST_CHECK sp_status sn_hash_add(struct sn_hash *hash, struct sn_hash_node *node, uint64_t key);
/* After it the next sn_hash_add() does not fail. */
SP_MUST_CHECK sp_status sn_hash_make_room(struct sn_hash *hash);
void sn_hash_remove(struct sn_hash *hash, struct sn_hash_node *node);

/* Those with the same hash, in no order; NULL at the end. */
struct sn_hash_node *sn_hash_first(const struct sn_hash *hash, uint64_t key);
struct sn_hash_node *sn_hash_next(const struct sn_hash *hash, const struct sn_hash_node *node);

/* Calls for each node, which may be freed in that call; the table may not be changed otherwise. */
void sn_hash_each(const struct sn_hash *hash, void (*each)(struct sn_hash_node *node, void *arg),
                  void *arg);

/* FNV-1a (G. Fowler, L. C. Noll, K.-P. Vo), folded. */
uint64_t sn_hash_bytes(struct sn_slice bytes);

#endif
