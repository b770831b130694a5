/* sp_tls_exit: an exit waits for who is in OpenSSL, and lets nobody in. Each exit is a child's. */
#include "core/tls/sp_tls_exit.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int says;

static void say(char what)
{
    cr_assert_eq(write(says, &what, 1), 1);
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

/* Registered first, so it runs where OpenSSL takes itself apart. */
static void last_of_all(void)
{
    say(sp_tls_enter() ? 'i' : 'o');
}

static void *stay_in(void *entered)
{
    if (!sp_tls_enter() || !sp_tls_enter())
        abort();
    sp_tls_leave();
    say('b');
    pthread_barrier_wait(entered);
    pause_ms(100);
    say('e');
    sp_tls_leave();
    return NULL;
}

static void child(bool with_thread, bool with_own)
{
    static pthread_barrier_t entered;
    pthread_t thread;

    atexit(last_of_all);
    if (!sp_tls_exit_prepare())
        abort();
    if (with_thread) {
        pthread_barrier_init(&entered, NULL, 2);
        if (pthread_create(&thread, NULL, stay_in, &entered) != 0)
            abort();
        pthread_barrier_wait(&entered);
    }
    if (with_own && !sp_tls_enter())
        abort();
    exit(0);
}

/* What the child said until it was gone. */
static void run(bool with_thread, bool with_own, const char *expected)
{
    char said[16] = "";
    size_t len = 0;
    int ends[2], status;
    pid_t pid;

    cr_assert_eq(pipe(ends), 0);
    pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        says = ends[1];
        close(ends[0]);
        child(with_thread, with_own);
    }
    close(ends[1]);
    for (ssize_t got; (got = read(ends[0], said + len, sizeof said - 1 - len)) > 0;)
        len += (size_t)got;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
    cr_assert_str_eq(said, expected);
    close(ends[0]);
}

Test(tls_exit, nobody_is_in)
{
    run(false, false, "o");
}

Test(tls_exit, waits_for_who_is_in)
{
    run(true, false, "beo");
}

/* The exit comes from a call that then never ends. */
Test(tls_exit, waits_not_for_ever)
{
    run(false, true, "o");
}
