#include "http/request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/buffer.h"

static const struct head_limits usual = {.size = 16384, .fields = 100};

struct outcome {
    int result;
    unsigned status;
    const char *why;
    struct request request;
    char *bytes; /* that the spans point into */
};

/*
 * Feeds @head in pieces of @piece bytes; what has not arrived yet reads as something else. The
 * buffer has no byte to spare, for the address sanitizer to watch.
 */
static void feed(
    struct outcome *outcome, struct span head, size_t piece, const struct head_limits *limits)
{
    struct head_parser parser;
    size_t length = 0;

    outcome->status = 0;
    outcome->why = NULL;
    outcome->result = HEAD_MORE;
    outcome->bytes = malloc(head.length ? head.length : 1);
    assert_non_null(outcome->bytes);
    memset(outcome->bytes, 'x', head.length);
    head_parser_start(&parser, &outcome->request, limits);
    while (outcome->result == HEAD_MORE && length < head.length) {
        size_t more = head.length - length < piece ? head.length - length : piece;
        memcpy(outcome->bytes + length, head.at + length, more);
        length += more;
        outcome->result = head_parser_feed(
            &parser, (struct span){outcome->bytes, length}, &outcome->status, &outcome->why);
    }
}

/* Feeds whole, byte by byte and in threes, and checks that all agree. The last is kept. */
static void feed_all_ways(
    struct outcome *outcome, struct span head, const struct head_limits *limits)
{
    static const size_t pieces[] = {SIZE_MAX, 3, 1};
    struct outcome former = {.result = -1};

    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        feed(outcome, head, pieces[i], limits);
        if (i > 0 && (outcome->result != former.result || outcome->status != former.status ||
                         outcome->why != former.why))
            fail_msg("in pieces of %zu: %d %u (%s), not %d %u (%s): %.*s", pieces[i],
                outcome->result, outcome->status, outcome->why, former.result, former.status,
                former.why, (int)head.length, head.at);
        if (i > 0 && outcome->result == HEAD_COMPLETE) {
            assert_int_equal(outcome->request.head_length, former.request.head_length);
            assert_int_equal(outcome->request.field_count, former.request.field_count);
            for (size_t j = 0; j < outcome->request.field_count; j++) {
                const struct field *a = &outcome->request.fields[j], *b = &former.request.fields[j];
                assert_int_equal(a->name.at - outcome->bytes, b->name.at - former.bytes);
                assert_int_equal(a->name.length, b->name.length);
                assert_int_equal(a->value.at - outcome->bytes, b->value.at - former.bytes);
                assert_int_equal(a->value.length, b->value.length);
            }
        }
        free(former.bytes);
        former = *outcome;
    }
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
static const struct request *accepted(struct outcome *outcome, const char *head)
{
    feed_all_ways(outcome, span_of(head), &usual);
    if (outcome->result != HEAD_COMPLETE)
        fail_msg("%d %u (%s): %s", outcome->result, outcome->status, outcome->why, head);
    return &outcome->request;
}

static void test_plain(void **state)
{
    struct outcome outcome;
    const struct request *request = accepted(&outcome, "GET /a%20b/c?d=e?f HTTP/1.1\r\n"
                                                       "Host: Example.com:8080\r\n"
                                                       "Empty:\r\n"
                                                       "EMPTY: \t \r\n"
                                                       "Spaces:\t a \t b \t\r\n"
                                                       "Obs: \x80\xff\r\n"
                                                       "\r\n");

    (void)state;
    assert_int_equal(request->method, METHOD_GET);
    assert_span(request->method_text, "GET");
    assert_span(request->target, "/a%20b/c?d=e?f");
    assert_span(request->path, "/a%20b/c");
    assert_span(request->query, "d=e?f");
    assert_span(request->host, "Example.com");
    assert_int_equal(request->minor, 1);
    assert_true(request->keep_alive);
    assert_false(request->expect_continue);
    assert_false(request->upgrade);
    assert_int_equal(request->framing, FRAMING_NONE);
    assert_int_equal(request->field_count, 5);
    assert_span(request->fields[0].name, "Host");
    assert_span(request_field(request, "host"), "Example.com:8080");
    assert_span(request_field(request, "empty"), "");
    assert_span(request->fields[2].value, "");
    assert_span(request_field(request, "spaces"), "a \t b");
    assert_span(request_field(request, "obs"), "\x80\xff");
    assert_span(request_field(request, "absent"), NULL);
    assert_int_equal(request_field_count(request, "empty"), 2);
    assert_int_equal(request_field_count(request, "absent"), 0);
    free(outcome.bytes);
}

static void test_bytes_after_the_head(void **state)
{
    static const char head[] = "\r\nPOST / HTTP/1.1\r\nHost:a\r\nContent-Length: 4\r\n\r\n";
    struct outcome outcome;
    char text[128];

    (void)state;
    (void)snprintf(text, sizeof text, "%sBODYGET / HTTP/1.1\r\n", head);
    const struct request *request = accepted(&outcome, text);
    assert_int_equal(request->head_length, sizeof head - 1);
    assert_int_equal(request->framing, FRAMING_LENGTH);
    assert_int_equal(request->content_length, 4);
    assert_span(request->method_text, "POST");
    free(outcome.bytes);
}

static void test_targets(void **state)
{
    static const struct {
        const char *line, *path, *query, *host;
    } rows[] = {
        {"GET / HTTP/1.1", "/", NULL, "field"},
        {"GET /? HTTP/1.1", "/", "", "field"},
        {"GET //a/../b?/ HTTP/1.1", "//a/../b", "/", "field"},
        {"GET /\"<>\\^`{|}[] HTTP/1.1", "/\"<>\\^`{|}[]", NULL, "field"},
        {"GET /a:b@c HTTP/1.1", "/a:b@c", NULL, "field"},
        {"GET http://other/x?y HTTP/1.1", "/x", "y", "other"},
        {"GET HTTPS://other:443/x HTTP/1.1", "/x", NULL, "other"},
        {"GET http://other HTTP/1.1", "/", NULL, "other"},
        {"GET http://other: HTTP/1.1", "/", NULL, "other"},
        {"GET http://other?y HTTP/1.1", "/", "y", "other"},
        {"GET http://[2001:db8::1]:80/x HTTP/1.1", "/x", NULL, "[2001:db8::1]"},
        {"OPTIONS * HTTP/1.1", "*", NULL, "field"},
        {"OPTIONS /x HTTP/1.1", "/x", NULL, "field"},
        {"CONNECT other:443 HTTP/1.1", "", NULL, "other"},
        {"CONNECT [::1]:443 HTTP/1.1", "", NULL, "[::1]"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct outcome outcome;
        char text[128];
        (void)snprintf(text, sizeof text, "%s\r\nHost: field:1\r\n\r\n", rows[i].line);
        const struct request *request = accepted(&outcome, text);
        assert_span(request->path, rows[i].path);
        assert_span(request->query, rows[i].query);
        assert_span(request->host, rows[i].host);
        free(outcome.bytes);
    }
}

static void test_methods(void **state)
{
    static const struct {
        const char *name;
        enum method method;
    } rows[] = {
        {"GET", METHOD_GET},
        {"HEAD", METHOD_HEAD},
        {"POST", METHOD_POST},
        {"PUT", METHOD_PUT},
        {"DELETE", METHOD_DELETE},
        {"OPTIONS", METHOD_OPTIONS},
        {"TRACE", METHOD_TRACE},
        {"PATCH", METHOD_PATCH},
        {"PROPFIND", METHOD_OTHER},
        {"M-SEARCH", METHOD_OTHER},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct outcome outcome;
        char text[128];
        (void)snprintf(text, sizeof text, "%s / HTTP/1.1\r\nHost: a\r\n\r\n", rows[i].name);
        const struct request *request = accepted(&outcome, text);
        assert_int_equal(request->method, rows[i].method);
        assert_span(request->method_text, rows[i].name);
        free(outcome.bytes);
    }
}

static void test_hosts(void **state)
{
    static const struct {
        const char *field, *host;
    } rows[] = {
        {"a.example", "a.example"},
        {"a_b-c.example.:80", "a_b-c.example."},
        {"192.0.2.1:65535", "192.0.2.1"},
        {"[::ffff:192.0.2.1]", "[::ffff:192.0.2.1]"},
        {"a:", "a"},
        {"a%41", "a%41"},
        {"", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct outcome outcome;
        char text[128];
        (void)snprintf(text, sizeof text, "GET / HTTP/1.1\r\nhOST: %s\r\n\r\n", rows[i].field);
        assert_span(accepted(&outcome, text)->host, rows[i].host);
        free(outcome.bytes);
    }
}

static void test_persistence_and_upgrade(void **state)
{
    static const struct {
        const char *head;
        bool keep_alive, upgrade;
    } rows[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, false},
        {"GET / HTTP/1.7\r\nHost: a\r\n\r\n", true, false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false, false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE ,y\r\n\r\n", false, false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", false,
            false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", true, false},
        {"GET / HTTP/1.0\r\n\r\n", false, false},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true, false},
        {"GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n", false, false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", true,
            true},
        {"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: ,,\r\nConnection: a,Upgrade\r\n"
         "\r\n",
            true, true},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n", true, false},
        {"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", true, false},
        {"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", false, false},
        {"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", true, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct outcome outcome;
        const struct request *request = accepted(&outcome, rows[i].head);
        assert_int_equal(request->keep_alive, rows[i].keep_alive);
        assert_int_equal(request->upgrade, rows[i].upgrade);
        free(outcome.bytes);
    }
}

static void test_framing_and_expect(void **state)
{
    static const struct {
        const char *fields;
        enum framing framing;
        uint64_t length;
        bool expect;
    } rows[] = {
        {"", FRAMING_NONE, 0, false},
        {"Content-Length: 0\r\n", FRAMING_LENGTH, 0, false},
        {"Content-Length: 18446744073709551615\r\n", FRAMING_LENGTH, UINT64_MAX, false},
        {"Content-Length:\t007 \r\n", FRAMING_LENGTH, 7, false},
        {"Transfer-Encoding: Chunked\r\n", FRAMING_CHUNKED, 0, false},
        {"Content-Length: 1\r\nExpect: 100-Continue\r\n", FRAMING_LENGTH, 1, true},
        {"Expect: ,100-continue\r\nTransfer-Encoding: chunked\r\n", FRAMING_CHUNKED, 0, true},
        {"Expect: 100-continue\r\n", FRAMING_NONE, 0, false},
        {"Content-Length: 0\r\nExpect: 100-continue\r\n", FRAMING_LENGTH, 0, false},
        {"Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 5\r\n", FRAMING_LENGTH, 5, false},
    };
    struct outcome outcome;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[256];
        (void)snprintf(
            text, sizeof text, "PUT / HTTP/1.1\r\nHost: a\r\n%s\r\nBODY", rows[i].fields);
        const struct request *request = accepted(&outcome, text);
        assert_int_equal(request->framing, rows[i].framing);
        assert_int_equal(request->content_length, rows[i].length);
        assert_int_equal(request->expect_continue, rows[i].expect);
        assert_int_equal(request->head_length, strlen(text) - 4);
        free(outcome.bytes);
    }
    assert_false(
        accepted(&outcome, "PUT / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue, x\r\n\r\n")
            ->expect_continue);
    free(outcome.bytes);
}

#define REQUEST_LINE "GET / HTTP/1.1\r\n"
#define HOST "Host: a\r\n"

static const struct {
    struct span head;
    unsigned status;
} refusals[] = {
    /* before the request line */
    {SPAN("\r\n\r\n" REQUEST_LINE HOST "\r\n"), 400},
    {SPAN("\n" REQUEST_LINE HOST "\r\n"), 400},
    {SPAN("\r" REQUEST_LINE HOST "\r\n"), 400},
    {SPAN(" " REQUEST_LINE HOST "\r\n"), 400},
    {SPAN("\x16\x03\x01\x02\x00"), 400}, /* a TLS ClientHello */
    /* the method */
    {SPAN("get / HTTP/1.1\r\n" HOST "\r\n"), 501},
    {SPAN("GETX / HTTP/1.1\r\n" HOST "\r\n"), 501},
    {SPAN("GE / HTTP/1.1\r\n" HOST "\r\n"), 501},
    {SPAN("BREW / HTTP/1.1\r\n" HOST "\r\n"), 501},
    {SPAN("DESCRIBE / HTTP/1.1\r\n" HOST "\r\n"), 501},
    {SPAN("DESCRIBE / RTSP/1.0\r\n" HOST "\r\n"), 501},
    {SPAN("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), 501},
    {SPAN("G@T / HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET\t/ HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET\r\n\r\n"), 400},
    {SPAN("GET  / HTTP/1.1\r\n" HOST "\r\n"), 400},
    /* the version */
    {SPAN("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505},
    {SPAN("GET / HTTP/2.0\r\n" HOST "\r\n"), 505},
    {SPAN("GET / HTTP/3.7\r\n" HOST "\r\n"), 505},
    {SPAN("GET / HTTP/0.9\r\n" HOST "\r\n"), 505},
    {SPAN("GET /\r\n\r\n"), 505},
    {SPAN("GET /\n\n"), 505},
    {SPAN("GET / HTTP/1.1\n" HOST "\r\n"), 400},
    {SPAN("GET / HTTP/1.1\r" HOST "\r\n"), 400},
    {SPAN("GET / HTTP/1.10\r\n" HOST "\r\n"), 400},
    {SPAN("GET / HTTP/1.1 \r\n" HOST "\r\n"), 400},
    {SPAN("GET /  HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET / http/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET / HTTP/x.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET / HTTP/1,1\r\n" HOST "\r\n"), 400},
    {SPAN("GET / RTSP/1.0\r\n" HOST "\r\n"), 400},
    {SPAN("SOURCE / ICE/1.0\r\n" HOST "\r\n"), 400},
    {SPAN("GET / x HTTP/1.1\r\n" HOST "\r\n"), 400},
    /* the target */
    {SPAN("GET  HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET x HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET ?x HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET /#x HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET /?x#y HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET /\x01 HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET /\0 HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET /\t HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET /\f HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET /\x7f HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET /\x80 HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET /?\xff HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET * HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("OPTIONS *x HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET a:80 HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET ftp://a/ HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET ws://a/ HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET http:/a/ HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET http:///x HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET http://:80/x HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET http://u@a/x HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET http://u:p@a/x HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET http://a:65536/x HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET http://[::1/x HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("GET http://a/x HTTP/1.1\r\n\r\n"), 400}, /* still wants a Host */
    {SPAN("CONNECT a HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("CONNECT a: HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("CONNECT :1 HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("CONNECT / HTTP/1.1\r\n" HOST "\r\n"), 400},
    {SPAN("CONNECT http://a:1/ HTTP/1.1\r\n" HOST "\r\n"), 400},
    /* lines and fields */
    {SPAN(REQUEST_LINE HOST "A: b\r\n c\r\n\r\n"), 400}, /* obs-fold */
    {SPAN(REQUEST_LINE HOST "A: b\r\n\tc\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A:\r\n c\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A: b\r\n \r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A:\r\n \r\n\r\n"), 400},
    {SPAN(REQUEST_LINE " " HOST "\r\n"), 400},
    {SPAN(REQUEST_LINE "\t" HOST "\r\n"), 400},
    {SPAN(REQUEST_LINE "Host : a\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A : b\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A\t: b\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A B: b\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST ": b\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST ":\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A(B): b\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A\x80: b\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A\0: b\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A: b\0c\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A: b\x01\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A: b\x7f\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A: b\x0c\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A: b\rB: c\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A: b\nB: c\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A: b\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A: b\r\n\n"), 400},
    {SPAN(REQUEST_LINE HOST "A: b\r\n\rx"), 400},
    {SPAN(REQUEST_LINE HOST "A:\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "A:\rb\r\n\r\n"), 400},
    {SPAN("GET / HTTP/1.1\n\n"), 400},
    /* Host */
    {SPAN(REQUEST_LINE "\r\n"), 400},
    {SPAN(REQUEST_LINE HOST HOST "\r\n"), 400},
    {SPAN("GET / HTTP/1.0\r\n" HOST HOST "\r\n"), 400},
    {SPAN(REQUEST_LINE "Host: a b\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE "Host: a/b\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE "Host: u@a\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE "Host: :80\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE "Host: a:b\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE "Host: a:1:2\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE "Host: a:-1\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE "Host: a:99999999999999999999999\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE "Host: a%4\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE "Host: ::1\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE "Host: [::1\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE "Host: []\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE "Host: [::1]x\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE "Host: [::1%25eth0]\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE "Host: [192.0.2.1]\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE "Host: a\x80\r\n\r\n"), 400},
    {SPAN("GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n"), 400},
    /* framing */
    {SPAN(REQUEST_LINE HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Content-Length: 5, 5\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Content-Length:\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Content-Length: +5\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Content-Length: -5\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Content-Length: 5 5\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Content-Length: 0x5\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Content-Length: 18446744073709551616\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Content-Length : 5\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Content-Length: 5\r\nTransfer-Encoding: x\r\n\r\n"), 400},
    {SPAN("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Transfer-Encoding: gzip, chunked\r\n\r\n"), 501},
    {SPAN(REQUEST_LINE HOST "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"), 501},
    {SPAN(REQUEST_LINE HOST "Transfer-Encoding: gzip\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Transfer-Encoding: identity\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Transfer-Encoding:\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Transfer-Encoding: ,chunked\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Transfer-Encoding: chunked,\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Transfer-Encoding: chunked, gzip\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Transfer-Encoding: chunked, chunked\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
        400},
    {SPAN(REQUEST_LINE HOST "Transfer-Encoding: chunked;x=1\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Transfer-Encoding: xchunked\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Transfer-Encoding: \"chunked\"\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Transfer-Encoding: \x0b"
                            "chunked\r\n\r\n"),
        400},
    {SPAN(REQUEST_LINE HOST "Transfer-Encoding\t: chunked\r\n\r\n"), 400},
    {SPAN(REQUEST_LINE HOST "Transfer-Encoding:\r\n chunked\r\n\r\n"), 400},
    /* Expect */
    {SPAN(REQUEST_LINE HOST "Expect: 200-ok\r\n\r\n"), 417},
    {SPAN(REQUEST_LINE HOST "Expect: 100-continue, x=y\r\n\r\n"), 417},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        struct outcome outcome;
        feed_all_ways(&outcome, refusals[i].head, &usual);
        if (outcome.result != HEAD_REFUSED || outcome.status != refusals[i].status)
            fail_msg("%d %u (%s), not %u: %.*s", outcome.result, outcome.status, outcome.why,
                refusals[i].status, (int)refusals[i].head.length, refusals[i].head.at);
        assert_non_null(outcome.why);
        free(outcome.bytes);
    }
}

/* Every prefix of a good head is HEAD_MORE, so that nothing is refused or accepted early. */
static void test_prefixes(void **state)
{
    static const char head[] = "\r\nPOST http://b:1/x?y HTTP/1.1\r\nHost: a\r\nA:\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n";
    struct outcome outcome;

    (void)state;
    for (size_t length = 0; length < sizeof head; length++) {
        feed(&outcome, (struct span){head, length}, SIZE_MAX, &usual);
        assert_int_equal(outcome.result, length == sizeof head - 1 ? HEAD_COMPLETE : HEAD_MORE);
        free(outcome.bytes);
    }
}

static void test_size_limit(void **state)
{
    static const char head[] = REQUEST_LINE HOST "\r\n";
    static const char body[] = REQUEST_LINE HOST "\r\nmore bytes, of a body";
    static const size_t line = sizeof REQUEST_LINE - 1, all = sizeof head - 1;
    struct outcome outcome;

    (void)state;
    for (size_t size = 4; size <= all + 1; size++) {
        struct head_limits limits = {.size = size, .fields = 10};
        feed_all_ways(&outcome, span_of(size % 2 ? head : body), &limits);
        assert_int_equal(outcome.result, size >= all ? HEAD_COMPLETE : HEAD_REFUSED);
        if (size < all)
            assert_int_equal(outcome.status, size < line ? 414 : 431);
        free(outcome.bytes);
    }
    feed_all_ways(&outcome, SPAN("\r\nGET /aaa"), &(struct head_limits){.size = 8, .fields = 1});
    assert_int_equal(outcome.status, 414);
    free(outcome.bytes);
}

static void test_field_limit(void **state)
{
    CLEANUP_BUFFER struct buffer head = {0};
    struct outcome outcome;

    (void)state;
    for (size_t count = 1; count <= REQUEST_FIELDS_MAX + 1; count++) {
        head.length = 0;
        assert_int_equal(buffer_append_string(&head, REQUEST_LINE HOST), 0);
        for (size_t i = 1; i < count; i++)
            assert_int_equal(buffer_printf(&head, "F%zu: v\r\n", i), 0);
        assert_int_equal(buffer_append_string(&head, "\r\n"), 0);
        struct head_limits limits = {.size = 16384, .fields = count - 1};
        feed(&outcome, buffer_span(&head), SIZE_MAX, &limits);
        assert_int_equal(outcome.status, 431);
        free(outcome.bytes);
        limits.fields = count;
        feed(&outcome, buffer_span(&head), 5, &limits);
        assert_int_equal(outcome.status, count > REQUEST_FIELDS_MAX ? 431 : 0);
        free(outcome.bytes);
    }
    feed_all_ways(&outcome, buffer_span(&head), &(struct head_limits){16384, 256});
    assert_int_equal(outcome.status, 431);
    free(outcome.bytes);
}

/* The time to read a head of @size bytes and as many fields as fit, byte by byte. */
static double seconds_of(size_t size)
{
    CLEANUP_BUFFER struct buffer head = {0};
    struct outcome outcome;

    assert_int_equal(buffer_append_string(&head, REQUEST_LINE HOST), 0);
    while (head.length < size)
        assert_int_equal(buffer_printf(&head, "X-Field: %0*d\r\n", (int)(size / 256), 0), 0);
    assert_int_equal(buffer_append_string(&head, "\r\n"), 0);
    struct head_limits limits = {.size = head.length, .fields = REQUEST_FIELDS_MAX};
    clock_t begin = clock(), spent;
    int rounds = 0;
    do {
        feed(&outcome, buffer_span(&head), 1, &limits);
        assert_int_equal(outcome.result, HEAD_COMPLETE);
        free(outcome.bytes);
        rounds++;
        spent = clock() - begin;
    } while (spent < CLOCKS_PER_SEC / 50);
    return (double)spent / rounds;
}

/* 32 times the bytes cost about 32 times the processor time; it would be 1024 times if quadratic.
 */
static void test_linear_time(void **state)
{
    (void)state;
    assert_true(seconds_of(128 * 1024) / seconds_of(4 * 1024) < 150);
}

static void test_list(void **state)
{
    struct outcome outcome;
    const struct request *request = accepted(
        &outcome, "GET / HTTP/1.1\r\nHost: a\r\nX: a ,b\r\nY: no\r\nx:\r\nX: c,\t,d d\r\n\r\n");
    static const char *const expected[] = {"a", "b", "", "c", "", "d d"};
    struct list_walk walk = {.name = "x"};
    struct span element;
    size_t count = 0;

    (void)state;
    while (request_list_next(request, &walk, &element))
        assert_span(element, expected[count++]);
    assert_int_equal(count, 6);
    free(outcome.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_bytes_after_the_head),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_persistence_and_upgrade),
        cmocka_unit_test(test_framing_and_expect),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_size_limit),
        cmocka_unit_test(test_field_limit),
        cmocka_unit_test(test_linear_time),
        cmocka_unit_test(test_list),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
