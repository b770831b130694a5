/* sn_alive: the request byte by byte, each answer at every cut. */
#include "node/dist/sn_alive.h"

#include <criterion/criterion.h>
#include <string.h>

Test(sn_alive, the_request_of_a_hidden_node)
{
    static const uint8_t expected[] = "\0\x0fx\x12\x34H\0\0\6\0\6\0\2sp\0\0";
    uint8_t request[SN_ALIVE_MAX];

    cr_assert_eq(sn_alive_request(request, "sp@host", 2, 0x1234), sizeof expected - 1);
    cr_assert_arr_eq(request, expected, sizeof expected - 1);
}

static sp_status answer(const char *bytes, size_t len)
{
    return sn_alive_answer((const uint8_t *)bytes, len);
}

Test(sn_alive, answers)
{
    for (size_t cut = 0; cut < 6; cut++)
        cr_assert_eq(answer("v\0\1\2\3\4", cut), SP_WANT_READ);
    cr_assert_eq(answer("v\0\1\2\3\4", 6), SP_OK);
    for (size_t cut = 0; cut < 4; cut++)
        cr_assert_eq(answer("y\0\1\2", cut), SP_WANT_READ);
    cr_assert_eq(answer("y\0\1\2", 4), SP_OK);
    cr_assert_eq(answer("v\1", 2), SP_BUSY);
    cr_assert_eq(answer("y\1\0\0", 4), SP_BUSY);
    cr_assert_eq(answer("H", 1), SP_BAD_DATA);
}
