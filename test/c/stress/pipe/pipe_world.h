/* What stress_pipe.c runs in: callers with mailboxes, an event loop over poll(), a server that echoes messages, late, in
 * pieces, and sometimes closes; the core's host over that. */
#ifndef PIPE_WORLD_H
#define PIPE_WORLD_H

#include "core/base/sp_sys.h"
#include "core/pool/sp_control.h"
#include "core/pool/sp_grant.h"
#include "core/pool/sp_lease.h"
#include "core/pool/sp_piped.h"
#include "stress/stress_kit.h"

#define PIPE_MESSAGE_BYTES 96
#define WORLD_CONNECTOR UINT64_C(1) /* lives for ever */

enum mail_kind { MAIL_READY, MAIL_REPLY };

struct mail {
    uint64_t ref;
    enum mail_kind kind;
    sp_status status;
    size_t len;
    uint8_t bytes[PIPE_MESSAGE_BYTES];
};

struct caller {
    uint64_t owner; /* a new one for each life */
    bool dead;
    uint64_t ref; /* of its last wait */
    pthread_mutex_t lock;
    pthread_cond_t came;
    bool full;
    struct mail mail;
};

extern const struct sp_host world_host;

void world_begin(void);
void world_end(void); /* and nothing is left */
struct sp_call world_call(void);
const struct sp_addr *world_address(void);

struct caller *world_caller(unsigned index);
void world_be_born(struct caller *self);
void world_kill(struct caller *self);
/* Unlike any other message. */
void world_fill(struct caller *self, uint8_t *bytes);
/* False: none in that time. A wait of more than a second is one for ever. */
bool world_await(struct caller *self, struct mail *mail, unsigned ms);
/* Of the caller's next wait. */
struct sp_waiter *world_waiter_new(struct sp_pool *pool, struct caller *self);
void world_waiter_carry(struct sp_waiter *waiter, const struct sp_ask *ask);
/* For the control process. */
bool world_take_event(uint32_t *pipe, uint32_t *generation, bool *write);

#endif
