/* A leased connection to a node, by which clients have functions called and messages sent there. It is
 * read as long as the lease lasts: replies go to those who wait for them, and ticks are answered. Any
 * process may call, several at the same time. Part of a job, and ends with it. */
#ifndef SN_LINE_H
#define SN_LINE_H

#include "sn_job.h"

/* For a job that has a connection of transport node and no line. SP_OK, SP_NO_MEMORY, or SP_CLOSED
 * where the connection has ended meanwhile. */
SP_MUST_CHECK sp_status sn_line_open(struct sn_job *job);
/* Answers all who wait by {error, closed}. The lease is over. */
void sn_line_close(struct sn_job *job);
/* Gives the connection of a job back, with a line or without. An answered call leaves no trace on a connection to
 * a node; bytes sent would on a stream. */
void sn_line_give_back(struct sn_job *job);
/* No call is under way and nothing is left to be sent. */
bool sn_line_is_at_rest(const struct sn_line *line);

/* For a lease: does it and answers, now or later. What has no answer after the time gets `timeout', and
 * its reply is dropped when it comes. */
void sn_line_take(struct sn_job *job, struct sn_client *client, const struct sn_caller *caller,
                  const struct sn_errand *errand, uint64_t timeout_ns);

/* For a job that is a request, with job->errand and the promise of an answer: opens the line, does it,
 * answers, gives the connection back and ends the job. The time limit is the job's. */
void sn_line_run(struct sn_job *job);

#endif
