/* The ends of sessions, whatever they have then. */
#ifndef SN_SESSION_END_H
#define SN_SESSION_END_H

#include "sn_session.h"

/* Its lease has ended, or it never had one. Who waits for an answer on its channel gets {error, closed}. */
void sn_session_end(struct sn_session *session);
/* Takes back what the session has, or leaves the queue, and ends it. Nobody is answered. */
void sn_session_drop(struct sn_session *session);

/* A process, or a node with all of them, is gone. */
void sn_sessions_process_down(struct sn_sessions *sessions, struct sn_slice pid, uint64_t monitor);
void sn_sessions_client_down(struct sn_sessions *sessions, struct sn_client *client);

#endif
