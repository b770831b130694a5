/* The ends of jobs, whatever they have then. */
#ifndef SN_JOB_END_H
#define SN_JOB_END_H

#include "sn_job.h"

/* Its lease has ended, or it never had one. Who waits for an answer on its line gets {error, closed}. */
void sn_job_end(struct sn_job *job);
/* Takes back what the job has, or leaves the queue, and ends it. Nobody is answered. */
void sn_job_drop(struct sn_job *job);

/* A process, or a node with all of them, is gone. */
void sn_jobs_process_down(struct sn_jobs *jobs, struct sn_slice pid, uint64_t monitor);
void sn_jobs_client_down(struct sn_jobs *jobs, struct sn_client *client);

#endif
