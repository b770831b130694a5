#include "sn_tick.h"

#define PERIODS 4

void sn_tick_begin(struct sn_tick *tick, uint64_t time_ns, uint64_t now_ns)
{
    *tick = (struct sn_tick){.period_ns = time_ns / PERIODS};
    tick->next_ns = now_ns + tick->period_ns;
}

void sn_tick_read(struct sn_tick *tick)
{
    tick->has_read = true;
}

void sn_tick_written(struct sn_tick *tick)
{
    tick->has_written = true;
}

enum sn_tick_due sn_tick_due(struct sn_tick *tick, uint64_t now_ns)
{
    bool has_written = tick->has_written;

    if (now_ns < tick->next_ns)
        return SN_TICK_NOTHING;
    tick->next_ns = now_ns + tick->period_ns;
    tick->silent = tick->has_read ? 0 : tick->silent + 1;
    tick->has_read = tick->has_written = false;
    if (tick->silent >= PERIODS)
        return SN_TICK_GONE;
    return has_written ? SN_TICK_NOTHING : SN_TICK_SEND;
}
