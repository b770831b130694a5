#include "sn_job.h"

#include "core/base/sp_bytes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define CREATION_BYTES 4

sp_status sn_jobs_init(struct sn_jobs *jobs, struct sn_loop *loop, struct sn_mail *mail)
{
    size_t random = SN_INCARNATION_BYTES - CREATION_BYTES;

    *jobs = (struct sn_jobs){.loop = loop, .mail = mail};
    sn_holders_init(&jobs->holders, mail);
    sn_hash_init(&jobs->by_id);
    sn_hash_init(&jobs->by_number);
    sp_put(jobs->incarnation, CREATION_BYTES, mail->us->creation);
    return getrandom(jobs->incarnation + CREATION_BYTES, random, 0) == (ssize_t)random
               ? SP_OK
               : SP_NO_MEMORY;
}

void sn_jobs_free(struct sn_jobs *jobs)
{
    sn_holders_free(&jobs->holders);
    sn_hash_free(&jobs->by_id);
    sn_hash_free(&jobs->by_number);
}

/* ---- tables ---- */

struct sn_job *sn_job_by_id(const struct sn_jobs *jobs, struct sn_slice id)
{
    struct sn_hash_node *node = sn_hash_first(&jobs->by_id, sn_hash_bytes(id));

    for (; node; node = sn_hash_next(&jobs->by_id, node)) {
        struct sn_job *job = SP_CONTAINER(node, struct sn_job, by_id);

        if (sn_slice_equals(job->id, id))
            return job;
    }
    return NULL;
}

/* Numbers are their own hashes. */
struct sn_job *sn_job_by_number(const struct sn_jobs *jobs, uint64_t number)
{
    struct sn_hash_node *node = number ? sn_hash_first(&jobs->by_number, number) : NULL;

    return node ? SP_CONTAINER(node, struct sn_job, by_number) : NULL;
}

static bool list_job(struct sn_job *job)
{
    struct sn_jobs *jobs = job->jobs;

    if (sn_hash_add(&jobs->by_id, &job->by_id, sn_hash_bytes(job->id)) != SP_OK)
        return false;
    if (job->is_request)
        return true;
    job->number = ++jobs->numbers;
    if (sn_hash_add(&jobs->by_number, &job->by_number, job->number) == SP_OK)
        return true;
    sn_hash_remove(&jobs->by_id, &job->by_id);
    return false;
}

struct sn_job *sn_job_new(struct sn_jobs *jobs, struct sn_client *client, struct sn_slice pid,
                          struct sn_pool *pool, struct sn_slice id, bool is_request)
{
    struct sn_holder *holder = sn_holder_get(&jobs->holders, client, pid);
    struct sn_job *job = holder ? calloc(1, sizeof *job + id.len) : NULL;

    if (job) {
        job->jobs = jobs;
        job->is_request = is_request;
        memcpy(job + 1, id.data, id.len);
        job->id = (struct sn_slice){(uint8_t *)(job + 1), id.len};
    }
    if (!job || !list_job(job)) {
        free(job);
        if (holder)
            sn_holder_rest(&jobs->holders, holder);
        return NULL;
    }
    job->holder = holder;
    job->pool = pool;
    sp_list_push_newest(&holder->jobs, &job->in_holder);
    sp_list_push_newest(&pool->jobs, &job->in_pool);
    sn_holder_stir(holder);
    return job;
}

/* ---- what is kept ---- */

bool sn_jobs_may_keep(const struct sn_jobs *jobs, const struct sn_client *client, size_t len)
{
    size_t left = jobs->kept_bytes < SN_KEPT_BYTES_MAX ? SN_KEPT_BYTES_MAX - jobs->kept_bytes : 0;

    return client->kept_bytes <= left && len <= left - client->kept_bytes;
}

void sn_job_count_kept(struct sn_job *job, size_t more, size_t less)
{
    job->counted_bytes += more - less;
    job->jobs->kept_bytes += more - less;
    job->holder->client->kept_bytes += more - less;
}

sp_status sn_job_keep(struct sn_job *job, const struct iovec *iov, int count)
{
    size_t len = 0;
    uint8_t *at;

    for (int i = 0; i < count; i++)
        len += iov[i].iov_len;
    at = job->kept = malloc(len ? len : 1);
    if (!at)
        return SP_NO_MEMORY;
    for (int i = 0; i < count; i++) {
        memcpy(at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    job->kept_len = len;
    job->sent = 0;
    sn_job_count_kept(job, len, 0);
    return SP_OK;
}

void sn_job_unkeep(struct sn_job *job)
{
    if (!job->kept)
        return;
    sn_job_count_kept(job, 0, job->kept_len);
    free(job->kept);
    job->kept = NULL;
}

/* ---- errands ---- */

size_t sn_errand_len(const struct sn_errand *errand)
{
    return errand->module.len + errand->function.len + errand->args.len + errand->destination.len +
           errand->message.len;
}

static void move(struct sn_slice *slice, uint8_t **at)
{
    if (slice->len)
        memcpy(*at, slice->data, slice->len);
    slice->data = *at;
    *at += slice->len;
}

bool sn_errand_keep(struct sn_job *job, const struct sn_errand *errand)
{
    size_t len = sn_errand_len(errand);
    struct sn_errand *copy = malloc(sizeof *copy + len);
    uint8_t *at;

    if (!copy)
        return false;
    *copy = *errand;
    at = (uint8_t *)(copy + 1);
    move(&copy->module, &at);
    move(&copy->function, &at);
    move(&copy->args, &at);
    move(&copy->destination, &at);
    move(&copy->message, &at);
    job->errand = copy;
    sn_job_count_kept(job, len, 0);
    return true;
}

void sn_errand_unkeep(struct sn_job *job)
{
    if (!job->errand)
        return;
    sn_job_count_kept(job, 0, sn_errand_len(job->errand));
    free(job->errand);
    job->errand = NULL;
}

bool sn_errand_destination(const struct sn_options *options, struct sn_slice *destination)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX];

    if (sn_slice_tuple(*destination, parts) == 2 && sn_slice_is_atom(parts[1], options->node))
        *destination = parts[0];
    else if (sn_slice_is_pid(*destination))
        return sn_slice_is_atom(sn_slice_pid_node(*destination), options->node);
    return sn_slice_is_any_atom(*destination);
}

/* ---- ends ---- */

void sn_job_rest(struct sn_job *job)
{
    struct sp_call call = sn_loop_call(job->jobs->loop);

    sn_loop_unlimit(job->jobs->loop, &job->limit);
    sn_loop_drop(&job->task);
    if (job->held_up)
        sp_list_remove(&job->in_held_up);
    job->held_up = false;
    if (job->promise)
        sn_promise_free(job->promise);
    job->promise = NULL;
    if (job->conn)
        sn_conn_disarm(job->conn, job->lease, &call);
    sn_job_unkeep(job);
    job->state = SN_JOB_HELD;
}

void sn_job_free(struct sn_job *job)
{
    struct sn_jobs *jobs = job->jobs;
    struct sn_holder *holder = job->holder;
    struct sn_pool *pool = job->pool;

    assert(!job->line);
    sn_errand_unkeep(job);
    sn_job_rest(job);
    if (job->conn)
        sn_conn_unref(job->conn);
    sn_hash_remove(&jobs->by_id, &job->by_id);
    if (job->number)
        sn_hash_remove(&jobs->by_number, &job->by_number);
    sp_list_remove(&job->in_holder);
    sp_list_remove(&job->in_pool);
    free(job);
    sn_holder_rest(&jobs->holders, holder);
    sn_pool_released(pool);
}

bool sn_job_give_away(struct sn_job *job, struct sn_client *client, struct sn_slice pid)
{
    struct sn_holders *holders = &job->jobs->holders;
    struct sn_holder *heir = sn_holder_get(holders, client, pid), *before = job->holder;

    if (!heir)
        return false;
    sp_list_remove(&job->in_holder);
    sp_list_push_newest(&heir->jobs, &job->in_holder);
    before->client->kept_bytes -= job->counted_bytes;
    heir->client->kept_bytes += job->counted_bytes;
    job->holder = heir;
    sn_holder_stir(heir);
    sn_holder_rest(holders, before);
    return true;
}

void sn_jobs_resume(struct sn_jobs *jobs, struct sn_client *client)
{
    struct sp_node *node;

    while ((node = sp_list_oldest(&client->held_up))) {
        struct sn_job *job = SP_CONTAINER(node, struct sn_job, in_held_up);

        sp_list_remove(node);
        job->held_up = false;
        sn_loop_later(jobs->loop, &job->task);
    }
}

/* ---- leases as terms ---- */

void sn_put_lease(struct sn_writer *writer, const struct sn_job *job)
{
    sn_put_tuple(writer, 4);
    sn_put_atom(writer, "$sockpool_lease");
    sn_put_atom(writer, job->jobs->mail->us->name);
    sn_put_binary(writer, job->jobs->incarnation, SN_INCARNATION_BYTES);
    sn_put_number(writer, job->number);
}

bool sn_lease_number(const struct sn_jobs *jobs, struct sn_slice term, uint64_t *number)
{
    struct sn_slice parts[SN_SLICE_PARTS_MAX], bytes;
    int64_t value;

    if (sn_slice_tuple(term, parts) != 4 || !sn_slice_is_atom(parts[0], "$sockpool_lease"))
        return false;
    *number = 0;
    if (sn_value_binary(parts[2], &bytes) && bytes.len == SN_INCARNATION_BYTES &&
        memcmp(bytes.data, jobs->incarnation, SN_INCARNATION_BYTES) == 0 &&
        sn_value_integer(parts[3], &value) && value > 0)
        *number = (uint64_t)value;
    return true;
}
