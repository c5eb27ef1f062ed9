#include "http/accept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *fields; /* a value a line */
    const char *codings;
} rows[] = {
    {"", ""},
    {"\n", ""},
    {"gzip\n", "gzip "},
    {"GZip\n", "gzip "},
    {"x-gzip\n", "gzip "},
    {"deflate, gzip\n", "gzip "},
    {"gzip, deflate, br, zstd\n", "br zstd gzip "},
    {"gzip\nbr\n", "br gzip "},
    {"gzip;q=1.0, br;q=0.9\n", "gzip br "},
    {"gzip ; q=0.5 ,\tbr\t;\tQ=0.51\n", "br gzip "},
    {"gzip;q=0.001, zstd;q=0.002, br;q=0.003\n", "br zstd gzip "},
    {"br;q=0.001, zstd;q=0.002, gzip;q=0.003\n", "gzip zstd br "},
    {"gzip;q=0\n", ""},
    {"gzip;q=0.000, br;q=0.\n", ""},
    {"gzip;q=1., br;q=1.000\n", "br gzip "},
    {"*\n", "br zstd gzip "},
    {"*;q=0\n", ""},
    {"*;q=0, gzip\n", "gzip "},
    {"br;q=0, *\n", "zstd gzip "},
    {"gzip;q=0.1, *;q=0.5\n", "br zstd "}, /* identity is one of "*" */
    {"gzip;q=0.5, identity\n", ""},
    {"gzip;q=0.5, identity;q=0.5\n", "gzip "},
    {"gzip, identity;q=0.5, br;q=0.4\n", "gzip "},
    {"gzip;q=0.1, identity;q=0\n", "gzip "},
    {"identity\n", ""},
    {"identity;q=0\n", ""},
    {"identity;q=0.2, *;q=0.1\n", ""},
    /* malformed elements */
    {"gzip;q=1.001, br\n", "br "},
    {"gzip;q=0.0001, br\n", "br "},
    {"gzip;q=2, br\n", "br "},
    {"gzip;q=1.0000\n", ""},
    {"gzip;q=-1, br\n", "br "},
    {"gzip;q=, br\n", "br "},
    {"gzip;q, br\n", "br "},
    {"gzip;, br\n", "br "},
    {"gzip;q=.5, br\n", "br "},
    {"gzip;q=0,5, br\n", "br "},
    {"gzip;q=0.5;x=y, br\n", "br "},
    {"gzip;x=0.5, br\n", "br "},
    {"gzip q=0.5, br\n", "br "},
    {",;q=1,,br\n", "br "},
    {"gzipped, brotli\n", ""},
};

static void test_rows(void **state)
{
    static struct request request;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct span rest = span_of(rows[i].fields);
        enum coding accepted[CODING_COUNT];
        char text[64] = "";
        request.field_count = 0;
        while (rest.length > 0)
            request.fields[request.field_count++] =
                (struct field){SPAN("Accept-Encoding"), span_cut(&rest, '\n'), FIELD_OTHER};
        size_t count = accept_codings(&request, accepted);
        for (size_t j = 0; j < count; j++) {
            strcat(text, codings[accepted[j]].name);
            strcat(text, " ");
        }
        if (strcmp(text, rows[i].codings) != 0)
            fail_msg("%s: %s", rows[i].fields, text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows)};

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
