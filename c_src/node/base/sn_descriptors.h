/* How many descriptors there are, and who may have them: of each hundred, pools have 75 at most, and connections
 * whose handshake is under way 12, so that members of the cluster find some. */
#ifndef SN_DESCRIPTORS_H
#define SN_DESCRIPTORS_H

#include "core/base/sp_sys.h"

#define SN_DESCRIPTORS_MOST 65536

/* As many as the system allows, up to so many. */
void sn_descriptors_raise(void);

/* Handshakes that may be under way. */
unsigned sn_descriptors_handshakes(void);

/* The system calls for pools: no more sockets than theirs. */
const struct sp_sys *sn_descriptors_sys(void);

#endif
