/* The two messages by which epmd tells at which port a node listens (PORT_PLEASE2). Pure. */
#ifndef SN_PLEASE_H
#define SN_PLEASE_H

#include "core/dist/sp_dist.h"

#define SN_PLEASE_MAX (3 + SP_DIST_NODE_NAME_MAX)
/* All of the answer that matters; more may follow. */
#define SN_PLEASE_ANSWER_BYTES 4

/* Writes the request for a node, of whose name the part before the @ has name_len bytes, up to
 * SP_DIST_NODE_NAME_MAX; returns its length. */
size_t sn_please_request(uint8_t request[SN_PLEASE_MAX], const char *name, size_t name_len);

/* The answer as far as it has come: SP_OK and the port, which is not 0; SP_WANT_READ; SP_NOT_FOUND, also
 * where this is not epmd. */
SP_MUST_CHECK sp_status sn_please_answer(const uint8_t *answer, size_t len, uint16_t *port);

#endif
