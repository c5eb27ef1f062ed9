#include "connection/answer.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"

static struct answer answer; /* as a worker has it: one for all requests */

static int set_up(void **state)
{
    (void)state;
    answer_init(&answer);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    answer_destroy(&answer);
    return 0;
}

static void assert_fields(const char *expected)
{
    assert_string_equal(buffer_string(&answer.fields), expected);
}

static void test_fields(void **state)
{
    char lengthy[1000], expected[1100];

    (void)state;
    answer_field(&answer, "ETag", "%s", "\"x\"");
    answer_field(&answer, "Content-Range", "bytes %d-%d/%d", 0, 1, 2);
    answer_field(&answer, "Empty", "%s", "");
    answer_field(&answer, "Accept-Ranges", "bytes");
    assert_fields("ETag: \"x\"\r\nContent-Range: bytes 0-1/2\r\nEmpty: \r\n"
                  "Accept-Ranges: bytes\r\n");
    assert_false(answer.failed);

    /* Longer than the room a value is first given. */
    answer_reset(&answer);
    memset(lengthy, 'x', sizeof lengthy - 1);
    lengthy[sizeof lengthy - 1] = '\0';
    for (int with_format = 0; with_format < 2; with_format++) {
        answer_reset(&answer);
        answer_field(&answer, "A", "b");
        if (with_format)
            answer_field(&answer, "L", "%s%d", lengthy, 7);
        else
            answer_field(&answer, "L", "%s", lengthy);
        (void)snprintf(
            expected, sizeof expected, "A: b\r\nL: %s%s\r\n", lengthy, with_format ? "7" : "");
        assert_fields(expected);
    }
    assert_false(answer.failed);
}

/* Every length around the first room: the terminating NUL of vsnprintf() must fit as well. */
static void test_field_lengths(void **state)
{
    char value[600];

    (void)state;
    for (size_t length = 0; length < sizeof value; length++) {
        answer_reset(&answer);
        buffer_clear(&answer.fields);
        memset(value, 'v', length);
        value[length] = '\0';
        answer_field(&answer, "N", "%s%s", value, "");
        assert_int_equal(answer.fields.length, length + strlen("N: \r\n"));
        assert_memory_equal(answer.fields.bytes + 3 + length, "\r\n", 2);
    }
    assert_false(answer.failed);
}

static void test_refused_fields(void **state)
{
    static const char *const bad[] = {"a\r\nSet-Cookie: b", "a\nb", "a\rb", "\n", "b\r"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        answer_reset(&answer);
        answer_field(&answer, "A", "b");
        assert_false(answer.failed);
        answer_field(&answer, "Location", "%s", bad[i]);
        assert_true(answer.failed);
        assert_fields("A: b\r\n");
    }
    answer_reset(&answer);
    answer_field(&answer, "A", "%c", '\0');
    assert_true(answer.failed);
    assert_fields("");
}

static void test_parts(void **state)
{
    static const struct part expected[] = {
        {PART_BYTES, 0, 7},
        {PART_FILE, 7, 10},
        {PART_FILE, 20, 80},
        {PART_BYTES, 7, 3},
    };

    (void)state;
    answer_bytes(&answer, SPAN(""));
    answer_bytes(&answer, SPAN("head"));
    answer_bytes(&answer, SPAN("ing")); /* goes on where the last part ended: the same part */
    answer_file(&answer, open("/dev/null", O_RDONLY | O_CLOEXEC));
    answer_file_part(&answer, 7, 10);
    answer_file_part(&answer, 19, 0);
    answer_file_part(&answer, 20, 5);
    answer_file_part(&answer, 25, 75);
    answer_bytes(&answer, SPAN("end"));

    assert_int_equal(answer.part_count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(answer.parts[i].kind, expected[i].kind);
        assert_int_equal(answer.parts[i].offset, expected[i].offset);
        assert_int_equal(answer.parts[i].length, expected[i].length);
    }
    assert_string_equal(buffer_string(&answer.bytes), "headingend");
    assert_int_equal(answer_length(&answer), 100);
    assert_false(answer.failed);
}

static void test_too_many_parts(void **state)
{
    (void)state;
    for (size_t i = 0; i < ANSWER_PARTS_MAX; i++)
        answer_file_part(&answer, 2 * i, 1);
    assert_false(answer.failed);
    answer_file_part(&answer, 2 * ANSWER_PARTS_MAX, 1);
    assert_true(answer.failed);
    assert_int_equal(answer.part_count, ANSWER_PARTS_MAX);
}

static int is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void test_file_is_owned(void **state)
{
    int first = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int second = open("/dev/null", O_RDONLY | O_CLOEXEC);

    (void)state;
    answer_file(&answer, first);
    assert_true(is_open(first));
    answer_file(&answer, second);
    assert_false(is_open(first));
    assert_true(is_open(second));
    answer_reset(&answer);
    assert_false(is_open(second));
    assert_int_equal(answer.file, -1);
}

static void test_a_lent_file_is_not(void **state)
{
    CLEANUP_FD int lent = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int owned = open("/dev/null", O_RDONLY | O_CLOEXEC);

    (void)state;
    answer_lend_file(&answer, lent);
    assert_int_equal(answer.file, lent);
    answer_reset(&answer);
    assert_int_equal(answer.file, -1);
    assert_true(is_open(lent));
    answer_lend_file(&answer, lent);
    answer_file(&answer, owned);
    assert_true(is_open(lent));
    answer_reset(&answer);
    assert_false(is_open(owned));
}

static void test_reset_keeps_memory_up_to_a_bound(void **state)
{
    static char much[64 * 1024 + 1];

    (void)state;
    answer_bytes(&answer, SPAN("some"));
    answer_field(&answer, "A", "b");
    answer.status = 200;
    answer.failed = true;
    char *bytes = answer.bytes.bytes, *fields = answer.fields.bytes;
    answer_reset(&answer);
    assert_ptr_equal(answer.bytes.bytes, bytes);
    assert_ptr_equal(answer.fields.bytes, fields);
    assert_int_equal(answer.bytes.length, 0);
    assert_int_equal(answer.fields.length, 0);
    assert_int_equal(answer_length(&answer), 0);
    assert_int_equal(answer.status, 0);
    assert_false(answer.failed);

    answer_bytes(&answer, (struct span){much, sizeof much});
    answer_reset(&answer);
    assert_int_equal(answer.bytes.capacity, 0);
    assert_int_not_equal(answer.fields.capacity, 0);
}

static void test_text(void **state)
{
    (void)state;
    answer_field(&answer, "ETag", "%s", "\"x\"");
    answer_bytes(&answer, SPAN("what there was before"));
    answer_file(&answer, open("/dev/null", O_RDONLY | O_CLOEXEC));
    int file = answer.file;
    answer_file_part(&answer, 0, 10);
    answer.failed = true;
    answer_text(&answer, 404);
    assert_int_equal(answer.status, 404);
    assert_fields("Content-Type: text/plain; charset=utf-8\r\n");
    assert_string_equal(buffer_string(&answer.bytes), "404 Not Found\n");
    assert_int_equal(answer_length(&answer), strlen("404 Not Found\n"));
    assert_false(is_open(file));
    assert_false(answer.failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_field_lengths, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_parts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_many_parts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_file_is_owned, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_lent_file_is_not, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reset_keeps_memory_up_to_a_bound, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_text, set_up, tear_down),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
