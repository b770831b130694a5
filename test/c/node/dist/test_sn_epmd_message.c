/* sn_epmd_message: the request byte by byte, each answer at every cut. */
#include "node/dist/sn_epmd_message.h"

#include <criterion/criterion.h>
#include <string.h>

Test(sn_epmd_message, the_request_of_a_hidden_node)
{
    static const uint8_t expected[] = "\0\x0fx\x12\x34H\0\0\6\0\6\0\2sp\0\0";
    uint8_t request[SN_EPMD_REGISTER_MAX];

    cr_assert_eq(sn_epmd_register_request(request, "sp@host", 2, 0x1234), sizeof expected - 1);
    cr_assert_arr_eq(request, expected, sizeof expected - 1);
}

static sp_status registered(const char *bytes, size_t len)
{
    return sn_epmd_register_answer((const uint8_t *)bytes, len);
}

Test(sn_epmd_message, answers_to_a_registration)
{
    for (size_t cut = 0; cut < 6; cut++)
        cr_assert_eq(registered("v\0\1\2\3\4", cut), SP_WANT_READ);
    cr_assert_eq(registered("v\0\1\2\3\4", 6), SP_OK);
    for (size_t cut = 0; cut < 4; cut++)
        cr_assert_eq(registered("y\0\1\2", cut), SP_WANT_READ);
    cr_assert_eq(registered("y\0\1\2", 4), SP_OK);
    cr_assert_eq(registered("v\1", 2), SP_BUSY);
    cr_assert_eq(registered("y\1\0\0", 4), SP_BUSY);
    cr_assert_eq(registered("H", 1), SP_BAD_DATA);
}

Test(sn_epmd_message, the_request_for_a_port)
{
    static const uint8_t expected[] = "\0\3zsp";
    uint8_t request[SN_EPMD_PORT_REQUEST_MAX];
    char name[SP_DIST_NODE_NAME_MAX];

    cr_assert_eq(sn_epmd_port_request(request, "sp@host", 2), sizeof expected - 1);
    cr_assert_arr_eq(request, expected, sizeof expected - 1);
    memset(name, 'n', sizeof name);
    cr_assert_eq(sn_epmd_port_request(request, name, sizeof name), sizeof request);
    cr_assert_eq(request[0], 1);
    cr_assert_eq(request[1], 0);
    cr_assert_eq(request[sizeof request - 1], 'n');
}

static uint16_t port;

static sp_status port_answer(const char *bytes, size_t len)
{
    return sn_epmd_port_answer((const uint8_t *)bytes, len, &port);
}

Test(sn_epmd_message, answers_with_a_port)
{
    for (size_t cut = 0; cut < 4; cut++)
        cr_assert_eq(port_answer("w\0\x12\x34", cut), SP_WANT_READ);
    cr_assert_eq(port_answer("w\0\x12\x34", 4), SP_OK);
    cr_assert_eq(port, 0x1234);
    cr_assert_eq(port_answer("w\0\x12\x35M\0\0\6", 8), SP_OK);
    cr_assert_eq(port, 0x1235);
    cr_assert_eq(port_answer("w\1", 2), SP_NOT_FOUND);
    cr_assert_eq(port_answer("w\0\0\0", 4), SP_NOT_FOUND);
    cr_assert_eq(port_answer("H", 1), SP_NOT_FOUND);
}
