/* A leased connection to a node, by which clients have functions called and messages sent there. It is
 * read as long as the lease lasts: replies go to those who wait for them, and ticks are answered. Any
 * process may call, several at the same time. Part of a session, and ends with it. */
#ifndef SN_CHANNEL_H
#define SN_CHANNEL_H

#include "sn_session.h"

/* For a session that has a connection of transport node and no channel. SP_OK, SP_NO_MEMORY, or SP_CLOSED
 * where the connection has ended meanwhile. */
SP_MUST_CHECK sp_status sn_channel_open(struct sn_session *session);
/* Answers all who wait by {error, closed}. The lease is over. Does nothing where there is no channel. */
void sn_channel_close(struct sn_session *session);
/* Gives the connection of a session back, with a channel or without. An answered call leaves no trace on a connection to
 * a node; bytes sent would on a stream. */
void sn_channel_give_back(struct sn_session *session);
/* No call is under way and nothing is left to be sent. */
bool sn_channel_is_idle(const struct sn_channel *channel);

/* For a lease: does it and answers, now or later. What has no answer after the time gets `timeout', and
 * its reply is dropped when it comes. */
void sn_channel_take(struct sn_session *session, struct sn_client *client,
                     const struct sn_caller *caller, const struct sn_node_request *request,
                     uint64_t timeout_ns);

/* For a session that is ASKING, with session->request and the promise of an answer: opens the channel, does it,
 * answers, gives the connection back and ends the session. The time limit is the session's. */
void sn_channel_run(struct sn_session *session);

#endif
