#include "http/forward.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DATE "Sun, 06 Nov 1994 08:49:37 GMT"

static const struct head_limits limits = {.size = 65536, .fields = REQUEST_FIELDS_MAX};

static struct address address_of(const char *text)
{
    struct address address;
    struct reason reason;

    if (address_parse(text, &address, &reason) < 0)
        fail_msg("%s", reason.text);
    return address;
}

/* What a test says of the client: all that is left out is the usual. */
struct client {
    const char *peer, *scheme, *host_set;
    bool trusted, forwarded, close;
};

static void parse(const char *head, struct request *request)
{
    struct head_parser parser;
    unsigned status;
    const char *why = "incomplete";

    head_parser_start(&parser, request, &limits);
    if (head_parser_feed(&parser, span_of(head), &status, &why) != HEAD_COMPLETE)
        fail_msg("%s: %s", why, head);
}

/* Parses @head and forwards it behind what is in @out already. */
static int forward(const char *head, const struct client *said, struct buffer *out)
{
    static struct request request;
    struct address peer = address_of(said->peer ? said->peer : "192.0.2.1:1234");
    struct forward_client client = {.peer = &peer,
        .scheme = span_of(said->scheme ? said->scheme : "http"),
        .host_set = span_of(said->host_set ? said->host_set : ""),
        .trusted = said->trusted,
        .forwarded = said->forwarded,
        .close = said->close};

    parse(head, &request);
    return forward_request(&request, &client, out);
}

static void check_request(const char *head, const struct client *client, const char *expected)
{
    CLEANUP_BUFFER struct buffer out = {0};

    assert_int_equal(forward(head, client, &out), 0);
    assert_string_equal(buffer_string(&out), expected);
}

#define FROM_CLIENT                                                                                \
    "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n"
#define VIA "Via: 1.1 baton\r\n"
#define END FROM_CLIENT VIA "\r\n"

static void test_request_lines(void **state)
{
    static const struct {
        const char *head, *expected;
    } rows[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n" END},
        {"\r\nGET /a%20b/../c?d=e?f HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a%20b/../c?d=e?f HTTP/1.1\r\nHost: a\r\n" END},
        {"GET //x/? HTTP/1.7\r\nHOST: a\r\n\r\n", "GET //x/? HTTP/1.1\r\nHost: a\r\n" END},
        {"PROPFIND /\"<>\\^`{|} HTTP/1.1\r\nHost: a\r\n\r\n",
            "PROPFIND /\"<>\\^`{|} HTTP/1.1\r\nHost: a\r\n" END},
        {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n" END},
        /* RFC 9112 §3.2.2: the target's authority, whatever Host says */
        {"GET http://a/x?y HTTP/1.1\r\nHost: b\r\n\r\n", "GET /x?y HTTP/1.1\r\nHost: a\r\n" END},
        {"GET HTTP://a HTTP/1.1\r\nHost: b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n" END},
        {"GET http://a?y/z HTTP/1.1\r\nHost: b\r\n\r\n", "GET /?y/z HTTP/1.1\r\nHost: a\r\n" END},
        {"OPTIONS http://a/* HTTP/1.1\r\nHost: b\r\n\r\n",
            "OPTIONS /* HTTP/1.1\r\nHost: a\r\n" END},
        {"GET http://[::1]:80/?x HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET /?x HTTP/1.1\r\nHost: [::1]:80\r\nX-Forwarded-For: 192.0.2.1\r\n"
            "X-Forwarded-Proto: http\r\nX-Forwarded-Host: [::1]:80\r\n" VIA "\r\n"},
        /* HTTP/1.0 */
        {"GET /x HTTP/1.0\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: \r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n"
            "Via: 1.0 baton\r\n\r\n"},
        {"GET http://a/x HTTP/1.0\r\nTE: trailers\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: a\r\n" FROM_CLIENT "Via: 1.0 baton\r\n\r\n"},
        {"GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: \r\nX-Forwarded-For: 192.0.2.1\r\n"
            "X-Forwarded-Proto: http\r\n" VIA "\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_request(rows[i].head, &(struct client){0}, rows[i].expected);
}

/* RFC 9110 §7.6.2 */
static void test_max_forwards(void **state)
{
    static const struct {
        const char *method, *field, *expected;
    } rows[] = {
        {"OPTIONS", "Max-Forwards: 10", "Max-Forwards: 9"},
        {"TRACE", "max-forwards:1", "Max-Forwards: 0"},
        {"TRACE", "Max-Forwards: 18446744073709551615", "Max-Forwards: 18446744073709551614"},
        {"TRACE", "Max-Forwards: 18446744073709551616", "Max-Forwards: 18446744073709551616"},
        {"TRACE", "Max-Forwards: -1", "Max-Forwards: -1"},
        {"GET", "Max-Forwards: 10", "Max-Forwards: 10"},
        {"GET", "Max-Forwards: 0", "Max-Forwards: 0"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char head[256], expected[256];
        (void)snprintf(head, sizeof head, "%s / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", rows[i].method,
            rows[i].field);
        (void)snprintf(expected, sizeof expected, "%s / HTTP/1.1\r\nHost: a\r\n%s\r\n%s",
            rows[i].method, rows[i].expected, END);
        check_request(head, &(struct client){0}, expected);
    }
}

static void test_connect_is_refused(void **state)
{
    CLEANUP_BUFFER struct buffer out = {0};

    (void)state;
    assert_int_equal(
        forward("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", &(struct client){0}, &out), -EINVAL);
    assert_int_equal(out.length, 0);
}

static void test_upgrades(void **state)
{
    static const struct {
        const char *start;
        bool upgrades;
    } rows[] = {
        {"GET / HTTP/1.1\r\nUpgrade: websocket", true},
        {"GET / HTTP/1.1\r\nUpgrade: h2c, \r\nUpgrade: ,x/1", true},
        {"GET / HTTP/1.1\r\nUpgrade: H2C", false},
        {"GET / HTTP/1.1\r\nUpgrade: ,", false},
        {"GET / HTTP/1.1", false},
        {"GET / HTTP/1.0\r\nUpgrade: websocket", false},
        {"CONNECT a:1 HTTP/1.1\r\nUpgrade: websocket", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        static struct request request;
        char head[256];
        (void)snprintf(
            head, sizeof head, "%s\r\nHost: a\r\nConnection: upgrade\r\n\r\n", rows[i].start);
        parse(head, &request);
        assert_int_equal(forward_upgrades(&request), rows[i].upgrades);
    }
}

static void test_framing(void **state)
{
    static const struct {
        const char *fields, *expected;
        bool close;
    } rows[] = {
        {"", "", false},
        {"", "Connection: close\r\n", true},
        {"Connection: close, keep-alive\r\n", "", false},
        {"Content-Length: 0\r\n", "Content-Length: 0\r\n", false},
        {"Content-Length: 007\r\nConnection: content-length\r\n", "Content-Length: 7\r\n", false},
        {"Content-Length: 18446744073709551615\r\n", "Content-Length: 18446744073709551615\r\n",
            false},
        {"Transfer-Encoding: Chunked\r\nConnection: transfer-encoding\r\n",
            "Transfer-Encoding: chunked\r\n", false},
        {"Expect: 100-Continue\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nExpect: 100-continue\r\n", false},
        {"Expect: 100-continue\r\n", "", false},
        {"Connection: Upgrade\r\nUpgrade: websocket, x/2\r\n",
            "Upgrade: websocket, x/2\r\nConnection: upgrade\r\n", true},
        {"Connection: upgrade\r\nUpgrade: H2c,\r\nUpgrade: websocket\r\n",
            "Upgrade: websocket\r\nConnection: upgrade\r\n", false},
        {"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n", "",
            false},
        {"Upgrade: websocket\r\n", "", false},
        {"TE: gzip, Trailers\r\nConnection: te\r\n", "TE: trailers\r\nConnection: te\r\n", false},
        {"TE: gzip\r\nConnection: te\r\n", "", false},
        {"TE: trailers\r\n", "TE: trailers\r\nConnection: close, te\r\n", true},
        {"TE: trailers\r\nUpgrade: x\r\nConnection: te, upgrade\r\n",
            "Upgrade: x\r\nTE: trailers\r\nConnection: upgrade, te\r\n", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char head[256], expected[512];
        (void)snprintf(
            head, sizeof head, "PUT / HTTP/1.1\r\n%sHost: a\r\n\r\nBODY", rows[i].fields);
        (void)snprintf(expected, sizeof expected,
            "PUT / HTTP/1.1\r\nHost: a\r\n" FROM_CLIENT VIA "%s\r\n", rows[i].expected);
        check_request(head, &(struct client){.close = rows[i].close}, expected);
    }
}

/* What becomes of a client's field that comes beside @connection. */
static void test_request_fields(void **state)
{
    static const struct {
        const char *field, *connection;
        bool kept, kept_if_trusted;
    } rows[] = {
        {"X-Other: a \t b", "close", true, true},
        {"X_Other: a", "close", true, true},
        {"Empty: ", "close", true, true},
        {"x-OTHER: a", ",X-Other ,b", false, false},
        {"X-Other: a", "X-Othe, X-Other2, Y-Other", true, true},
        {"Via: 1.1 other", "via", true, true},
        {"Cookie: a", "Cookie, x", true, true},
        {"Cookie: a", "x, COOKIE", true, true},
        {"Authorization: a", "authorization", true, true},
        {"Cache-Control: no-cache", "cache-control", true, true},
        {"Date: " DATE, "date", true, true},
        {"Trailer: a", "close", false, false},
        {"Keep-Alive: a", "close", false, false},
        {"Proxy-Connection: keep-alive", "close", false, false},
        {"Proxy-Authorization: a", "close", false, false},
        {"Proxy-Authenticate: a", "close", false, false},
        {"HTTP2-Settings: a", "close", false, false},
        {"Proxy: http://evil/", "close", false, false},
        {"TE: gzip", "te", false, false},
        {"Upgrade: a", "close", false, false},
        /* what the peer says of another client */
        {"X-Real-IP: 198.51.100.1", "close", false, true},
        {"X-Real-IP: 198.51.100.1", "x-real-ip", false, true},
        {"X-Forwarded-Port: 1", "close", false, true},
        {"x-forwarded-anything: 1", "x-forwarded-anything", false, true},
        {"X-Forwarded: a", "close", true, true},
        {"X-Forwarded-: a", "close", true, true},
        /* what some backends take for another field */
        {"X_Forwarded_For: 198.51.100.1", "close", false, false},
        {"X-Forwarded_For: 198.51.100.1", "close", false, false},
        {"X.Forwarded.For: 198.51.100.1", "close", false, false},
        {"x_forwarded_proto: https", "close", false, false},
        {"X_Forwarded-Host: evil", "close", false, false},
        {"X_Forwarded_Port: 1", "close", false, false},
        {"X_Real_IP: 198.51.100.1", "close", false, false},
        {"Content_Length: 5", "close", false, false},
        {"Transfer_Encoding: chunked", "close", false, false},
        {"Transfer~Encoding: chunked", "close", false, false},
        {"Keep_Alive: a", "close", false, false},
        {"Content_Type: a", "close", false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int trusted = 0; trusted <= 1; trusted++) {
            bool kept = trusted ? rows[i].kept_if_trusted : rows[i].kept;
            char head[256], expected[512];
            (void)snprintf(head, sizeof head,
                "GET / HTTP/1.1\r\nA: first\r\n%s\r\nHost: a\r\nConnection: %s\r\nZ: last\r\n\r\n",
                rows[i].field, rows[i].connection);
            (void)snprintf(expected, sizeof expected,
                "GET / HTTP/1.1\r\nHost: a\r\nA: first\r\n%s%sZ: last\r\n" END,
                kept ? rows[i].field : "", kept ? "\r\n" : "");
            check_request(head, &(struct client){.trusted = trusted}, expected);
        }
    check_request("PUT / HTTP/1.1\r\nHost: a\r\nTrailer: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        &(struct client){0},
        "PUT / HTTP/1.1\r\nHost: a\r\nTrailer: x\r\n" FROM_CLIENT VIA
        "Transfer-Encoding: chunked\r\n\r\n");
}

#define FORWARDED_FIELDS                                                                           \
    "X-Forwarded-For: 198.51.100.1, 198.51.100.2\r\nX-FORWARDED-FOR:\r\n"                          \
    "Forwarded: for=\"_a,b\"\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\n"               \
    "Forwarded: for=_c\r\nx-forwarded-for: unknown\r\nConnection: forwarded, x-forwarded-for\r\n"

static void test_client(void **state)
{
    static const struct {
        const char *fields;
        struct client client;
        const char *expected;
    } rows[] = {
        {"", {.scheme = "https", .host_set = "b:1"},
            "Host: b:1\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n"
            "X-Forwarded-Host: a:8\r\n"},
        {"", {.peer = "[2001:db8::1]:9", .forwarded = true},
            "Host: a:8\r\nX-Forwarded-For: 2001:db8::1\r\nX-Forwarded-Proto: http\r\n"
            "X-Forwarded-Host: a:8\r\n"
            "Forwarded: for=\"[2001:db8::1]\";host=\"a:8\";proto=http\r\n"},
        {"", {.peer = "[::ffff:192.0.2.7]:9", .forwarded = true},
            "Host: a:8\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n"
            "X-Forwarded-Host: a:8\r\nForwarded: for=192.0.2.7;host=\"a:8\";proto=http\r\n"},
        {"", {.peer = "unix:/x", .forwarded = true},
            "Host: a:8\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a:8\r\n"
            "Forwarded: for=unknown;host=\"a:8\";proto=http\r\n"},
        {FORWARDED_FIELDS, {0},
            "Host: a:8\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n"
            "X-Forwarded-Host: a:8\r\n"},
        {FORWARDED_FIELDS, {.forwarded = true},
            "Host: a:8\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n"
            "X-Forwarded-Host: a:8\r\nForwarded: for=192.0.2.1;host=\"a:8\";proto=http\r\n"},
        {FORWARDED_FIELDS, {.peer = "unix:/x"},
            "Host: a:8\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a:8\r\n"},
        {FORWARDED_FIELDS, {.trusted = true, .host_set = "c"},
            "Host: c\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\n"
            "X-Forwarded-For: 198.51.100.1, 198.51.100.2, unknown, 192.0.2.1\r\n"
            "Forwarded: for=\"_a,b\", for=_c, for=192.0.2.1;host=\"a:8\";proto=http\r\n"},
        {FORWARDED_FIELDS, {.trusted = true, .peer = "unix:/x", .forwarded = true},
            "Host: a:8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\n"
            "X-Forwarded-For: 198.51.100.1, 198.51.100.2, unknown\r\n"
            "Forwarded: for=\"_a,b\", for=_c, for=unknown;host=\"a:8\";proto=http\r\n"},
        {"X-Real-IP: x\r\n", {.trusted = true},
            "Host: a:8\r\nX-Real-IP: x\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n"
            "X-Forwarded-Host: a:8\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char head[512], expected[512];
        (void)snprintf(head, sizeof head, "GET / HTTP/1.1\r\n%sHost: a:8\r\n\r\n", rows[i].fields);
        (void)snprintf(
            expected, sizeof expected, "GET / HTTP/1.1\r\n%s" VIA "\r\n", rows[i].expected);
        check_request(head, &rows[i].client, expected);
    }
}

static void check_response(
    const char *head, unsigned minor, enum forward_body body, bool close, const char *expected)
{
    CLEANUP_BUFFER struct buffer out = {0};
    static struct response response;
    const char *why = "incomplete";

    if (response_parse(span_of(head), false, &limits, &response, &why) != RESPONSE_COMPLETE)
        fail_msg("%s: %s", why, head);
    assert_int_equal(forward_response(&response, minor, body, close, DATE, &out), 0);
    assert_string_equal(buffer_string(&out), expected);
}

#define OK "HTTP/1.1 200 OK\r\n"
#define DATED "Date: " DATE "\r\n"

static void test_responses(void **state)
{
    static const struct {
        const char *head;
        unsigned minor;
        enum forward_body body;
        bool close;
        const char *expected;
    } rows[] = {
        {OK "Content-Length: 05\r\nA:b\r\n\r\nBODY", 1, FORWARD_LENGTH, false,
            OK "A: b\r\n" DATED "Content-Length: 5\r\n\r\n"},
        {"HTTP/1.0 404 No  \xe9\r\nDATE: x\r\nContent-Length: 5\r\nTrailer: x\r\n\r\n", 1,
            FORWARD_LENGTH, true,
            "HTTP/1.1 404 No  \xe9\r\nDATE: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"},
        {"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n", 1, FORWARD_CHUNKED,
            false, "HTTP/1.1 200 \r\nTrailer: x\r\n" DATED "Transfer-Encoding: chunked\r\n\r\n"},
        {OK "Transfer-Encoding: chunked\r\nTrailer: x\r\n\r\n", 0, FORWARD_CLOSE, false,
            OK DATED "Connection: close\r\n\r\n"},
        {OK "\r\n", 1, FORWARD_CHUNKED, false, OK DATED "Transfer-Encoding: chunked\r\n\r\n"},
        {OK "Content-Length: 5\r\n\r\n", 0, FORWARD_LENGTH, false,
            OK DATED "Content-Length: 5\r\nConnection: keep-alive\r\n\r\n"},
        {OK "Content-Length: 5\r\n\r\n", 0, FORWARD_LENGTH, true,
            OK DATED "Content-Length: 5\r\nConnection: close\r\n\r\n"},
        /* no body */
        {OK "Content-Length: 5\r\n\r\n", 1, FORWARD_NO_BODY, false,
            OK DATED "Content-Length: 5\r\n\r\n"},
        {OK "Transfer-Encoding: chunked\r\n\r\n", 1, FORWARD_NO_BODY, false, OK DATED "\r\n"},
        {"HTTP/1.1 304 N\r\nETag: x\r\nContent-Length: 5\r\n\r\n", 1, FORWARD_NO_BODY, false,
            "HTTP/1.1 304 N\r\nETag: x\r\n" DATED "Content-Length: 5\r\n\r\n"},
        {"HTTP/1.1 204 N\r\nContent-Length: 0\r\n\r\n", 1, FORWARD_NO_BODY, false,
            "HTTP/1.1 204 N\r\n" DATED "\r\n"},
        {"HTTP/1.1 103 E\r\nLink: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", 1,
            FORWARD_NO_BODY, true, "HTTP/1.1 103 E\r\nLink: a\r\n\r\n"},
        /* upgrades */
        {"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nA: b\r\n\r\n", 1,
            FORWARD_NO_BODY, false,
            "HTTP/1.1 101 S\r\nA: b\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"},
        {"HTTP/1.1 426 U\r\nUpgrade: h2c, websocket\r\nContent-Length: 0\r\n\r\n", 1,
            FORWARD_LENGTH, true,
            "HTTP/1.1 426 U\r\n" DATED
            "Upgrade: websocket\r\nContent-Length: 0\r\nConnection: upgrade, close\r\n\r\n"},
        {OK "Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n", 1, FORWARD_LENGTH,
            false, OK DATED "Content-Length: 0\r\n\r\n"},
        /* hop by hop */
        {OK "Connection: x, set-cookie\r\nX: 1\r\nKeep-Alive: a\r\nProxy-Connection: a\r\n"
            "Proxy-Authenticate: a\r\nProxy-Authentication-Info: a\r\nTE: a\r\nSet-Cookie: a\r\n"
            "Set-Cookie: b\r\nVia: 1.1 c\r\nX_Real_IP: d\r\nX-Forwarded-For: e\r\nHost: f\r\n"
            "Content-Length: 0\r\n\r\n",
            1, FORWARD_LENGTH, false,
            OK "Set-Cookie: a\r\nSet-Cookie: b\r\nVia: 1.1 c\r\nX_Real_IP: d\r\n"
               "X-Forwarded-For: e\r\nHost: f\r\n" DATED "Content-Length: 0\r\n\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_response(rows[i].head, rows[i].minor, rows[i].body, rows[i].close, rows[i].expected);
}

static void test_trailers(void **state)
{
    static const struct {
        const char *section, *expected;
    } rows[] = {
        {"", ""},
        {"A: b\r\n", "A: b\r\n"},
        {"grpc-status:0\r\nX:\r\nServer-Timing: \t a \t\r\n",
            "grpc-status: 0\r\nX: \r\nServer-Timing: a\r\n"},
        {"Content-Length: 5\r\nA: b\r\nTransfer-Encoding: chunked\r\nHost: a\r\nTE: x\r\n",
            "A: b\r\n"},
        {"Connection: A\r\nA: b\r\nKeep-Alive: x\r\nTrailer: x\r\nUpgrade: x\r\n", "A: b\r\n"},
        {"Authorization: x\r\nCookie: x\r\nSet-Cookie: x\r\nProxy-Authorization: x\r\n", ""},
        {"Cache-Control: x\r\nExpect: x\r\nMax-Forwards: 1\r\nRange: x\r\nIf-Match: x\r\n", ""},
        {"Content-Type: x\r\nContent-Encoding: x\r\nContent-Range: x\r\nLocation: x\r\n", ""},
        {"X-Forwarded-For: x\r\nForwarded: x\r\nX-Real-IP: x\r\nX_Forwarded_For: x\r\n", ""},
        {"Content_Length: 5\r\nProxy: x\r\nDate: x\r\nVia: x\r\n", ""},
        {"A: b\r\nC: d", "A: b\r\n"},
        {"A: b\r\nC: d\nE: f\r\n", "A: b\r\n"},
        {"A\r\nC: d\r\n", "C: d\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CLEANUP_BUFFER struct buffer out = {0};
        assert_int_equal(forward_trailers(span_of(rows[i].section), &out), 0);
        assert_string_equal(buffer_string(&out), rows[i].expected);
    }
}

/* What is in the buffer stays in front; more than the usual growth of a head is room enough. */
static void test_appends(void **state)
{
    CLEANUP_BUFFER struct buffer out = {0};
    char host[2000];

    (void)state;
    memset(host, 'h', sizeof host - 1);
    host[sizeof host - 1] = '\0';
    assert_int_equal(buffer_append_string(&out, "before\r\n"), 0);
    assert_int_equal(forward("GET / HTTP/1.0\r\n\r\n",
                         &(struct client){.host_set = host, .peer = "unix:/x"}, &out),
        0);
    assert_int_equal(out.length, strlen("before\r\nGET / HTTP/1.1\r\nHost: \r\n"
                                        "X-Forwarded-Proto: http\r\nVia: 1.0 baton\r\n\r\n") +
                                     sizeof host - 1);
    assert_memory_equal(out.bytes, "before\r\nGET ", 12);
    assert_memory_equal(out.bytes + out.length - 4, "\r\n\r\n", 4);
}

/* A span of half the address space stands for the moment when memory runs out. */
static void test_no_memory(void **state)
{
    CLEANUP_BUFFER struct buffer out = {0};
    static struct request request;
    static struct response response;
    struct address peer = address_of("192.0.2.1:1");
    struct forward_client client = {.peer = &peer, .scheme = SPAN("http")};
    const char *why;

    (void)state;
    parse("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &request);
    client.host_set = (struct span){"b", SIZE_MAX / 2};
    assert_int_equal(buffer_append_string(&out, "before"), 0);
    assert_int_equal(forward_request(&request, &client, &out), -ENOMEM);
    assert_string_equal(buffer_string(&out), "before");
    assert_int_equal(
        response_parse(SPAN("HTTP/1.1 204 No\r\n\r\n"), false, &limits, &response, &why),
        RESPONSE_COMPLETE);
    response.reason.length = SIZE_MAX / 2;
    assert_int_equal(forward_response(&response, 1, FORWARD_NO_BODY, false, DATE, &out), -ENOMEM);
    assert_string_equal(buffer_string(&out), "before");
}

/* Thousands of options beside hundreds of fields: a request that cost more than to read it. */
static void test_many_options(void **state)
{
    CLEANUP_BUFFER struct buffer head = {0}, out = {0};

    (void)state;
    assert_int_equal(buffer_append_string(&head, "GET / HTTP/1.1\r\nHost: a\r\n"), 0);
    for (int i = 0; i < 250; i++)
        assert_int_equal(buffer_printf(&head, "%c%03d: x\r\n", i < 100 ? 'N' : 'X', i), 0);
    assert_int_equal(buffer_append_string(&head, "Connection: n000"), 0);
    for (int i = 1; i < 1000; i++)
        assert_int_equal(buffer_printf(&head, ",n%03d", i), 0);
    assert_int_equal(buffer_append_string(&head, "\r\n\r\n"), 0);
    assert_int_equal(forward(buffer_string(&head), &(struct client){0}, &out), 0);
    assert_null(strstr(buffer_string(&out), "\r\nN"));
    for (int i = 100; i < 250; i++) {
        char line[32];
        (void)snprintf(line, sizeof line, "\r\nX%03d: x\r\n", i);
        assert_non_null(strstr(buffer_string(&out), line));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_lines),
        cmocka_unit_test(test_max_forwards),
        cmocka_unit_test(test_connect_is_refused),
        cmocka_unit_test(test_upgrades),
        cmocka_unit_test(test_framing),
        cmocka_unit_test(test_request_fields),
        cmocka_unit_test(test_client),
        cmocka_unit_test(test_responses),
        cmocka_unit_test(test_trailers),
        cmocka_unit_test(test_appends),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_many_options),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
