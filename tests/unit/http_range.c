#include "http/range.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ALLOWED 3

static const struct {
    const char *value;
    uint64_t size;
    int result;
    const char *ranges; /* "offset+length ..." */
} rows[] = {
    {"bytes=0-0", 10, RANGE_PARTIAL, "0+1 "}, {"bytes=0-9", 10, RANGE_PARTIAL, "0+10 "},
    {"bytes=2-5", 10, RANGE_PARTIAL, "2+4 "}, {"bytes=2-", 10, RANGE_PARTIAL, "2+8 "},
    {"bytes=9-", 10, RANGE_PARTIAL, "9+1 "}, {"bytes=2-99", 10, RANGE_PARTIAL, "2+8 "},
    {"bytes=-3", 10, RANGE_PARTIAL, "7+3 "}, {"bytes=-10", 10, RANGE_PARTIAL, "0+10 "},
    {"bytes=-11", 10, RANGE_PARTIAL, "0+10 "}, {"Bytes=0-1", 10, RANGE_PARTIAL, "0+2 "},
    {"bytes= 0-1 ,\t4-5", 10, RANGE_PARTIAL, "0+2 4+2 "},
    {"bytes=,0-1,,4-5,", 10, RANGE_PARTIAL, "0+2 4+2 "},
    {"bytes=4-5,0-1,8-8", 10, RANGE_PARTIAL, "4+2 0+2 8+1 "},
    {"bytes=00000000000000000000000000000001-1", 10, RANGE_PARTIAL, "1+1 "},
    /* merged */
    {"bytes=0-3,2-5", 10, RANGE_PARTIAL, "0+6 "}, {"bytes=0-3,4-5", 10, RANGE_PARTIAL, "0+6 "},
    {"bytes=4-5,0-3", 10, RANGE_PARTIAL, "0+6 "}, {"bytes=0-9,2-3", 10, RANGE_PARTIAL, "0+10 "},
    {"bytes=2-3,0-9", 10, RANGE_PARTIAL, "0+10 "}, {"bytes=0-3,5-6", 10, RANGE_PARTIAL, "0+4 5+2 "},
    {"bytes=0-,0-,0-,0-,0-", 10, RANGE_PARTIAL, "0+10 "},
    {"bytes=0-0,1-1,2-2,3-3,4-4", 10, RANGE_PARTIAL, "0+5 "},
    /* partly or not at all within */
    {"bytes=0-1,20-30", 10, RANGE_PARTIAL, "0+2 "},
    {"bytes=20-30,0-1,-0", 10, RANGE_PARTIAL, "0+2 "}, {"bytes=10-", 10, RANGE_UNSATISFIABLE, ""},
    {"bytes=10-20,30-", 10, RANGE_UNSATISFIABLE, ""}, {"bytes=-0", 10, RANGE_UNSATISFIABLE, ""},
    {"bytes=-00", 10, RANGE_UNSATISFIABLE, ""}, {"bytes=0-", 0, RANGE_UNSATISFIABLE, ""},
    {"bytes=0-0", 0, RANGE_UNSATISFIABLE, ""}, {"bytes=-0", 0, RANGE_UNSATISFIABLE, ""},
    {"bytes=-1", 0, RANGE_WHOLE, ""},
    /* large */
    {"bytes=0-18446744073709551615", 10, RANGE_PARTIAL, "0+10 "},
    {"bytes=0-18446744073709551616", 10, RANGE_PARTIAL, "0+10 "},
    {"bytes=-99999999999999999999999", 10, RANGE_PARTIAL, "0+10 "},
    {"bytes=99999999999999999999999-", 10, RANGE_UNSATISFIABLE, ""},
    {"bytes=18446744073709551615-", UINT64_MAX, RANGE_UNSATISFIABLE, ""},
    {"bytes=18446744073709551614-18446744073709551615", UINT64_MAX, RANGE_PARTIAL,
        "18446744073709551614+1 "},
    {"bytes=0-,1-", UINT64_MAX, RANGE_PARTIAL, "0+18446744073709551615 "},
    /* not understood */
    {"", 10, RANGE_WHOLE, ""}, {"bytes", 10, RANGE_WHOLE, ""}, {"bytes=", 10, RANGE_WHOLE, ""},
    {"bytes=,", 10, RANGE_WHOLE, ""}, {"bytes=-", 10, RANGE_WHOLE, ""},
    {"bytes=5", 10, RANGE_WHOLE, ""}, {"bytes=5-2", 10, RANGE_WHOLE, ""},
    {"bytes=0-1,5-2", 10, RANGE_WHOLE, ""},
    {"bytes=99999999999999999999999-5", 10, RANGE_WHOLE, ""}, {"bytes=a-b", 10, RANGE_WHOLE, ""},
    {"bytes=0-1-2", 10, RANGE_WHOLE, ""}, {"bytes=--1", 10, RANGE_WHOLE, ""},
    {"bytes=+1-2", 10, RANGE_WHOLE, ""}, {"bytes=0 - 1", 10, RANGE_WHOLE, ""},
    {"bytes=0-1;2-3", 10, RANGE_WHOLE, ""}, {"bytes =0-1", 10, RANGE_WHOLE, ""},
    {"items=0-1", 10, RANGE_WHOLE, ""},
    {"bytes=0-0,2-2,4-4,6-6", 10, RANGE_WHOLE, ""}, /* one more than ALLOWED */
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct range ranges[ALLOWED];
        size_t count = ALLOWED, used = 0;
        char text[256] = "";
        int result = range_parse(span_of(rows[i].value), rows[i].size, ranges, &count);
        for (size_t j = 0; j < count; j++)
            used += (size_t)snprintf(text + used, sizeof text - used, "%llu+%llu ",
                (unsigned long long)ranges[j].offset, (unsigned long long)ranges[j].length);
        if (result != rows[i].result || strcmp(text, rows[i].ranges) != 0)
            fail_msg(
                "%s of %llu: %d %s", rows[i].value, (unsigned long long)rows[i].size, result, text);
    }
}

static void test_none_allowed(void **state)
{
    size_t count = 0;

    (void)state;
    assert_int_equal(range_parse(SPAN("bytes=0-1"), 10, NULL, &count), RANGE_WHOLE);
    assert_int_equal(count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_none_allowed),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
