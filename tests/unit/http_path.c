#include "http/path.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"

static const struct {
    struct span raw;
    const char *path; /* NULL: -EINVAL */
} rows[] = {
    {SPAN("/"), "/"},
    {SPAN("/a"), "/a"},
    {SPAN("/a/"), "/a/"},
    {SPAN("/a/b.c"), "/a/b.c"},
    {SPAN("/a%20b%2B+%c3%A4"), "/a b++\xc3\xa4"},
    {SPAN("/%2541"), "/%41"}, /* decoded once */
    {SPAN("/a?b#c"), "/a?b#c"},
    /* slashes */
    {SPAN("//"), "/"},
    {SPAN("///a//b///"), "/a/b/"},
    {SPAN("//../a"), NULL},
    /* dots */
    {SPAN("/."), "/"},
    {SPAN("/./"), "/"},
    {SPAN("/a/."), "/a/"},
    {SPAN("/a/.."), "/"},
    {SPAN("/a/../"), "/"},
    {SPAN("/a/b/.."), "/a/"},
    {SPAN("/a/b/../c"), "/a/c"},
    {SPAN("/a/./b/../../c"), "/c"},
    {SPAN("/a//../b"), "/b"},
    {SPAN("/a/%2e%2E/b"), "/b"},
    {SPAN("/a/%2e/b"), "/a/b"},
    {SPAN("/a/.%2e"), "/"},
    {SPAN("/..."), "/..."},
    {SPAN("/..a/.b/c../d."), "/..a/.b/c../d."},
    {SPAN("/.."), NULL},
    {SPAN("/../"), NULL},
    {SPAN("/a/../.."), NULL},
    {SPAN("/a/../../a"), NULL},
    {SPAN("/%2e%2e/etc"), NULL},
    /* malformed */
    {SPAN(""), NULL},
    {SPAN("a"), NULL},
    {SPAN("*"), NULL},
    {SPAN("%2f"), NULL},
    {SPAN("/%"), NULL},
    {SPAN("/%4"), NULL},
    {{"/%41", 3}, NULL},
    {SPAN("/%4/1"), NULL},
    {SPAN("/%/41"), NULL},
    {SPAN("/%g0"), NULL},
    {SPAN("/%0g"), NULL},
    {SPAN("/%%41"), NULL},
    {SPAN("/a%2fb"), NULL},
    {SPAN("/a%2Fb"), NULL},
    {SPAN("/a/..%2f.."), NULL},
    {SPAN("/a%00"), NULL},
    {SPAN("/a\0b"), NULL},
};

static void test_decode(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[64];
        size_t length = 0;
        int r = path_decode(rows[i].raw, text, sizeof text, &length);
        if (r != (rows[i].path ? 0 : -EINVAL))
            fail_msg("%.*s: %d", (int)rows[i].raw.length, rows[i].raw.at, r);
        if (r == 0) {
            assert_string_equal(text, rows[i].path);
            assert_int_equal(length, strlen(text));
        }
    }
}

static void test_decode_into_little_room(void **state)
{
    static const struct span paths[] = {SPAN("/ab/"), SPAN("/a/b"), SPAN("/%61bc")};
    char text[8];
    size_t length;

    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        for (size_t size = 0; size < 7; size++) {
            memset(text, 'x', sizeof text);
            assert_int_equal(
                path_decode(paths[i], text, size, &length), size < 5 ? -ENAMETOOLONG : 0);
            assert_int_equal(text[size], 'x');
        }
    assert_int_equal(path_decode(SPAN("/"), text, 2, &length), 0);
}

static void test_hidden(void **state)
{
    static const struct {
        const char *path;
        bool hidden;
    } cases[] = {
        {"/", false},
        {"/a.b/c.", false},
        {"/.git", true},
        {"/a/.git/config", true},
        {"/a/...", true},
        {"/.well-known/acme-challenge/x", false},
        {"/.well-known/", false},
        {"/.well-known", true},
        {"/.well-known/.x", true},
        {"/.well-known-not/x", true},
        {"/a/.well-known/x", true},
        {"", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (path_is_hidden(span_of(cases[i].path)) != cases[i].hidden)
            fail_msg("%s", cases[i].path);
}

static void test_encode(void **state)
{
    CLEANUP_BUFFER struct buffer out = {0};
    char text[512];
    size_t length;

    (void)state;
    assert_int_equal(path_encode(&out, SPAN("/a b/\xc3\xa4?#%\r\n\"<>[]\\^`{|}\x7f\0;=@:,")), 0);
    assert_string_equal(buffer_string(&out),
        "/a%20b/%C3%A4%3F%23%25%0D%0A%22%3C%3E%5B%5D%5C%5E%60%7B%7C%7D%7F%00;=@:,");
    assert_int_equal(path_encode(&out, SPAN("/x")), 0); /* appends */
    assert_string_equal(buffer_string(&out) + out.length - 4, ":,/x");

    char all[257] = "/"; /* every byte a name may hold comes back */
    for (size_t i = 1; i < 256; i++)
        all[i] = (char)(i == '/' ? '_' : i);
    out.length = 0;
    assert_int_equal(path_encode(&out, (struct span){all, 256}), 0);
    assert_int_equal(path_decode(buffer_span(&out), text, sizeof text, &length), 0);
    assert_int_equal(length, 256);
    assert_memory_equal(text, all, 256);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_decode_into_little_room),
        cmocka_unit_test(test_hidden),
        cmocka_unit_test(test_encode),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
