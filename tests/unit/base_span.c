#include "base/span.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct span nothing = {NULL, 0};

static void test_of(void **state)
{
    (void)state;
    assert_int_equal(span_of("").length, 0);
    assert_int_equal(span_of("abc").length, 3);
    assert_int_equal(SPAN("abc").length, 3);
    assert_int_equal(SPAN("a\0c").length, 3);
    assert_true(span_equal(SPAN("abc"), span_of("abc")));
}

static void test_equal(void **state)
{
    static const struct {
        struct span a, b;
        bool equal, equal_case;
    } rows[] = {
        {{"", 0}, {"", 0}, true, true},
        {{NULL, 0}, {"", 0}, true, true},
        {{NULL, 0}, {NULL, 0}, true, true},
        {{NULL, 0}, {"a", 1}, false, false},
        {{"a", 1}, {"a", 1}, true, true},
        {{"a", 1}, {"A", 1}, false, true},
        {{"aZ-9", 4}, {"Az-9", 4}, false, true},
        {{"abc", 3}, {"abcd", 4}, false, false},
        {{"abc", 3}, {"abd", 3}, false, false},
        {{"a\0b", 3}, {"a\0c", 3}, false, false},
        /* only letters have two cases: these differ by the same bit */
        {{"@", 1}, {"`", 1}, false, false},
        {{"[", 1}, {"{", 1}, false, false},
        {{"\r", 1}, {"-", 1}, false, false},
        {{"\xc4", 1}, {"\xe4", 1}, false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(span_equal(rows[i].a, rows[i].b), rows[i].equal);
        assert_int_equal(span_equal(rows[i].b, rows[i].a), rows[i].equal);
        assert_int_equal(span_equal_case(rows[i].a, rows[i].b), rows[i].equal_case);
        assert_int_equal(span_equal_case(rows[i].b, rows[i].a), rows[i].equal_case);
    }
}

static void test_starts(void **state)
{
    (void)state;
    assert_true(span_starts(SPAN("abc"), SPAN("ab")));
    assert_true(span_starts(SPAN("abc"), SPAN("abc")));
    assert_true(span_starts(SPAN("abc"), SPAN("")));
    assert_true(span_starts(nothing, nothing));
    assert_false(span_starts(SPAN("abc"), SPAN("abcd")));
    assert_false(span_starts(SPAN("abc"), SPAN("b")));
    assert_false(span_starts(SPAN("abc"), SPAN("AB")));
    assert_false(span_starts(nothing, SPAN("a")));
}

static void test_trim(void **state)
{
    static const struct {
        const char *text, *trimmed;
    } rows[] = {
        {"", ""}, {" ", ""}, {"\t \t", ""}, {"a", "a"}, {" a", "a"}, {"a\t", "a"},
        {" \ta b\t ", "a b"}, {"\na\r", "\na\r"}, /* neither is OWS */
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_true(span_equal(span_trim(span_of(rows[i].text)), span_of(rows[i].trimmed)));
    assert_int_equal(span_trim(nothing).length, 0);
}

static void test_cut(void **state)
{
    struct span rest = SPAN("a,,b,");

    (void)state;
    assert_true(span_equal(span_cut(&rest, ','), SPAN("a")));
    assert_true(span_equal(rest, SPAN(",b,")));
    assert_true(span_equal(span_cut(&rest, ','), SPAN("")));
    assert_true(span_equal(span_cut(&rest, ','), SPAN("b")));
    /* The separator was the last byte: there is a rest, and it is empty. */
    assert_non_null(rest.at);
    assert_int_equal(rest.length, 0);
    assert_true(span_equal(span_cut(&rest, ','), SPAN("")));
    assert_null(rest.at);
    /* There is none any more: so it stays. */
    assert_null(span_cut(&rest, ',').at);
    assert_null(rest.at);

    rest = SPAN("whole");
    assert_true(span_equal(span_cut(&rest, ','), SPAN("whole")));
    assert_null(rest.at);
    assert_int_equal(rest.length, 0);
}

static void test_cut_word(void **state)
{
    struct span rest = SPAN("\t one  two\t"), word;

    (void)state;
    assert_true(span_cut_word(&rest, &word));
    assert_true(span_equal(word, SPAN("one")));
    assert_true(span_cut_word(&rest, &word));
    assert_true(span_equal(word, SPAN("two")));
    assert_int_equal(rest.length, 0);
    assert_false(span_cut_word(&rest, &word));
    rest = SPAN(" \t");
    assert_false(span_cut_word(&rest, &word));
    rest = (struct span){0};
    assert_false(span_cut_word(&rest, &word));
}

static void test_to_u64(void **state)
{
    static const struct {
        const char *text;
        int result;
        uint64_t value;
    } rows[] = {
        {"0", 0, 0},
        {"7", 0, 7},
        {"007", 0, 7},
        {"18446744073709551615", 0, UINT64_MAX},
        {"000000000000000000000000018446744073709551615", 0, UINT64_MAX},
        {"18446744073709551616", -ERANGE, 0},
        {"18446744073709551620", -ERANGE, 0},
        {"99999999999999999999999999999999999999999999", -ERANGE, 0},
        {"", -EINVAL, 0},
        {" 1", -EINVAL, 0},
        {"1 ", -EINVAL, 0},
        {"+1", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"0x1", -EINVAL, 0},
        {"1.0", -EINVAL, 0},
        {"1/", -EINVAL, 0},
        {"1:", -EINVAL, 0},
        {"\xb1", -EINVAL, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t value = 42;
        assert_int_equal(span_to_u64(span_of(rows[i].text), &value), rows[i].result);
        assert_int_equal(value, rows[i].result == 0 ? rows[i].value : 42);
    }
    assert_int_equal(span_to_u64(nothing, &(uint64_t){0}), -EINVAL);
    assert_int_equal(span_to_u64((struct span){"1\0", 2}, &(uint64_t){0}), -EINVAL);
}

/* Spans are not terminated: nothing behind their end is read (the sanitizers watch). */
static void test_bounds(void **state)
{
    char *three = malloc(3);
    uint64_t value;

    (void)state;
    assert_non_null(three);
    memcpy(three, "123", 3);
    struct span span = {three, 3}, rest = span;
    assert_int_equal(span_to_u64(span, &value), 0);
    assert_int_equal(value, 123);
    assert_true(span_equal(span_cut(&rest, '4'), span));
    assert_true(span_equal(span_trim(span), span));
    assert_false(span_starts(span, SPAN("1234")));
    free(three);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_of),
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_starts),
        cmocka_unit_test(test_trim),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_cut_word),
        cmocka_unit_test(test_to_u64),
        cmocka_unit_test(test_bounds),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
