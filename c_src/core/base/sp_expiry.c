#include "sp_expiry.h"

#include "sp_allowance.h"

static struct sp_list *slot(struct sp_expiry *expiry, uint64_t grain)
{
    return &expiry->slots[grain % SP_EXPIRY_SLOTS];
}

void sp_expiry_init(struct sp_expiry *expiry)
{
    *expiry = (struct sp_expiry){.swept = 0};
    for (size_t i = 0; i < SP_EXPIRY_SLOTS; i++)
        sp_list_init(&expiry->slots[i]);
    sp_list_init(&expiry->sweeping);
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

/* Empties the next slot whose grain is over; false where there is none. The grain that has not ended
 * yet may still get deadlines. */
static bool begin_slot(struct sp_expiry *expiry, uint64_t now)
{
    if (expiry->count == 0)
        return false;
    if (expiry->swept + SP_EXPIRY_SLOTS < now)
        expiry->swept = now - 1 - SP_EXPIRY_SLOTS;
    if (expiry->swept + 1 >= now)
        return false;
    expiry->swept++;
    sp_list_steal(&expiry->sweeping, slot(expiry, expiry->swept));
    return true;
}

struct sp_deadline *sp_expiry_next(struct sp_expiry *expiry, uint64_t now_ns, bool *more)
{
    *more = true;
    for (int looks = 0; looks < SP_LOOKS_PER_PIECE; looks++) {
        struct sp_list_node *node = sp_list_oldest(&expiry->sweeping);

        if (!node) {
            if (begin_slot(expiry, now_ns / SP_EXPIRY_GRAIN_NS))
                continue;
            *more = false;
            return NULL;
        }
        struct sp_deadline *deadline = SP_CONTAINER(node, struct sp_deadline, node);
        if (deadline->at_ns <= now_ns) {
            sp_expiry_remove(expiry, deadline);
            return deadline;
        }
        /* Emptied by a later clock: it belongs to that one's next look. */
        if (deadline->at_ns / SP_EXPIRY_GRAIN_NS <= expiry->swept) {
            *more = false;
            return NULL;
        }
        sp_list_remove(node);
        sp_list_push_newest(slot(expiry, deadline->at_ns / SP_EXPIRY_GRAIN_NS), node);
    }
    return NULL;
}
