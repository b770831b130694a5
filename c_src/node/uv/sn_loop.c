#include "sn_loop.h"

#define NS_PER_MS UINT64_C(1000000)

uint64_t sn_loop_now_ns(const struct sn_loop *loop)
{
    (void)loop;
    return uv_hrtime();
}

struct sp_call sn_loop_call(struct sn_loop *loop)
{
    return (struct sp_call){.now_ns = sn_loop_now_ns(loop), .allowance = &loop->allowance};
}

static void on_timer(uv_timer_t *timer)
{
    struct sn_loop *loop = timer->data;

    loop->timer_at_ns = UINT64_MAX;
}

static void run_limits(struct sn_loop *loop)
{
    uint64_t now_ns = sn_loop_now_ns(loop);
    struct sn_deadline *due;

    while ((due = sn_deadlines_due(&loop->deadlines, now_ns))) {
        struct sn_limit *limit = SP_CONTAINER(due, struct sn_limit, deadline);

        limit->over(limit);
    }
}

static void run_tasks(struct sp_list *list)
{
    struct sp_list tasks;
    struct sp_list_node *node;

    sp_list_steal(&tasks, list);
    while ((node = sp_list_oldest(&tasks))) {
        struct sn_task *task = SP_CONTAINER(node, struct sn_task, node);

        sn_loop_drop(task);
        task->run(task);
    }
}

static void set_timer(struct sn_loop *loop)
{
    uint64_t at_ns = sn_deadlines_next(&loop->deadlines), now_ns = sn_loop_now_ns(loop);

    /* One that is set to an earlier time finds nothing to do, once. */
    if (at_ns >= loop->timer_at_ns)
        return;
    loop->timer_at_ns = at_ns;
    uv_update_time(loop->uv);
    uv_timer_start(&loop->timer, on_timer,
                   at_ns > now_ns ? (at_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS : 0, 0);
}

static void on_idle(uv_idle_t *idle)
{
    (void)idle;
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct sn_loop *loop = prepare->data;

    loop->turns++;
    sp_allowance_fill(&loop->allowance);
    run_limits(loop);
    run_tasks(&loop->tasks);
    run_tasks(&loop->end_tasks);
    set_timer(loop);
    if (sp_list_empty(&loop->tasks) && sp_list_empty(&loop->end_tasks))
        uv_idle_stop(&loop->idle);
    else
        uv_idle_start(&loop->idle, on_idle);
}

int sn_loop_init(struct sn_loop *loop, uv_loop_t *uv)
{
    int status;

    *loop = (struct sn_loop){.uv = uv, .timer_at_ns = UINT64_MAX};
    sn_deadlines_init(&loop->deadlines);
    sp_list_init(&loop->tasks);
    sp_list_init(&loop->end_tasks);
    sp_allowance_fill(&loop->allowance);
    (void)uv_timer_init(uv, &loop->timer);
    (void)uv_prepare_init(uv, &loop->prepare);
    (void)uv_idle_init(uv, &loop->idle);
    loop->timer.data = loop->prepare.data = loop;
    status = uv_prepare_start(&loop->prepare, on_prepare);
    uv_unref((uv_handle_t *)&loop->timer);
    uv_unref((uv_handle_t *)&loop->prepare);
    uv_unref((uv_handle_t *)&loop->idle);
    return status;
}

void sn_loop_close(struct sn_loop *loop)
{
    while (!sp_list_empty(&loop->tasks) || !sp_list_empty(&loop->end_tasks)) {
        sp_allowance_fill(&loop->allowance);
        run_tasks(&loop->tasks);
        run_tasks(&loop->end_tasks);
    }
    uv_close((uv_handle_t *)&loop->timer, NULL);
    uv_close((uv_handle_t *)&loop->prepare, NULL);
    uv_close((uv_handle_t *)&loop->idle, NULL);
}

void sn_loop_free(struct sn_loop *loop)
{
    sn_deadlines_free(&loop->deadlines);
}

static void queue(struct sp_list *list, struct sn_task *task)
{
    if (task->queued)
        return;
    task->queued = true;
    sp_list_push_newest(list, &task->node);
}

void sn_loop_defer(struct sn_loop *loop, struct sn_task *task)
{
    queue(&loop->tasks, task);
}

void sn_loop_defer_to_end(struct sn_loop *loop, struct sn_task *task)
{
    queue(&loop->end_tasks, task);
}

void sn_loop_drop(struct sn_task *task)
{
    if (!task->queued)
        return;
    task->queued = false;
    sp_list_remove(&task->node);
}

sp_status sn_loop_limit(struct sn_loop *loop, struct sn_limit *limit, uint64_t at_ns)
{
    if (at_ns == UINT64_MAX) {
        sn_loop_unlimit(loop, limit);
        return SP_OK;
    }
    return sn_deadlines_set(&loop->deadlines, &limit->deadline, at_ns);
}

void sn_loop_unlimit(struct sn_loop *loop, struct sn_limit *limit)
{
    sn_deadlines_clear(&loop->deadlines, &limit->deadline);
}
