#include "connection/reply.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static const struct config config = {.head_size = 4096, .max_fields = 16};
static const struct server_calls calls;
static struct counters counters;
static struct server server;
static struct reading *reading;
static struct part parts[ANSWER_PARTS_MAX + 1];
static struct output output;

static int set_up(void **state)
{
    (void)state;
    memset(&counters, 0, sizeof counters);
    struct ev_loop *loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (!loop)
        return -1;
    server_init(&server, loop, &config, &counters, NULL, &calls, NULL);
    reading = reading_take(&server.readings, &server.head_limits);
    return reading ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    reading_return(&server.readings, reading);
    struct ev_loop *loop = server.loop;
    server_destroy(&server);
    ev_loop_destroy(loop);
    return 0;
}

/* Parses the request as a connection does. */
static void ask(const char *text)
{
    unsigned status;
    const char *why;

    reading->start = 0;
    reading->end = strlen(text);
    memcpy(reading->bytes, text, reading->end);
    head_parser_start(&reading->parser, &reading->request, &server.head_limits);
    assert_int_equal(reading_parse(reading, &status, &why), HEAD_COMPLETE);
}

/* What would be sent, up to the file. */
static const char *composed(bool close)
{
    static char text[8192];
    size_t length = 0;

    uint64_t head = reply_compose(&server, &reading->request, close, parts, &output);
    assert_ptr_equal(output.parts, parts);
    assert_int_equal(parts[0].kind, PART_BYTES);
    assert_int_equal(parts[0].length, head);
    for (size_t i = 0; i < output.count && parts[i].kind == PART_BYTES; i++) {
        assert_true(length + parts[i].length < sizeof text);
        memcpy(text + length, output.bytes + parts[i].offset, (size_t)parts[i].length);
        length += (size_t)parts[i].length;
    }
    text[length] = '\0';
    return text;
}

/* The status line says @status, and @rest follows the date. */
static void assert_composed(bool close, const char *status, const char *rest)
{
    char expected[1024];

    (void)snprintf(expected, sizeof expected, "HTTP/1.1 %s\r\nDate: %s\r\n%s", status,
        server_date(&server), rest);
    assert_string_equal(composed(close), expected);
}

#define GET "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

static void answer(unsigned status, const char *body)
{
    answer_reset(&server.answer);
    server.answer.status = status;
    answer_field(&server.answer, "X-Field", "%s", "value");
    answer_bytes(&server.answer, span_of(body));
}

static void test_head(void **state)
{
    (void)state;
    ask(GET);
    answer(200, "body");
    assert_composed(false, "200 OK", "Content-Length: 4\r\nX-Field: value\r\n\r\nbody");
    answer(404, "");
    assert_composed(true, "404 Not Found",
        "Content-Length: 0\r\n"
        "Connection: close\r\nX-Field: value\r\n\r\n");
}

/* RFC 9112 §9.3: a client of HTTP/1.0 is told that the connection stays, or it would not know. */
static void test_keep_alive(void **state)
{
    (void)state;
    ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    answer(200, "body");
    assert_composed(false, "200 OK",
        "Content-Length: 4\r\n"
        "Connection: keep-alive\r\nX-Field: value\r\n\r\nbody");
    answer(200, "body");
    assert_composed(true, "200 OK",
        "Content-Length: 4\r\n"
        "Connection: close\r\nX-Field: value\r\n\r\nbody");
}

/* RFC 9110 §6.4.1: answers that have no body whatever their fields say. */
static void test_without_body(void **state)
{
    (void)state;
    ask("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    answer(200, "body");
    assert_composed(false, "200 OK", "Content-Length: 4\r\nX-Field: value\r\n\r\n");
    ask(GET);
    answer(204, "body");
    assert_composed(false, "204 No Content", "X-Field: value\r\n\r\n");
    answer(304, "body");
    assert_composed(false, "304 Not Modified", "X-Field: value\r\n\r\n");
}

static void test_parts(void **state)
{
    int file = memfd_create("test", MFD_CLOEXEC);

    (void)state;
    ask(GET);
    answer(206, "before");
    answer_file(&server.answer, file);
    answer_file_part(&server.answer, 10, 100);
    answer_bytes(&server.answer, SPAN("after"));
    assert_composed(false, "206 Partial Content",
        "Content-Length: 111\r\n"
        "X-Field: value\r\n\r\nbefore");
    assert_int_equal(output.count, 4);
    assert_int_equal(output.file, file);
    assert_int_equal(parts[2].kind, PART_FILE);
    assert_int_equal(parts[2].offset, 10);
    assert_int_equal(parts[2].length, 100);
    assert_memory_equal(output.bytes + parts[3].offset, "after", 5);
    answer_reset(&server.answer);
    assert_int_equal(fcntl(file, F_GETFD), -1); /* it was the answer's all the time */
}

/* As many parts as there can be, and the head. */
static void test_most_parts(void **state)
{
    (void)state;
    ask(GET);
    answer(206, "");
    for (uint64_t i = 0; i < ANSWER_PARTS_MAX; i++)
        answer_file_part(&server.answer, 2 * i, 1);
    assert_false(server.answer.failed);
    (void)composed(false);
    assert_int_equal(output.count, ANSWER_PARTS_MAX + 1);
    assert_int_equal(parts[ANSWER_PARTS_MAX].offset, 2 * (ANSWER_PARTS_MAX - 1));
}

static void test_failed(void **state)
{
    int file = memfd_create("test", MFD_CLOEXEC);

    (void)state;
    ask(GET);
    answer(200, "body");
    answer_file(&server.answer, file);
    answer_field(&server.answer, "Location", "%s", "a\r\nb");
    assert_true(server.answer.failed);
    assert_composed(false, "500 Internal Server Error",
        "Content-Length: 26\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n\r\n"
        "500 Internal Server Error\n");
    assert_int_equal(server.answer.status, 500);
    assert_int_equal(output.file, -1);
    assert_int_equal(fcntl(file, F_GETFD), -1);
}

static const char *logged(int family, const char *address)
{
    static char text[512];
    struct access_log log = {.format = ACCESS_JSON, .path = "", .fd = memfd_create("test", 0)};
    union {
        struct sockaddr_in6 ipv6;
        struct sockaddr_in ipv4;
    } peer = {.ipv6 = {.sin6_family = (sa_family_t)family}};

    if (family == AF_INET)
        assert_int_equal(inet_pton(family, address, &peer.ipv4.sin_addr), 1);
    if (family == AF_INET6)
        assert_int_equal(inet_pton(family, address, &peer.ipv6.sin6_addr), 1);
    server.access_log = &log;
    reply_log_access(&server, &peer.ipv6, reading, 206, 1234);
    assert_int_equal(access_log_flush(&log), 0);
    ssize_t length = pread(log.fd, text, sizeof text - 1, 0);
    assert_true(length > 0);
    text[length] = '\0';
    access_log_close(&log);
    return text;
}

static void test_log(void **state)
{
    unsigned long long duration;
    char form[400], date[32];
    time_t now = (time_t)ev_now(server.loop);

    (void)state;
    ask("GET /a?b HTTP/1.1\r\nHost: x:1\r\nReferer: r\r\nUser-Agent: u\r\n\r\n");
    reading->began = ev_now(server.loop) - 0.25;
    (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    const char *text = logged(AF_INET, "192.0.2.1");
    assert_int_equal(
        sscanf(strstr(text, "\"duration_usec\":"), "\"duration_usec\":%llu", &duration), 1);
    assert_in_range(duration, 249000, 251000);
    (void)snprintf(form, sizeof form,
        "{\"time\":\"%s\",\"peer\":\"192.0.2.1\",\"method\":\"GET\",\"target\":\"/a?b\","
        "\"host\":\"x\",\"protocol\":\"HTTP/1.1\",\"status\":206,\"bytes\":1234,"
        "\"duration_usec\":%llu,\"referrer\":\"r\",\"agent\":\"u\"}\n",
        date, duration);
    assert_string_equal(text, form);
    assert_non_null(strstr(logged(AF_INET6, "2001:db8::1"), "\"peer\":\"2001:db8::1\""));
    assert_non_null(strstr(logged(AF_INET6, "::ffff:192.0.2.2"), "\"peer\":\"192.0.2.2\""));
    assert_non_null(strstr(logged(AF_UNIX, NULL), "\"peer\":\"unix:\""));
    reading->began = ev_now(server.loop) + 100; /* the time of day was set back meanwhile */
    assert_non_null(strstr(logged(AF_UNIX, NULL), "\"duration_usec\":0,"));
    assert_int_equal(counters.values[COUNTER_LOG_LOST], 0);
}

static void test_lost_lines_are_counted(void **state)
{
    struct access_log log = {.path = "", .fd = open("/dev/full", O_WRONLY | O_CLOEXEC)};
    struct sockaddr_in6 peer = {.sin6_family = AF_UNIX};
    int flushed;

    (void)state;
    ask(GET);
    server.access_log = &log;
    for (int i = 0; i < 2000; i++)
        reply_log_access(&server, &peer, reading, 200, 0);
    flushed = access_log_flush(&log);
    assert_in_range(counters.values[COUNTER_LOG_LOST], 1, 1999);
    assert_int_equal(counters.values[COUNTER_LOG_LOST] + (unsigned)flushed, 2000);
    access_log_close(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_head, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keep_alive, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_without_body, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_parts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_most_parts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_log, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lost_lines_are_counted, set_up, tear_down),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
