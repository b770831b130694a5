#include "fake_pipe.h"

#include "fake_sys.h"

#include <stdlib.h>
#include <string.h>

#define TOLD_MAX 4096
#define FDS 2048

static struct {
    struct fake_told told[TOLD_MAX];
    struct fake_select selects[FDS][2];
    unsigned count, replies, no_selects;
    void (*hook)(void *arg);
    void *arg;
} world;

void fake_pipe_reset(void)
{
    memset(&world, 0, sizeof world);
}

void fake_refuse_selects(unsigned count)
{
    world.no_selects = count;
}

void fake_on_select(void (*hook)(void *arg), void *arg)
{
    world.hook = hook;
    world.arg = arg;
}

unsigned fake_told(uint64_t owner)
{
    unsigned count = 0;

    for (unsigned i = 0; i < world.count; i++)
        count += world.told[i].owner == owner;
    return count;
}

const struct fake_told *fake_last_told(uint64_t owner)
{
    for (unsigned i = world.count; i > 0; i--)
        if (world.told[i - 1].owner == owner)
            return &world.told[i - 1];
    fake_die("nobody has told owner %u", (unsigned)owner);
}

struct fake_select *fake_selected(int fd, bool write)
{
    return &world.selects[fd][write];
}

unsigned fake_replies(void)
{
    return world.replies;
}

bool fake_reply_reserve(struct sp_reply *reply, size_t cap)
{
    world.replies += reply->far == NULL;
    reply->far = realloc(reply->far, cap);
    reply->far_cap = cap;
    return true;
}

void fake_reply_free(struct sp_reply *reply)
{
    free(reply->far);
    reply->far = NULL;
    world.replies--;
}

void fake_reply_notify(const struct sp_call *call, struct sp_waiter *waiter, sp_status status,
                       struct sp_reply *reply)
{
    struct fake_told *told = &world.told[world.count++];

    (void)call;
    *told = (struct fake_told){.owner = waiter->owner, .status = status};
    if (status != SP_OK)
        return;
    told->len = reply->len;
    memcpy(told->text, (reply->far ? reply->far : reply->bytes) + reply->offset,
           reply->len < sizeof told->text ? reply->len : sizeof told->text);
    if (reply->far)
        fake_reply_free(reply);
}

bool fake_pipe_select(const struct sp_call *call, struct sp_conn *conn, struct sp_waiter *waiter,
                      uint32_t pipe, uint32_t generation, bool write)
{
    void (*hook)(void *arg) = world.hook;

    (void)call;
    if (!sp_conn_pinned(conn))
        fake_die("a select without a pin");
    world.hook = NULL;
    if (hook)
        hook(world.arg);
    if (world.no_selects > 0) {
        world.no_selects--;
        return false;
    }
    *fake_selected(conn->fd, write) = (struct fake_select){.pending = true,
                                                           .owner = waiter ? waiter->owner : 0,
                                                           .pipe = pipe,
                                                           .generation = generation};
    return true;
}

bool fake_pipe_unselect(const struct sp_call *call, struct sp_conn *conn)
{
    bool pending = fake_selected(conn->fd, false)->pending;

    (void)call;
    if (!sp_conn_pinned(conn))
        fake_die("a select undone without a pin");
    fake_selected(conn->fd, false)->pending = false;
    return pending;
}
