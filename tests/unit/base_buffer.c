#include "base/buffer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_append(void **state)
{
    CLEANUP_BUFFER struct buffer buffer = {0};

    (void)state;
    assert_int_equal(buffer_append(&buffer, SPAN("")), 0);
    assert_int_equal(buffer_append(&buffer, (struct span){NULL, 0}), 0);
    assert_int_equal(buffer.length, 0);
    assert_int_equal(buffer_append(&buffer, SPAN("a\0b")), 0);
    assert_int_equal(buffer_append_string(&buffer, "cd"), 0);
    assert_int_equal(buffer.length, 5);
    assert_memory_equal(buffer.bytes, "a\0bcd", 5);
    assert_ptr_equal(buffer_span(&buffer).at, buffer.bytes);
    assert_int_equal(buffer_span(&buffer).length, 5);
}

/* One by one past every boundary of its growth. */
static void test_growth(void **state)
{
    CLEANUP_BUFFER struct buffer buffer = {0};
    const size_t length = 5000;

    (void)state;
    for (size_t i = 0; i < length; i++) {
        char byte = (char)('a' + i % 26);
        assert_int_equal(buffer_append(&buffer, (struct span){&byte, 1}), 0);
        assert_true(buffer.capacity >= buffer.length);
    }
    assert_int_equal(buffer.length, length);
    for (size_t i = 0; i < length; i++)
        assert_int_equal(buffer.bytes[i], 'a' + (int)(i % 26));
}

static void test_reserve(void **state)
{
    CLEANUP_BUFFER struct buffer buffer = {0};

    (void)state;
    assert_int_equal(buffer_reserve(&buffer, 1000), 0);
    assert_true(buffer.capacity >= 1000);
    assert_int_equal(buffer.length, 0);
    const char *bytes = buffer.bytes;
    buffer.length = 400;
    assert_int_equal(buffer_reserve(&buffer, 600), 0); /* there is room: nothing moves */
    assert_ptr_equal(buffer.bytes, bytes);
    assert_int_equal(buffer_reserve(&buffer, 5000), 0);
    assert_true(buffer.capacity >= 5400);
}

static void test_too_much(void **state)
{
    CLEANUP_BUFFER struct buffer buffer = {0};

    (void)state;
    assert_int_equal(buffer_append_string(&buffer, "abc"), 0);
    const struct buffer before = buffer;
    assert_int_equal(buffer_reserve(&buffer, SIZE_MAX), -ENOMEM);
    assert_int_equal(buffer_reserve(&buffer, SIZE_MAX - 3), -ENOMEM);
    assert_int_equal(buffer_reserve(&buffer, SIZE_MAX / 2), -ENOMEM);
    assert_int_equal(buffer_append(&buffer, (struct span){"", SIZE_MAX - 2}), -ENOMEM);
    assert_memory_equal(&buffer, &before, sizeof buffer);
    assert_string_equal(buffer_string(&buffer), "abc");
}

static void test_printf(void **state)
{
    CLEANUP_BUFFER struct buffer buffer = {0};
    char longer[1000];

    (void)state;
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(buffer_printf(&buffer, "%d-%s", 7, "seven"), 0);
    assert_int_equal(buffer_printf(&buffer, "%s", ""), 0);
    assert_string_equal(buffer_string(&buffer), "7-seven");
    assert_int_equal(buffer_printf(&buffer, "[%s]", longer), 0);
    assert_int_equal(buffer.length, strlen("7-seven[]") + sizeof longer - 1);
    assert_int_equal(buffer.bytes[buffer.length - 1], ']');
}

/* Every length around the first capacity: the terminating NUL of vsnprintf() must fit as well. */
static void test_printf_lengths(void **state)
{
    char text[600];

    (void)state;
    for (size_t length = 0; length < sizeof text; length++) {
        CLEANUP_BUFFER struct buffer buffer = {0};
        memset(text, 'x', length);
        text[length] = '\0';
        assert_int_equal(buffer_printf(&buffer, "%s", text), 0);
        assert_int_equal(buffer.length, length);
        assert_string_equal(buffer_string(&buffer), text);
    }
}

static void test_string(void **state)
{
    CLEANUP_BUFFER struct buffer buffer = {0};

    (void)state;
    assert_string_equal(buffer_string(&buffer), "");
    assert_int_equal(buffer.length, 0);
    while (buffer.length < buffer.capacity)
        assert_int_equal(buffer_append_string(&buffer, "x"), 0);
    assert_int_equal(strlen(buffer_string(&buffer)), buffer.length); /* the NUL had no room yet */
}

static void test_clear(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    buffer_clear(&buffer);
    assert_int_equal(buffer_append_string(&buffer, "abc"), 0);
    buffer_clear(&buffer);
    assert_null(buffer.bytes);
    assert_int_equal(buffer.length, 0);
    assert_int_equal(buffer.capacity, 0);
    assert_int_equal(buffer_append_string(&buffer, "again"), 0);
    assert_string_equal(buffer_string(&buffer), "again");
    buffer_clear(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_growth),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_too_much),
        cmocka_unit_test(test_printf),
        cmocka_unit_test(test_printf_lengths),
        cmocka_unit_test(test_string),
        cmocka_unit_test(test_clear),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
