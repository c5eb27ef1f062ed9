#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "config/size.h"

static const struct {
    const char *text;
    int result;
    uint64_t bytes;
} cases[] = {
    {"0", 0, 0},
    {"4096", 0, 4096},
    {"16K", 0, 16384},
    {"1M", 0, 1048576},
    {"2G", 0, UINT64_C(2147483648)},
    {"1T", 0, UINT64_C(1099511627776)},
    {"0T", 0, 0},
    {"18446744073709551615", 0, UINT64_MAX},
    {"18446744073709551616", -ERANGE, 0},
    {"18014398509481983K", 0, UINT64_C(18014398509481983) * 1024},
    {"18014398509481984K", -ERANGE, 0},
    {"16777216T", -ERANGE, 0},
    {"", -EINVAL, 0},
    {"K", -EINVAL, 0},
    {"-1", -EINVAL, 0},
    {"1 K", -EINVAL, 0},
    {"1k", -EINVAL, 0},
    {"1KB", -EINVAL, 0},
    {"1KK", -EINVAL, 0},
    {"1.5M", -EINVAL, 0},
    {"0x10", -EINVAL, 0},
    {"infinity", -EINVAL, 0},
};

static void test_parse(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t bytes = 12345;
        int result = size_parse(cases[i].text, &bytes);
        if (result != cases[i].result)
            fail_msg("'%s': %d", cases[i].text, result);
        uint64_t expected = result < 0 ? 12345 : cases[i].bytes; /* untouched on failure */
        if (bytes != expected)
            fail_msg("'%s': %llu bytes", cases[i].text, (unsigned long long)bytes);
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
