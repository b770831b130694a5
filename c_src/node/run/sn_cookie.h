/* Where the cookie comes from. Never the command line, which every user of the host can read. */
#ifndef SN_COOKIE_H
#define SN_COOKIE_H

#include "core/dist/sp_dist.h"

#include <stdbool.h>

struct sn_cookie {
    char text[SP_DIST_COOKIE_MAX + 1];
};

/* Each takes the first line and gives NULL, or what is wrong, for the user. A cookie has from 1 to
 * SP_DIST_COOKIE_MAX bytes and no control characters. Where it cannot be read, which may be another thing
 * later, `unreadable' becomes true. What was read is left nowhere else. */

/* The file must be accessible to its owner only. */
const char *sn_cookie_from_file(struct sn_cookie *cookie, const char *path, bool *unreadable);
/* Reads no further than the end of the line. */
const char *sn_cookie_from_descriptor(struct sn_cookie *cookie, int fd, bool *unreadable);
const char *sn_cookie_from_text(struct sn_cookie *cookie, const char *text);

#endif
