/* sn_please: the request byte by byte, each answer at every cut. */
#include "node/dist/sn_please.h"

#include <criterion/criterion.h>
#include <string.h>

Test(sn_please, the_request)
{
    static const uint8_t expected[] = "\0\3zsp";
    uint8_t request[SN_PLEASE_MAX];
    char name[SP_DIST_NODE_NAME_MAX];

    cr_assert_eq(sn_please_request(request, "sp@host", 2), sizeof expected - 1);
    cr_assert_arr_eq(request, expected, sizeof expected - 1);
    memset(name, 'n', sizeof name);
    cr_assert_eq(sn_please_request(request, name, sizeof name), sizeof request);
    cr_assert_eq(request[0], 1);
    cr_assert_eq(request[1], 0);
    cr_assert_eq(request[sizeof request - 1], 'n');
}

static uint16_t port;

static sp_status answer(const char *bytes, size_t len)
{
    return sn_please_answer((const uint8_t *)bytes, len, &port);
}

Test(sn_please, answers)
{
    for (size_t cut = 0; cut < 4; cut++)
        cr_assert_eq(answer("w\0\x12\x34", cut), SP_WANT_READ);
    cr_assert_eq(answer("w\0\x12\x34", 4), SP_OK);
    cr_assert_eq(port, 0x1234);
    cr_assert_eq(answer("w\0\x12\x35M\0\0\6", 8), SP_OK);
    cr_assert_eq(port, 0x1235);
    cr_assert_eq(answer("w\1", 2), SP_NOT_FOUND);
    cr_assert_eq(answer("w\0\0\0", 4), SP_NOT_FOUND);
    cr_assert_eq(answer("H", 1), SP_NOT_FOUND);
}
