#include "sn_queue.h"

#include "sn_operation.h"
#include "core/base/sp_bytes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES ((size_t)4096)
#define LENGTH_BYTES 4

struct sn_chunk {
    struct sn_chunk *next;
    size_t len, cap;
    uint8_t data[];
};

void sn_queue_init(struct sn_queue *queue)
{
    *queue = (struct sn_queue){0};
}

void sn_queue_free(struct sn_queue *queue)
{
    while (queue->first) {
        struct sn_chunk *next = queue->first->next;

        free(queue->first);
        queue->first = next;
    }
    sn_queue_init(queue);
}

/* Room for `len` bytes in one piece, counted as queued. */
static sp_status make_room(struct sn_queue *queue, size_t len, uint8_t **room)
{
    struct sn_chunk *chunk = queue->last;

    if (queue->bytes >= SN_QUEUE_MAX)
        return SP_FULL;
    if (!chunk || len > chunk->cap - chunk->len) {
        size_t cap = len > CHUNK_BYTES ? len : CHUNK_BYTES;

        chunk = malloc(sizeof *chunk + cap);
        if (!chunk)
            return SP_NO_MEMORY;
        *chunk = (struct sn_chunk){.cap = cap};
        if (queue->last)
            queue->last->next = chunk;
        else
            queue->first = chunk;
        queue->last = chunk;
    }
    *room = chunk->data + chunk->len;
    chunk->len += len;
    queue->bytes += len;
    if (queue->bytes >= SN_QUEUE_HIGH)
        queue->congested = true;
    return SP_OK;
}

sp_status sn_queue_bytes(struct sn_queue *queue, const void *data, size_t len)
{
    uint8_t *room;
    sp_status status = len ? make_room(queue, len, &room) : SP_OK;

    if (len && status == SP_OK)
        memcpy(room, data, len);
    return status;
}

sp_status sn_queue_parts(struct sn_queue *queue, const struct sn_slice *parts, int count)
{
    size_t len = 0;
    sp_status status;
    uint8_t *room;

    for (int i = 0; i < count; i++) {
        if (parts[i].len > UINT32_MAX - len)
            return SP_TOO_BIG;
        len += parts[i].len;
    }
    status = make_room(queue, LENGTH_BYTES + len, &room);
    if (status != SP_OK)
        return status;
    sp_put(room, LENGTH_BYTES, len);
    room += LENGTH_BYTES;
    for (int i = 0; i < count; i++) {
        if (parts[i].len)
            memcpy(room, parts[i].data, parts[i].len);
        room += parts[i].len;
    }
    return SP_OK;
}

sp_status sn_queue_frame(struct sn_queue *queue, struct sn_slice control, struct sn_slice payload,
                         struct sn_slice tail)
{
    static const uint8_t pass_through = SN_PASS_THROUGH;

    return sn_queue_parts(queue, (struct sn_slice[]){{&pass_through, 1}, control, payload, tail},
                          4);
}

sp_status sn_queue_tick(struct sn_queue *queue)
{
    return sn_queue_bytes(queue, "\0\0\0", 4);
}

int sn_queue_front(const struct sn_queue *queue, struct iovec *pieces, int count)
{
    size_t skipped = queue->written;
    int used = 0;

    for (struct sn_chunk *chunk = queue->first; chunk && used < count; chunk = chunk->next) {
        if (chunk->len > skipped)
            pieces[used++] = (struct iovec){chunk->data + skipped, chunk->len - skipped};
        skipped = 0;
    }
    return used;
}

void sn_queue_written(struct sn_queue *queue, size_t len)
{
    assert(len <= queue->bytes);
    queue->bytes -= len;
    queue->written += len;
    while (queue->first && queue->written >= queue->first->len) {
        struct sn_chunk *done = queue->first;

        queue->written -= done->len;
        queue->first = done->next;
        if (!queue->first)
            queue->last = NULL;
        free(done);
    }
    if (queue->bytes < SN_QUEUE_LOW)
        queue->congested = false;
}
