/* What the daemon's one process says to processes of other nodes: messages in, frames out. It has two
 * names, sockpool and net_kernel, and one pid, which is in all that it says.
 *
 * Where something cannot be queued the client has a fault afterwards, see sn_client.h. */
#ifndef SN_OUTBOX_H
#define SN_OUTBOX_H

#include "sn_client.h"
#include "node/dist/sn_handshake.h"
#include "node/dist/sn_operation.h"
#include "node/etf/sn_writer.h"

struct sn_outbox {
    const struct sn_identity *us;
    ei_x_buff pid, control, payload; /* pid without a version byte; the others are used again */
};

/* SP_OK or SP_NO_MEMORY. `us` is the caller's and outlives the rest. */
SP_MUST_CHECK sp_status sn_outbox_init(struct sn_outbox *outbox, const struct sn_identity *us);
void sn_outbox_free(struct sn_outbox *outbox);

/* The pid as a term, or one of the names. */
struct sn_slice sn_outbox_pid(const struct sn_outbox *outbox);
bool sn_outbox_is_to_us(const struct sn_outbox *outbox, struct sn_slice target);

/* To those who watch us. */
void sn_outbox_down(struct sn_outbox *outbox, struct sn_client *client, struct sn_slice target,
                    struct sn_slice from, struct sn_slice reference, const char *reason);
void sn_outbox_exit(struct sn_outbox *outbox, struct sn_client *client, struct sn_slice target,
                    struct sn_slice from, const char *reason);
void sn_outbox_unlinked(struct sn_outbox *outbox, struct sn_client *client, struct sn_slice id,
                        struct sn_slice target, struct sn_slice from);

/* Watches a process of the client's, under a number of our own; number 0 is none. */
void sn_outbox_monitor(struct sn_outbox *outbox, struct sn_client *client, struct sn_slice pid,
                       uint64_t number);
void sn_outbox_demonitor(struct sn_outbox *outbox, struct sn_client *client, struct sn_slice pid,
                         uint64_t number);
/* The number in a reference that we made for a monitor; 0 for any other. */
uint64_t sn_outbox_monitor_number(const struct sn_outbox *outbox, struct sn_slice reference);

/* Answers a call: {Tag, Reply}, with the reply put into the writer in between. `tail` follows what was
 * written, see sn_put_binary_head(); it may be empty. Only one answer is written at a time. */
struct sn_writer sn_outbox_begin_reply(struct sn_outbox *outbox, const struct sn_caller *caller);
void sn_outbox_end_reply(struct sn_outbox *outbox, struct sn_client *client,
                         const struct sn_caller *caller, const struct sn_writer *reply,
                         struct sn_slice tail);

#endif
