#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "config/suggest.h"

static const char *const names[] = {"Host", "Path", "Root", "DrainTimeout", "IdleTimeout"};

static const struct {
    const char *wrong, *nearest;
} cases[] = {
    {"Host", "Host"},
    {"host", "Host"},                 /* case alone */
    {"Hots", "Host"},                 /* neighbours swapped */
    {"Hst", "Host"},                  /* left out */
    {"Hosts", "Host"},                /* added */
    {"Hose", "Host"},                 /* replaced */
    {"Moot", "Root"},                 /* one edit away, "Host" two */
    {"DrainTimeuot", "DrainTimeout"}, /* one */
    {"DraningTimeout", "DrainTimeout"},
    {"IdelTimeOuts", "IdleTimeout"},
    {"Timeout", NULL}, /* five of twelve characters missing */
    {"Hst1", NULL},    /* two edits in four characters */
    {"Server", NULL},
    {"", NULL},
    {"x", NULL},
    {"DrainTimeoutDrainTimeoutDrainTimeoutDrainTimeout", NULL},
};

static void test_nearest(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct suggest suggest = {.wrong = cases[i].wrong};
        for (size_t j = 0; j < sizeof names / sizeof names[0]; j++)
            suggest_offer(&suggest, names[j]);
        const char *nearest = suggest.nearest ? suggest.nearest : "(none)";
        if (strcmp(nearest, cases[i].nearest ? cases[i].nearest : "(none)") != 0)
            fail_msg("'%s' suggests %s", cases[i].wrong, nearest);
    }
}

static void test_first_of_equals(void **state)
{
    struct suggest suggest = {.wrong = "abcx"};

    (void)state;
    suggest_offer(&suggest, "abcd");
    suggest_offer(&suggest, "abce");
    assert_string_equal(suggest.nearest, "abcd");
    assert_int_equal(suggest.distance, 1);
    suggest_offer(&suggest, "abcX");
    assert_string_equal(suggest.nearest, "abcX");
    assert_int_equal(suggest.distance, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_first_of_equals),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
