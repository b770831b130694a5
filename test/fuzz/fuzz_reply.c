/* libFuzzer over sn_reply: whatever a node sends, the terms that are found lie within the frame and are
 * whole, and so are the parts of an outcome. */
#include "node/dist/sn_reply.h"
#include "node/etf/sn_term.h"

#include <stdlib.h>
#include <string.h>

static void assert_term(struct sn_slice term, const uint8_t *frame, size_t len)
{
    size_t used;

    if (term.data < frame || term.data + term.len > frame + len ||
        sn_term_check(term.data, term.len, &used) != SN_TERM_OK || used != term.len)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint8_t *frame = malloc(len ? len : 1); /* so that a look past its end is seen */
    struct sn_outcome outcome;
    struct sn_reply reply;

    memcpy(frame, data, len);
    sn_reply_open(frame, len, &reply);
    if (reply.kind == SN_REPLY_TICK && len > 0)
        abort();
    if (reply.term.data)
        assert_term(reply.term, frame, len);
    if (reply.kind == SN_REPLY_ENDED && reply.term.data) {
        outcome = sn_reply_outcome(reply.number, reply.term);
        assert_term(outcome.value, frame, len);
        if (outcome.stack.data)
            assert_term(outcome.stack, frame, len);
    }
    free(frame);
    return 0;
}
