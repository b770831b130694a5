#include "sn_client.h"

#include <stdlib.h>
#include <string.h>

void sn_client_init(struct sn_client *client)
{
    *client = (struct sn_client){0};
    sn_queue_init(&client->out);
    sn_watches_init(&client->watches);
    sp_list_init(&client->owners);
    sp_list_init(&client->idle);
    sp_list_init(&client->promises);
    sp_list_init(&client->held_up);
}

void sn_client_leave(struct sn_client *client)
{
    struct sp_list_node *node;

    while ((node = sp_list_oldest(&client->promises))) {
        SP_CONTAINER(node, struct sn_promise, node)->client = NULL;
        sp_list_remove(node);
    }
}

void sn_client_free(struct sn_client *client)
{
    sn_client_leave(client);
    sn_queue_free(&client->out);
    free(client->atoms);
    sn_watches_free(&client->watches);
}

void sn_client_fail(struct sn_client *client, sp_status status)
{
    if (client->fault == SP_OK)
        client->fault = status;
    client->wake(client);
}

struct sn_promise *sn_promise_new(struct sn_client *client, const struct sn_caller *caller)
{
    struct sn_promise *promise = malloc(sizeof *promise + caller->pid.len + caller->tag.len);
    uint8_t *bytes;

    if (!promise)
        return NULL;
    bytes = (uint8_t *)(promise + 1);
    promise->client = client;
    memcpy(bytes, caller->pid.data, caller->pid.len);
    memcpy(bytes + caller->pid.len, caller->tag.data, caller->tag.len);
    promise->caller.pid = (struct sn_slice){bytes, caller->pid.len};
    promise->caller.tag = (struct sn_slice){bytes + caller->pid.len, caller->tag.len};
    promise->caller.alias = caller->alias;
    if (caller->alias.len)
        promise->caller.alias.data =
            promise->caller.tag.data + (caller->alias.data - caller->tag.data);
    sp_list_push_newest(&client->promises, &promise->node);
    return promise;
}

void sn_promise_free(struct sn_promise *promise)
{
    if (promise->client)
        sp_list_remove(&promise->node);
    free(promise);
}
