/* Callers on the only connection of a pool with a pipeline, and its peer. What the peer says is a byte of length and so
 * many bytes (`packet => 1`); that byte comes before each request, too. */
#ifndef PIPE_KIT_H
#define PIPE_KIT_H

#include "core/pool/sp_piped.h"
#include "fake_pipe.h"
#include "pool_kit.h"

#define PIPE_STALL_MS 5000

void pipe_open(uint32_t pipeline, uint32_t size);
void pipe_open_one(void); /* four requests at once, one connection */

/* ---- callers; the place of a request is what pipe_ask() gives ---- */

/* What it asks: one packet. */
struct sp_ask pipe_asks(uint64_t owner, const char *text, struct iovec *iov);
sp_status pipe_try(uint64_t owner, const char *text, uint64_t *at);
uint64_t pipe_ask(uint64_t owner, const char *text);
extern char pipe_reply[128]; /* the last one that was taken */
sp_status pipe_look(uint64_t at, uint64_t owner, bool fired);
void pipe_replies(uint64_t at, uint64_t owner, const char *text); /* asserts that this is there */
void pipe_sleep(uint64_t at, uint64_t owner);
sp_status pipe_leave(uint64_t at, uint64_t owner, bool asleep);
/* Asserts that it was told once, and what. */
void pipe_told(uint64_t owner, const char *text);
void pipe_told_why(uint64_t owner, sp_status status);
/* Waits in the queue for a place; the control process then steps. */
struct sp_waiter *pipe_wait(uint64_t owner, struct iovec *iov, const char *text);
/* Owners 1 to 4. */
void pipe_fill(uint64_t *at);

/* ---- the peer, and who is told ---- */

int pipe_fd(void);
void peer_says(const char *text);
/* The select fires; where it is the control process's, that has it looked after. */
void pipe_fire(bool write);
void pipe_sent(const char *text); /* asserts that this is all that was sent */
void pipe_idle(unsigned count);   /* asserts that so many connections are, and none leased */

#endif
