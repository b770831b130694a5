/* Structured log lines on standard error: level=LEVEL event=EVENT key=value... */
#ifndef SN_LOG_H
#define SN_LOG_H

#include <stdint.h>

enum sn_log_level { SN_LOG_INFO, SN_LOG_WARNING, SN_LOG_ERROR };

/* `details` is what follows the event, in the manner of sn_log_text(): key=value pairs with %s and %u, and
 * quotes around a text that is made of several. Whatever the values hold, a line stays one line and a
 * value one value. */
void sn_log(enum sn_log_level level, const char *event, const char *details, ...)
    __attribute__((format(printf, 3, 4)));

/* Lets one line through in SN_LOG_PAUSE_NS, and counts what it holds back. */
#define SN_LOG_PAUSE_NS UINT64_C(10000000000)

struct sn_log_limit {
    uint64_t next_ns; /* 0 at first */
    unsigned let_through, held_back;
};

/* 0: not now. Otherwise 1 and how many were held back since the last one. */
unsigned sn_log_allowed(struct sn_log_limit *limit, uint64_t now_ns);
/* The same for `most' lines in that time. */
unsigned sn_log_allowed_of(struct sn_log_limit *limit, uint64_t now_ns, unsigned most);

#endif
