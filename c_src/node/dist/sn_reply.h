/* What a node says over a connection of a pool: frames of the distribution, as far as they matter to one
 * who calls functions there. Pure. */
#ifndef SN_REPLY_H
#define SN_REPLY_H

#include "node/etf/sn_slice.h"

enum sn_reply_kind {
    SN_REPLY_OTHER,   /* no use here */
    SN_REPLY_TICK,    /* an empty frame */
    SN_REPLY_ENDED,   /* the process of a call has ended; `term` is the reason */
    SN_REPLY_REFUSED, /* it could not be started; `term` is an atom that says why */
    SN_REPLY_MESSAGE  /* `term` is a message to our pid */
};

struct sn_reply {
    enum sn_reply_kind kind;
    uint64_t number;      /* of the call */
    struct sn_slice term; /* checked; data is NULL where a reason is no good term */
};

/* Nothing is copied: the term lies in the frame. */
void sn_reply_open(const uint8_t *frame, size_t len, struct sn_reply *reply);

/* What came of call `number`, from the reason with which its process ended. */
enum sn_outcome_kind {
    SN_OUTCOME_RETURNED,  /* `value` */
    SN_OUTCOME_EXCEPTION, /* of the class `word`, with `value`; `stack` may have no data: [] */
    SN_OUTCOME_SIGNAL     /* the process was killed; `value` is the reason */
};

struct sn_outcome {
    enum sn_outcome_kind kind;
    const char *word;
    struct sn_slice value, stack;
};

struct sn_outcome sn_reply_outcome(uint64_t number, struct sn_slice reason);

#endif
