#include "http/proxy_protocol.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OWN "203.0.113.9:999" /* the connection's own */

static struct address address_of(const char *text)
{
    struct address address;
    struct reason reason;

    if (address_parse(text, &address, &reason) < 0)
        fail_msg("%s", reason.text);
    return address;
}

/* In memory without a byte to spare. *ret_text is the peer. */
static int parse(struct span bytes, char ret_text[static ADDRESS_TEXT_MAX], size_t *ret_length)
{
    char *copy = malloc(bytes.length ? bytes.length : 1);
    struct address peer = address_of(OWN);

    assert_non_null(copy);
    memcpy(copy, bytes.at, bytes.length);
    *ret_length = SIZE_MAX;
    int r = proxy_header_parse((struct span){copy, bytes.length}, &peer, ret_length);
    free(copy);
    assert_int_equal(r == PROXY_COMPLETE, *ret_length != SIZE_MAX);
    (void)address_format(&peer, ret_text);
    if (r != PROXY_COMPLETE)
        assert_string_equal(ret_text, OWN);
    return r;
}

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define IPV4_BLOCK "\xc0\x00\x02\x01\xc6\x33\x64\x01\x04\xd2\x00\x50"
#define TEN "0123456789"
#define SIXTEEN "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"

static const struct {
    struct span header;
    const char *peer;
} good[] = {
    {SPAN("PROXY TCP4 192.0.2.1 198.51.100.1 1234 80\r\n"), "192.0.2.1:1234"},
    {SPAN("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"), "255.255.255.255:65535"},
    {SPAN("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"), "0.0.0.0:0"},
    {SPAN("PROXY TCP6 2001:db8::1 ::1 1234 80\r\n"), "[2001:db8::1]:1234"},
    {SPAN("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
          "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
        "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
    {SPAN("PROXY UNKNOWN\r\n"), OWN},
    {SPAN("PROXY UNKNOWN 192.0.2.1 x\r\n"), OWN},
    {SPAN("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
          "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
        OWN}, /* 107 bytes */
    {SPAN(SIGNATURE "\x21\x11\0\x0c" IPV4_BLOCK), "192.0.2.1:1234"},
    {SPAN(SIGNATURE "\x21\x11\0\x0f" IPV4_BLOCK "\x04\0\0"), "192.0.2.1:1234"},
    {SPAN(SIGNATURE "\x21\x11\0\x16" IPV4_BLOCK "\x03\0\x04\0\0\0\0\xff\0\0"), "192.0.2.1:1234"},
    {SPAN(SIGNATURE "\x21\x21\0\x24" SIXTEEN SIXTEEN "\xff\xff\0\x50"), "[2001:db8::1]:65535"},
    {SPAN(SIGNATURE "\x21\x12\0\x0c" IPV4_BLOCK), OWN}, /* UDP */
    {SPAN(SIGNATURE "\x21\x10\0\x0c" IPV4_BLOCK), OWN},
    {SPAN(SIGNATURE "\x21\x22\0\x24" SIXTEEN SIXTEEN "\xff\xff\0\x50"), OWN},
    {SPAN(SIGNATURE "\x21\0\0\0"), OWN},
    {SPAN(SIGNATURE "\x21\0\0\x05"
                    "12345"),
        OWN},
    {SPAN(SIGNATURE "\x20\0\0\0"), OWN},
    {SPAN(SIGNATURE "\x20\x11\0\x0c" IPV4_BLOCK), OWN},
    {SPAN(SIGNATURE "\x20\xff\0\x05"
                    "12345"),
        OWN},
};

/* Every prefix is PROXY_MORE, and what follows is nobody's. */
static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct span header = good[i].header;
        char text[ADDRESS_TEXT_MAX], more[1024];
        size_t length;
        for (size_t j = 0; j < header.length; j++)
            if (parse((struct span){header.at, j}, text, &length) != PROXY_MORE)
                fail_msg("row %zu, %zu bytes", i, j);
        memcpy(more, header.at, header.length);
        memcpy(more + header.length, "\r\nGET", 5);
        for (size_t j = 0; j <= 5; j++) {
            if (parse((struct span){more, header.length + j}, text, &length) != PROXY_COMPLETE)
                fail_msg("row %zu", i);
            assert_int_equal(length, header.length);
            assert_string_equal(text, good[i].peer);
        }
    }
}

static const struct span bad[] = {
    SPAN("GET / HTTP/1.1\r\n"),
    SPAN("P "),
    SPAN("PROXX"),
    SPAN("PROXY\tTCP4"),
    SPAN("proxy TCP4"),
    SPAN(" PROXY TCP4"),
    SPAN("PROXY\r\n"),
    SPAN("PROXY \r\n"),
    SPAN("PROXY TCP\r\n"),
    SPAN("PROXY TCP5 192.0.2.1 192.0.2.1 1 1\r\n"),
    SPAN("PROXY tcp4 192.0.2.1 192.0.2.1 1 1\r\n"),
    SPAN("PROXY UNKNOWNS\r\n"),
    SPAN("PROXY unknown\r\n"),
    SPAN("PROXY TCP4\r\n"),
    SPAN("PROXY TCP4 192.0.2.1\r\n"),
    SPAN("PROXY TCP4 192.0.2.1 192.0.2.1 1\r\n"),
    SPAN("PROXY TCP4 192.0.2.1 192.0.2.1 1 \r\n"),
    SPAN("PROXY TCP4 192.0.2.1 192.0.2.1 1 1 \r\n"),
    SPAN("PROXY TCP4 192.0.2.1 192.0.2.1 1 1 1\r\n"),
    SPAN("PROXY TCP4  192.0.2.1 192.0.2.1 1 1\r\n"),
    SPAN("PROXY TCP4 192.0.2.1 192.0.2.1 1 1\n\r\n"),
    SPAN("PROXY TCP4 192.0.2.1 192.0.2.1 1 1\rx"),
    SPAN("PROXY TCP4 192.0.2.1\0 192.0.2.1 1 1\r\n"),
    SPAN("PROXY TCP4 192.0.2 192.0.2.1 1 1\r\n"),
    SPAN("PROXY TCP4 192.0.2.256 192.0.2.1 1 1\r\n"),
    SPAN("PROXY TCP4 192.0.2.01 192.0.2.1 1 1\r\n"),
    SPAN("PROXY TCP4 192.0.2.1 a.example 1 1\r\n"),
    SPAN("PROXY TCP4 ::1 ::1 1 1\r\n"),
    SPAN("PROXY TCP4 192.0.2.1 192.0.2.1 65536 1\r\n"),
    SPAN("PROXY TCP4 192.0.2.1 192.0.2.1 1 65536\r\n"),
    SPAN("PROXY TCP4 192.0.2.1 192.0.2.1 01 1\r\n"),
    SPAN("PROXY TCP4 192.0.2.1 192.0.2.1 00 1\r\n"),
    SPAN("PROXY TCP4 192.0.2.1 192.0.2.1 -1 1\r\n"),
    SPAN("PROXY TCP4 192.0.2.1 192.0.2.1 +1 1\r\n"),
    SPAN("PROXY TCP4 192.0.2.1 192.0.2.1 100000 1\r\n"),
    SPAN("PROXY TCP6 192.0.2.1 192.0.2.1 1 1\r\n"),
    SPAN("PROXY TCP6 [::1] ::1 1 1\r\n"),
    SPAN("PROXY TCP6 ::1%lo ::1 1 1\r\n"),
    SPAN("PROXY TCP6 1:2:3:4:5:6:7:8:9 ::1 1 1\r\n"),
    SPAN("PROXY UNKNOWN " TEN TEN TEN TEN TEN TEN TEN TEN TEN "12\r\n"), /* 108 bytes */
    SPAN("PROXY UNKNOWN " TEN TEN TEN TEN TEN TEN TEN TEN TEN "1234"),   /* no end in 107 */
    /* version 2 */
    SPAN("\r\n\r\nx"),
    SPAN("\r\n\r\n\0\r\nQUIT\r"),
    SPAN(SIGNATURE "\x11"),
    SPAN(SIGNATURE "\x31"),
    SPAN(SIGNATURE "\x01"),
    SPAN(SIGNATURE "\x22"),
    SPAN(SIGNATURE "\x2f"),
    SPAN(SIGNATURE "\x21\x11\x02\x09"), /* 521 bytes */
    SPAN(SIGNATURE "\x20\x11\xff\xff"),
    SPAN(SIGNATURE "\x21\x13\0\x0c" IPV4_BLOCK),
    SPAN(SIGNATURE "\x21\x41\0\x0c" IPV4_BLOCK),
    SPAN(SIGNATURE "\x21\xf1\0\x0c" IPV4_BLOCK),
    SPAN(SIGNATURE "\x21\x11\0\x0b" IPV4_BLOCK),
    SPAN(SIGNATURE "\x21\x11\0\0"),
    SPAN(SIGNATURE "\x21\x12\0\0"),
    SPAN(SIGNATURE "\x21\x21\0\x0c" IPV4_BLOCK),
    SPAN(SIGNATURE "\x21\x31\0\x0c" IPV4_BLOCK),
    SPAN(SIGNATURE "\x21\x11\0\x0d" IPV4_BLOCK "\x04"),
    SPAN(SIGNATURE "\x21\x11\0\x0e" IPV4_BLOCK "\x04\0"),
    SPAN(SIGNATURE "\x21\x11\0\x0f" IPV4_BLOCK "\x04\0\x01"),
    SPAN(SIGNATURE "\x21\x11\0\x0f" IPV4_BLOCK "\x04\xff\xff"),
    SPAN(SIGNATURE "\x21\x11\0\x11" IPV4_BLOCK "\x04\0\x01x\0"),
};

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[ADDRESS_TEXT_MAX];
        size_t length;
        if (parse(bad[i], text, &length) != PROXY_BAD)
            fail_msg("row %zu: %.*s", i, (int)bad[i].length, bad[i].at);
    }
}

/* The largest of version 2, to the byte. */
static void test_longest(void **state)
{
    char header[PROXY_HEADER_MAX] = SIGNATURE "\x21\x31\x02\x08", text[ADDRESS_TEXT_MAX];
    size_t length;

    (void)state;
    header[16 + 216 + 1] = (520 - 216 - 3) >> 8;
    header[16 + 216 + 2] = (char)((520 - 216 - 3) & 0xff);
    assert_int_equal(parse((struct span){header, sizeof header - 1}, text, &length), PROXY_MORE);
    assert_int_equal(parse((struct span){header, sizeof header}, text, &length), PROXY_COMPLETE);
    assert_int_equal(length, PROXY_HEADER_MAX);
    header[16 + 216 + 2]++;
    assert_int_equal(parse((struct span){header, sizeof header}, text, &length), PROXY_BAD);
}

static void test_write(void **state)
{
    static const struct {
        const char *peer, *local;
        struct span v1, v2;
        const char *read;
    } rows[] = {
        {"192.0.2.1:1234", "198.51.100.1:80", SPAN("PROXY TCP4 192.0.2.1 198.51.100.1 1234 80\r\n"),
            SPAN(SIGNATURE "\x21\x11\0\x0c" IPV4_BLOCK), "192.0.2.1:1234"},
        {"[2001:db8::1]:65535", "[2001:db8::1]:80",
            SPAN("PROXY TCP6 2001:db8::1 2001:db8::1 65535 80\r\n"),
            SPAN(SIGNATURE "\x21\x21\0\x24" SIXTEEN SIXTEEN "\xff\xff\0\x50"),
            "[2001:db8::1]:65535"},
        {"[::ffff:192.0.2.1]:1234", "[::ffff:198.51.100.1]:80",
            SPAN("PROXY TCP4 192.0.2.1 198.51.100.1 1234 80\r\n"),
            SPAN(SIGNATURE "\x21\x11\0\x0c" IPV4_BLOCK), "192.0.2.1:1234"},
        {"192.0.2.1:1234", "[::ffff:198.51.100.1]:80",
            SPAN("PROXY TCP4 192.0.2.1 198.51.100.1 1234 80\r\n"),
            SPAN(SIGNATURE "\x21\x11\0\x0c" IPV4_BLOCK), "192.0.2.1:1234"},
        {"192.0.2.1:1234", "[2001:db8::1]:80",
            SPAN("PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 1234 80\r\n"),
            SPAN(SIGNATURE "\x21\x21\0\x24\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x01" SIXTEEN
                           "\x04\xd2\0\x50"),
            "[::ffff:192.0.2.1]:1234"},
        {"unix:/x", "192.0.2.1:80", SPAN("PROXY UNKNOWN\r\n"), SPAN(SIGNATURE "\x20\0\0\0"), OWN},
        {"192.0.2.1:80", "unix:@x", SPAN("PROXY UNKNOWN\r\n"), SPAN(SIGNATURE "\x20\0\0\0"), OWN},
        {"unix:/x", "unix:/y", SPAN("PROXY UNKNOWN\r\n"), SPAN(SIGNATURE "\x20\0\0\0"), OWN},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (unsigned version = 1; version <= 2; version++) {
            CLEANUP_BUFFER struct buffer out = {0};
            struct address peer = address_of(rows[i].peer), local = address_of(rows[i].local);
            struct span expected = version == 1 ? rows[i].v1 : rows[i].v2;
            char text[ADDRESS_TEXT_MAX];
            size_t length;
            assert_int_equal(proxy_header_write(version, &peer, &local, &out), 0);
            if (!span_equal(buffer_span(&out), expected))
                fail_msg("row %zu, version %u", i, version);
            assert_int_equal(parse(expected, text, &length), PROXY_COMPLETE);
            assert_int_equal(length, expected.length);
            assert_string_equal(text, rows[i].read);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_longest),
        cmocka_unit_test(test_write),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
