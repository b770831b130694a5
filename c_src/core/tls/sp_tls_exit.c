#include "sp_tls_exit.h"

#include <openssl/ssl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

/* More threads than that share. */
#define SLOTS 64
/* The longest call is a step of a handshake, some milliseconds. One that the exit itself came from never
 * ends. */
#define PATIENCE_MS 1000

static struct {
    _Alignas(128) _Atomic unsigned calls;
} slots[SLOTS];
static _Atomic bool exiting;

static _Atomic unsigned *own_calls(void)
{
    static _Atomic unsigned threads;
    static __thread unsigned number;

    if (!number)
        number = atomic_fetch_add(&threads, 1) % SLOTS + 1;
    return &slots[number - 1].calls;
}

static bool anybody_in(void)
{
    for (unsigned i = 0; i < SLOTS; i++)
        if (atomic_load(&slots[i].calls))
            return true;
    return false;
}

static void wait_at_exit(void)
{
    const struct timespec pause = {.tv_nsec = 1000000};

    atomic_store(&exiting, true);
    for (int ms = 0; ms < PATIENCE_MS && anybody_in(); ms++)
        nanosleep(&pause, NULL);
}

bool sp_tls_exit_prepare(void)
{
    /* In this order: what is registered last runs first. */
    OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT, NULL);
    return atexit(wait_at_exit) == 0;
}

bool sp_tls_enter(void)
{
    _Atomic unsigned *calls = own_calls();

    /* First counted, then looked; the exit does it the other way round. */
    atomic_fetch_add(calls, 1);
    if (!atomic_load(&exiting))
        return true;
    atomic_fetch_sub(calls, 1);
    return false;
}

void sp_tls_leave(void)
{
    atomic_fetch_sub(own_calls(), 1);
}
