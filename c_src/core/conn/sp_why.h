/* Why a connection that was usable is closed: each for exactly one of these. Users see the words. */
#ifndef SP_WHY_H
#define SP_WHY_H

#include "core/base/sp_status.h"

#define SP_WHY_MAP(X)                                                                              \
    X(IO_ERROR, io_error)         /* a send or receive failed, or brought no message */            \
    X(IO_TIMEOUT, io_timeout)     /* one took too long, and what it waited for may still come */   \
    X(PEER_CLOSED, peer_closed)   /* by the server; or the worker has ended */                     \
    X(UNREAD, unread)             /* the server has said what nobody has asked for, or read */     \
    X(UNANSWERED, unanswered)     /* checked in after a send whose reply may still come */         \
    X(DISCARDED, discarded)       /* by its owner */                                               \
    X(EXCEPTION, exception)       /* a fun that had it has raised one */                           \
    X(ABANDONED, abandoned)       /* its owner has died, or lost the handle */                     \
    X(MAX_HOLD, max_hold)         /* held for too long */                                          \
    X(IDLE_TIMEOUT, idle_timeout) /* within the size, and not needed */                            \
    X(OVERFLOW, overflow)         /* above it, and not needed */                                   \
    X(MAX_LIFETIME, max_lifetime)                                                                  \
    X(MAX_USES, max_uses)                                                                          \
    X(RESIZE, resize)   /* the pool was made smaller */                                            \
    X(OPTIONS, options) /* its owner has changed what cannot be put back */                        \
    X(HEALTH, health)   /* it was found unfit by a check */                                        \
    X(STOPPED, stopped) /* with its pool, or the pool's process */

#define SP_WHY_ENUM(name, word) SP_WHY_##name,
enum sp_why { SP_WHY_MAP(SP_WHY_ENUM) SP_WHYS };
#undef SP_WHY_ENUM

/* What a status says of a connection on which it came. */
enum sp_why sp_why_of(sp_status status);

#endif
