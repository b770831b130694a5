/* The highest of the values that were noted in the last so many nanoseconds, or in up to a seventh of that before:
 * a ring of 8 slots, each a seventh of the window. */
#ifndef SP_PEAK_H
#define SP_PEAK_H

#include <stdbool.h>
#include <stdint.h>

#define SP_PEAK_SLOTS 8

struct sp_peak {
    uint64_t slot_ns;  /* UINT64_MAX: the window never ends */
    uint64_t known_ns; /* when a window has passed since the beginning */
    uint64_t since_ns;
    uint32_t slots[SP_PEAK_SLOTS];
    uint32_t at;
};

/* `window_ns` of UINT64_MAX: for ever. */
void sp_peak_begin(struct sp_peak *peak, uint64_t window_ns, uint64_t now_ns);
void sp_peak_note(struct sp_peak *peak, uint32_t value, uint64_t now_ns);
/* Of what was noted at all, where no window has passed yet. */
uint32_t sp_peak_get(const struct sp_peak *peak);
/* When sp_peak_get() gives less, or a window has passed, if only 0 is noted from now on. */
uint64_t sp_peak_changes_ns(const struct sp_peak *peak);
bool sp_peak_is_known(const struct sp_peak *peak, uint64_t now_ns);

#endif
