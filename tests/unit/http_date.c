#include "http/date.h"

#include <errno.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define NOW 1700000000 /* 14 Nov 2023 */

static void test_format(void **state)
{
    static const struct {
        time_t time;
        const char *text;
    } rows[] = {
        {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"},
        {0, "Thu, 01 Jan 1970 00:00:00 GMT"},
        {-1, "Wed, 31 Dec 1969 23:59:59 GMT"},
        {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
        {INT64_C(253402300799), "Fri, 31 Dec 9999 23:59:59 GMT"},
        {INT64_MAX, "Fri, 31 Dec 9999 23:59:59 GMT"},
        {INT64_MIN, "Sat, 01 Jan 0000 00:00:00 GMT"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[DATE_TEXT_MAX];
        date_format(rows[i].time, text);
        assert_string_equal(text, rows[i].text);
    }
}

static void test_parse(void **state)
{
    static const struct {
        const char *text;
        time_t time;
    } rows[] = {
        {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
        {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
        {"Sun Nov  6 08:49:37 1994", 784111777},
        {"Wed Nov 16 08:49:37 1994", 784975777},
        {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
        {"Wed, 31 Dec 1969 23:59:59 GMT", -1},
        {"Tue, 29 Feb 2000 00:00:00 GMT", 951782400},
        {"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800},
        {"Fri, 31 Dec 9999 23:59:59 GMT", INT64_C(253402300799)},
        {"Sat, 01 Jan 0000 00:00:00 GMT", INT64_C(-62167219200)},
        {"Saturday, 01-Jan-00 00:00:00 GMT", 946684800},
        {"Saturday, 01-Jan-73 00:00:00 GMT", INT64_C(3250454400)}, /* 2073: 50 years on */
        {"Tuesday, 01-Jan-74 00:00:00 GMT", 126230400},            /* 1974: 2074 is further */
        {"Friday, 01-Jan-99 00:00:00 GMT", 915148800},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        time_t time = 1;
        if (date_parse(span_of(rows[i].text), NOW, &time) < 0 || time != rows[i].time)
            fail_msg("%s: %lld", rows[i].text, (long long)time);
    }
}

static void test_short_year_of_the_next_century(void **state)
{
    const time_t new_year_2080 = INT64_C(3471292800);
    time_t time;

    (void)state;
    assert_int_equal(
        date_parse(SPAN("Wednesday, 01-Jan-10 00:00:00 GMT"), new_year_2080, &time), 0);
    assert_int_equal(time, INT64_C(4417977600)); /* 2110, 30 years on */
    assert_int_equal(
        date_parse(SPAN("Wednesday, 01-Jan-31 00:00:00 GMT"), new_year_2080, &time), 0);
    assert_int_equal(time, INT64_C(1924992000)); /* 2031 */
    assert_int_equal(date_parse(SPAN("Sunday, 01-Jan-30 00:00:00 GMT"), new_year_2080, &time), 0);
    assert_int_equal(time, INT64_C(5049129600)); /* 2130 */
}

static void test_refused(void **state)
{
    static const char *const rows[] = {
        "",
        "0",
        "784111777",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "sun, 06 nov 1994 08:49:37 gmt",
        "Sun,  06 Nov 1994 08:49:37 GMT",
        "Foo, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 29 Feb 1900 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 1994 -8:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sunday, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov 06 08:49:37 94",
        "Sun Nov  6 08:49:37 1994 GMT",
        "Sun, 06 Nov 1994 08:49:3",
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        time_t time = 1;
        if (date_parse(span_of(rows[i]), NOW, &time) != -EINVAL || time != 1)
            fail_msg("'%s' is read as %lld", rows[i], (long long)time);
    }
}

static void test_both_ways(void **state)
{
    char text[DATE_TEXT_MAX];

    (void)state;
    for (time_t time = -3000000000; time < 6000000000; time += 8675309) {
        time_t back;
        date_format(time, text);
        assert_int_equal(date_parse(span_of(text), NOW, &back), 0);
        assert_int_equal(back, time);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_short_year_of_the_next_century),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_both_ways),
    };

    (void)setenv("TZ", "America/New_York", 1); /* must not matter */
    (void)setlocale(LC_ALL, "");
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
