#include "http/precondition.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* The representation under test. */
#define ETAG "\"abc\""
#define MODIFIED 784111777 /* Sun, 06 Nov 1994 08:49:37 GMT */
#define BEFORE "Sun, 06 Nov 1994 08:49:36 GMT"
#define SAME "Sun, 06 Nov 1994 08:49:37 GMT"
#define AFTER "Sun, 06 Nov 1994 08:49:38 GMT"
#define NOW 1700000000

/* @fields is "Name: value\nName: value\n". */
static void make_request(struct request *request, enum method method, const char *fields)
{
    struct span rest = span_of(fields);

    memset(request, 0, sizeof *request);
    request->method = method;
    while (rest.length > 0) {
        struct span value = span_cut(&rest, '\n'), name = span_cut(&value, ':');
        request->fields[request->field_count++] =
            (struct field){name, span_trim(value), FIELD_OTHER};
    }
}

static const struct {
    enum method method;
    const char *fields;
    int result;
} rows[] = {
    {METHOD_GET, "", PRECONDITION_PASSED},
    /* If-None-Match: weak comparison */
    {METHOD_GET, "If-None-Match: \"abc\"\n", PRECONDITION_NOT_MODIFIED},
    {METHOD_HEAD, "if-none-match: \"abc\"\n", PRECONDITION_NOT_MODIFIED},
    {METHOD_POST, "If-None-Match: \"abc\"\n", PRECONDITION_FAILED},
    {METHOD_GET, "If-None-Match: W/\"abc\"\n", PRECONDITION_NOT_MODIFIED},
    {METHOD_GET, "If-None-Match: \"x\", \"abc\"\n", PRECONDITION_NOT_MODIFIED},
    {METHOD_GET, "If-None-Match: ,\"x\",,W/\"abc\" ,\n", PRECONDITION_NOT_MODIFIED},
    {METHOD_GET, "If-None-Match: \"x\"\nIf-None-Match: \"abc\"\n", PRECONDITION_NOT_MODIFIED},
    {METHOD_GET, "If-None-Match: *\n", PRECONDITION_NOT_MODIFIED},
    {METHOD_PUT, "If-None-Match: *\n", PRECONDITION_FAILED},
    {METHOD_GET, "If-None-Match: \"x\"\n", PRECONDITION_PASSED},
    {METHOD_GET, "If-None-Match: \"ABC\"\n", PRECONDITION_PASSED},
    {METHOD_GET, "If-None-Match: \"x,\"abc\"\"\n", PRECONDITION_PASSED},
    {METHOD_GET, "If-None-Match: \"x, \\\"abc\\\"\"\n", PRECONDITION_PASSED},
    {METHOD_GET, "If-None-Match: abc\n", PRECONDITION_PASSED},
    {METHOD_GET, "If-None-Match: \"abc\n", PRECONDITION_PASSED},
    {METHOD_GET, "If-None-Match: w/\"abc\"\n", PRECONDITION_PASSED},
    {METHOD_GET, "If-None-Match: W/\n", PRECONDITION_PASSED},
    {METHOD_GET, "If-None-Match: \"abc\"\"x\"\n", PRECONDITION_PASSED},
    {METHOD_GET, "If-None-Match:\n", PRECONDITION_PASSED},
    /* it silences If-Modified-Since */
    {METHOD_GET, "If-None-Match: \"x\"\nIf-Modified-Since: " SAME "\n", PRECONDITION_PASSED},
    {METHOD_GET, "If-None-Match: junk\nIf-Modified-Since: " SAME "\n", PRECONDITION_PASSED},
    /* If-Modified-Since */
    {METHOD_GET, "If-Modified-Since: " BEFORE "\n", PRECONDITION_PASSED},
    {METHOD_GET, "If-Modified-Since: " SAME "\n", PRECONDITION_NOT_MODIFIED},
    {METHOD_HEAD, "If-Modified-Since: " AFTER "\n", PRECONDITION_NOT_MODIFIED},
    {METHOD_GET, "If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\n", PRECONDITION_NOT_MODIFIED},
    {METHOD_POST, "If-Modified-Since: " SAME "\n", PRECONDITION_PASSED},
    {METHOD_GET, "If-Modified-Since: yesterday\n", PRECONDITION_PASSED},
    {METHOD_GET, "If-Modified-Since: " SAME "\nIf-Modified-Since: " SAME "\n", PRECONDITION_PASSED},
    /* If-Match: strong comparison */
    {METHOD_GET, "If-Match: \"abc\"\n", PRECONDITION_PASSED},
    {METHOD_PUT, "If-Match: \"x\", \"abc\"\n", PRECONDITION_PASSED},
    {METHOD_PUT, "If-Match: \"x\"\nIf-Match: \"abc\"\n", PRECONDITION_PASSED},
    {METHOD_PUT, "If-Match: *\n", PRECONDITION_PASSED},
    {METHOD_GET, "If-Match: W/\"abc\"\n", PRECONDITION_FAILED},
    {METHOD_GET, "If-Match: \"x\"\n", PRECONDITION_FAILED},
    {METHOD_GET, "If-Match: abc\n", PRECONDITION_FAILED},
    {METHOD_GET, "If-Match:\n", PRECONDITION_FAILED},
    {METHOD_GET, "If-Match: \"abc\"\nIf-None-Match: \"abc\"\n", PRECONDITION_NOT_MODIFIED},
    {METHOD_GET, "If-None-Match: \"abc\"\nIf-Match: \"x\"\n", PRECONDITION_FAILED},
    /* it silences If-Unmodified-Since */
    {METHOD_GET, "If-Match: \"abc\"\nIf-Unmodified-Since: " BEFORE "\n", PRECONDITION_PASSED},
    /* If-Unmodified-Since */
    {METHOD_GET, "If-Unmodified-Since: " BEFORE "\n", PRECONDITION_FAILED},
    {METHOD_PUT, "If-Unmodified-Since: " BEFORE "\n", PRECONDITION_FAILED},
    {METHOD_GET, "If-Unmodified-Since: " SAME "\n", PRECONDITION_PASSED},
    {METHOD_GET, "If-Unmodified-Since: " AFTER "\n", PRECONDITION_PASSED},
    {METHOD_GET, "If-Unmodified-Since: yesterday\n", PRECONDITION_PASSED},
    {METHOD_GET, "If-Unmodified-Since: " SAME "\nIf-Modified-Since: " SAME "\n",
        PRECONDITION_NOT_MODIFIED},
};

static void test_check(void **state)
{
    static struct request request;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        make_request(&request, rows[i].method, rows[i].fields);
        int result = precondition_check(&request, SPAN(ETAG), MODIFIED, NOW);
        if (result != rows[i].result)
            fail_msg("method %d, %s: %d", (int)rows[i].method, rows[i].fields, result);
    }
}

static void test_weak_or_no_etag(void **state)
{
    static struct request request;

    (void)state;
    make_request(&request, METHOD_GET, "If-None-Match: \"abc\"\n");
    assert_int_equal(
        precondition_check(&request, SPAN("W/\"abc\""), MODIFIED, NOW), PRECONDITION_NOT_MODIFIED);
    assert_int_equal(
        precondition_check(&request, (struct span){NULL, 0}, MODIFIED, NOW), PRECONDITION_PASSED);
    make_request(&request, METHOD_GET, "If-Match: W/\"abc\"\n");
    assert_int_equal(
        precondition_check(&request, SPAN("W/\"abc\""), MODIFIED, NOW), PRECONDITION_FAILED);
}

static void test_range_applies(void **state)
{
    static const struct {
        const char *fields;
        bool applies;
    } cases[] = {
        {"", true},
        {"If-Range: \"abc\"\n", true},
        {"If-Range: \"abcd\"\n", false},
        {"If-Range: W/\"abc\"\n", false},
        {"If-Range: \"abc\", \"x\"\n", false},
        {"If-Range: *\n", false},
        {"If-Range:\n", false},
        {"If-Range: abc\n", false},
        {"If-Range: " SAME "\n", true},
        {"If-Range: " BEFORE "\n", false},
        {"If-Range: " AFTER "\n", false},
        {"If-Range: \"x\" " SAME "\n", false},
        {"If-Range: \"abc\"\nIf-Range: \"abc\"\n", false},
    };
    static struct request request;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_request(&request, METHOD_GET, cases[i].fields);
        if (precondition_range_applies(&request, SPAN(ETAG), MODIFIED, NOW) != cases[i].applies)
            fail_msg("%s", cases[i].fields);
    }
    make_request(&request, METHOD_GET, "If-Range: W/\"abc\"\n");
    assert_false(precondition_range_applies(&request, SPAN("W/\"abc\""), MODIFIED, NOW));
    make_request(&request, METHOD_GET, "If-Range: " SAME "\n");
    assert_false(precondition_range_applies(&request, SPAN(ETAG), MODIFIED, MODIFIED));
    assert_true(precondition_range_applies(&request, SPAN(ETAG), MODIFIED, MODIFIED + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_weak_or_no_etag),
        cmocka_unit_test(test_range_applies),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
