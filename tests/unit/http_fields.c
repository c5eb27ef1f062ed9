#include "http/fields.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void assert_span(struct span span, const char *expected)
{
    assert_int_equal(!span.at, !expected);
    if (expected && !span_equal(span, span_of(expected)))
        fail_msg("'%.*s' is not '%s'", (int)span.length, span.at, expected);
}

static const struct field some[] = {
    {SPAN("X"), SPAN("a ,b"), FIELD_OTHER},
    {SPAN("Y"), SPAN("no"), FIELD_OTHER},
    {SPAN("x"), SPAN(""), FIELD_OTHER},
    {SPAN("X"), SPAN("c,\t,d d"), FIELD_OTHER},
};
#define SOME (sizeof some / sizeof *some)

static void test_find_and_count(void **state)
{
    (void)state;
    assert_span(fields_find(some, SOME, "x"), "a ,b");
    assert_span(fields_find(some, SOME, "y"), "no");
    assert_span(fields_find(some, 1, "y"), NULL);
    assert_span(fields_find(some, SOME, "xx"), NULL);
    assert_int_equal(fields_count(some, SOME, "x"), 3);
    assert_int_equal(fields_count(some, 3, "x"), 2);
    assert_int_equal(fields_count(some, SOME, "z"), 0);
}

static void test_list(void **state)
{
    static const char *const expected[] = {"a", "b", "", "c", "", "d d"};
    struct list_walk walk = {.name = "x"};
    struct span element;
    size_t count = 0;

    (void)state;
    while (fields_list_next(some, SOME, &walk, &element))
        assert_span(element, expected[count++]);
    assert_int_equal(count, 6);
}

static void test_by_kind(void **state)
{
    static const struct field fields[] = {
        {SPAN("Upgrade"), SPAN("a, b"), FIELD_UPGRADE},
        {SPAN("Te"), SPAN("x"), FIELD_TE},
        {SPAN("upgrade"), SPAN("c"), FIELD_UPGRADE},
    };
    static const char *const expected[] = {"a", "b", "c"};
    struct list_walk walk = {.kind = FIELD_UPGRADE};
    struct span element;
    size_t count = 0;

    (void)state;
    assert_span(fields_find_kind(fields, 3, FIELD_UPGRADE), "a, b");
    assert_span(fields_find_kind(fields, 3, FIELD_HOST), NULL);
    assert_int_equal(fields_count_kind(fields, 3, FIELD_UPGRADE), 2);
    assert_int_equal(fields_count_kind(fields, 3, FIELD_HOST), 0);
    while (fields_list_next(fields, 3, &walk, &element))
        assert_span(element, expected[count++]);
    assert_int_equal(count, 3);
}

static void test_connection_options(void **state)
{
    static const struct {
        struct span value;
        struct connection_options options;
    } rows[] = {
        {SPAN(""), {0}},
        {SPAN("closed, x-close, keep alive"), {0}},
        {SPAN(",, CLOSE"), {.close = true}},
        {SPAN("Keep-Alive, x"), {.keep_alive = true}},
        {SPAN("x,\tUpgrade\t,close"), {.close = true, .upgrade = true}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct field fields[] = {{SPAN("Other"), SPAN("close, keep-alive"), FIELD_OTHER},
            {SPAN("connection"), rows[i].value, FIELD_CONNECTION}};
        struct connection_options options = fields_connection_options(fields, 2);
        assert_int_equal(options.close, rows[i].options.close);
        assert_int_equal(options.keep_alive, rows[i].options.keep_alive);
        assert_int_equal(options.upgrade, rows[i].options.upgrade);
    }
}

/* As llhttp reports "Name:  a b \r\n", in pieces. */
static void test_pieces(void **state)
{
    static const char line[] = "Name:  a b \r\nEmpty: \r\n";
    struct field field = {0};

    (void)state;
    field_extend(&field.name, line, 2);
    field_extend(&field.name, line + 2, 0);
    field_extend(&field.name, line + 2, 2);
    field_extend(&field.value, line + 6, 2);
    field_extend(&field.value, line, 0);
    field_extend(&field.value, line + 8, 3);
    field_complete(&field);
    assert_span(field.name, "Name");
    assert_span(field.value, "a b");
    assert_int_equal(field.kind, FIELD_OTHER);
    field = (struct field){0};
    field_extend(&field.name, line + 13, 5);
    field_complete(&field);
    assert_ptr_equal(field.value.at, line + 19);
    assert_span(field.value, "");
}

/*
 * What a version of llhttp could let through: what stands there is more, or less, than the fields
 * it reports, which are always "A" with "b" and "C" with "".
 */
static void test_shape(void **state)
{
    static const struct {
        struct span text;
        int a, b, c, empty; /* where they begin */
        bool good;
    } rows[] = {
        {SPAN("A: b\r\nC:\r\n\r\n"), 0, 3, 6, 8, true},
        {SPAN("A:b\r\nC: \t\r\n\r\n"), 0, 2, 5, 7, true},
        {SPAN("A:\tb \t\r\nC:\r\n\r\n"), 0, 3, 8, 10, true},
        {SPAN("A: b\nC:\r\n\r\n"), 0, 3, 5, 7, false},
        {SPAN("A: b\r\rC:\r\n\r\n"), 0, 3, 6, 8, false},
        {SPAN("A: b\r\nC:\r\n\n"), 0, 3, 6, 8, false},
        {SPAN("A: b\r\nC:\r\n"), 0, 3, 6, 8, false},
        {SPAN("A: b\r\nC:"), 0, 3, 6, 8, false},
        {SPAN("A: b\r\nC:\n\r\n"), 0, 3, 6, 8, false},
        {SPAN("A: b\r\nC:\r\n\r\n\r\n"), 0, 3, 6, 8, false}, /* bytes too many */
        {SPAN("A: b\r\nC: x\r\n\r\n"), 0, 3, 6, 8, false},
        {SPAN("A : b\r\nC:\r\n\r\n"), 0, 4, 7, 9, false},
        {SPAN(" A: b\r\nC:\r\n\r\n"), 1, 4, 7, 9, false},
        {SPAN("\r\nA: b\r\nC:\r\n\r\n"), 2, 5, 8, 10, false},
        {SPAN("A: b\r\n C:\r\n\r\n"), 0, 3, 7, 9, false},
        {SPAN("A: b\r\nX: y\r\nC:\r\n\r\n"), 0, 3, 12, 14, false},
        {SPAN("A:\r\n b\r\nC:\r\n\r\n"), 0, 5, 8, 10, false},
        {SPAN("A: xb\r\nC:\r\n\r\n"), 0, 4, 7, 9, false},
        {SPAN("A: bx\r\nC:\r\n\r\n"), 0, 3, 7, 9, false},
        {SPAN("A; b\r\nC:\r\n\r\n"), 0, 3, 6, 8, false},
        {SPAN("A: b\r\nC:\r\n\r\n"), 6, 3, 6, 8, false}, /* spans from elsewhere */
        {SPAN("A: b\r\nC:\r\n\r\n"), 0, 0, 6, 8, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *at = rows[i].text.at;
        struct field fields[] = {{{at + rows[i].a, 1}, {at + rows[i].b, 1}, FIELD_OTHER},
            {{at + rows[i].c, 1}, {at + rows[i].empty, 0}, FIELD_OTHER}};
        const char *why = fields_check_shape(fields, 2, at, at + rows[i].text.length);
        if (!why != rows[i].good)
            fail_msg("row %zu: %s", i, why ? why : "good");
    }
}

static void test_shape_of_bytes(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        char text[] = "A?: b?d\r\n\r\n";
        struct field field = {{text, 2}, {text + 4, 3}, FIELD_OTHER};
        bool token = c != '\0' && (strchr("!#$%&'*+-.^_`|~", c) || (c >= '0' && c <= '9') ||
                                      ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'));
        text[1] = (char)c;
        assert_int_equal(!fields_check_shape(&field, 1, text, text + 11), token);
        text[1] = 'A';
        text[5] = (char)c;
        assert_int_equal(
            !fields_check_shape(&field, 1, text, text + 11), c == '\t' || (c >= 0x20 && c != 0x7f));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find_and_count),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_by_kind),
        cmocka_unit_test(test_connection_options),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_shape),
        cmocka_unit_test(test_shape_of_bytes),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
