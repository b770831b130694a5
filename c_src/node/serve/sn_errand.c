#include "sn_errand.h"

#include <stdlib.h>
#include <string.h>

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
