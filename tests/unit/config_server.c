#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "config/server.h"

static void test_addresses(void **state)
{
    static const struct {
        const char *text, *address;
        unsigned weight;
    } rows[] = {
        {"127.0.0.1:3000", "127.0.0.1:3000", 1},
        {"[0::1]:3000", "[::1]:3000", 1},
        {"unix:/run/x.sock", "unix:/run/x.sock", 1},
        {"unix:@x weight=1000", "unix:@x", 1000},
        {"127.0.0.1:1\t weight=2  weight=3", "127.0.0.1:1", 3},
    };
    char text[ADDRESS_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config_server server;
        assert_int_equal(server_parse(span_of(rows[i].text), &server, NULL), 0);
        assert_string_equal(address_format(&server.address, text), rows[i].address);
        assert_true(server.address.length > 0);
        assert_null(server.host);
        assert_int_equal(server.weight, rows[i].weight);
        assert_int_equal(strlen(server.text), strcspn(rows[i].text, " \t"));
        server_clear(&server);
    }
}

static void test_names(void **state)
{
    static const struct {
        const char *text, *host;
        uint16_t port;
    } rows[] = {
        {"localhost:1", "localhost", 1},
        {"Web-1.Example.com:65535", "web-1.example.com", 65535},
        {"example.com.:80 weight=1", "example.com.", 80}, /* no search list, resolv.conf(5) */
        {"my_app:80", "my_app", 80},
        {"4chan:80", "4chan", 80},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config_server server;
        assert_int_equal(server_parse(span_of(rows[i].text), &server, NULL), 0);
        assert_string_equal(server.host, rows[i].host);
        assert_int_equal(server.port, rows[i].port);
        assert_int_equal(server.address.length, 0);
        assert_int_equal(strlen(server.text), strcspn(rows[i].text, " "));
        server_clear(&server);
    }
}

#define NO_HOST " is neither an IP address (IPv6: in brackets) nor the name of a host"
#define NO_PORT " is not a port (1 to 65535)"

static void test_refusals(void **state)
{
    static const struct {
        const char *text, *reason;
    } rows[] = {
        {"3000", "'3000' is a port without a host: write 127.0.0.1:3000"},
        {"localhost", "'localhost' has no port, as in localhost:8080"},
        {"[::1]", "'[::1]' has no port, as in [::1]:8080"},
        {"localhost:", "''" NO_PORT},
        {"localhost:0", "'0'" NO_PORT},
        {"localhost:65536", "'65536'" NO_PORT},
        {"127.0.0.1:http", "'http'" NO_PORT},
        {":80", "''" NO_HOST},
        {".:80", "'.'" NO_HOST},
        {"a..b:80", "'a..b'" NO_HOST},
        {"a..:80", "'a..'" NO_HOST},
        {"::1:80", "'::1'" NO_HOST},
        {"127.0.0.256:80", "'127.0.0.256'" NO_HOST},
        {"127.1:80", "'127.1'" NO_HOST},
        {"1.99999999999999999999999:80", "'1.99999999999999999999999'" NO_HOST},
        {"[::g]:80", "'[::g]'" NO_HOST},
        {"http://shop:80", "'http://shop'" NO_HOST},
        {"b\xc3\xbc.de:80", "'b\xc3\xbc.de'" NO_HOST},
        {"unix:run",
            "'unix:run' names no socket: write unix:/absolute/path or unix:@abstract-name"},
        {"a:1 b:2", "'b:2' is no option (weight=N is one; each server has a Server= of its own)"},
        {"a:1 backup",
            "'backup' is no option (weight=N is one; each server has a Server= of its own)"},
        {"a:1 weight", "weight= must be a number from 1 to 1000"},
        {"a:1 weight=0", "weight= must be a number from 1 to 1000"},
        {"a:1 weight=1001", "weight= must be a number from 1 to 1000"},
        {"a:1 weight=2x", "weight= must be a number from 1 to 1000"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config_server server = {.weight = 7};
        struct reason reason = {0};
        assert_int_equal(server_parse(span_of(rows[i].text), &server, &reason), -EINVAL);
        assert_string_equal(reason.text, rows[i].reason);
        assert_int_equal(server.weight, 7); /* left alone */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_refusals),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
