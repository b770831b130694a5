#include "sn_owner.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void sn_owners_init(struct sn_owners *owners, struct sn_outbox *outbox)
{
    *owners = (struct sn_owners){.outbox = outbox};
    sn_hash_init(&owners->by_pid);
}

void sn_owners_free(struct sn_owners *owners)
{
    assert(owners->by_pid.count == 0);
    sn_hash_free(&owners->by_pid);
}

static struct sn_owner *find(const struct sn_owners *owners, struct sn_slice pid, uint64_t key)
{
    struct sn_hash_node *node = sn_hash_first(&owners->by_pid, key);

    for (; node; node = sn_hash_next(&owners->by_pid, node)) {
        struct sn_owner *owner = SP_CONTAINER(node, struct sn_owner, by_pid);

        if (sn_slice_equals(owner->pid, pid))
            return owner;
    }
    return NULL;
}

struct sn_owner *sn_owner_find(const struct sn_owners *owners, struct sn_slice pid)
{
    return find(owners, pid, sn_hash_bytes(pid));
}

struct sn_owner *sn_owner_get(struct sn_owners *owners, struct sn_client *client,
                              struct sn_slice pid)
{
    uint64_t key = sn_hash_bytes(pid);
    struct sn_owner *owner = find(owners, pid, key);

    if (owner)
        return owner;
    owner = calloc(1, sizeof *owner + pid.len);
    if (!owner)
        return NULL;
    memcpy(owner + 1, pid.data, pid.len);
    owner->pid = (struct sn_slice){(uint8_t *)(owner + 1), pid.len};
    owner->client = client;
    sp_list_init(&owner->sessions);
    if (sn_hash_add(&owners->by_pid, &owner->by_pid, key) != SP_OK) {
        free(owner);
        return NULL;
    }
    sp_list_push_newest(&client->owners, &owner->in_client);
    owner->monitor = ++owners->monitors;
    sn_outbox_monitor(owners->outbox, client, owner->pid, owner->monitor);
    return owner;
}

void sn_owner_mark_busy(struct sn_owner *owner)
{
    if (!owner->is_idle)
        return;
    owner->is_idle = false;
    sp_list_remove(&owner->in_idle);
    owner->client->idle_count--;
}

void sn_owner_mark_idle(struct sn_owners *owners, struct sn_owner *owner)
{
    struct sn_client *client = owner->client;

    if (owner->is_idle || !sp_list_empty(&owner->sessions))
        return;
    owner->is_idle = true;
    sp_list_push_newest(&client->idle, &owner->in_idle);
    if (client->idle_count++ < SN_OWNERS_IDLE_MAX)
        return;
    owner = SP_CONTAINER(sp_list_oldest(&client->idle), struct sn_owner, in_idle);
    sn_outbox_demonitor(owners->outbox, client, owner->pid, owner->monitor);
    sn_owner_forget(owners, owner);
}

void sn_owner_forget(struct sn_owners *owners, struct sn_owner *owner)
{
    assert(sp_list_empty(&owner->sessions));
    sn_owner_mark_busy(owner);
    sn_hash_remove(&owners->by_pid, &owner->by_pid);
    sp_list_remove(&owner->in_client);
    free(owner);
}
