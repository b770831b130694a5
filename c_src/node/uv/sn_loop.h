/* The libuv loop as the daemon uses it: a clock, time limits, and what is to be done once before the
 * loop waits again. One thread. */
#ifndef SN_LOOP_H
#define SN_LOOP_H

#include "node/base/sn_deadlines.h"
#include "core/conn/sp_host.h"
#include "core/base/sp_list.h"

#include <uv.h>

/* Something to be done soon; queued at most once. Zeroed but for `run` at first. */
struct sn_task {
    void (*run)(struct sn_task *task);
    struct sp_list_node node;
    bool queued;
};

/* A time limit. Zeroed but for `over` at first. */
struct sn_limit {
    void (*over)(struct sn_limit *limit);
    struct sn_deadline deadline;
};

struct sn_loop {
    uv_loop_t *uv;
    struct sn_deadlines deadlines;
    uv_timer_t timer;
    uint64_t timer_at_ns; /* what the timer is set to, or UINT64_MAX */
    uv_prepare_t prepare;
    uv_idle_t idle; /* runs while something is queued, so that the loop does not wait */
    struct sp_list tasks, end_tasks;
    uint64_t turns;                /* since the start */
    struct sp_allowance allowance; /* of a turn: from before it waits to before it waits again */
};

/* None of its handles keeps the loop running. 0 or a libuv error. */
int sn_loop_init(struct sn_loop *loop, uv_loop_t *uv);
/* Does what is still queued, and closes the handles; run the loop once more afterwards, then sn_loop_free(). */
void sn_loop_close(struct sn_loop *loop);
void sn_loop_free(struct sn_loop *loop);

uint64_t sn_loop_now_ns(const struct sn_loop *loop);
/* For a call into the core. All of a turn have one allowance: in a long turn each gets on by one piece. */
struct sp_call sn_loop_call(struct sn_loop *loop);

/* Before the loop waits the next time; what is queued by tasks themselves comes after one look at what
 * has happened meanwhile. */
void sn_loop_defer(struct sn_loop *loop, struct sn_task *task);
/* Likewise, after all of the above. */
void sn_loop_defer_to_end(struct sn_loop *loop, struct sn_task *task);
/* Does nothing where it is not queued. */
void sn_loop_drop(struct sn_task *task);

/* limit->over() is called once the time has come, in whole milliseconds, never early. Sets or moves it.
 * UINT64_MAX clears it. SP_OK or SP_NO_MEMORY. */
SP_MUST_CHECK sp_status sn_loop_limit(struct sn_loop *loop, struct sn_limit *limit, uint64_t at_ns);
void sn_loop_unlimit(struct sn_loop *loop, struct sn_limit *limit);

#endif
