/* Criterion 2.4 counts a test as passed although an assertion in its .fini failed, and the run as a
 * success. Here such a test is an error, and the run fails. */
#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <stdio.h>

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
    for (struct criterion_suite_stats *suite = stats->suites; suite; suite = suite->next) {
        for (struct criterion_test_stats *test = suite->tests; test; test = test->next) {
            if (test->test_status != CR_STATUS_PASSED || test->failed_asserts == 0)
                continue;
            fprintf(stderr, "[FAIL] %s::%s: in its .fini\n", test->test->category,
                    test->test->name);
            stats->errors++;
        }
    }
}
