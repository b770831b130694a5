#include "sp_expiry.h"

static struct sp_list *slot(struct sp_expiry *expiry, uint64_t grain)
{
    return &expiry->slots[grain % SP_EXPIRY_SLOTS];
}

void sp_expiry_init(struct sp_expiry *expiry)
{
    *expiry = (struct sp_expiry){.swept = 0};
    for (size_t i = 0; i < SP_EXPIRY_SLOTS; i++)
        sp_list_init(&expiry->slots[i]);
}

void sp_expiry_add(struct sp_expiry *expiry, struct sp_deadline *deadline, uint64_t at_ns,
                   uint64_t now_ns)
{
    uint64_t grain = at_ns / SP_EXPIRY_GRAIN_NS, now = now_ns / SP_EXPIRY_GRAIN_NS;

    if (expiry->count == 0 && now > 0 && expiry->swept < now - 1)
        expiry->swept = now - 1;
    if (grain <= expiry->swept)
        grain = expiry->swept + 1;
    deadline->at_ns = at_ns;
    deadline->set = true;
    sp_list_push_newest(slot(expiry, grain), &deadline->node);
    expiry->count++;
}

void sp_expiry_remove(struct sp_expiry *expiry, struct sp_deadline *deadline)
{
    if (!deadline->set)
        return;
    deadline->set = false;
    sp_list_remove(&deadline->node);
    expiry->count--;
}

static struct sp_deadline *passed(struct sp_list *list, uint64_t now_ns)
{
    for (struct sp_node *node = list->head.prev; node != &list->head; node = node->prev) {
        struct sp_deadline *deadline = SP_CONTAINER(node, struct sp_deadline, node);
        if (deadline->at_ns <= now_ns)
            return deadline;
    }
    return NULL;
}

struct sp_deadline *sp_expiry_next(struct sp_expiry *expiry, uint64_t now_ns)
{
    uint64_t now = now_ns / SP_EXPIRY_GRAIN_NS;
    struct sp_deadline *deadline;

    if (expiry->count > 0 && expiry->swept + SP_EXPIRY_SLOTS < now)
        expiry->swept = now - 1 - SP_EXPIRY_SLOTS;
    /* The grain that has not ended yet may still get deadlines. */
    for (; expiry->count > 0 && expiry->swept + 1 < now; expiry->swept++) {
        deadline = passed(slot(expiry, expiry->swept + 1), now_ns);
        if (deadline) {
            sp_expiry_remove(expiry, deadline);
            return deadline;
        }
    }
    return NULL;
}
