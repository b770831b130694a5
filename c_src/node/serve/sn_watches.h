/* The monitors and links that one node's processes have on us. No I/O. */
#ifndef SN_WATCHES_H
#define SN_WATCHES_H

#include "node/etf/sn_hash.h"

/* What one node may have: one for each process that a VM has by default. */
#define SN_WATCHES_MAX 262144

struct sn_watches {
    struct sn_hash hash;
};

enum sn_watch_kind { SN_WATCH_MONITOR, SN_WATCH_LINK };

/* Each slice is a copy and lives as long as the watch. */
struct sn_watch {
    struct sn_hash_node node;
    enum sn_watch_kind kind;
    struct sn_slice from;      /* the process that watches */
    struct sn_slice reference; /* of a monitor; empty for a link */
    struct sn_slice target;    /* what is watched, as it was written: a pid or a name */
};

void sn_watches_init(struct sn_watches *watches);
void sn_watches_free(struct sn_watches *watches);

/* Stores one. A link is stored once for each `from`, a monitor once for each reference.
 * SP_OK, SP_FULL or SP_NO_MEMORY. */
SP_MUST_CHECK sp_status sn_watches_add(struct sn_watches *watches, enum sn_watch_kind kind,
                                       struct sn_slice from, struct sn_slice reference,
                                       struct sn_slice target);

/* Forgets one, by the reference of a monitor or the `from` of a link; not there is not an error. */
void sn_watches_drop(struct sn_watches *watches, enum sn_watch_kind kind, struct sn_slice key);

/* Calls for each; `each` must not change the watches. */
void sn_watches_each(const struct sn_watches *watches,
                     void (*each)(const struct sn_watch *watch, void *arg), void *arg);

#endif
