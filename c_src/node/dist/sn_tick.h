/* When a connection has to tick, and when its node is gone: net_kernel's rules. The tick time has
 * four periods. At the end of each: nothing written in it, a tick is due; nothing read in four of
 * them, the node is gone. */
#ifndef SN_TICK_H
#define SN_TICK_H

#include <stdbool.h>
#include <stdint.h>

enum sn_tick_due { SN_TICK_NOTHING, SN_TICK_SEND, SN_TICK_GONE };

struct sn_tick {
    uint64_t period_ns, next_ns; /* the end of this period */
    unsigned silent;             /* whole periods without a byte read */
    bool has_read, has_written;  /* in this period */
};

/* `time_ns` is the tick time: net_ticktime. */
void sn_tick_begin(struct sn_tick *tick, uint64_t time_ns, uint64_t now_ns);
void sn_tick_read(struct sn_tick *tick);
void sn_tick_written(struct sn_tick *tick);

/* To be called at next_ns or later. Several periods that went by at once, because this process did
 * not run, count as one: what has come meanwhile is not read yet. */
enum sn_tick_due sn_tick_due(struct sn_tick *tick, uint64_t now_ns);

#endif
