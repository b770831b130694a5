/* sn_log_ring: who writes never waits, lines stay whole and in order, and those that are missing are counted. */
#include "node/base/sn_log_ring.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int ends[2];

static void begin(void)
{
    cr_assert_eq(pipe(ends), 0);
}

TestSuite(sn_log_ring, .init = begin, .timeout = 60);

/* Until nothing more can be written. */
static size_t fill_pipe(void)
{
    char byte = '-';
    size_t count = 0;

    cr_assert_eq(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    while (write(ends[1], &byte, 1) == 1)
        count++;
    cr_assert_eq(fcntl(ends[1], F_SETFL, 0), 0);
    return count;
}

static void put_number(unsigned number)
{
    char line[32];

    sn_log_ring_put(line, (size_t)snprintf(line, sizeof line, "line %u\n", number));
}

Test(sn_log_ring, in_order_and_all_at_the_end)
{
    char expected[32];
    FILE *from = fdopen(ends[0], "r");

    sn_log_ring_start(ends[1]);
    for (unsigned i = 0; i < 1000; i++)
        put_number(i);
    sn_log_ring_stop(30000);
    close(ends[1]);
    for (unsigned i = 0; i < 1000; i++) {
        char line[100];

        snprintf(expected, sizeof expected, "line %u\n", i);
        cr_assert_not_null(fgets(line, sizeof line, from));
        cr_assert_str_eq(line, expected);
    }
    cr_assert_eq(fgetc(from), EOF);
    fclose(from);
}

/* As the daemon's stderr while its reader is stuck, and goes on later. */
Test(sn_log_ring, a_reader_that_is_stuck)
{
    enum { LINES = 100000 };
    size_t before = fill_pipe();
    unsigned next = 0, dropped = 0, count;
    FILE *from = fdopen(ends[0], "r");
    char line[100];

    sn_log_ring_start(ends[1]);
    for (unsigned i = 0; i < LINES; i++)
        put_number(i);
    sn_log_ring_stop(10); /* which does not wait for ever either */
    for (size_t i = 0; i < before; i++)
        cr_assert_eq(fgetc(from), '-');
    while (next < LINES) {
        cr_assert_not_null(fgets(line, sizeof line, from));
        if (sscanf(line, "level=warning event=log_dropped count=%u\n", &count) == 1) {
            dropped += count;
            next += count;
        } else {
            cr_assert_eq(sscanf(line, "line %u\n", &count), 1, "%s", line);
            cr_assert_eq(count, next);
            next++;
        }
    }
    cr_assert_eq(next, LINES);
    cr_assert_gt(dropped, LINES / 2);
    cr_assert_lt(dropped, LINES);
    fclose(from);
}

Test(sn_log_ring, without_a_thread)
{
    char line[10] = "";

    close(STDERR_FILENO);
    cr_assert_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    sn_log_ring_put("now\n", 4);
    cr_assert_eq(read(ends[0], line, sizeof line - 1), 4);
    cr_assert_str_eq(line, "now\n");
}
