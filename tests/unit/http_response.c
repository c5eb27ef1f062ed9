#include "http/response.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"

static const struct head_limits usual = {.size = 16384, .fields = 100};

struct outcome {
    int result;
    const char *why;
    struct response response;
    char *bytes; /* that the spans point into */
};

/* The first @length bytes of @head, in memory without a byte to spare. */
static void parse(struct outcome *outcome, struct span head, size_t length, bool head_request,
    const struct head_limits *limits)
{
    outcome->bytes = malloc(length ? length : 1);
    assert_non_null(outcome->bytes);
    memcpy(outcome->bytes, head.at, length);
    memset(&outcome->response, 0xa5, sizeof outcome->response); /* nothing may be left over */
    outcome->why = NULL;
    outcome->result = response_parse((struct span){outcome->bytes, length}, head_request, limits,
        &outcome->response, &outcome->why);
    assert_int_equal(outcome->result == RESPONSE_BAD, outcome->why != NULL);
}

static void assert_span(struct span span, const char *expected)
{
    if (!expected) {
        assert_null(span.at);
        return;
    }
    assert_non_null(span.at);
    if (!span_equal(span, span_of(expected)))
        fail_msg("'%.*s' is not '%s'", (int)span.length, span.at, expected);
}

/* Parses a head that must be accepted. The caller frees outcome->bytes. */
static const struct response *accepted(struct outcome *outcome, const char *head, bool head_request)
{
    parse(outcome, span_of(head), strlen(head), head_request, &usual);
    if (outcome->result != RESPONSE_COMPLETE)
        fail_msg("%d (%s): %s", outcome->result, outcome->why, head);
    return &outcome->response;
}

static void test_plain(void **state)
{
    struct outcome outcome;
    static const char head[] = "HTTP/1.1 404 Not  \xe9 Found \r\n"
                               "Server: x\r\n"
                               "Empty:\r\n"
                               "EMPTY: \t \r\n"
                               "Spaces:\t a \t b \t\r\n"
                               "Content-Length: 4\r\n"
                               "\r\n";
    char text[256];

    (void)state;
    (void)snprintf(text, sizeof text, "%sBODYHTTP/1.1 200 OK\r\n\r\n", head);
    const struct response *response = accepted(&outcome, text, false);
    assert_int_equal(response->status, 404);
    assert_int_equal(response->minor, 1);
    assert_span(response->reason, "Not  \xe9 Found ");
    assert_true(response->keep_alive);
    assert_false(response->upgrade);
    assert_int_equal(response->framing, RESPONSE_LENGTH);
    assert_true(response->has_length);
    assert_int_equal(response->content_length, 4);
    assert_int_equal(response->field_count, 5);
    assert_span(response->fields[0].name, "Server");
    assert_span(response_field(response, "server"), "x");
    assert_span(response->fields[2].value, "");
    assert_span(response_field(response, "spaces"), "a \t b");
    assert_span(response_field(response, "absent"), NULL);
    assert_int_equal(response->head_length, sizeof head - 1);
    free(outcome.bytes);
}

static void test_status_lines(void **state)
{
    static const struct {
        const char *line;
        unsigned status, minor;
        const char *reason;
    } rows[] = {
        {"HTTP/1.1 200 OK", 200, 1, "OK"},
        {"HTTP/1.0 200 OK", 200, 0, "OK"},
        {"HTTP/1.7 200 OK", 200, 1, "OK"},
        {"HTTP/1.1 200 ", 200, 1, ""},
        {"HTTP/1.1 200", 200, 1, ""},
        {"HTTP/1.1 200  ", 200, 1, " "},
        {"HTTP/1.1 200 a\tb: c \xff", 200, 1, "a\tb: c \xff"},
        {"HTTP/1.1 100 Continue", 100, 1, "Continue"},
        {"HTTP/1.1 599 HTTP/1.1 200", 599, 1, "HTTP/1.1 200"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct outcome outcome;
        char text[128];
        (void)snprintf(text, sizeof text, "%s\r\n\r\n", rows[i].line);
        const struct response *response = accepted(&outcome, text, false);
        assert_int_equal(response->status, rows[i].status);
        assert_int_equal(response->minor, rows[i].minor);
        assert_span(response->reason, rows[i].reason);
        assert_int_equal(response->head_length, strlen(text));
        (void)snprintf(text, sizeof text, "%s\r\nA: b\r\n\r\n", rows[i].line);
        free(outcome.bytes);
        assert_span(response_field(accepted(&outcome, text, false), "a"), "b");
        free(outcome.bytes);
    }
}

static void test_framing(void **state)
{
    static const struct {
        const char *start;
        bool head_request;
        enum response_framing framing;
        bool keep_alive, has_length;
        uint64_t length;
    } rows[] = {
        {"HTTP/1.1 200 OK", false, RESPONSE_CLOSE, false, false, 0},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0", false, RESPONSE_LENGTH, true, true, 0},
        {"HTTP/1.1 200 OK\r\nContent-Length:\t007 ", false, RESPONSE_LENGTH, true, true, 7},
        {"HTTP/1.1 500 No\r\nContent-Length: 18446744073709551615", false, RESPONSE_LENGTH, true,
            true, UINT64_MAX},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked", false, RESPONSE_CHUNKED, true, false, 0},
        {"HTTP/1.0 200 OK\r\nContent-Length: 5", false, RESPONSE_LENGTH, false, true, 5},
        {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5", false, RESPONSE_LENGTH,
            true, true, 5},
        {"HTTP/1.0 200 OK\r\nConnection: keep-alive", false, RESPONSE_CLOSE, false, false, 0},
        /* without a body, whatever is said */
        {"HTTP/1.1 200 OK", true, RESPONSE_NO_BODY, true, false, 0},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5", true, RESPONSE_NO_BODY, true, true, 5},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", true, RESPONSE_NO_BODY, true, false, 0},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5", false, RESPONSE_NO_BODY, true, true, 5},
        {"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked", false, RESPONSE_NO_BODY, true,
            false, 0},
        {"HTTP/1.1 100 Continue", false, RESPONSE_NO_BODY, true, false, 0},
        {"HTTP/1.1 103 Early Hints\r\nContent-Length: 5", false, RESPONSE_NO_BODY, true, true, 5},
        {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x", false,
            RESPONSE_NO_BODY, true, false, 0},
        {"HTTP/1.1 204 No Content", false, RESPONSE_NO_BODY, true, false, 0},
        {"HTTP/1.1 204 No Content\r\nContent-Length: 0", false, RESPONSE_NO_BODY, true, true, 0},
        /* whose body may yet come */
        {"HTTP/1.1 204 No Content\r\nContent-Length: 5", false, RESPONSE_NO_BODY, false, true, 5},
        {"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked", false, RESPONSE_NO_BODY, false,
            false, 0},
        {"HTTP/1.1 205 Reset Content\r\nContent-Length: 0", false, RESPONSE_LENGTH, true, true, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct outcome outcome;
        char text[256];
        (void)snprintf(text, sizeof text, "%s\r\n\r\nBODY", rows[i].start);
        const struct response *response = accepted(&outcome, text, rows[i].head_request);
        if (response->framing != rows[i].framing || response->keep_alive != rows[i].keep_alive)
            fail_msg("%d %d: %s", response->framing, response->keep_alive, rows[i].start);
        assert_int_equal(response->has_length, rows[i].has_length);
        assert_int_equal(response->content_length, rows[i].length);
        assert_int_equal(response->head_length, strlen(text) - 4);
        free(outcome.bytes);
    }
}

static void test_persistence_and_upgrade(void **state)
{
    static const struct {
        const char *start;
        bool keep_alive, upgrade;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\nConnection: close", false, false},
        {"HTTP/1.1 200 OK\r\nConnection: x, CLOSE ,y", false, false},
        {"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close", false, false},
        {"HTTP/1.1 200 OK\r\nConnection: closed", true, false},
        {"HTTP/1.0 200 OK\r\nConnection: Keep-Alive", true, false},
        {"HTTP/1.0 200 OK\r\nConnection: close, keep-alive", false, false},
        {"HTTP/1.1 101 Yes\r\nConnection: upgrade\r\nUpgrade: websocket", true, true},
        {"HTTP/1.1 101 Yes\r\nUpgrade: x\r\nConnection: ,,\r\nConnection: a,Upgrade", true, true},
        {"HTTP/1.1 101 Yes\r\nConnection: upgrade", true, false},
        {"HTTP/1.1 101 Yes\r\nUpgrade: websocket", true, false},
        {"HTTP/1.1 101 Yes", true, false},
        {"HTTP/1.0 101 Yes\r\nConnection: upgrade\r\nUpgrade: websocket", false, false},
        {"HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: websocket", true, false},
        {"HTTP/1.1 426 No\r\nConnection: upgrade\r\nUpgrade: websocket", true, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct outcome outcome;
        char text[256];
        (void)snprintf(text, sizeof text, "%s\r\nContent-Length: 0\r\n\r\n", rows[i].start);
        const struct response *response = accepted(&outcome, text, false);
        if (response->keep_alive != rows[i].keep_alive || response->upgrade != rows[i].upgrade)
            fail_msg("%d %d: %s", response->keep_alive, response->upgrade, rows[i].start);
        free(outcome.bytes);
    }
}

#define OK "HTTP/1.1 200 OK\r\n"

static const struct span refusals[] = {
    /* the status line */
    SPAN("\r"),
    SPAN("\r\n" OK "\r\n"),
    SPAN("\n" OK "\r\n"),
    SPAN(" " OK "\r\n"),
    SPAN("\x15\x03\x01\x00\x02"), /* a TLS alert */
    SPAN("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    SPAN("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"),
    SPAN("ICY 200 OK\r\n\r\n"),
    SPAN("HTTP 200 OK\r\n\r\n"),
    SPAN("http/1.1 200 OK\r\n\r\n"),
    SPAN("HTTP/0.9 200 OK\r\n\r\n"),
    SPAN("HTTP/2.0 200 OK\r\n\r\n"),
    SPAN("HTTP/11 200 OK\r\n\r\n"),
    SPAN("HTTP/1.10 200 OK\r\n\r\n"),
    SPAN("HTTP/01.1 200 OK\r\n\r\n"),
    SPAN("HTTP/1.x 200 OK\r\n\r\n"),
    SPAN("HTTP/1.1  200 OK\r\n\r\n"),
    SPAN("HTTP/1.1\t200 OK\r\n\r\n"),
    SPAN("HTTP/1.1 200\tOK\r\n\r\n"),
    SPAN("HTTP/1.1 200OK\r\n\r\n"),
    SPAN("HTTP/1.1 20 OK\r\n\r\n"),
    SPAN("HTTP/1.1 2 OK\r\n\r\n"),
    SPAN("HTTP/1.1 2000 OK\r\n\r\n"),
    SPAN("HTTP/1.1 0200 OK\r\n\r\n"),
    SPAN("HTTP/1.1 +20 OK\r\n\r\n"),
    SPAN("HTTP/1.1 000 OK\r\n\r\n"),
    SPAN("HTTP/1.1 099 OK\r\n\r\n"),
    SPAN("HTTP/1.1 600 OK\r\n\r\n"),
    SPAN("HTTP/1.1 999 OK\r\n\r\n"),
    SPAN("HTTP/1.1 OK\r\n\r\n"),
    SPAN("HTTP/1.1 \r\n\r\n"),
    SPAN("HTTP/1.1\r\n\r\n"),
    SPAN("HTTP/1.1 200 OK\n\r\n"),
    SPAN("HTTP/1.1 200 OK\n\n"),
    SPAN("HTTP/1.1 200\n\r\n"),
    SPAN("HTTP/1.1 200 \n\r\n"),
    SPAN("HTTP/1.1 200 OK\rX: y\r\n\r\n"),
    SPAN("HTTP/1.1 200\rX: y\r\n\r\n"),
    SPAN("HTTP/1.1 200 O\0K\r\n\r\n"),
    SPAN("HTTP/1.1 200 O\x01K\r\n\r\n"),
    SPAN("HTTP/1.1 200 O\x7fK\r\n\r\n"),
    /* lines and fields */
    SPAN(OK "A: b\r\n c\r\n\r\n"), /* obs-fold */
    SPAN(OK "A: b\r\n\tc\r\n\r\n"),
    SPAN(OK "A:\r\n c\r\n\r\n"),
    SPAN(OK "A: b\r\n \r\n\r\n"),
    SPAN(OK " A: b\r\n\r\n"),
    SPAN(OK "\tA: b\r\n\r\n"),
    SPAN(OK "A : b\r\n\r\n"),
    SPAN(OK "A\t: b\r\n\r\n"),
    SPAN(OK "A B: b\r\n\r\n"),
    SPAN(OK ": b\r\n\r\n"),
    SPAN(OK ":\r\n\r\n"),
    SPAN(OK "A\r\n\r\n"),
    SPAN(OK "A(B): b\r\n\r\n"),
    SPAN(OK "A\x80: b\r\n\r\n"),
    SPAN(OK "A\0: b\r\n\r\n"),
    SPAN(OK "A: b\0c\r\n\r\n"),
    SPAN(OK "A: b\x01\r\n\r\n"),
    SPAN(OK "A: b\x7f\r\n\r\n"),
    SPAN(OK "A: b\rB: c\r\n\r\n"),
    SPAN(OK "A: b\nB: c\r\n\r\n"),
    SPAN(OK "A: b\n\r\n"),
    SPAN(OK "A: b\r\n\n"),
    SPAN(OK "A: b\r\n\rx"),
    SPAN(OK "A:\n\r\n"),
    SPAN(OK "\n"),
    /* framing */
    SPAN(OK "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"),
    SPAN(OK "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
    SPAN(OK "Content-Length: 5, 5\r\n\r\n"),
    SPAN(OK "Content-Length:\r\n\r\n"),
    SPAN(OK "Content-Length: +5\r\n\r\n"),
    SPAN(OK "Content-Length: -5\r\n\r\n"),
    SPAN(OK "Content-Length: 5 5\r\n\r\n"),
    SPAN(OK "Content-Length: 0x5\r\n\r\n"),
    SPAN(OK "Content-Length: 18446744073709551616\r\n\r\n"),
    SPAN(OK "Content-Length : 5\r\n\r\n"),
    SPAN(OK "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
    SPAN(OK "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
    SPAN(OK "Content-Length: 5\r\nTransfer-Encoding: x\r\n\r\n"),
    SPAN("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    SPAN(OK "Transfer-Encoding: gzip, chunked\r\n\r\n"),
    SPAN(OK "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"),
    SPAN(OK "Transfer-Encoding: gzip\r\n\r\n"),
    SPAN(OK "Transfer-Encoding: identity\r\n\r\n"),
    SPAN(OK "Transfer-Encoding:\r\n\r\n"),
    SPAN(OK "Transfer-Encoding: ,chunked\r\n\r\n"),
    SPAN(OK "Transfer-Encoding: chunked,\r\n\r\n"),
    SPAN(OK "Transfer-Encoding: chunked, chunked\r\n\r\n"),
    SPAN(OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
    SPAN(OK "Transfer-Encoding: chunked;x=1\r\n\r\n"),
    SPAN(OK "Transfer-Encoding: xchunked\r\n\r\n"),
    SPAN(OK "Transfer-Encoding: \"chunked\"\r\n\r\n"),
    SPAN(OK "Transfer-Encoding: \x0b"
            "chunked\r\n\r\n"),
    SPAN(OK "Transfer-Encoding\t: chunked\r\n\r\n"),
    SPAN("HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
    SPAN("HTTP/1.1 304 No\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"),
    SPAN("HTTP/1.1 101 Yes\r\nTransfer-Encoding: gzip\r\n\r\n"),
};

/* An answer to a HEAD is read as strictly. */
static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        for (int head_request = 0; head_request <= 1; head_request++) {
            struct outcome outcome;
            parse(&outcome, refusals[i], refusals[i].length, head_request, &usual);
            if (outcome.result != RESPONSE_BAD)
                fail_msg("%d: %.*s", outcome.result, (int)refusals[i].length, refusals[i].at);
            assert_int_equal(outcome.response.head_length, 0);
            free(outcome.bytes);
        }
}

/* Every prefix of a good head is RESPONSE_MORE, so that nothing is refused or accepted early. */
static void test_prefixes(void **state)
{
    static const char *const heads[] = {
        "HTTP/1.1 200 OK\r\nA:\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200\r\n\r\n",
        "HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        for (size_t length = 0; length <= strlen(heads[i]); length++) {
            struct outcome outcome;
            parse(&outcome, span_of(heads[i]), length, false, &usual);
            assert_int_equal(
                outcome.result, length == strlen(heads[i]) ? RESPONSE_COMPLETE : RESPONSE_MORE);
            free(outcome.bytes);
        }
}

static void test_size_limit(void **state)
{
    static const char head[] = OK "A: b\r\n\r\n", body[] = OK "A: b\r\n\r\nmore bytes, of a body";
    static const size_t all = sizeof head - 1;
    struct outcome outcome;

    (void)state;
    for (size_t size = 1; size <= all + 1; size++) {
        struct head_limits limits = {.size = size, .fields = 10};
        parse(&outcome, span_of(body), sizeof body - 1, false, &limits);
        assert_int_equal(outcome.result, size >= all ? RESPONSE_COMPLETE : RESPONSE_BAD);
        free(outcome.bytes);
        parse(&outcome, span_of(head), size < all ? size - 1 : all, false, &limits);
        assert_int_equal(outcome.result, size >= all ? RESPONSE_COMPLETE : RESPONSE_MORE);
        free(outcome.bytes);
    }
}

static void test_field_limit(void **state)
{
    CLEANUP_BUFFER struct buffer head = {0};
    struct outcome outcome;

    (void)state;
    for (size_t count = 1; count <= REQUEST_FIELDS_MAX + 1; count++) {
        head.length = 0;
        assert_int_equal(buffer_append_string(&head, OK), 0);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(buffer_printf(&head, "F%zu: v\r\n", i), 0);
        assert_int_equal(buffer_append_string(&head, "\r\n"), 0);
        struct head_limits limits = {.size = 16384, .fields = count - 1};
        parse(&outcome, buffer_span(&head), head.length, false, &limits);
        assert_int_equal(outcome.result, RESPONSE_BAD);
        free(outcome.bytes);
        limits.fields = count;
        parse(&outcome, buffer_span(&head), head.length, false, &limits);
        assert_int_equal(
            outcome.result, count > REQUEST_FIELDS_MAX ? RESPONSE_BAD : RESPONSE_COMPLETE);
        free(outcome.bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_status_lines),
        cmocka_unit_test(test_framing),
        cmocka_unit_test(test_persistence_and_upgrade),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_size_limit),
        cmocka_unit_test(test_field_limit),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
