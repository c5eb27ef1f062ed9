#include "connection/upload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/fd.h"
#include "chunks.h"
#include "sockets.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/*
 * A request that comes through a socket, as a connection has it: the head lies in the reading, and
 * what follows is received by the upload. The other end of another socket is the backend.
 */

#define HEAD_SIZE 1024
#define LARGE 200000

static const struct head_limits limits = {.size = HEAD_SIZE, .fields = 16};
static struct reading_pool pool;
static struct reading *reading;
static struct workspace workspace;
static struct upload upload;
static int client[2], backend[2]; /* ours is the second one */
static uint64_t received;
static char large[LARGE + 1];

static void begin(bool small)
{
    sockets_pair(client, false);
    sockets_pair(backend, small);
    upload = (struct upload){.replayable = true};
    received = 0;
    reading = reading_take(&pool, &limits);
    assert_non_null(reading);
}

static void end(void)
{
    upload_clear(&upload);
    reading_return(&pool, reading);
    for (size_t i = 0; i < 2; i++) {
        fd_close(client[i]);
        fd_close(backend[i]);
    }
}

static int set_up(void **state)
{
    (void)state;
    reading_pool_init(&pool, HEAD_SIZE);
    memset(large, 'x', LARGE);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    reading_pool_destroy(&pool);
    buffer_clear(&workspace.head);
    buffer_clear(&workspace.body);
    return 0;
}

static void put(const char *text, size_t length)
{
    assert_true(reading->end + length <= reading->capacity);
    memcpy(reading->bytes + reading->end, text, length);
    reading->end += length;
}

/* The head, and so many bytes behind it that came with it. */
static void parse(const char *text, size_t behind)
{
    unsigned status;
    const char *why, *body = strstr(text, "\r\n\r\n") + 4;

    put(text, (size_t)(body - text) + behind);
    assert_int_equal(reading_parse(reading, &status, &why), HEAD_COMPLETE);
    assert_int_equal(reading->request.head_length, body - text);
}

static int send_head(uint64_t limit)
{
    return upload_send(&upload, reading, SPAN("HEAD"), &workspace, limit, backend[0]);
}

static int receive(uint64_t limit)
{
    return upload_receive(
        &upload, reading, &workspace, &limits, limit, client[0], backend[0], &received);
}

#define TEXT_MAX 10000

static void add_text(char text[static TEXT_MAX], const char *more)
{
    assert_true(strlen(text) + strlen(more) < TEXT_MAX);
    memcpy(text + strlen(text), more, strlen(more) + 1);
}

/* Of the next request: what was received of it, and then what is still in the socket. */
static const char *left_over(void)
{
    static char text[TEXT_MAX];
    size_t length = reading->end - reading->body;
    char *socket = text + length;

    memcpy(text, reading->bytes + reading->body, length);
    ssize_t n = recv(client[0], socket, TEXT_MAX - 1 - length, MSG_PEEK);
    socket[n > 0 ? n : 0] = '\0';
    return text;
}

#define POST "POST / HTTP/1.1\r\nHost: x\r\n"
#define LENGTH(n) POST "Content-Length: " #n "\r\n\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

/* What the backend gets, however the request is cut. */
static void test_forms(void **state)
{
    static const struct {
        const char *request, *body; /* of a chunked one: as chunks_take_off() */
        bool chunked;
        const char *behind; /* the next request */
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", false, ""},
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /", "", false, "GET /"},
        {LENGTH(0) "GET", "", false, "GET"},
        {LENGTH(5) "hello", "hello", false, ""},
        {LENGTH(5) "helloGET /next", "hello", false, "GET /next"},
        {CHUNKED "5;x=\"y\"\r\nhello\r\n0b \r\nhello world\r\n0\r\n\r\n", "hellohello world", true,
            ""},
        {CHUNKED "1\r\n!\r\n0\r\nA: b\r\nContent-Length: 3\r\nC:d\r\n\r\nGET /next",
            "!|A: b\r\nC: d\r\n", true, "GET /next"},
        {CHUNKED "0\r\n\r\n", "", true, ""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *body = strstr(cases[i].request, "\r\n\r\n") + 4;
        size_t length = strlen(body);
        for (size_t with_head = 0; with_head <= length; with_head++)
            for (size_t step = 1; step < 20; step += 6) {
                begin(false);
                parse(cases[i].request, with_head);
                assert_int_equal(send_head(100), UPLOAD_OK);
                size_t at = with_head;
                while (at < length && !upload.whole) {
                    size_t some = length - at < step ? length - at : step;
                    assert_int_equal(write(client[1], body + at, some), some);
                    at += some;
                    assert_int_equal(receive(100), UPLOAD_OK);
                    assert_int_equal(received, at - with_head);
                }
                assert_true(upload.whole);
                assert_true(upload.replayable);
                char *text = (char *)sockets_read(backend[1], NULL);
                assert_memory_equal(text, "HEAD", 4);
                if (cases[i].chunked)
                    assert_string_equal(chunks_take_off(text + 4), "");
                assert_string_equal(text + 4, cases[i].body);
                /* What follows is the next request: here, or still in the socket. */
                size_t behind = at - (length - strlen(cases[i].behind));
                assert_int_equal(strlen(left_over()), behind);
                assert_memory_equal(left_over(), cases[i].behind, behind);
                end();
            }
    }
}

/* As often as the backend has to be another one, while all of it is here. */
static void test_once_more(void **state)
{
    static const char *const requests[] = {
        LENGTH(6) "abcdef", CHUNKED "3\r\nabc\r\n3\r\ndef\r\n0\r\nA: b\r\n\r\n"};

    (void)state;
    for (size_t i = 0; i < COUNT(requests); i++) {
        const char *body = strstr(requests[i], "\r\n\r\n") + 4;
        for (size_t cut = 0; cut <= strlen(body); cut++) {
            char first[TEXT_MAX];
            begin(false);
            parse(requests[i], 0);
            assert_int_equal(send_head(100), UPLOAD_OK);
            assert_false(upload.whole);
            if (cut > 0) {
                assert_int_equal(write(client[1], body, cut), cut);
                assert_int_equal(receive(100), UPLOAD_OK);
            }
            (void)sockets_read(backend[1], NULL);
            assert_int_equal(send_head(100), UPLOAD_OK);
            assert_int_equal(upload.whole, cut == strlen(body));
            first[0] = '\0';
            add_text(first, sockets_read(backend[1], NULL));
            if (cut < strlen(body)) {
                assert_int_equal(
                    write(client[1], body + cut, strlen(body) - cut), strlen(body) - cut);
                assert_int_equal(receive(100), UPLOAD_OK);
                add_text(first, sockets_read(backend[1], NULL));
            }
            assert_memory_equal(first, "HEAD", 4);
            if (i == 1)
                assert_string_equal(chunks_take_off(first + 4), "");
            assert_string_equal(first + 4, i == 1 ? "abcdef|A: b\r\n" : "abcdef");
            assert_true(upload.whole);
            end();
        }
    }
}

static void test_whether_it_is_here(void **state)
{
    static const struct {
        const char *request;
        size_t with_head;
        bool here;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 0, true}, {LENGTH(0), 0, true},
        {LENGTH(3) "abc", 2, false}, {LENGTH(3) "abc", 3, true}, {LENGTH(3) "abcGET", 6, true},
        {CHUNKED "0\r\n\r\n", 5, false}, /* who knows */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        begin(false);
        parse(cases[i].request, cases[i].with_head);
        assert_int_equal(upload_is_here(reading), cases[i].here);
        end();
    }
}

/* More than the reading holds: it passes through, and what is behind it stays. */
static void test_large(void **state)
{
    (void)state;
    for (unsigned chunked = 0; chunked < 2; chunked++)
        for (unsigned behind_another = 0; behind_another < 2; behind_another++) {
            static char request[LARGE + 1000], arrived[2 * LARGE];
            size_t used = 0, at = 0;
            (void)snprintf(request, sizeof request,
                chunked ? CHUNKED "%x\r\n%s\r\n0\r\n\r\nGET /next"
                        : POST "Content-Length: %d\r\n\r\n%sGET /next",
                LARGE, large);
            const char *body = strstr(request, "\r\n\r\n") + 4;
            begin(true);
            if (behind_another) { /* which was answered: its bytes are still in front */
                reading->start = reading->end = 700;
                head_parser_start(&reading->parser, &reading->request, &limits);
            }
            parse(request, 10);
            assert_int_equal(send_head(LARGE), UPLOAD_OK);
            body += 10;
            while (!upload.whole || !flow_is_empty(&upload.flow)) {
                ssize_t n = write(client[1], body + at, strlen(body + at));
                at += n > 0 ? (size_t)n : 0;
                if (flow_is_empty(&upload.flow))
                    assert_int_equal(receive(LARGE), UPLOAD_OK);
                assert_true(upload.flow.length <= 2 * PIECE_SIZE);
                uint64_t sent = 0;
                assert_true(flow_flush(&upload.flow, backend[0], &sent) >= 0);
                const char *piece = sockets_read(backend[1], NULL);
                assert_true(used + strlen(piece) < sizeof arrived);
                memcpy(arrived + used, piece, strlen(piece) + 1);
                used += strlen(piece);
            }
            assert_false(upload.replayable);
            assert_int_equal(reading->body_read, LARGE);
            if (chunked)
                assert_string_equal(chunks_take_off(arrived + 4), "");
            assert_true(strcmp(arrived + 4, large) == 0);
            assert_int_equal(write(client[1], body + at, strlen(body + at)), strlen(body + at));
            assert_string_equal(left_over(), "GET /next");
            end();
        }
}

/* A backend that takes nothing: what came is kept, and comes whole later. */
static void test_backend_is_full(void **state)
{
    uint64_t sent = 0;

    (void)state;
    begin(true);
    size_t stuffed = sockets_stuff(backend[0]);
    parse(LENGTH(10) "01234", 5);
    assert_int_equal(send_head(100), UPLOAD_OK);
    assert_int_equal(upload.flow.length, 9);
    sockets_skip(backend[1], stuffed);
    assert_int_equal(flow_flush(&upload.flow, backend[0], &sent), FLOW_DONE);
    assert_string_equal(sockets_read(backend[1], NULL), "HEAD01234");
    stuffed = sockets_stuff(backend[0]);
    sockets_say(client[1], "56789");
    assert_int_equal(receive(100), UPLOAD_OK);
    assert_true(upload.whole);
    assert_int_equal(upload.flow.length, 5);
    /* To another one all goes from the beginning, and nothing of the flow is left. */
    sockets_skip(backend[1], stuffed);
    assert_int_equal(send_head(100), UPLOAD_OK);
    assert_string_equal(sockets_read(backend[1], NULL), "HEAD0123456789");
    end();
}

static void test_refusals(void **state)
{
    static const struct {
        const char *request, *later;
        size_t with_head;
        int expected;
    } cases[] = {
        {CHUNKED "x", "", 1, UPLOAD_MALFORMED},
        {CHUNKED, "x", 0, UPLOAD_MALFORMED},
        {CHUNKED "3\r\nabc", "d", 6, UPLOAD_MALFORMED},
        {CHUNKED "0\r\n", "A b\r\n", 3, UPLOAD_MALFORMED},
        {CHUNKED "8\r\n12345678\r\n", "", 13, UPLOAD_TOO_LARGE},
        {CHUNKED "7\r\n1234567\r\n", "1\r\n8\r\n", 12, UPLOAD_TOO_LARGE},
        {LENGTH(8) "12345678", "", 8, UPLOAD_TOO_LARGE}, /* where a limit became smaller */
        {LENGTH(8) "1234567", "8", 7, UPLOAD_TOO_LARGE},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        begin(false);
        parse(cases[i].request, cases[i].with_head);
        int r = send_head(7);
        if (cases[i].later[0]) {
            assert_int_equal(r, UPLOAD_OK);
            sockets_say(client[1], cases[i].later);
            r = receive(7);
        }
        if (r != cases[i].expected)
            fail_msg("case %zu: %d", i, r);
        end();
    }
}

static void test_client(void **state)
{
    (void)state;
    begin(false);
    parse(LENGTH(5), 0);
    assert_int_equal(send_head(100), UPLOAD_OK);
    assert_int_equal(receive(100), UPLOAD_OK); /* nothing is there */
    assert_int_equal(received, 0);
    client[1] = fd_close(client[1]);
    assert_int_equal(receive(100), UPLOAD_LEFT);
    end();
}

static void test_backend_is_gone(void **state)
{
    (void)state;
    begin(false);
    backend[1] = fd_close(backend[1]);
    parse(LENGTH(5) "abc", 3);
    assert_int_equal(send_head(100), -EPIPE);
    assert_false(upload.whole);
    assert_true(upload.replayable);
    sockets_say(client[1], "de");
    assert_int_equal(receive(100), -EPIPE);
    assert_true(upload.whole);
    assert_true(upload.replayable);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_once_more),
        cmocka_unit_test(test_whether_it_is_here),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_backend_is_full),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_client),
        cmocka_unit_test(test_backend_is_gone),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
