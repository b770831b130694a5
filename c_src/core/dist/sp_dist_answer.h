/* What a pool's connection to a node says by itself: answers to what a node may ask of any that it is
 * connected to, and the question whether the node is still there. Frames without their length, without an
 * atom cache; pure.
 *
 * Whoever watches or calls a process here would wait until the connection ends, as nothing runs here.
 *   a monitor: noproc; but not one on net_kernel, which is here, so to say
 *   a link: an exit signal noproc; an unlink: that it is done
 *   is_auth, asked of net_kernel (net_adm:ping/1): yes */
#ifndef SP_DIST_ANSWER_H
#define SP_DIST_ANSWER_H

#include "sp_dist.h"

/* Of a question that is answered: two pids, a reference and a tag that is one, each with the longest name. */
#define SP_DIST_QUESTION_MAX 2048
#define SP_DIST_ANSWER_MAX SP_DIST_QUESTION_MAX

/* What one pid of a node differs in from another, as it is written: number, serial, creation. */
#define SP_DIST_PID_NUMBERS 12

/* The bytes of the answer; 0 where the frame, or its beginning of at least SP_DIST_QUESTION_MAX bytes, asks
 * nothing that is answered. `user` has the numbers of the pid that has the connection, which is alive, or is
 * NULL: functions that it calls print by it, and watch it while they do. */
size_t sp_dist_answer(const uint8_t *frame, size_t len, const uint8_t *user,
                      uint8_t answer[SP_DIST_ANSWER_MAX]);

/* A monitor on a name that no process can have, so the node answers at once. Its reference has the number
 * 0, which no call has. */
size_t sp_dist_probe(const struct sp_node_names *us, uint8_t probe[SP_DIST_ANSWER_MAX]);

#endif
