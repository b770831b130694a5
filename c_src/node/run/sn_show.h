/* What options a pool has, for people and for the test that compares them with sockpool_opts.erl. */
#ifndef SN_SHOW_H
#define SN_SHOW_H

#include <stdbool.h>
#include <stdio.h>

/* One line for each option: its key (tls.KEY for those in the map `tls'), its default as an Erlang
 * term, and what is allowed, with a tab between them. False where it could not be written. */
bool sn_show_options(FILE *to);

#endif
