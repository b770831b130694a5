#include "pipe_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

void pipe_open(uint32_t pipeline, uint32_t size)
{
    kit_init(1);
    kit_config.size = size;
    kit_config.pipeline = pipeline;
    kit_config.pipeline_bytes = 1000;
    kit_config.pipeline_stall_ns = PIPE_STALL_MS * SP_MS;
    kit_config.framing = sp_framing_header(1);
    kit_open();
    cr_assert_eq(kit_grow(), size);
}

void pipe_open_one(void)
{
    pipe_open(4, 1);
}

/* ---- callers ---- */

struct sp_ask pipe_asks(uint64_t owner, const char *text, struct iovec *iov)
{
    *iov = (struct iovec){.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    return (struct sp_ask){
        .owner = owner, .iov = iov, .count = 1, .len = iov->iov_len, .want = {.packet = true}};
}

sp_status pipe_try(uint64_t owner, const char *text, uint64_t *at)
{
    struct iovec iov;
    struct sp_ask ask = pipe_asks(owner, text, &iov);

    return sp_piped_request(kit_pool, kit_call(), &ask, at);
}

uint64_t pipe_ask(uint64_t owner, const char *text)
{
    uint64_t at;

    cr_assert_eq(pipe_try(owner, text, &at), SP_OK);
    return at;
}

char pipe_reply[128];

static sp_status judge(sp_status status, struct sp_reply *reply)
{
    if (status != SP_OK)
        return status;
    snprintf(pipe_reply, sizeof pipe_reply, "%.*s", (int)reply->len,
             (char *)(reply->far ? reply->far : reply->bytes) + reply->offset);
    if (reply->far)
        fake_reply_free(reply);
    return SP_OK;
}

sp_status pipe_look(uint64_t at, uint64_t owner, bool fired)
{
    struct sp_reply reply = {.far = NULL};

    return judge(sp_piped_look(kit_pool, kit_call(), at, owner, fired, &reply), &reply);
}

void pipe_replies(uint64_t at, uint64_t owner, const char *text)
{
    cr_assert_eq(pipe_look(at, owner, false), SP_OK);
    cr_assert_str_eq(pipe_reply, text);
}

static sp_status arm(uint64_t at, uint64_t owner)
{
    struct sp_waiter *waiter = fake_waiter_new(kit_pool, owner, NULL, 0);
    struct sp_reply reply = {.far = NULL};
    uint64_t placed_ns;
    sp_status status;

    atomic_store(&waiter->refs, 1);
    status = sp_piped_arm(kit_pool, kit_call(), at, owner, waiter, &reply, &placed_ns);
    if (status != SP_WANT_READ)
        sp_waiter_unref(waiter);
    return judge(status, &reply);
}

void pipe_sleep(uint64_t at, uint64_t owner)
{
    cr_assert_eq(arm(at, owner), SP_WANT_READ);
}

sp_status pipe_leave(uint64_t at, uint64_t owner, bool asleep)
{
    struct sp_reply reply = {.far = NULL};

    return judge(sp_piped_give_up(kit_pool, kit_call(), at, owner, asleep, &reply), &reply);
}

void pipe_told(uint64_t owner, const char *text)
{
    cr_assert_eq(fake_told(owner), 1);
    cr_assert_eq(fake_last_told(owner)->status, SP_OK);
    cr_assert_str_eq(fake_last_told(owner)->text, text);
}

void pipe_told_why(uint64_t owner, sp_status status)
{
    cr_assert_eq(fake_told(owner), 1);
    cr_assert_eq(fake_last_told(owner)->status, status);
}

/* ---- the peer, the event loop, the control process ---- */

/* Of the only connection. */
int pipe_fd(void)
{
    return kit_pool->table.slots[0]->fd;
}

void peer_says(const char *text)
{
    uint8_t len = (uint8_t)strlen(text);

    fake_peer_sends(pipe_fd(), &len, 1);
    fake_peer_sends(pipe_fd(), text, len);
}

void pipe_fire(bool write)
{
    struct fake_select *select = fake_selected(pipe_fd(), write);

    cr_assert(select->pending);
    select->pending = false;
    if (select->owner == 0)
        sp_piped_event(kit_pool, kit_call(), select->pipe, select->generation, write);
}

void pipe_sent(const char *text)
{
    size_t len;
    const uint8_t *bytes = fake_sent(pipe_fd(), &len);

    cr_assert_eq(len, strlen(text), "%.*s was sent", (int)len, (const char *)bytes);
    if (len > 0)
        cr_assert_arr_eq(bytes, text, len);
}

void pipe_idle(unsigned count)
{
    cr_assert_eq(kit_stats().idle, count);
    cr_assert_eq(kit_stats().leased, 0);
    kit_check();
}

struct sp_waiter *pipe_wait(uint64_t owner, struct iovec *iov, const char *text)
{
    struct sp_waiter *waiter;

    *iov = (struct iovec){.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    waiter = fake_waiter_new(kit_pool, owner, iov, 1);
    waiter->piped = true;
    waiter->want.packet = true;
    cr_assert_eq(sp_pool_enqueue(kit_pool, kit_call(), waiter), SP_OK);
    cr_assert_not(sp_piped_step(kit_pool, kit_call()));
    return waiter;
}

void pipe_fill(uint64_t *at)
{
    for (uint64_t i = 0; i < 4; i++)
        at[i] = pipe_ask(i + 1, "x");
    (void)pipe_look(at[0], 1, false);
}
