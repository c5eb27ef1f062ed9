#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "config/network.h"

static void test_networks(void **state)
{
    static const struct {
        const char *text, *host;
        unsigned bits;
        sa_family_t family;
    } rows[] = {
        {"192.0.2.1", "192.0.2.1", 32, AF_INET},
        {"192.0.2.1/32", "192.0.2.1", 32, AF_INET},
        {"10.0.0.0/8", "10.0.0.0", 8, AF_INET},
        {"172.16.0.0/12", "172.16.0.0", 12, AF_INET},
        {"0.0.0.0/0", "0.0.0.0", 0, AF_INET},
        {"2001:db8::1", "2001:db8::1", 128, AF_INET6},
        {"2001:db8::/33", "2001:db8::", 33, AF_INET6},
        {"::/0", "::", 0, AF_INET6},
        {"unix", "unix:", 0, AF_UNIX},
    };
    char text[ADDRESS_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config_network network;
        assert_int_equal(network_parse(span_of(rows[i].text), &network, NULL), 0);
        assert_int_equal(network.address.any.sa_family, rows[i].family);
        assert_true(network.address.length > 0);
        assert_string_equal(address_format_host(&network.address, text), rows[i].host);
        assert_int_equal(network.bits, rows[i].bits);
    }
}

#define NO_NETWORK " is neither an IP address, nor a network such as 10.0.0.0/8, nor unix"

static void test_refusals(void **state)
{
    static const struct {
        const char *text, *reason;
    } rows[] = {
        {"localhost", "'localhost'" NO_NETWORK},
        {"", "''" NO_NETWORK},
        {"/8", "'/8'" NO_NETWORK},
        {"10.0.0/8", "'10.0.0/8'" NO_NETWORK},
        {"[::1]", "'[::1]'" NO_NETWORK},
        {"127.0.0.1:80", "'127.0.0.1:80'" NO_NETWORK},
        {"unix:/x", "'unix:/x'" NO_NETWORK},
        {"unix/0", "'unix/0'" NO_NETWORK},
        {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa",
            "'1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa'" NO_NETWORK},
        {"10.0.0.0/33", "'/33' is not a prefix length (0 to 32)"},
        {"10.0.0.0/", "'/' is not a prefix length (0 to 32)"},
        {"10.0.0.0/255.0.0.0", "'/255.0.0.0' is not a prefix length (0 to 32)"},
        {"::/129", "'/129' is not a prefix length (0 to 128)"},
        {"10.1.0.0/15",
            "'10.1.0.0/15' has bits set behind the first 15; the network is 10.0.0.0/15"},
        {"192.0.2.1/0", "'192.0.2.1/0' has bits set behind the first 0; the network is 0.0.0.0/0"},
        {"2001:db8::1/127",
            "'2001:db8::1/127' has bits set behind the first 127; the network is 2001:db8::/127"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config_network network = {.bits = 7};
        struct reason reason = {0};
        assert_int_equal(network_parse(span_of(rows[i].text), &network, &reason), -EINVAL);
        assert_string_equal(reason.text, rows[i].reason);
        assert_int_equal(network.bits, 7); /* left alone */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_refusals),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
