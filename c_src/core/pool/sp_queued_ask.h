/* What a waiter that is piped asks of a pipe. Its owner sleeps: the pipe claims it as its place is taken, and then tells it of
 * the reply. */
#ifndef SP_QUEUED_ASK_H
#define SP_QUEUED_ASK_H

#include "sp_queue.h"
#include "core/pipe/sp_pipe.h"

/* With the bytes where the waiter has them. */
struct sp_ask sp_queued_ask(struct sp_waiter *waiter);

#endif
