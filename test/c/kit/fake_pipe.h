/* The part of the fake host that pipes need: replies from malloc, a log of who was told what, and one select for
 * reading and one for writing for each descriptor. */
#ifndef FAKE_PIPE_H
#define FAKE_PIPE_H

#include "core/pipe/sp_pipe.h"
#include "core/pool/sp_queue.h"

/* What reply_notify told an owner. */
struct fake_told {
    uint64_t owner;
    sp_status status;
    char text[32]; /* the reply's begin */
    size_t len;
};

/* Who is told of a descriptor; owner 0: the control process, of that pipe. */
struct fake_select {
    bool pending;
    uint64_t owner;
    uint32_t pipe, generation;
};

unsigned fake_told(uint64_t owner); /* how often */
const struct fake_told *fake_last_told(uint64_t owner);
struct fake_select *fake_selected(int fd, bool write);
unsigned fake_replies(void); /* that have memory of their own */
void fake_pipe_reset(void);
/* The next so many selects are refused. */
void fake_refuse_selects(unsigned count);
/* Runs `hook` once, at the begin of the next select. */
void fake_on_select(void (*hook)(void *arg), void *arg);

bool fake_reply_reserve(struct sp_reply *reply, size_t cap);
void fake_reply_free(struct sp_reply *reply);
void fake_reply_notify(const struct sp_call *call, struct sp_waiter *waiter, sp_status status,
                       struct sp_reply *reply);
bool fake_pipe_select(const struct sp_call *call, struct sp_conn *conn, struct sp_waiter *waiter,
                      uint32_t pipe, uint32_t generation, bool write);
bool fake_pipe_unselect(const struct sp_call *call, struct sp_conn *conn);

#endif
