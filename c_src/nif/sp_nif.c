/* Loading, upgrading, and the table of functions that sockpool_nif.erl declares. */
#include "sp_nif.h"

#include "core/tls/sp_tls_exit.h"
#include "declarations.h"

#include <openssl/opensslv.h>
#include <stddef.h>

/* Halts that flush wait for our calls in dirty schedulers, where the VM can do that. */
static void delay_halt(ErlNifEnv *env)
{
#if ERL_NIF_MAJOR_VERSION > 2 || (ERL_NIF_MAJOR_VERSION == 2 && ERL_NIF_MINOR_VERSION >= 17)
    (void)enif_set_option(env, ERL_NIF_OPT_DELAY_HALT);
#else
    (void)env;
#endif
}

/* Of all that crosses from one library to another, and of OpenSSL, whose objects cross as well. */
#define LAYOUT ((unsigned)(SP_NIF_DECLARATIONS + (OPENSSL_VERSION_NUMBER >> 28)))

_Static_assert(offsetof(struct sp_nif_roots, layout) == 0, "where every version looks for it");

static void roots_free(struct sp_nif_roots *roots)
{
    if (roots->clock)
        sp_nif_clock_stop(roots->clock);
    if (roots->tls)
        sp_nif_tls_roots_free(roots);
    /* Where there never was a pool, which the clock keeps, no thread has put anything by. */
    enif_tsd_key_destroy(roots->waiters);
    enif_free(roots);
}

static int load(ErlNifEnv *env, void **priv_data, ERL_NIF_TERM info)
{
    struct sp_nif_roots *roots = enif_alloc(sizeof *roots);

    (void)info;
    if (!roots)
        return 1;
    *roots = (struct sp_nif_roots){.layout = LAYOUT, .users = 1};
    if (enif_tsd_key_create("sockpool_waiters", &roots->waiters) != 0) {
        enif_free(roots);
        return 1;
    }
    sp_nif_keep_waiters(roots);
    if (!sp_tls_exit_prepare() || !sp_nif_tls_roots_init(roots) ||
        !(roots->clock = sp_nif_clock_start()) || !sp_nif_open_types(env, ERL_NIF_RT_CREATE)) {
        roots_free(roots);
        return 1;
    }
    sp_nif_make_atoms(env);
    delay_halt(env);
    *priv_data = roots;
    return 0;
}

static int upgrade(ErlNifEnv *env, void **priv_data, void **old_priv_data, ERL_NIF_TERM info)
{
    struct sp_nif_roots *roots = *old_priv_data;

    (void)info;
    if (!roots || roots->layout != LAYOUT || !sp_tls_exit_prepare() ||
        !sp_nif_open_types(env, ERL_NIF_RT_TAKEOVER))
        return 1;
    sp_nif_make_atoms(env);
    delay_halt(env);
    sp_nif_keep_waiters(roots);
    roots->users++;
    *priv_data = roots;
    return 0;
}

static void unload(ErlNifEnv *env, void *priv_data)
{
    struct sp_nif_roots *roots = priv_data;

    (void)env;
    if (--roots->users == 0)
        roots_free(roots);
}

static ErlNifFunc functions[] = {
    {"pool_new", 2, sp_nif_pool_new, 0},
    {"pool_open", 4, sp_nif_pool_open, 0},
    {"pool_update", 3, sp_nif_pool_update, 0},
    {"pool_changes", 1, sp_nif_pool_changes, 0},
    {"pool_shut", 1, sp_nif_pool_shut, 0},
    {"pool_clean_up", 1, sp_nif_pool_clean_up, 0},
    {"pool_step", 1, sp_nif_pool_step, 0},
    {"pool_checks", 1, sp_nif_pool_checks, 0},
    {"check_claim", 2, sp_nif_check_claim, 0},
    {"check_passed", 1, sp_nif_check_passed, 0},
    {"check_failed", 1, sp_nif_check_failed, 0},
    {"check_skipped", 1, sp_nif_check_skipped, 0},
    {"check_abort", 1, sp_nif_check_abort, 0},
    {"pool_tick", 2, sp_nif_pool_tick, 0},
    {"pool_idle_event", 3, sp_nif_pool_idle_event, 0},
    {"pool_stats", 2, sp_nif_pool_stats, 0},
    {"pool_histograms", 1, sp_nif_pool_histograms, 0},
    {"pool_connections", 2, sp_nif_pool_connections, 0},
    {"pool_want", 1, sp_nif_pool_want, 0},
    {"pool_note_error", 2, sp_nif_pool_note_error, 0},
    {"pool_give_up", 1, sp_nif_pool_give_up, 0},
    {"pool_unavailable", 1, sp_nif_pool_unavailable, 0},
    {"pool_ready", 2, sp_nif_pool_ready, 0},
    {"pool_checkout_timeout", 1, sp_nif_pool_checkout_timeout, 0},
    {"pool_send_timeout", 1, sp_nif_pool_send_timeout, 0},
    {"pool_controller", 1, sp_nif_pool_controller, 0},
    {"pool_check", 1, sp_nif_pool_check, 0},
    {"pool_kind", 1, sp_nif_pool_kind, 0},
    {"pool_look", 1, sp_nif_pool_look, 0},
    {"pool_listen", 2, sp_nif_pool_listen, 0},
    {"count", 1, sp_nif_count, 0},
    {"pool_retire", 1, sp_nif_pool_retire, 0},
    {"pool_parent", 1, sp_nif_pool_parent, 0},
    {"pool_set_parent", 2, sp_nif_pool_set_parent, 0},
    {"tls_configure", 2, sp_nif_tls_configure, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"tls_context", 2, sp_nif_tls_context, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"attempt_claim", 2, sp_nif_attempt_claim, 0},
    {"attempt_begin", 5, sp_nif_attempt_begin, 0},
    {"attempt_opened", 2, sp_nif_attempt_opened, 0},
    {"attempt_worker", 2, sp_nif_attempt_worker, 0},
    {"attempt_handshake", 2, sp_nif_attempt_handshake, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"attempt_ready", 1, sp_nif_attempt_ready, 0},
    {"attempt_resolved", 2, sp_nif_attempt_resolved, 0},
    {"attempt_failed", 2, sp_nif_attempt_failed, 0},
    {"attempt_abort", 2, sp_nif_attempt_abort, 0},
    {"checkout", 1, sp_nif_checkout, 0},
    {"enqueue", 3, sp_nif_enqueue, 0},
    {"waited", 1, sp_nif_waited, 0},
    {"enqueue_growing", 3, sp_nif_enqueue_growing, 0},
    {"cancel", 1, sp_nif_cancel, 0},
    {"checkin", 1, sp_nif_checkin, 0},
    {"checkin_clean", 1, sp_nif_checkin_clean, 0},
    {"discard", 2, sp_nif_discard, 0},
    {"give_away", 2, sp_nif_give_away, 0},
    {"send", 6, sp_nif_send, 0},
    {"recv", 4, sp_nif_recv, 0},
    {"request", 5, sp_nif_request, 0},
    {"pipe_request", 3, sp_nif_pipe_request, 0},
    {"pipe_enqueue", 4, sp_nif_pipe_enqueue, 0},
    {"pipe_look", 3, sp_nif_pipe_look, 0},
    {"pipe_arm", 3, sp_nif_pipe_arm, 0},
    {"pipe_give_up", 3, sp_nif_pipe_give_up, 0},
    {"pipe_place", 1, sp_nif_pipe_place, 0},
    {"pipe_event", 4, sp_nif_pipe_event, 0},
    {"finish", 4, sp_nif_finish, 0},
    {"recv_ahead", 1, sp_nif_recv_ahead, 0},
    {"take", 2, sp_nif_take, 0},
    {"cut", 1, sp_nif_cut, 0},
    {"set_cut", 2, sp_nif_set_cut, 0},
    {"disarm", 1, sp_nif_disarm, 0},
    {"park", 1, sp_nif_park, 0},
    {"fired", 1, sp_nif_fired, 0},
    {"info", 1, sp_nif_info, 0},
    {"worker", 1, sp_nif_worker, 0},
    {"return_worker", 3, sp_nif_return_worker, 0},
    {"node_names", 1, sp_nif_node_names, 0},
    {"node_answer", 2, sp_nif_node_answer, 0},
    {"peername", 1, sp_nif_peername, 0},
    {"sockname", 1, sp_nif_sockname, 0},
    {"setopt", 3, sp_nif_setopt, 0},
    {"send_timeout", 1, sp_nif_send_timeout, 0},
    {"starttls", 2, sp_nif_starttls, 0},
    {"starttls_handshake", 2, sp_nif_starttls_handshake, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"state", 1, sp_nif_state, 0},
    {"set_state", 3, sp_nif_set_state, 0},
};

ERL_NIF_INIT(sockpool_nif, functions, load, NULL, upgrade, unload)
