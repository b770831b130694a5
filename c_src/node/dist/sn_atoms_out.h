/* The atoms that one node was told over its connection: they go there as numbers from then on
 * (DFLAG_DIST_HDR_ATOM_CACHE; "Distribution Header" in the documentation of Erlang's external term
 * format), which it decodes in a tenth of the time. */
#ifndef SN_ATOMS_OUT_H
#define SN_ATOMS_OUT_H

#include "sn_queue.h"
#include "node/etf/sn_slice.h"
#include "core/base/sp_status.h"

#include <stdint.h>

/* Two places for each hash. The cache of a node has eight times as many; what we send are few. */
#define SN_ATOMS_OUT_SETS 128
#define SN_ATOMS_OUT_WAYS 2
#define SN_ATOMS_OUT_MAX (SN_ATOMS_OUT_SETS * SN_ATOMS_OUT_WAYS)
/* Longer texts are sent as they are. */
#define SN_ATOMS_OUT_TEXT_MAX 63

struct sn_atoms_out {
    struct {
        uint8_t len; /* 0: none */
        uint8_t text[SN_ATOMS_OUT_TEXT_MAX];
    } atoms[SN_ATOMS_OUT_MAX];
    uint8_t last_way[SN_ATOMS_OUT_SETS]; /* the one that was used last: the other one goes first */
};

/* All places are empty. NULL where memory is short; free() takes it. */
struct sn_atoms_out *sn_atoms_out_new(void);

/* Queues a frame with a header for its atoms, of the parts that sn_queue_frame() would queue, each behind
 * its version byte. Returns as sn_queue_frame(). */
SP_MUST_CHECK sp_status sn_atoms_out_frame(struct sn_atoms_out *atoms, struct sn_queue *queue,
                                           struct sn_slice control, struct sn_slice payload,
                                           struct sn_slice tail);

#endif
