#include "base/timespan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"

static void test_format(void **state)
{
    static const struct {
        uint64_t usec;
        const char *text;
    } cases[] = {
        {0, "0ms"},
        {999, "0ms"},
        {1000, "1ms"},
        {300000, "300ms"},
        {USEC_PER_SEC - 1, "999ms"},
        {USEC_PER_SEC, "1s"},
        {1500000, "1s 500ms"},
        {59 * USEC_PER_SEC, "59s"},
        {60 * USEC_PER_SEC, "1min"},
        {90 * USEC_PER_SEC, "1min 30s"},
        {300 * USEC_PER_SEC, "5min"},
        {3600 * USEC_PER_SEC, "1h"},
        {3601 * USEC_PER_SEC, "1h"},
        {5400 * USEC_PER_SEC, "1h 30min"},
        {86400 * USEC_PER_SEC, "1d"},
        {100 * 3600 * USEC_PER_SEC, "4d 4h"},
        {UINT64_MAX, "213503982d 8h"},
    };
    char text[TIMESPAN_TEXT_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memset(text, 'x', sizeof text);
        assert_ptr_equal(timespan_format(cases[i].usec, text), text);
        assert_string_equal(text, cases[i].text);
    }
}

static void test_round(void **state)
{
    (void)state;
    assert_int_equal(timespan_round(0), 0);
    assert_int_equal(timespan_round(999999), 999999);
    assert_int_equal(timespan_round(1000000), 1000000);
    assert_int_equal(timespan_round(3999999), 3000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_round),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
