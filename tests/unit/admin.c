#include "handler/admin.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "handler/health.h"

static bool ready;
static int number = 42;
static struct answer answer;

static int write_number(void *context, struct buffer *body)
{
    return buffer_printf(body, "number %d\n", *(const int *)context);
}

static int write_nothing(void *context, struct buffer *body)
{
    (void)context;
    (void)buffer_append_string(body, "half of it");
    return -ENOMEM;
}

static const struct admin_page pages[] = {
    {"/livez", HEALTH_CONTENT_TYPE, health_write_live, NULL},
    {"/readyz", HEALTH_CONTENT_TYPE, health_write_ready, &ready},
    {"/metrics", "text/plain; version=0.0.4", write_number, &number},
    {"/status", "application/json", write_nothing, NULL},
};

static void ask(enum method method, const char *path)
{
    static struct request request;
    struct admin admin;

    admin_init(&admin, pages, sizeof pages / sizeof *pages);
    request = (struct request){.method = method, .path = span_of(path), .minor = 1};
    answer_reset(&answer);
    admin.handler.answer(&admin.handler, &request, &answer);
    assert_false(answer.failed);
}

static void assert_answer(unsigned status, const char *fields, const char *body)
{
    assert_int_equal(answer.status, status);
    assert_string_equal(buffer_string(&answer.fields), fields);
    assert_string_equal(buffer_string(&answer.bytes), body);
    assert_int_equal(answer_length(&answer), answer.bytes.length);
}

#define TEXT_FIELDS "Content-Type: text/plain; charset=utf-8\r\n"
#define NO_STORE "Cache-Control: no-store\r\n"

static void test_health(void **state)
{
    (void)state;
    ready = true;
    ask(METHOD_GET, "/livez");
    assert_answer(200, TEXT_FIELDS NO_STORE, "ok\n");
    ask(METHOD_HEAD, "/livez");
    assert_answer(200, TEXT_FIELDS NO_STORE, "ok\n");
    ask(METHOD_GET, "/readyz");
    assert_answer(200, TEXT_FIELDS NO_STORE, "ready\n");
    ready = false;
    ask(METHOD_GET, "/readyz");
    assert_answer(503, TEXT_FIELDS NO_STORE, "stopping\n");
    ask(METHOD_GET, "/livez");
    assert_answer(200, TEXT_FIELDS NO_STORE, "ok\n");
}

static void test_pages(void **state)
{
    (void)state;
    ask(METHOD_GET, "/metrics");
    assert_answer(200, "Content-Type: text/plain; version=0.0.4\r\n" NO_STORE, "number 42\n");
    ask(METHOD_GET, "/status");
    assert_answer(500, TEXT_FIELDS NO_STORE, "500 Internal Server Error\n");
}

static void test_others(void **state)
{
    static const char *const paths[] = {"/", "/livez/", "/live", "/livezz", "//livez", "*", ""};

    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        ask(METHOD_GET, paths[i]);
        assert_answer(404, TEXT_FIELDS, "404 Not Found\n");
    }
    ask(METHOD_POST, "/livez");
    assert_answer(405, TEXT_FIELDS "Allow: GET, HEAD\r\n", "405 Method Not Allowed\n");
    ask(METHOD_OPTIONS, "/livez");
    assert_answer(405, TEXT_FIELDS "Allow: GET, HEAD\r\n", "405 Method Not Allowed\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_health),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_others),
    };

    answer_init(&answer);
    cmocka_set_message_output(CM_OUTPUT_TAP);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    answer_destroy(&answer);
    return failed;
}
