/* The two messages of epmd that a node needs: to register as a hidden node, and the answer. Pure. */
#ifndef SN_ALIVE_H
#define SN_ALIVE_H

#include "core/base/sp_status.h"

#include <stddef.h>
#include <stdint.h>

/* A name's part before the @ has less than SP_DIST_NODE_NAME_MAX bytes. */
#define SN_ALIVE_MAX 300
/* The longest answer. */
#define SN_ALIVE_ANSWER_MAX 6

/* Writes the request of a hidden node `alive` (the part of the name before the @, alive_len bytes)
 * that listens on `port`; returns its length. */
size_t sn_alive_request(uint8_t request[SN_ALIVE_MAX], const char *alive, size_t alive_len,
                        uint16_t port);

/* SP_OK: registered, for as long as the connection stays. SP_WANT_READ: not whole yet. SP_BUSY: the
 * name is taken. SP_BAD_DATA: this is not epmd. */
SP_MUST_CHECK sp_status sn_alive_answer(const uint8_t *answer, size_t len);

#endif
