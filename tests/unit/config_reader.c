#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "config/reader.h"

/* The events as text: "LINE [header]", "LINE name<=>value", "LINE ! problem". */
struct record {
    struct buffer text;
    int fail_at; /* an event of that line fails with -EIO */
};

static int write_event(struct record *record, unsigned line, int r)
{
    assert_int_equal(r, 0);
    return record->fail_at == (int)line ? -EIO : 0;
}

static int on_section(void *user, unsigned line, struct span header)
{
    struct record *record = user;

    return write_event(record, line,
        buffer_printf(&record->text, "%u %.*s\n", line, (int)header.length, header.at));
}

static int on_assignment(void *user, unsigned line, const char *name, const char *value)
{
    struct record *record = user;

    return write_event(
        record, line, buffer_printf(&record->text, "%u %s<=>%s\n", line, name, value));
}

static int on_problem(void *user, unsigned line, const char *problem)
{
    struct record *record = user;

    return write_event(record, line, buffer_printf(&record->text, "%u ! %s\n", line, problem));
}

static const struct reader_events events = {on_section, on_assignment, on_problem};

static void reads(const char *text, const char *expected)
{
    struct record record = {0};

    assert_int_equal(reader_read(text, &events, &record), 0);
    const char *found = buffer_string(&record.text);
    if (strcmp(found, expected) != 0)
        fail_msg("from\n%s\ncame\n%s\ninstead of\n%s", text, found, expected);
    buffer_clear(&record.text);
}

#define NEITHER " ! neither [SECTION], nor KEY=VALUE, nor a comment\n"
#define COMMENT                                                                                    \
    " ! '#' or ';' after a blank: a comment needs a line of its own, and a value can't hold it\n"

static const struct {
    const char *text, *events;
} cases[] = {
    {"", ""},
    {"\n\n  \n\t\n", ""},
    {"K=v", "1 K<=>v\n"},
    {"K=v\n", "1 K<=>v\n"},
    {"\n\nK=v\n", "3 K<=>v\n"},
    {" \tK \t= \tv w \t\n", "1 K<=>v w\n"},
    {"K=\n", "1 K<=>\n"},
    {"K==v=w\n", "1 K<=>=v=w\n"},
    {"Two words=v\n", "1 Two words<=>v\n"},
    {"K=a:b=c\n", "1 K<=>a:b=c\n"},
    {"K=a#b;c\n", "1 K<=>a#b;c\n"},
    {"K=;v\nL=#v\n", "1 K<=>;v\n2 L<=>#v\n"},
    {"K=[v]\n", "1 K<=>[v]\n"},
    {"K=\"v\"\n", "1 K<=>\"v\"\n"},
    {"K=\xc3\xa9\n", "1 K<=>\xc3\xa9\n"},
    /* Line ends and the byte order mark. */
    {"K=v\r\nL=w\r\n", "1 K<=>v\n2 L<=>w\n"},
    {"K=v\r\r\n", "1 ! a control character (0x0d)\n"},
    {"\xef\xbb\xbfK=v\n", "1 K<=>v\n"},
    {"\n\xef\xbb\xbfK=v\n", "2" NEITHER},
    {"[S]\n\xef\xbb\xbfK=v\n", "1 [S]\n2" NEITHER},
    /* Comments. */
    {"#K=v\n;K=v\n  # c\n\t; c\n", ""},
    {"# a comment that ends with a backslash \\\nK=v\n", "2 K<=>v\n"},
    {"# \x01\n", ""},
    {"K=v # c\n", "1" COMMENT},
    {"K=v\t;c\n", "1" COMMENT},
    {"K= ;\n", "1" COMMENT},
    {"K ;=v\n", "1" COMMENT},
    {"[S] # c\n", "1" COMMENT},
    /* What inih would join to the line before: a line that begins with a blank. */
    {"K=v\n w\n", "1 K<=>v\n2" NEITHER},
    {"K=v\n L=w\n", "1 K<=>v\n2 L<=>w\n"},
    {"K=v\\\nw\n",
        "1 ! a backslash does not continue a line here; repeat the key to add to a list\n"
        "2" NEITHER},
    /* Neither nor. */
    {"K\n", "1" NEITHER},
    {"K: v\n", "1" NEITHER},
    {"K:v=w\n", "1" NEITHER},
    {"=v\n", "1" NEITHER},
    {":\n", "1" NEITHER},
    {"]\n", "1" NEITHER},
    {"K=\x01\n", "1 ! a control character (0x01)\n"},
    {"K=a\vb\n", "1 ! a control character (0x0b)\n"},
    {"K=\x7f\n", "1 ! a control character (0x7f)\n"},
    /* Sections, with and without keys. */
    {"[S]\nK=v\n[T x]\n", "1 [S]\n2 K<=>v\n3 [T x]\n"},
    {"  [ S ]  \n", "1 [ S ]\n"},
    {"[\n[S\n[S]x\n", "1 [\n2 [S\n3 [S]x\n"},
};

static void test_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        reads(cases[i].text, cases[i].events);
}

static void test_longest_line(void **state)
{
    char text[600], expected[600], value[250];

    (void)state;
    for (int length = 190; length <= 240; length++) {
        memset(value, 'v', sizeof value);
        value[length - 2] = '\0';
        (void)snprintf(text, sizeof text, "[S]\n  K=%s  \nL=w\n", value);
        if (length <= 197)
            (void)snprintf(expected, sizeof expected, "1 [S]\n2 K<=>%s\n3 L<=>w\n", value);
        else
            (void)snprintf(expected, sizeof expected,
                "1 [S]\n2 ! %d bytes are too long for a line of at most 197; repeat the key to add "
                "to a list\n3 L<=>w\n",
                length);
        reads(text, expected);
    }
}

/* inih would cut it at 49. */
static void test_long_section(void **state)
{
    char header[300], text[400], expected[400];

    (void)state;
    memset(header, 's', sizeof header);
    header[0] = '[';
    header[298] = ']';
    header[299] = '\0';
    (void)snprintf(text, sizeof text, "%s\nK=v", header);
    (void)snprintf(expected, sizeof expected, "1 %s\n2 K<=>v\n", header);
    reads(text, expected);
}

static void test_event_fails(void **state)
{
    static const char text[] = "[S]\nK=v\n?\n[T]\n";
    static const char *const until[] = {
        "1 [S]\n", "1 [S]\n2 K<=>v\n", ("1 [S]\n2 K<=>v\n3" NEITHER)};

    (void)state;
    for (int line = 1; line <= 3; line++) {
        struct record record = {.fail_at = line};
        assert_int_equal(reader_read(text, &events, &record), -EIO);
        assert_string_equal(buffer_string(&record.text), until[line - 1]);
        buffer_clear(&record.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_longest_line),
        cmocka_unit_test(test_long_section),
        cmocka_unit_test(test_event_fails),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
