/* What one call may do: each loop of the core ends when the call's allowance is used up, and whoever has to
 * go on is told. */
#include "kit/pool_kit.h"

#include <criterion/criterion.h>

/* More than any call may do, in things that cost a piece or more. */
#define MANY 1000

static struct handle *waiting[MANY];

/* What a call has taken, and the most that its last piece may add to it. */
static void assert_within(int last_piece)
{
    int taken = SP_ALLOWANCE_PIECES - fake_pieces_left();

    cr_assert_leq(taken, SP_ALLOWANCE_PIECES + last_piece, "%d pieces", taken);
}

static void enqueue_many(uint64_t expires_ms)
{
    for (unsigned i = 0; i < MANY; i++)
        waiting[i] = expires_ms ? kit_enqueue_for(100 + i, expires_ms) : kit_enqueue(100 + i);
}

static void drop_all(void)
{
    for (unsigned i = 0; i < MANY; i++)
        kit_drop(waiting[i]);
}

static struct handle *holder;

static void held(void)
{
    kit_start(1, 0);
    holder = kit_checkout(KIT_OWNER);
}

TestSuite(allowance, .init = held);

/* Each expired waiter costs a message. The connection stays idle, and the step tells the others. */
KIT_TEST(allowance, a_checkin_tells_some_and_wakes_for_the_others)
{
    struct handle *attempts[1], *patient;
    struct sp_plan plan;
    unsigned told, wakes, steps = 0;

    enqueue_many(2000);
    patient = kit_enqueue(21);
    fake_sleep_ms(2000);
    wakes = fake_wakes();
    atomic_store(&kit_pool->woken, 0);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    assert_within(SP_PIECES_TELL);
    told = fake_notes_all();
    cr_assert_geq(told, SP_ALLOWANCE_PIECES / (SP_PIECES_TELL + SP_PIECES_SYSCALL) - 1);
    cr_assert_leq(told, SP_ALLOWANCE_PIECES / SP_PIECES_TELL + 1);
    cr_assert_eq(fake_wakes(), wakes + 1);
    cr_assert_eq(fake_notes(21), 0);
    for (; fake_notes(21) == 0; steps++) {
        wakes = fake_wakes();
        told = fake_notes_all();
        kit_step(attempts, 1, &plan);
        assert_within(SP_PIECES_TELL);
        cr_assert_gt(fake_notes_all(), told);
        cr_assert(fake_notes(21) || fake_wakes() > wakes, "nobody would go on");
    }
    cr_assert_geq(steps, MANY * SP_PIECES_TELL / SP_ALLOWANCE_PIECES - 1);
    cr_assert_eq(fake_notes_all(), MANY + 1);
    cr_assert(kit_adopt(patient));
    drop_all();
}

/* They are found dead one after the other. */
KIT_TEST(allowance, a_checkin_passes_over_some_of_the_dead)
{
    struct handle *attempts[1], *alive;
    struct sp_plan plan;

    enqueue_many(0);
    alive = kit_enqueue(21);
    for (unsigned i = 0; i < MANY; i++)
        fake_kill(100 + i);
    cr_assert_eq(kit_checkin(holder), SP_OK);
    assert_within(SP_PIECES_TELL);
    cr_assert_eq(fake_notes(21), 0);
    while (fake_notes(21) == 0) {
        kit_step(attempts, 1, &plan);
        assert_within(SP_PIECES_TELL);
    }
    cr_assert(kit_adopt(alive));
    drop_all();
}

KIT_TEST(allowance, a_tick_tells_some)
{
    uint32_t cursor = 0;
    unsigned calls = 1;

    enqueue_many(2000);
    fake_sleep_ms(2300);
    for (; sp_control_tick(kit_pool, kit_call(), &cursor); calls++)
        assert_within(SP_PIECES_TELL);
    cr_assert_geq(calls, MANY * SP_PIECES_TELL / SP_ALLOWANCE_PIECES);
    cr_assert_eq(fake_notes_all(), MANY);
    drop_all();
}

/* Deadlines of a turn later lie in the same slot: each of them is looked at once, under a lock that is held
 * for SP_LOOKS_PER_PIECE of them. */
KIT_TEST(allowance, a_tick_looks_at_each_deadline_once)
{
    const uint64_t turn_ms = SP_EXPIRY_SLOTS * SP_EXPIRY_GRAIN_NS / SP_MS;
    uint32_t cursor = 0;
    int taken = 0;
    bool more;

    for (unsigned i = 0; i < MANY; i++)
        waiting[i] = kit_enqueue_for(100 + i, i % 2 ? 4000 : 4000 + turn_ms);
    fake_sleep_ms(4300);
    do {
        more = sp_control_tick(kit_pool, kit_call(), &cursor);
        assert_within(SP_PIECES_TELL);
        taken += SP_ALLOWANCE_PIECES - fake_pieces_left();
    } while (more);
    cr_assert_eq(fake_notes_all(), MANY / 2);
    cr_assert_leq(taken,
                  MANY / 2 * (SP_PIECES_TELL + SP_PIECES_LOOK) + MANY / SP_LOOKS_PER_PIECE + 50);
    drop_all();
}

KIT_TEST(allowance, a_slice_of_a_shut_tells_some)
{
    unsigned slices = 0;

    enqueue_many(0);
    sp_control_shut_begin(kit_pool, SP_PHASE_CLOSED);
    for (; sp_control_shut_slice(kit_pool, kit_call(), SP_DRAINING); slices++)
        assert_within(SP_PIECES_CLOSE);
    cr_assert_geq(slices, MANY * SP_PIECES_TELL / SP_ALLOWANCE_PIECES);
    cr_assert_eq(fake_notes_all(), MANY);
    drop_all();
}

/* What the socket and the buffer hold is no reason to take more than the call may. */
KIT_TEST(allowance, a_receive_takes_some_of_a_long_message)
{
    static char long_one[2 * SP_SLICE_BYTES];
    struct sp_want want = {.len_bytes = sizeof long_one};
    struct sp_received received;
    uint8_t scratch[1];
    unsigned calls = 1;

    holder->conn->recv_limit_bytes = sizeof long_one;
    fake_peer_sends(holder->conn->fd, long_one, sizeof long_one);
    for (; sp_recv(holder->conn, kit_call(), &want, scratch, 1, &received) == SP_AGAIN; calls++)
        assert_within(SP_PIECES_SYSCALL + 16 * 1024 / SP_BYTES_PER_PIECE);
    cr_assert_eq(received.len, sizeof long_one);
    cr_assert_geq(calls, sizeof long_one / SP_BYTES_PER_PIECE / SP_ALLOWANCE_PIECES);
    sp_recv_taken(holder->conn, &received);
    kit_drop(holder);
}

/* ---- connections ---- */

#define CONNS 500

static struct handle *conns[CONNS];

static void all_held(void)
{
    kit_start(CONNS, 0);
    for (unsigned i = 0; i < CONNS; i++)
        conns[i] = kit_checkout(KIT_OWNER);
}

static unsigned shut_closes(void)
{
    unsigned slices = 0, closed = fake_calls(FAKE_CLOSE);

    sp_control_shut_begin(kit_pool, SP_PHASE_CLOSED);
    for (bool more = true; more; slices++) {
        more = sp_control_shut_slice(kit_pool, kit_call(), SP_DRAINING);
        assert_within(SP_PIECES_CLOSE + SP_PIECES_SHUTDOWN + SP_PIECES_RETIRE);
        cr_assert_leq(fake_calls(FAKE_CLOSE) - closed, SP_ALLOWANCE_PIECES / SP_PIECES_CLOSE + 1);
        closed = fake_calls(FAKE_CLOSE);
    }
    cr_assert_eq(fake_fds_open(), 0);
    return slices;
}

TestSuite(allowance_conns, .init = all_held);

KIT_TEST(allowance_conns, a_slice_of_a_shut_closes_some_of_what_was_discarded)
{
    for (unsigned i = 0; i < CONNS; i++)
        cr_assert_eq(kit_discard(conns[i]), SP_OK);
    cr_assert_eq(fake_fds_open(), CONNS);
    cr_assert_geq(shut_closes(), CONNS * SP_PIECES_CLOSE / SP_ALLOWANCE_PIECES);
}

KIT_TEST(allowance_conns, a_slice_of_a_shut_closes_some_of_the_idle)
{
    for (unsigned i = 0; i < CONNS; i++)
        cr_assert_eq(kit_checkin(conns[i]), SP_OK);
    cr_assert_geq(shut_closes(), CONNS * SP_PIECES_CLOSE / SP_ALLOWANCE_PIECES);
}

KIT_TEST(allowance_conns, a_slice_of_a_shut_takes_some_leases)
{
    cr_assert_geq(shut_closes(), CONNS * SP_PIECES_CLOSE / SP_ALLOWANCE_PIECES);
}

/* Before the shut begins many are queued; who checks in closes one, not all. */
KIT_TEST(allowance_conns, a_checkin_into_a_shut_pool_closes_one)
{
    for (unsigned i = 1; i < CONNS; i++)
        cr_assert_eq(kit_discard(conns[i]), SP_OK);
    sp_control_shut_begin(kit_pool, SP_PHASE_CLOSED);
    cr_assert_eq(kit_checkin(conns[0]), SP_OK);
    cr_assert_eq(fake_calls(FAKE_CLOSE), 1);
    (void)shut_closes();
}

KIT_TEST(allowance_conns, a_step_closes_some)
{
    struct handle *attempts[1];
    struct sp_plan plan;
    unsigned steps = 0;

    for (unsigned i = 0; i < CONNS; i++)
        cr_assert_eq(kit_discard(conns[i]), SP_OK);
    for (plan.more = true; fake_fds_open() > 0; steps++) {
        cr_assert(plan.more, "nobody would go on");
        if (kit_step(attempts, 1, &plan) > 0)
            kit_drop(attempts[0]);
        assert_within(SP_PIECES_CLOSE);
    }
    cr_assert_geq(steps, CONNS * SP_PIECES_CLOSE / SP_ALLOWANCE_PIECES);
}

KIT_TEST(allowance_conns, a_checkout_passes_over_some_of_the_dead)
{
    sp_status status = SP_AGAIN;

    for (unsigned i = 0; i < CONNS; i++) {
        fake_peer_closes(conns[i]->conn->fd);
        cr_assert_eq(kit_checkin(conns[i]), SP_OK);
    }
    for (unsigned calls = 0; status == SP_AGAIN; calls++) {
        cr_assert_null(kit_try_checkout(KIT_OWNER, &status));
        assert_within(SP_PIECES_SYSCALL + SP_PIECES_RETIRE);
        cr_assert(status == SP_AGAIN || calls > 0);
    }
    cr_assert_eq(status, SP_EMPTY);
    cr_assert_eq(kit_stats().idle, 0);
}

KIT_TEST(allowance_conns, a_tick_watches_some)
{
    uint32_t cursor = 0;
    unsigned watched = 0, calls = 0;

    for (unsigned i = 0; i < CONNS; i++)
        cr_assert_eq(kit_checkin(conns[i]), SP_OK);
    fake_sleep_ms(1500);
    for (bool more = true; more; calls++) {
        more = sp_control_tick(kit_pool, kit_call(), &cursor);
        assert_within(SP_PIECES_WATCH);
        cr_assert_leq(fake_watches() - watched, SP_ALLOWANCE_PIECES / SP_PIECES_WATCH + 1);
        watched = fake_watches();
    }
    cr_assert_eq(watched, CONNS);
    cr_assert_geq(calls, CONNS * SP_PIECES_WATCH / SP_ALLOWANCE_PIECES);
}

KIT_TEST(allowance_conns, a_tick_looks_at_some_leases)
{
    uint32_t cursor = 0;
    unsigned calls = 0;

    fake_kill(KIT_OWNER);
    kit_allow(100);
    for (bool more = true; more; calls++) {
        more = sp_control_tick(kit_pool, kit_call(), &cursor);
        cr_assert_geq(fake_pieces_left(), -SP_PIECES_LOOK);
    }
    cr_assert_geq(calls, CONNS / 100);
    cr_assert_eq(kit_stats().idle, CONNS);
}

KIT_TEST(allowance_conns, stats_are_counted_in_slices)
{
    struct sp_snapshot stats = {0};
    uint32_t cursor = 0;
    unsigned calls = 1;

    kit_allow(1);
    for (; sp_pool_snapshot(kit_pool, kit_call(), &stats, &cursor); calls++)
        cr_assert_leq(stats.leased, 64 * calls);
    cr_assert_gt(calls, CONNS / 64);
    cr_assert_eq(stats.leased, CONNS);
    cr_assert_eq(stats.total, CONNS);
}
