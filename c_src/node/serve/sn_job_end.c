#include "sn_job_end.h"

#include "sn_line.h"
#include "core/pool/sp_lease.h"

void sn_job_end(struct sn_job *job)
{
    if (job->line)
        sn_line_close(job);
    sn_job_free(job);
}

void sn_job_drop(struct sn_job *job)
{
    struct sp_call call = sn_loop_call(job->jobs->loop);

    if (job->waiter)
        sp_waiter_abandon(&job->waiter->core, &call);
    job->waiter = NULL;
    if (job->conn)
        sn_line_give_back(job);
    sn_job_end(job);
}

static void lose_all(struct sn_jobs *jobs, struct sn_holder *holder)
{
    struct sp_node *node;

    while ((node = sp_list_oldest(&holder->jobs)))
        sn_job_drop(SP_CONTAINER(node, struct sn_job, in_holder));
    sn_holder_forget(&jobs->holders, holder);
}

void sn_jobs_process_down(struct sn_jobs *jobs, struct sn_slice pid, uint64_t monitor)
{
    struct sn_holder *holder = sn_holder_find(&jobs->holders, pid);

    if (holder && holder->monitor == monitor)
        lose_all(jobs, holder);
}

void sn_jobs_client_down(struct sn_jobs *jobs, struct sn_client *client)
{
    struct sp_node *node;

    while ((node = sp_list_oldest(&client->holders)))
        lose_all(jobs, SP_CONTAINER(node, struct sn_holder, in_client));
    sn_client_leave(client);
    sn_jobs_resume(jobs, client);
}
