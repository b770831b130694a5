#include "sp_queued_ask.h"

/* Under the pipe's lock. */
static bool claim(struct sp_waiter *waiter, uint32_t pipe, uint64_t number)
{
    uint32_t open = SP_HANDOFF_OPEN;

    waiter->pipe = pipe;
    waiter->lease = number;
    return atomic_compare_exchange_strong(&waiter->handoff, &open, SP_HANDOFF_DELIVERED);
}

struct sp_ask sp_queued_ask(struct sp_waiter *waiter)
{
    struct sp_ask ask = {.owner = waiter->owner,
                         .iov = waiter->iov,
                         .count = waiter->iov_count,
                         .want = waiter->want,
                         .waiter = waiter,
                         .claim = claim};

    for (int i = 0; i < ask.count; i++)
        ask.len += ask.iov[i].iov_len;
    return ask;
}
