/* The frames that a node gets over a connection of a pool: calls, messages, answers to what it prints. As
 * Erlang's erpc has them: a request to start a process (SPAWN_REQUEST) that runs erpc:execute_call/4 and is
 * watched by a monitor. No I/O: they are put into a queue. */
#ifndef SN_CHANNEL_FRAME_H
#define SN_CHANNEL_FRAME_H

#include "node/dist/sn_queue.h"
#include "core/dist/sp_dist_answer.h"
#include "core/dist/sp_node.h"

/* `us' is who the connection is to its node. Terms are checked ones, and are copied. SP_OK, SP_FULL,
 * SP_TOO_BIG or SP_NO_MEMORY. */
SP_MUST_CHECK sp_status sn_channel_queue_call(struct sn_queue *queue,
                                              const struct sp_node_names *us, uint64_t number,
                                              struct sn_slice module, struct sn_slice function,
                                              struct sn_slice args);
/* The destination is an atom or a pid of that node. */
SP_MUST_CHECK sp_status sn_channel_queue_message(struct sn_queue *queue,
                                                 const struct sp_node_names *us,
                                                 struct sn_slice destination,
                                                 struct sn_slice message);
/* {io_reply, ReplyAs, ok}, or {error, enotsup}. */
SP_MUST_CHECK sp_status sn_channel_queue_io_reply(struct sn_queue *queue, struct sn_slice to,
                                                  struct sn_slice reply_as, bool is_ok);

/* Of the pid that these calls come from; see sp_dist_answer(). */
void sn_channel_pid_numbers(const struct sp_node_names *us, uint8_t numbers[SP_DIST_PID_NUMBERS]);

#endif
