/* The text of a log line: key=value pairs, none of which can pretend to be another one. Pure. */
#ifndef SN_LOG_TEXT_H
#define SN_LOG_TEXT_H

#include <stdarg.h>
#include <stddef.h>

/* Writes `format' with its %s and %u, the only ones that it may have, and a zero byte; the length. A text
 * that is not plain (letters, digits, -_.:@/+) is put in quotes, unless the format has them around it; in
 * quotes, a quote, a backslash and control characters are escaped. What does not fit is cut, and an open
 * quote closed. `size' is at least 2. */
size_t sn_log_text(char *buf, size_t size, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

#endif
