#include "sn_log.h"

#include "sn_log_text.h"

#include <stdio.h>

void sn_log(enum sn_log_level level, const char *event, const char *details, ...)
{
    static const char *const names[] = {"info", "warning", "error"};
    char line[2048];
    va_list args;

    va_start(args, details);
    (void)sn_log_text(line, sizeof line, details, args);
    va_end(args);
    fprintf(stderr, "level=%s event=%s %s\n", names[level], event, line);
}

unsigned sn_log_allowed(struct sn_log_limit *limit, uint64_t now_ns)
{
    unsigned held_back = limit->held_back;

    if (now_ns < limit->next_ns) {
        limit->held_back++;
        return 0;
    }
    limit->next_ns = now_ns + SN_LOG_PAUSE_NS;
    limit->held_back = 0;
    return 1 + held_back;
}
