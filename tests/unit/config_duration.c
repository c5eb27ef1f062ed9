#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "base/clock.h"
#include "config/duration.h"

#define MSEC UINT64_C(1000)
#define SEC UINT64_C(1000000)
#define MINUTE (60 * SEC)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

static const struct {
    const char *text;
    int result;
    uint64_t usec;
} cases[] = {
    {"0", 0, 0},
    {"25", 0, 25 * SEC},
    {"25s", 0, 25 * SEC},
    {" 25 s ", 0, 25 * SEC},
    {"500ms", 0, 500 * MSEC},
    {"1min 30s", 0, 90 * SEC},
    {"1min30", 0, 90 * SEC},
    {"1 2", 0, 3 * SEC},
    /* The examples of systemd.time(7). */
    {"2 h", 0, 2 * HOUR},
    {"2hours", 0, 2 * HOUR},
    {"48hr", 0, 48 * HOUR},
    {"1y 12month", 0, UINT64_C(31557600) * SEC + 12 * UINT64_C(2629800) * SEC},
    {"55s500ms", 0, 55 * SEC + 500 * MSEC},
    {"300ms20s 5day", 0, 300 * MSEC + 20 * SEC + 5 * DAY},
    /* Every unit. */
    {"1us", 0, 1},
    {"1usec", 0, 1},
    {"1\xc2\xb5s", 0, 1},
    {"1\xce\xbcs", 0, 1},
    {"1msec", 0, MSEC},
    {"1sec", 0, SEC},
    {"1second", 0, SEC},
    {"2seconds", 0, 2 * SEC},
    {"1m", 0, MINUTE},
    {"1min", 0, MINUTE},
    {"1minute", 0, MINUTE},
    {"2minutes", 0, 2 * MINUTE},
    {"1h", 0, HOUR},
    {"1hour", 0, HOUR},
    {"1d", 0, DAY},
    {"2days", 0, 2 * DAY},
    {"1w", 0, 7 * DAY},
    {"1week", 0, 7 * DAY},
    {"2weeks", 0, 14 * DAY},
    {"1M", 0, UINT64_C(2629800) * SEC},
    {"2months", 0, 2 * UINT64_C(2629800) * SEC},
    {"1year", 0, UINT64_C(31557600) * SEC},
    {"2years", 0, 2 * UINT64_C(31557600) * SEC},
    {"infinity", 0, USEC_INFINITY},
    {" infinity ", 0, USEC_INFINITY},
    /* No time spans. */
    {"", -EINVAL, 0},
    {" ", -EINVAL, 0},
    {"s", -EINVAL, 0},
    {"-1", -EINVAL, 0},
    {"+1", -EINVAL, 0},
    {"1.5s", -EINVAL, 0},
    {"1parsec", -EINVAL, 0},
    {"1S", -EINVAL, 0},
    {"1s,2s", -EINVAL, 0},
    {"0x10", -EINVAL, 0},
    {"Infinity", -EINVAL, 0},
    {"infinity 1s", -EINVAL, 0},
    {"1s infinity", -EINVAL, 0},
    /* The largest, and what does not fit: in the number, the product and the sum. */
    {"18446744073709551614us", 0, UINT64_MAX - 1},
    {"18446744073709551615us", -ERANGE, 0},
    {"18446744073709551616us", -ERANGE, 0},
    {"18446744073710s", -ERANGE, 0},
    {"18446744073709551614us 1us", -ERANGE, 0},
    {"18446744073709551614us 2us", -ERANGE, 0},
};

static void test_parse(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t usec = 12345;
        int result = duration_parse(cases[i].text, &usec);
        if (result != cases[i].result)
            fail_msg("'%s': %d", cases[i].text, result);
        uint64_t expected = result < 0 ? 12345 : cases[i].usec; /* untouched on failure */
        if (usec != expected)
            fail_msg("'%s': %llu usec", cases[i].text, (unsigned long long)usec);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
