/* What concerns the process and not the node: its signals and descriptors until it serves, and what
 * of it could end up on a disk. */
#ifndef SN_PROCESS_H
#define SN_PROCESS_H

#include <stdbool.h>

/* First of all. Descriptors 0 to 2 are open, so that no socket is taken for stderr. SIGHUP waits until
 * sn_process_serves(); SIGTERM and SIGINT end the process with status 0: nobody is served yet. */
void sn_process_begin(void);
/* Once the signals are handled otherwise. */
void sn_process_serves(void);

/* No core dumps, and nobody but root may look into its memory: keys and a cookie are in there. */
void sn_process_keep_secrets(void);

/* Whether stdin can be waited for: a pipe, a socket or a terminal. */
bool sn_process_has_live_input(void);

#endif
