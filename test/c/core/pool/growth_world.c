#include "growth_world.h"

#include <criterion/criterion.h>
#include <string.h>

#define AT_ONCE 2048
#define FIRST_OWNER 1000
#define STEP 32

struct world world;

enum kind { FREE, ATTEMPT, WAITS, USES };

struct one {
    enum kind kind;
    struct handle *handle;
    unsigned process;
    uint64_t from_ns, ends_ns;
};

static struct one ones[AT_ONCE];
static unsigned notes_seen, wakes_seen;
static uint64_t due_ns, ticked_ns;

static struct one *new_one(enum kind kind, struct handle *handle, uint64_t ends_ns)
{
    for (unsigned i = 0; i < AT_ONCE; i++)
        if (ones[i].kind == FREE) {
            ones[i] = (struct one){
                .kind = kind, .handle = handle, .from_ns = fake_now_ns(), .ends_ns = ends_ns};
            return &ones[i];
        }
    fake_die("too many at once");
}

static void note_times(unsigned process)
{
    uint64_t own_ms = world.connect_ms + world.use_ms;

    if (own_ms > world.own_ms[process])
        world.own_ms[process] = own_ms;
}

static void served(struct one *one)
{
    uint64_t waited_ms = (fake_now_ns() - one->from_ns) / SP_MS;

    one->kind = USES;
    one->ends_ns = fake_now_ns() + world.use_ms * SP_MS;
    world.served++;
    note_times(one->process);
    world.waited_ms[one->process] = waited_ms;
    if (waited_ms > world.worst_ms)
        world.worst_ms = waited_ms;
}

static void hear(void)
{
    for (; notes_seen < fake_notes_all(); notes_seen++) {
        const struct fake_note *note = fake_note_at(notes_seen);
        struct one *one = ones;

        while (one->kind != WAITS || one->handle->owner != note->owner)
            one++;
        cr_assert_eq(note->status, SP_OK);
        cr_assert(kit_adopt(one->handle));
        served(one);
    }
}

static void steps(void)
{
    struct handle *attempts[STEP];
    struct sp_plan plan = {.more = true};
    unsigned total;

    if (wakes_seen == fake_wakes() && fake_now_ns() < due_ns)
        return;
    while (plan.more || plan.attempts > 0) {
        wakes_seen = fake_wakes();
        kit_step(attempts, STEP, &plan);
        world.steps++;
        for (size_t i = 0; i < plan.attempts; i++)
            new_one(ATTEMPT, attempts[i], fake_now_ns() + world.connect_ms * SP_MS);
    }
    due_ns = plan.wait_ns == SP_NEVER ? SP_NEVER : fake_now_ns() + plan.wait_ns;
    total = atomic_load(&kit_pool->total);
    if (total > world.most)
        world.most = total;
    hear();
}

static void end(struct one *one)
{
    if (one->kind == ATTEMPT)
        kit_connect(one->handle, KIT_OTHER);
    else
        cr_assert_eq(kit_checkin(one->handle), SP_OK);
    one->kind = FREE;
    hear();
}

static void turn(void)
{
    fake_sleep_ms(1);
    for (unsigned i = 0; i < AT_ONCE; i++)
        if ((ones[i].kind == ATTEMPT || ones[i].kind == USES) && fake_now_ns() >= ones[i].ends_ns) {
            end(&ones[i]);
            steps();
        }
    if (fake_now_ns() >= ticked_ns + 100 * SP_MS) {
        ticked_ns = fake_now_ns();
        kit_tick();
        due_ns = 0;
    }
    steps();
}

static void come(unsigned count, bool hurried)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t owner = FIRST_OWNER + world.came, connect_ns = kit_pool->forecast.connect_ns;
        sp_status status;
        struct handle *handle = kit_try_checkout(owner, &status);
        struct one *one;

        cr_assert_lt(world.came, WORLD_PROCESSES);
        note_times(world.came);
        world.expected_ms[world.came] = connect_ns == SP_NEVER ? 0 : connect_ns / SP_MS;
        if (!handle && hurried) {
            cr_assert_eq(sp_pool_want(kit_pool, kit_call()), SP_FULL);
            world.refused++;
            world.came++;
            steps();
            continue;
        }
        one = new_one(WAITS, handle ? handle : kit_enqueue(owner), 0);
        one->process = world.came++;
        if (handle)
            served(one);
        steps();
    }
}

void world_come(unsigned count)
{
    come(count, false);
}

void world_come_hurried(unsigned count)
{
    come(count, true);
}

void world_run(uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++)
        turn();
}

void world_run_out(void)
{
    for (unsigned i = 0; world.served + world.refused < world.came; i++) {
        cr_assert_lt(i, 60000, "%u of %u are served", world.served, world.came);
        turn();
    }
}

void world_begin(unsigned uses)
{
    uint64_t connect_ms = world.connect_ms, use_ms = world.use_ms;

    memset(&world, 0, sizeof world);
    memset(ones, 0, sizeof ones);
    world.connect_ms = connect_ms;
    world.use_ms = use_ms;
    notes_seen = wakes_seen = 0;
    due_ns = ticked_ns = 0;
    kit_open();
    steps();
    world_run(connect_ms + 1);
    for (unsigned i = 0; i < uses; i++) {
        world_come(1);
        world_run(use_ms + 1);
    }
    world_run(connect_ms + 200);
    cr_assert_eq(kit_stats().idle, kit_config.size);
    world.came = world.served = world.steps = 0;
    world.most = kit_config.size;
    world.worst_ms = 0;
}

void world_end(void)
{
    for (unsigned i = 0; i < AT_ONCE; i++)
        if (ones[i].kind == ATTEMPT || ones[i].kind == USES)
            end(&ones[i]);
    kit_close();
}
