/* The node on its loop: it begins to listen, serves, and comes to an orderly end. */
#ifndef SN_RUN_H
#define SN_RUN_H

#include "sn_server.h"

/* Serves until SIGTERM or SIGINT, or until it is told to end on stdin. 0 after such an end, else a libuv
 * error that kept it from starting. */
int sn_run(struct sn_server *server, const struct sn_config *config);

#endif
