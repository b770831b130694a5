#include "sn_log.h"

#include "sn_log_ring.h"
#include "sn_log_text.h"

#include <stdio.h>

void sn_log(enum sn_log_level level, const char *event, const char *details, ...)
{
    static const char *const names[] = {"info", "warning", "error"};
    char line[2048], whole[2048 + 64];
    int len;
    va_list args;

    va_start(args, details);
    (void)sn_log_text(line, sizeof line, details, args);
    va_end(args);
    len = snprintf(whole, sizeof whole, "level=%s event=%s %s\n", names[level], event, line);
    sn_log_ring_put(whole, (size_t)len);
}

unsigned sn_log_allowed_of(struct sn_log_limit *limit, uint64_t now_ns, unsigned most)
{
    unsigned held_back = limit->held_back;

    if (now_ns >= limit->next_ns) {
        *limit = (struct sn_log_limit){.next_ns = now_ns + SN_LOG_PAUSE_NS, .let_through = 1};
        return 1 + held_back;
    }
    if (limit->let_through < most) {
        limit->let_through++;
        return 1;
    }
    limit->held_back++;
    return 0;
}

unsigned sn_log_allowed(struct sn_log_limit *limit, uint64_t now_ns)
{
    return sn_log_allowed_of(limit, now_ns, 1);
}
