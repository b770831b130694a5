/* The messages of epmd that a node needs: to register as a hidden node (ALIVE2), and to ask at which port another one
 * listens (PORT_PLEASE2), each with its answer. Pure. */
#ifndef SN_EPMD_MESSAGE_H
#define SN_EPMD_MESSAGE_H

#include "core/dist/sp_dist.h"

/* A name's part before the @ has less than SP_DIST_NODE_NAME_MAX bytes. */
#define SN_EPMD_REGISTER_MAX 300
/* The longest answer. */
#define SN_EPMD_REGISTER_ANSWER_MAX 6

/* Writes the request of a hidden node `alive` (the part of the name before the @, alive_len bytes)
 * that listens on `port`; returns its length. */
size_t sn_epmd_register_request(uint8_t request[SN_EPMD_REGISTER_MAX], const char *alive,
                                size_t alive_len, uint16_t port);

/* SP_OK: registered, for as long as the connection stays. SP_WANT_READ: not whole yet. SP_BUSY: the
 * name is taken. SP_BAD_DATA: this is not epmd. */
SP_MUST_CHECK sp_status sn_epmd_register_answer(const uint8_t *answer, size_t len);

#define SN_EPMD_PORT_REQUEST_MAX (3 + SP_DIST_NODE_NAME_MAX)
/* All of the answer that matters; more may follow. */
#define SN_EPMD_PORT_ANSWER_BYTES 4

/* Writes the request for a node, of whose name the part before the @ has name_len bytes, up to
 * SP_DIST_NODE_NAME_MAX; returns its length. */
size_t sn_epmd_port_request(uint8_t request[SN_EPMD_PORT_REQUEST_MAX], const char *name,
                            size_t name_len);

/* The answer as far as it has come: SP_OK and the port, which is not 0; SP_WANT_READ; SP_NOT_FOUND, also
 * where this is not epmd. */
SP_MUST_CHECK sp_status sn_epmd_port_answer(const uint8_t *answer, size_t len, uint16_t *port);

#endif
