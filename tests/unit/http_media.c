#include "http/media.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"

static void check(const struct media_types *types, const char *name, const char *expected)
{
    const char *type = media_types_find(types, span_of(name));

    if (strcmp(type, expected) != 0)
        fail_msg("%s is %s, not %s", name, type, expected);
}

static void test_own_table(void **state)
{
    static const struct {
        const char *name, *type;
    } rows[] = {
        {"index.html", "text/html; charset=utf-8"},
        {"a/b.c/INDEX.HTM", "text/html; charset=utf-8"},
        {"x.css", "text/css; charset=utf-8"},
        {"x.js", "text/javascript; charset=utf-8"},
        {"x.mjs", "text/javascript; charset=utf-8"},
        {"x.txt", "text/plain; charset=utf-8"},
        {"x.md", "text/markdown; charset=utf-8"},
        {"x.csv", "text/csv; charset=utf-8"},
        {"x.json", "application/json"},
        {"x.min.js.map", "application/json"},
        {"x.webmanifest", "application/manifest+json"},
        {"x.wasm", "application/wasm"},
        {"x.svg", "image/svg+xml"},
        {"x.png", "image/png"},
        {"x.jpg", "image/jpeg"},
        {"x.JPEG", "image/jpeg"},
        {"x.webp", "image/webp"},
        {"x.avif", "image/avif"},
        {"x.gif", "image/gif"},
        {"favicon.ico", "image/vnd.microsoft.icon"},
        {"x.woff2", "font/woff2"},
        {"x.pdf", "application/pdf"},
        {"x.mp4", "video/mp4"},
        {"x.webm", "video/webm"},
        {"x.mp3", "audio/mpeg"},
        {"x.ogg", "audio/ogg"},
        {"x.zip", "application/zip"},
        {"x.tar.gz", "application/gzip"},
        {"x.tar", "application/x-tar"},
        {"x.7z", "application/x-7z-compressed"},
        {"x.zst", "application/zstd"},
        {"", "application/octet-stream"},
        {"html", "application/octet-stream"},
        {".html", "application/octet-stream"},
        {"a/.html", "application/octet-stream"},
        {"a.html/b", "application/octet-stream"},
        {"x.", "application/octet-stream"},
        {"x.htmll", "application/octet-stream"},
        {"x.ht", "application/octet-stream"},
        {"x.\xff", "application/octet-stream"},
    };
    struct media_types *types;

    (void)state;
    assert_int_equal(media_types_new((struct span){NULL, 0}, &types), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check(types, rows[i].name, rows[i].type);
    assert_string_equal(media_types_find(types, SPAN("x.html\0y")), "application/octet-stream");
    media_types_free(types);
    media_types_free(NULL);
}

static void test_system_table(void **state)
{
    static const char table[] = "# a comment\n"
                                "application/x-foo\tfoo  FOO2\tfoo3 # foo4\n"
                                "  application/xml xml\r\n"
                                "application/javascript js\n"
                                "application/x-javascript mjs\n"
                                "TEXT/Foo footext\n"
                                "text/troff\n"
                                "#application/no no1\n"
                                "no no2\n"
                                "/no no3\n"
                                "no/ no4\n"
                                "no/no/no no5\n"
                                "no/n\001o no6\n"
                                "application/x-first twice\n"
                                "application/x-second twice\n"
                                "application/x-odd o\001dd fine\n"
                                "application/x-end end";
    struct media_types *types;

    (void)state;
    assert_int_equal(media_types_new(SPAN(table), &types), 0);
    check(types, "x.foo", "application/x-foo");
    check(types, "x.foo2", "application/x-foo");
    check(types, "x.Foo3", "application/x-foo");
    check(types, "x.foo4", "application/octet-stream");
    check(types, "x.xml", "application/xml");
    check(types, "x.js", "text/javascript; charset=utf-8");
    check(types, "x.mjs", "text/javascript; charset=utf-8");
    check(types, "x.footext", "TEXT/Foo; charset=utf-8");
    check(types, "x.html", "text/html; charset=utf-8");
    check(types, "x.no1", "application/octet-stream");
    check(types, "x.no2", "application/octet-stream");
    check(types, "x.no3", "application/octet-stream");
    check(types, "x.no4", "application/octet-stream");
    check(types, "x.no5", "application/octet-stream");
    check(types, "x.no6", "application/octet-stream");
    check(types, "x.twice", "application/x-second");
    check(types, "x.fine", "application/x-odd");
    check(types, "x.end", "application/x-end");
    media_types_free(types);
}

static void test_large_table(void **state)
{
    CLEANUP_BUFFER struct buffer table = {0};
    struct media_types *types;

    (void)state;
    for (int i = 0; i < 3000; i++)
        assert_int_equal(buffer_printf(&table, "application/x-%d e%d\n", i, i * 7919 % 3000), 0);
    assert_int_equal(media_types_new(buffer_span(&table), &types), 0);
    for (int i = 0; i < 3000; i++) {
        CLEANUP_BUFFER struct buffer name = {0}, type = {0};
        assert_int_equal(buffer_printf(&name, "x.e%d", i * 7919 % 3000), 0);
        assert_int_equal(buffer_printf(&type, "application/x-%d", i), 0);
        check(types, buffer_string(&name), buffer_string(&type));
    }
    media_types_free(types);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_table),
        cmocka_unit_test(test_system_table),
        cmocka_unit_test(test_large_table),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
