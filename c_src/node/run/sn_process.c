#include "sn_process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

static void open_standard_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

static void end_at_once(int number)
{
    (void)number;
    _exit(EXIT_SUCCESS);
}

static void hold_back(int how)
{
    sigset_t hangup;

    sigemptyset(&hangup);
    sigaddset(&hangup, SIGHUP);
    (void)sigprocmask(how, &hangup, NULL);
}

void sn_process_begin(void)
{
    struct sigaction end = {.sa_handler = end_at_once};

    hold_back(SIG_BLOCK);
    (void)sigaction(SIGTERM, &end, NULL);
    (void)sigaction(SIGINT, &end, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    open_standard_descriptors();
}

void sn_process_serves(void)
{
    hold_back(SIG_UNBLOCK);
}

void sn_process_keep_secrets(void)
{
    struct rlimit none = {0, 0};

    (void)setrlimit(RLIMIT_CORE, &none);
#ifdef __linux__
    /* A limit does not hold for a program that the system gives cores to. */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
}

bool sn_process_has_live_input(void)
{
    struct stat info;

    return fstat(STDIN_FILENO, &info) == 0 &&
           (S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode) || isatty(STDIN_FILENO));
}
