#include "base/address.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"

static const struct {
    const char *text;
    int family;
    const char *host; /* as address_format_host() */
} good[] = {
    {"192.0.2.1:80", AF_INET, "192.0.2.1"},
    {"0.0.0.0:65535", AF_INET, "0.0.0.0"},
    {"[::]:1", AF_INET6, "::"},
    {"[2001:db8::1]:8080", AF_INET6, "2001:db8::1"},
    {"[::ffff:192.0.2.7]:80", AF_INET6, "192.0.2.7"},
    {"unix:/run/x.sock", AF_UNIX, "unix:"},
    {"unix:/x", AF_UNIX, "unix:"},
    {"unix:@x", AF_UNIX, "unix:"},
    {"unix:/with space:and:colons", AF_UNIX, "unix:"},
};

static void test_good(void **state)
{
    char text[ADDRESS_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct address address;
        assert_int_equal(address_parse(good[i].text, &address, NULL), 0);
        assert_int_equal(address.any.sa_family, good[i].family);
        assert_string_equal(address_format(&address, text), good[i].text);
        assert_string_equal(address_format_host(&address, text), good[i].host);
        assert_true(address_equal(&address, &address));
    }
}

static void test_port_alone(void **state)
{
    char text[ADDRESS_TEXT_MAX];
    struct address address;

    (void)state;
    assert_int_equal(address_parse("8080", &address, NULL), 0);
    assert_int_equal(address.length, sizeof(struct sockaddr_in6));
    assert_string_equal(address_format(&address, text), "[::]:8080");
}

static void test_bad(void **state)
{
    static const struct {
        const char *text, *why; /* part of the reason */
    } rows[] = {
        {"", "is not a port"},
        {"0", "is not a port"},
        {"65536", "is not a port"},
        {"-1", "is not a port"},
        {"http", "is not a port"},
        {":80", "is not an IP address"},
        {"192.0.2.1", "is not a port"},
        {"192.0.2.1:", "is not a port"},
        {"192.0.2.1:0", "is not a port"},
        {"192.0.2.1:80x", "is not a port"},
        {"192.0.2.256:80", "is not an IP address"},
        {"192.0.2:80", "is not an IP address"},
        {"[192.0.2.1]:80", "is not an IP address"},
        {"::1:80", "is not an IP address"}, /* where does the address end? */
        {"[::1]", "is not a port"},
        {"[]:80", "is not an IP address"},
        {"[:80", "is not an IP address"},
        {"[::1:80", "is not an IP address"},
        {"[fe80::1%lo]:80", "is not an IP address"},
        {"[1:2:3:4:5:6:7:8:9]:80", "is not an IP address"},
        {"[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:80", "is not an IP address"},
        {"localhost:80", "is not an IP address"},
        {"0123456789012345678901234567890123456789abcde:80", "is not an IP address"},
        {"0123456789012345678901234567890123456789abcdef:80", "is not an IP address"},
        {"unix:", "names no socket"},
        {"unix:/", "names no socket"},
        {"unix:@", "names no socket"},
        {"unix:relative.sock", "names no socket"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reason reason = {""};
        struct address address = {.length = 42};
        assert_int_equal(address_parse(rows[i].text, &address, &reason), -EINVAL);
        if (!strstr(reason.text, rows[i].why))
            fail_msg("'%s': %s", rows[i].text, reason.text);
        assert_int_equal(address.length, 42); /* not clobbered */
    }
}

/* unix(7): 108 bytes, and the NUL is one of them. */
static void test_unix_length(void **state)
{
    char text[5 + 200] = "unix:/", back[ADDRESS_TEXT_MAX];
    struct reason reason = {""};
    struct address address;

    (void)state;
    memset(text + 6, 'x', 106);
    assert_int_equal(address_parse(text, &address, &reason), 0);
    assert_string_equal(address_format(&address, back), text);
    text[5 + 107] = 'x';
    assert_int_equal(address_parse(text, &address, &reason), -EINVAL);
    assert_non_null(strstr(reason.text, "longer than the 107 bytes"));
    /* A path ends with the NUL, and an abstract name with the length. */
    assert_int_equal(address_parse("unix:/x", &address, NULL), 0);
    assert_int_equal(address.length, offsetof(struct sockaddr_un, sun_path) + 3);
    assert_int_equal(address_parse("unix:@x", &address, NULL), 0);
    assert_int_equal(address.length, offsetof(struct sockaddr_un, sun_path) + 2);
}

/* What is not printable is escaped, and the longest there can be fits. */
static void test_format_escapes(void **state)
{
    struct address address = {.local.sun_family = AF_UNIX};
    char text[ADDRESS_TEXT_MAX];

    (void)state;
    memcpy(address.local.sun_path, "/a\nb\\c\xff\x7f", 9);
    address.length = sizeof address.local;
    assert_string_equal(address_format(&address, text), "unix:/a\\x0ab\\x5cc\\xff\\x7f");
    memset(address.local.sun_path, '\n', sizeof address.local.sun_path);
    assert_int_equal(strlen(address_format(&address, text)), 5 + 4 * sizeof address.local.sun_path);
}

static void test_format_others(void **state)
{
    struct address address = {.any.sa_family = AF_NETLINK, .length = sizeof(struct sockaddr)};
    char text[ADDRESS_TEXT_MAX];

    (void)state;
    assert_string_equal(address_format(&address, text), "(family 16)");
    /* unix(7): the peer of most clients has no name. */
    address = (struct address){.any.sa_family = AF_UNIX, .length = sizeof(sa_family_t)};
    assert_string_equal(address_format(&address, text), "unix:");
    assert_string_equal(address_format_host(&address, text), "unix:");
}

static void test_equal(void **state)
{
    static const struct {
        const char *a, *b;
        bool equal;
    } rows[] = {
        {"192.0.2.1:80", "192.0.2.1:80", true},
        {"192.0.2.1:80", "192.0.2.1:81", false},
        {"192.0.2.1:80", "192.0.2.2:80", false},
        {"[2001:db8::1]:80", "[2001:db8:0:0::1]:80", true},
        {"[2001:db8::1]:80", "[2001:db8::1]:81", false},
        {"[2001:db8::1]:80", "[2001:db8::2]:80", false},
        {"80", "[::]:80", true},
        {"[::]:80", "0.0.0.0:80", false},
        {"[::ffff:192.0.2.1]:80", "192.0.2.1:80", false},
        {"unix:/a", "unix:/a", true},
        {"unix:/a", "unix:/b", false},
        {"unix:/a", "unix:/ab", false},
        {"unix:@a", "unix:@a", true},
        {"unix:@a", "unix:@ab", false},
        {"unix:/a", "80", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct address a, b;
        assert_int_equal(address_parse(rows[i].a, &a, NULL), 0);
        assert_int_equal(address_parse(rows[i].b, &b, NULL), 0);
        if (address_equal(&a, &b) != rows[i].equal || address_equal(&b, &a) != rows[i].equal)
            fail_msg("%s and %s", rows[i].a, rows[i].b);
    }
}

/* What a socket was bound to is what it says it is bound to, whatever the stack held before. */
static void test_of_socket(void **state)
{
    char folder[] = "/tmp/base_address.XXXXXX", path[64];

    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "unix:%s/x", folder);
    const char *const texts[] = {"127.0.0.1:80", path, "unix:@baton-test-base-address"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct address address, bound;
        memset(&address, 0xff, sizeof address);
        memset(&bound, 0xff, sizeof bound);
        assert_int_equal(address_parse(texts[i], &address, NULL), 0);
        if (address.any.sa_family == AF_INET)
            address.ipv4.sin_port = 0; /* any that is free */
        CLEANUP_FD int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, &address.any, address.length), 0);
        assert_int_equal(address_of_socket(fd, &bound), 0);
        if (address.any.sa_family == AF_INET)
            address.ipv4.sin_port = bound.ipv4.sin_port;
        assert_true(address_equal(&address, &bound));
    }
    assert_int_equal(unlink(path + 5), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(address_of_socket(-1, &(struct address){0}), -EBADF);
}

/* unix(7): a path may fill sun_path, and then it has no NUL. Nothing behind it is read. */
static void test_longest_path(void **state)
{
    char folder[] = "/tmp/base_address.XXXXXX", path[109], text[ADDRESS_TEXT_MAX];
    struct address address = {.local.sun_family = AF_UNIX, .length = sizeof address.local}, bound;
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    assert_non_null(mkdtemp(folder));
    memset(path, 'x', 108);
    path[108] = '\0';
    memcpy(path, folder, strlen(folder));
    path[strlen(folder)] = '/';
    memcpy(address.local.sun_path, path, 108);
    assert_int_equal(bind(fd, &address.any, address.length), 0);
    assert_int_equal(address_of_socket(fd, &bound), 0);
    assert_int_equal(bound.length, sizeof bound.local);
    assert_true(address_equal(&address, &bound));
    assert_string_equal(address_format(&bound, text) + 5, path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_port_alone),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_unix_length),
        cmocka_unit_test(test_format_escapes),
        cmocka_unit_test(test_format_others),
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_of_socket),
        cmocka_unit_test(test_longest_path),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
