#include "http/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_phrases(void **state)
{
    size_t known = 0;

    (void)state;
    assert_string_equal(status_phrase(100), "Continue");
    assert_string_equal(status_phrase(200), "OK");
    assert_string_equal(status_phrase(404), "Not Found");
    assert_string_equal(status_phrase(511), "Network Authentication Required");
    assert_string_equal(status_phrase(0), "Unknown");
    assert_string_equal(status_phrase(299), "Unknown");
    assert_string_equal(status_phrase(UINT32_MAX), "Unknown");
    for (unsigned status = 0; status < 1000; status++)
        known += strcmp(status_phrase(status), "Unknown") != 0;
    assert_int_equal(known, 60); /* all of the table: it is in order */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_phrases)};

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
