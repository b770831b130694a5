#include "sn_deadlines.h"

#include <stdlib.h>

#define CAP_LEAST 64

void sn_deadlines_init(struct sn_deadlines *deadlines)
{
    *deadlines = (struct sn_deadlines){0};
}

void sn_deadlines_free(struct sn_deadlines *deadlines)
{
    free(deadlines->heap);
    sn_deadlines_init(deadlines);
}

static void put(struct sn_deadlines *deadlines, size_t place, struct sn_deadline *deadline)
{
    deadlines->heap[place] = deadline;
    deadline->place = place;
}

/* Finds the place for one, from a place that is free. */
static void settle(struct sn_deadlines *deadlines, size_t place, struct sn_deadline *deadline)
{
    struct sn_deadline **heap = deadlines->heap;

    while (place > 1 && heap[place / 2]->at_ns > deadline->at_ns) {
        put(deadlines, place, heap[place / 2]);
        place /= 2;
    }
    while (2 * place <= deadlines->count) {
        size_t child = 2 * place;

        if (child < deadlines->count && heap[child + 1]->at_ns < heap[child]->at_ns)
            child++;
        if (heap[child]->at_ns >= deadline->at_ns)
            break;
        put(deadlines, place, heap[child]);
        place = child;
    }
    put(deadlines, place, deadline);
}

static sp_status make_room(struct sn_deadlines *deadlines)
{
    size_t cap = deadlines->cap ? 2 * deadlines->cap : CAP_LEAST;
    struct sn_deadline **heap;

    if (deadlines->count + 1 < deadlines->cap)
        return SP_OK;
    heap = realloc(deadlines->heap, cap * sizeof(*heap));
    if (!heap)
        return SP_NO_MEMORY;
    deadlines->heap = heap;
    deadlines->cap = cap;
    return SP_OK;
}

sp_status sn_deadlines_set(struct sn_deadlines *deadlines, struct sn_deadline *deadline,
                           uint64_t at_ns)
{
    if (!deadline->place) {
        sp_status status = make_room(deadlines);

        if (status != SP_OK)
            return status;
        deadline->place = ++deadlines->count;
    }
    deadline->at_ns = at_ns;
    settle(deadlines, deadline->place, deadline);
    return SP_OK;
}

void sn_deadlines_clear(struct sn_deadlines *deadlines, struct sn_deadline *deadline)
{
    size_t place = deadline->place;
    struct sn_deadline *last;

    if (!place)
        return;
    last = deadlines->heap[deadlines->count--];
    deadline->place = 0;
    if (last != deadline)
        settle(deadlines, place, last);
}

struct sn_deadline *sn_deadlines_due(struct sn_deadlines *deadlines, uint64_t now_ns)
{
    struct sn_deadline *first;

    if (sn_deadlines_next(deadlines) > now_ns)
        return NULL;
    first = deadlines->heap[1];
    sn_deadlines_clear(deadlines, first);
    return first;
}

uint64_t sn_deadlines_next(const struct sn_deadlines *deadlines)
{
    return deadlines->count ? deadlines->heap[1]->at_ns : UINT64_MAX;
}
