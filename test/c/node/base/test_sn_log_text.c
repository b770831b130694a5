/* sn_log_text: what is put in quotes, escaped, and cut. */
#include "node/base/sn_log_text.h"

#include <criterion/criterion.h>
#include <string.h>

static char buf[64];

static const char *text(size_t size, const char *format, ...) __attribute__((format(printf, 2, 3)));

static const char *text(size_t size, const char *format, ...)
{
    va_list args;
    size_t len;

    memset(buf, '#', sizeof buf);
    va_start(args, format);
    len = sn_log_text(buf, size, format, args);
    va_end(args);
    cr_assert_eq(len, strlen(buf));
    cr_assert_lt(len, size);
    return buf;
}

#define ALL sizeof buf

Test(sn_log_text, plain_values_stand_as_they_are)
{
    cr_assert_str_eq(text(ALL, "node=%s port=%u", "a-b_c@h.x:1/+2", 40123u),
                     "node=a-b_c@h.x:1/+2 port=40123");
    cr_assert_str_eq(text(ALL, "reason=\"%s%s\" count=%u", "tls ", "expired", 4294967295u),
                     "reason=\"tls expired\" count=4294967295");
}

Test(sn_log_text, others_are_quoted)
{
    cr_assert_str_eq(text(ALL, "pool=%s", ""), "pool=\"\"");
    cr_assert_str_eq(text(ALL, "pool=%s x=%s", "a b", "c"), "pool=\"a b\" x=c");
    cr_assert_str_eq(text(ALL, "pool=%s", "p level=error"), "pool=\"p level=error\"");
    cr_assert_str_eq(text(ALL, "pool=%s", "a=b"), "pool=\"a=b\"");
    cr_assert_str_eq(text(ALL, "pool=%s", "\xc3\xa4"), "pool=\"\xc3\xa4\"");
}

Test(sn_log_text, and_escaped)
{
    cr_assert_str_eq(text(ALL, "pool=%s", "a\" b=\""), "pool=\"a\\\" b=\\\"\"");
    cr_assert_str_eq(text(ALL, "reason=\"%s\"", "a\"\\"), "reason=\"a\\\"\\\\\"");
    cr_assert_str_eq(text(ALL, "pool=%s", "a\nlevel=error"), "pool=\"a\\x0alevel=error\"");
    cr_assert_str_eq(text(ALL, "pool=%s", "\x1b\x7f"), "pool=\"\\x1b\\x7f\"");
    cr_assert_str_eq(text(ALL, "pool=%s", "\xc2\x85\xc2\xa0\xc2"),
                     "pool=\"\\xc2\\x85\xc2\xa0\xc2\"");
}

/* At whatever byte: no half escape, and an open quote is closed. */
Test(sn_log_text, what_does_not_fit_is_cut)
{
    static const char whole[] = "a=\"\\\"\\x0a\" b=\"c\\\\\" d=1";

    for (size_t size = 2; size <= sizeof whole; size++) {
        const char *cut = text(size, "a=%s b=\"c%s\" d=%u", "\"\n", "\\", 1u);
        size_t quotes = 0;

        for (const char *at = cut; *at; at++) {
            if (*at == '\\')
                cr_assert_neq(*++at, '\0');
            else
                quotes += *at == '"';
        }
        cr_assert_eq(quotes % 2, 0, "%s", cut);
    }
    cr_assert_str_eq(text(sizeof whole + 1, "a=%s b=\"c%s\" d=%u", "\"\n", "\\", 1u), whole);
    cr_assert_eq(buf[sizeof whole + 1], '#');
}
