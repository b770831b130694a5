#include "sn_holder.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void sn_holders_init(struct sn_holders *holders, struct sn_mail *mail)
{
    *holders = (struct sn_holders){.mail = mail};
    sn_hash_init(&holders->by_pid);
}

void sn_holders_free(struct sn_holders *holders)
{
    assert(holders->by_pid.count == 0);
    sn_hash_free(&holders->by_pid);
}

static struct sn_holder *find(const struct sn_holders *holders, struct sn_slice pid, uint64_t key)
{
    struct sn_hash_node *node = sn_hash_first(&holders->by_pid, key);

    for (; node; node = sn_hash_next(&holders->by_pid, node)) {
        struct sn_holder *holder = SP_CONTAINER(node, struct sn_holder, by_pid);

        if (sn_slice_equals(holder->pid, pid))
            return holder;
    }
    return NULL;
}

struct sn_holder *sn_holder_find(const struct sn_holders *holders, struct sn_slice pid)
{
    return find(holders, pid, sn_hash_bytes(pid));
}

struct sn_holder *sn_holder_get(struct sn_holders *holders, struct sn_client *client,
                                struct sn_slice pid)
{
    uint64_t key = sn_hash_bytes(pid);
    struct sn_holder *holder = find(holders, pid, key);

    if (holder)
        return holder;
    holder = calloc(1, sizeof *holder + pid.len);
    if (!holder)
        return NULL;
    memcpy(holder + 1, pid.data, pid.len);
    holder->pid = (struct sn_slice){(uint8_t *)(holder + 1), pid.len};
    holder->client = client;
    sp_list_init(&holder->jobs);
    if (sn_hash_add(&holders->by_pid, &holder->by_pid, key) != SP_OK) {
        free(holder);
        return NULL;
    }
    sp_list_push_newest(&client->holders, &holder->in_client);
    holder->monitor = ++holders->monitors;
    sn_mail_monitor(holders->mail, client, holder->pid, holder->monitor);
    return holder;
}

void sn_holder_stir(struct sn_holder *holder)
{
    if (!holder->is_idle)
        return;
    holder->is_idle = false;
    sp_list_remove(&holder->in_idle);
    holder->client->idle_count--;
}

void sn_holder_rest(struct sn_holders *holders, struct sn_holder *holder)
{
    struct sn_client *client = holder->client;

    if (holder->is_idle || !sp_list_empty(&holder->jobs))
        return;
    holder->is_idle = true;
    sp_list_push_newest(&client->idle, &holder->in_idle);
    if (client->idle_count++ < SN_HOLDERS_IDLE_MAX)
        return;
    holder = SP_CONTAINER(sp_list_oldest(&client->idle), struct sn_holder, in_idle);
    sn_mail_demonitor(holders->mail, client, holder->pid, holder->monitor);
    sn_holder_forget(holders, holder);
}

void sn_holder_forget(struct sn_holders *holders, struct sn_holder *holder)
{
    assert(sp_list_empty(&holder->jobs));
    sn_holder_stir(holder);
    sn_hash_remove(&holders->by_pid, &holder->by_pid);
    sp_list_remove(&holder->in_client);
    free(holder);
}
