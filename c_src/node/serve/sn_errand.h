/* What a client wants to have done on a node, by a connection of a pool: a function called, or a message
 * sent. */
#ifndef SN_ERRAND_H
#define SN_ERRAND_H

#include "sn_job.h"

/* The parts are checked terms; those of the other kind are empty. */
struct sn_errand {
    bool is_call;
    bool is_by_default; /* its time is the pool's: first for a connection, then while it is stuck */
    struct sn_slice module, function, args; /* of a call: atoms and a proper list */
    struct sn_slice destination, message;   /* of a message: an atom or a pid */
};

size_t sn_errand_len(const struct sn_errand *errand);

/* Copies it for the job, which keeps it; false where memory is short. */
SP_MUST_CHECK bool sn_errand_keep(struct sn_job *job, const struct sn_errand *errand);
/* Does nothing where there is none. */
void sn_errand_unkeep(struct sn_job *job);

/* Whether it can be a process of the pool's node. {Name, Node} becomes its name. */
bool sn_errand_destination(const struct sn_options *options, struct sn_slice *destination);

#endif
