#include "sn_lookup.h"

#include <stdlib.h>
#include <string.h>

struct sn_lookup {
    struct sp_list_node node; /* in `running` */
    uv_getaddrinfo_t request;
    struct sp_list waiters;
    bool is_given_up;
    char name[];
};

void sn_lookups_init(struct sn_lookups *lookups, struct sn_loop *loop)
{
    lookups->loop = loop;
    sp_list_init(&lookups->running);
}

static struct sn_lookup *lookup_of(struct sp_list_node *node)
{
    return SP_CONTAINER(node, struct sn_lookup, node);
}

/* One that has begun cannot be cancelled: it frees itself when it ends. */
void sn_lookups_close(struct sn_lookups *lookups)
{
    struct sp_list_node *node;

    while ((node = sp_list_oldest(&lookups->running))) {
        struct sn_lookup *lookup = lookup_of(node);

        sp_list_remove(node);
        lookup->is_given_up = true;
        (void)uv_cancel((uv_req_t *)&lookup->request);
    }
}

static void on_found(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct sn_lookup *lookup = SP_CONTAINER(request, struct sn_lookup, request);
    struct sp_list_node *node;

    if (!lookup->is_given_up)
        sp_list_remove(&lookup->node);
    while ((node = sp_list_oldest(&lookup->waiters))) {
        struct sn_lookup_waiter *waiter = SP_CONTAINER(node, struct sn_lookup_waiter, node);

        sn_lookup_waiter_leave(waiter);
        waiter->answer(waiter, status, found);
    }
    uv_freeaddrinfo(found);
    free(lookup);
}

static struct sn_lookup *find(struct sn_lookups *lookups, const char *name)
{
    struct sp_list *running = &lookups->running;

    for (struct sp_list_node *at = running->head.next; at != &running->head; at = at->next)
        if (strcmp(lookup_of(at)->name, name) == 0)
            return lookup_of(at);
    return NULL;
}

static int begin(struct sn_lookups *lookups, const char *name, struct sn_lookup **begun)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct sn_lookup *lookup = calloc(1, sizeof *lookup + strlen(name) + 1);
    int status;

    if (!lookup)
        return UV_ENOMEM;
    status = uv_getaddrinfo(lookups->loop->uv, &lookup->request, on_found, name, NULL, &hints);
    if (status != 0) {
        free(lookup);
        return status;
    }
    strcpy(lookup->name, name);
    sp_list_init(&lookup->waiters);
    sp_list_push_newest(&lookups->running, &lookup->node);
    *begun = lookup;
    return 0;
}

int sn_lookups_ask(struct sn_lookups *lookups, const char *name, struct sn_lookup_waiter *waiter)
{
    struct sn_lookup *lookup = find(lookups, name);
    int status = lookup ? 0 : begin(lookups, name, &lookup);

    if (status != 0)
        return status;
    waiter->waits = true;
    sp_list_push_newest(&lookup->waiters, &waiter->node);
    return 0;
}

void sn_lookup_waiter_leave(struct sn_lookup_waiter *waiter)
{
    if (!waiter->waits)
        return;
    waiter->waits = false;
    sp_list_remove(&waiter->node);
}
