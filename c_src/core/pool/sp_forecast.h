/* How many more connections will still be needed when attempts that begin now are ready.
 *
 * Of the pool as it is: h, how long a connection is in use (the mean of the last uses, and at least the time since
 * anybody got one); c, how long an attempt takes (the mean of the last ones); who came in the last c; k, how many are up;
 * w, how many wait without an attempt that is for them. When an attempt that begins now is ready there will be waiting
 *
 *     B = w + who comes in c - c * k / h.
 *
 * B <= 0: none is needed. Else so many as serve these in another c: B * h / c, at most w, less those that are under way.
 * Where nothing is up, or it takes no time to connect, each that waits has an attempt.
 *
 * An estimate may be wrong. So whoever has waited for c has an attempt in any case; and who would not wait at all counts as one
 * who waits since the first of a row of those was refused.
 *
 * Thread rule: the control process, but for sp_forecast_connected(). */
#ifndef SP_FORECAST_H
#define SP_FORECAST_H

#include "sp_pool.h"

/* An attempt that takes less than a clock's step takes no time. */
#define SP_FORECAST_SHORT_NS (5 * SP_MS)

/* The pool opens: nothing is known. */
void sp_forecast_begin(struct sp_pool *pool, const struct sp_call *call);
/* An attempt has taken so long. By any thread. */
void sp_forecast_connected(struct sp_pool *pool, uint64_t took_ns);
/* Once in each tick: who has come since. */
void sp_forecast_tick(struct sp_pool *pool, const struct sp_call *call);
/* How many attempts are to be begun for those who wait, and for one who was refused, if so. *due_ns: when that may be more without
 * a wake-up, or SP_NEVER. */
uint64_t sp_forecast_needed(struct sp_pool *pool, const struct sp_call *call, bool refused,
                            uint64_t *due_ns);

#endif
