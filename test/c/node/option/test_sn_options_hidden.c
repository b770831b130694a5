/* What may have a password in it is not sent back to who gave it, nor logged: a word is. */
#include "kit/term_kit.h"
#include "node/option/sn_options.h"

#include <criterion/criterion.h>
#include <stdio.h>

static void assert_hidden(const char *option, const char *key, const char *word)
{
    struct sn_options opts;
    struct sn_bad_option bad;
    char map[256];

    snprintf(map, sizeof map, "#{host => h, port => 1, %s}", option);
    cr_assert_eq(sn_options_parse(term_of("p"), term_of(map), &opts, &bad), SP_BAD_DATA, "%s", map);
    cr_assert(!bad.is_tls && sn_slice_is_atom(bad.key, key), "%s: not about %s", map, key);
    cr_assert(sn_slice_is_atom(bad.value, word), "%s: not %s", map, word);
}

Test(sn_options_hidden, functions)
{
    assert_hidden("init => {m, f, [\"password\"]}", "init", "not_a_fun");
    assert_hidden("validate => {m, f, [\"password\"]}", "validate", "not_a_fun");
    assert_hidden("validate => {'after', 1, 2}", "validate", "not_a_fun");
}

Test(sn_options_hidden, workers)
{
    assert_hidden("worker => {m, [\"password\"]}", "worker", "not_a_start_function");
    assert_hidden("worker => password", "worker", "not_a_start_function");
}
