#include "sp_peak.h"

void sp_peak_begin(struct sp_peak *peak, uint64_t window_ns, uint64_t now_ns)
{
    *peak = (struct sp_peak){.slot_ns = UINT64_MAX, .known_ns = UINT64_MAX, .since_ns = now_ns};
    if (window_ns == UINT64_MAX)
        return;
    peak->slot_ns = window_ns / (SP_PEAK_SLOTS - 1) + 1;
    peak->known_ns = now_ns + window_ns;
}

void sp_peak_note(struct sp_peak *peak, uint32_t value, uint64_t now_ns)
{
    uint64_t passed = now_ns > peak->since_ns ? (now_ns - peak->since_ns) / peak->slot_ns : 0;

    for (uint64_t i = 0; i < passed && i < SP_PEAK_SLOTS; i++) {
        peak->at = (peak->at + 1) % SP_PEAK_SLOTS;
        peak->slots[peak->at] = 0;
    }
    peak->since_ns += passed * peak->slot_ns;
    if (value > peak->slots[peak->at])
        peak->slots[peak->at] = value;
}

uint32_t sp_peak_get(const struct sp_peak *peak)
{
    uint32_t highest = 0;

    for (int i = 0; i < SP_PEAK_SLOTS; i++)
        if (peak->slots[i] > highest)
            highest = peak->slots[i];
    return highest;
}

bool sp_peak_is_known(const struct sp_peak *peak, uint64_t now_ns)
{
    return now_ns > peak->known_ns;
}

uint64_t sp_peak_changes_ns(const struct sp_peak *peak)
{
    return sp_peak_get(peak) > 0 ? peak->since_ns + peak->slot_ns : peak->known_ns;
}
