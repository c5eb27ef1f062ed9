#include "connection/download.h"

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
#define LARGE 300000

static struct download download;
static struct download_client client;
static struct workspace workspace;
static struct span rest;
static const char *why;
static int pair[2]; /* the client's socket, and the client */

static void begin(unsigned minor, bool small)
{
    sockets_pair(pair, small);
    download = (struct download){0};
    rest = (struct span){NULL, 0};
    why = NULL;
    client = (struct download_client){.fd = pair[0], .minor = minor, .date = "now"};
}

static void end(void)
{
    download_clear(&download);
    fd_close(pair[0]);
    fd_close(pair[1]);
}

static int tear_down(void **state)
{
    (void)state;
    buffer_clear(&workspace.head);
    buffer_clear(&workspace.body);
    return 0;
}

/* As the workspace's piece has them: nothing may point into it afterwards. */
static int take(const char *bytes, size_t length)
{
    memcpy(workspace.piece, bytes, length);
    int r = download_take(
        &download, (struct span){workspace.piece, length}, &workspace, &client, &rest, &why);
    memset(workspace.piece, '#', length);
    return r;
}

/* In pieces of @step bytes, until it says something else than OK; at its end the backend closes. */
static int take_all(const char *text, size_t step, size_t *ret_left)
{
    size_t length = strlen(text), at = 0;
    int r = DOWNLOAD_OK;

    while (r == DOWNLOAD_OK && at < length) {
        size_t some = length - at < step ? length - at : step;
        r = take(text + at, some);
        at += some;
    }
    if (r == DOWNLOAD_OK)
        r = take("", 0);
    *ret_left = length - at;
    return r;
}

static void dechunk(char *text)
{
    char *end = strstr(text, "\r\n\r\n");

    assert_non_null(end);
    const char *behind = chunks_take_off(end + 4);
    assert_non_null(behind);
    assert_string_equal(behind, "");
}

#define OK_HEAD "HTTP/1.1 200 OK\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n"
#define DATED "Date: now\r\n"

struct form {
    const char *name, *response, *client; /* what is received and sent on */
    unsigned minor;                       /* of the client */
    unsigned status;
    bool head_request;
    bool chunked; /* sent on so: without the chunks it is what client says */
    bool close;   /* the client's connection ends */
    bool reusable;
};

static const struct form forms[] = {
    {"by length", OK_HEAD "Content-Length: 5\r\nA: b\r\n\r\nhello",
        OK_HEAD "A: b\r\n" DATED "Content-Length: 5\r\n\r\nhello", 1, 200, .reusable = true},
    {"its own date", OK_HEAD "Date: then\r\nContent-Length: 0\r\n\r\n",
        OK_HEAD "Date: then\r\nContent-Length: 0\r\n\r\n", 1, 200, .reusable = true},
    {"chunked", OK_HEAD CHUNKED "\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n",
        OK_HEAD DATED CHUNKED "\r\nhello world", 1, 200, .chunked = true, .reusable = true},
    {"trailers",
        OK_HEAD CHUNKED "Trailer: A\r\n\r\n1\r\n!\r\n0\r\nA: b\r\nContent-Length: 9\r\nC:d\r\n\r\n",
        OK_HEAD "Trailer: A\r\n" DATED CHUNKED "\r\n!|A: b\r\nC: d\r\n", 1, 200, .chunked = true,
        .reusable = true},
    {"an empty chunked body", OK_HEAD CHUNKED "\r\n0\r\n\r\n", OK_HEAD DATED CHUNKED "\r\n", 1, 200,
        .chunked = true, .reusable = true},
    {"until it closes", OK_HEAD "\r\nhello world", OK_HEAD DATED CHUNKED "\r\nhello world", 1, 200,
        .chunked = true},
    {"nothing until it closes", OK_HEAD "\r\n", OK_HEAD DATED CHUNKED "\r\n", 1, 200,
        .chunked = true},
    {"HTTP/1.0 by length", OK_HEAD "Content-Length: 5\r\n\r\nhello",
        OK_HEAD DATED "Content-Length: 5\r\nConnection: keep-alive\r\n\r\nhello", 0, 200,
        .reusable = true},
    {"HTTP/1.0, chunked", OK_HEAD CHUNKED "\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n",
        OK_HEAD DATED "Connection: close\r\n\r\nhello!", 0, 200, .close = true, .reusable = true},
    {"HTTP/1.0 until it closes", OK_HEAD "\r\nhello",
        OK_HEAD DATED "Connection: close\r\n\r\nhello", 0, 200, .close = true},
    {"a backend of HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nhello", OK_HEAD DATED CHUNKED "\r\nhello", 1,
        200, .chunked = true},
    {"a backend that closes", OK_HEAD "Connection: close\r\nContent-Length: 5\r\n\r\nhello",
        OK_HEAD DATED "Content-Length: 5\r\n\r\nhello", 1, 200, .reusable = false},
    {"HEAD", OK_HEAD "Content-Length: 5\r\n\r\n", OK_HEAD DATED "Content-Length: 5\r\n\r\n", 1, 200,
        .head_request = true, .reusable = true},
    {"HEAD, chunked", OK_HEAD CHUNKED "\r\n", OK_HEAD DATED "\r\n", 1, 200, .head_request = true,
        .reusable = true},
    {"204", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\n" DATED "\r\n", 1, 204,
        .reusable = true},
    {"304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\n" DATED "Content-Length: 9\r\n\r\n", 1, 304,
        .reusable = true},
    {"interim ones",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" OK_HEAD
        "Content-Length: 1\r\n\r\n!",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" OK_HEAD DATED
        "Content-Length: 1\r\n\r\n!",
        1, 200, .reusable = true},
    {"interim ones for HTTP/1.0",
        "HTTP/1.1 100 Continue\r\n\r\n" OK_HEAD "Content-Length: 1\r\n\r\n!",
        OK_HEAD DATED "Content-Length: 1\r\nConnection: keep-alive\r\n\r\n!", 0, 200,
        .reusable = true},
};

static void try_form(const struct form *form, size_t step)
{
    static char text[4096];
    size_t left;

    begin(form->minor, false);
    client.head_request = form->head_request;
    int r = take_all(form->response, step, &left);
    if (r != DOWNLOAD_COMPLETE)
        fail_msg("%s in steps of %zu: %d", form->name, step, r);
    assert_int_equal(left, 0);
    assert_int_equal(download.state, DOWNLOAD_DONE);
    const char *arrived = sockets_read(pair[1], NULL);
    (void)snprintf(text, sizeof text, "%.*s", (int)sizeof text - 1, arrived);
    size_t interim = strlen(text) - (size_t)client.sent;
    assert_memory_equal(
        text + interim, "HTTP/1.1 ", 9); /* the final head: the rest is not counted */
    assert_int_equal(strstr(text + interim, "\r\n\r\n") + 4 - (text + interim), client.head_length);
    if (form->chunked)
        dechunk(text);
    if (strcmp(text, form->client) != 0)
        fail_msg("%s in steps of %zu: %s", form->name, step, text);
    assert_int_equal(client.status, form->status);
    assert_int_equal(client.close, form->close);
    assert_int_equal(download.keep_alive, form->reusable);
    assert_int_equal(client.interim, interim > 0 ? 2 : 0);
    assert_true(flow_is_empty(&download.flow));
    end();
}

/* However it is cut. */
static void test_forms(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(forms); i++)
        for (size_t step = 1; step < 200; step = step < 8 ? step + 1 : step * 3)
            try_form(&forms[i], step);
}

static void test_connection_ends_with_it(void **state)
{
    size_t left;

    (void)state;
    begin(1, false);
    client.close = true;
    assert_int_equal(take_all(OK_HEAD "Content-Length: 0\r\n\r\n", 1000, &left), DOWNLOAD_COMPLETE);
    assert_string_equal(sockets_read(pair[1], NULL),
        OK_HEAD DATED "Content-Length: 0\r\nConnection: close\r\n\r\n");
    end();
}

/* Behind the end of the response nothing can be: that connection serves no other request. */
static void test_more_than_the_response(void **state)
{
    static const char *const responses[] = {
        OK_HEAD "Content-Length: 1\r\n\r\n!?",
        OK_HEAD CHUNKED "\r\n0\r\n\r\n?",
        "HTTP/1.1 204 No Content\r\n\r\n?",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(responses); i++) {
        size_t left;
        begin(1, false);
        assert_int_equal(take_all(responses[i], 1000, &left), DOWNLOAD_COMPLETE);
        assert_false(download.keep_alive);
        assert_null(strchr(sockets_read(pair[1], NULL), '?'));
        end();
    }
}

#define SWITCHING "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"

static void test_switch(void **state)
{
    static const char *const early[] = {"", "first bytes"};

    (void)state;
    for (size_t i = 0; i < COUNT(early); i++)
        for (size_t step = 1; step < 200; step += 99) {
            char text[200];
            size_t left;
            (void)snprintf(text, sizeof text, SWITCHING "%s", early[i]);
            begin(1, false);
            client.may_switch = true;
            assert_int_equal(take_all(text, step, &left), DOWNLOAD_SWITCHED);
            assert_int_equal(client.status, 101);
            assert_int_equal(rest.length, strlen(early[i]) - left);
            assert_memory_equal(rest.at ? rest.at : "", early[i], rest.length);
            assert_string_equal(sockets_read(pair[1], NULL),
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n");
            end();
        }
}

static void test_malformed(void **state)
{
    static const struct {
        const char *response;
        bool answered; /* part of it is with the client already */
        bool at_once;  /* but not if all of it comes in one piece */
    } cases[] = {
        {"nonsense\r\n\r\n", false, false},
        {"HTTP/2 200 OK\r\n\r\n", false, false},
        {"HTTP/1.1 200 OK\r\nA b\r\n\r\n", false, false},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", false,
            false},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", false, false},
        {"HTTP/1.1 100 Continue\r\n\r\nnonsense\r\n\r\n", false, false},
        {SWITCHING, false, false},                                  /* nobody asked */
        {"HTTP/1.1 101 Switching Protocols\r\n\r\n", false, false}, /* to what? */
        {"", false, false},                                         /* it closes at once */
        {"HTTP/1.1 200 OK\r\nContent-Le", false, false},            /* within the head */
        {"HTTP/1.1 100 Continue\r\n\r\n", false, false},            /* and no more */
        {OK_HEAD "Content-Length: 5\r\n\r\nhell", true, false},     /* within the body */
        {OK_HEAD CHUNKED "\r\n5\r\nhello\r\n", true, false},
        {OK_HEAD CHUNKED "\r\n0\r\n", true, false},
        {OK_HEAD CHUNKED "\r\nx\r\n", true, true},
        {OK_HEAD CHUNKED "\r\n1\r\nab", true, true},
        {OK_HEAD CHUNKED "\r\n0\r\nA b\r\n\r\n", true, true},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        for (size_t step = 1; step < 500; step += 400) {
            size_t left;
            begin(1, false);
            int r = take_all(cases[i].response, step, &left);
            if (r != DOWNLOAD_BAD)
                fail_msg("case %zu in steps of %zu: %d", i, step, r);
            assert_non_null(why);
            bool answered = cases[i].answered && (step == 1 || !cases[i].at_once);
            assert_int_equal(download.state, answered ? DOWNLOAD_BODY : DOWNLOAD_HEAD);
            assert_int_equal(client.status, answered ? 200 : 0);
            /* Its end cannot be taken for one. */
            const char *text = sockets_read(pair[1], NULL);
            assert_null(strstr(text, "\r\n0\r\n\r\n"));
            end();
        }
}

static void test_head_without_end(void **state)
{
    static char line[1001];
    int r = DOWNLOAD_OK;

    (void)state;
    begin(1, false);
    memset(line, 'x', sizeof line - 1);
    memcpy(line, "A: ", 3);
    memcpy(line + sizeof line - 3, "\r\n", 2);
    assert_int_equal(take(OK_HEAD, strlen(OK_HEAD)), DOWNLOAD_OK);
    for (unsigned i = 0; r == DOWNLOAD_OK; i++) {
        assert_true(i < 2 * PIECE_SIZE / 1000);
        r = take(line, sizeof line - 1);
    }
    assert_int_equal(r, DOWNLOAD_BAD);
    end();
}

/* A client that takes little: nothing is lost, and nothing more than a piece is kept. */
static void test_back_pressure(void **state)
{
    static const char *const heads[] = {"Content-Length: 300000\r\n", CHUNKED, ""};
    static char body[LARGE + 200], text[2 * LARGE], expected[LARGE];

    (void)state;
    for (size_t i = 0; i < LARGE; i++)
        expected[i] = (char)('a' + i % 23);
    for (size_t i = 0; i < COUNT(heads); i++) {
        int length = snprintf(
            body, sizeof body, i == 1 ? OK_HEAD "%s\r\n%x\r\n" : OK_HEAD "%s\r\n", heads[i], LARGE);
        memcpy(body + length, expected, LARGE);
        size_t total = (size_t)length + LARGE, used = 0, at = 0;
        if (i == 1) {
            memcpy(body + total, "\r\n0\r\n\r\n", 7);
            total += 7;
        }
        begin(1, true);
        int r = DOWNLOAD_OK;
        while (r != DOWNLOAD_COMPLETE || !flow_is_empty(&download.flow)) {
            if (flow_is_empty(&download.flow)) {
                size_t some = total - at < 50000 ? total - at : 50000;
                r = take(body + at, some);
                assert_true(r == DOWNLOAD_OK || r == DOWNLOAD_COMPLETE);
                at += some;
            }
            assert_in_range(download.flow.length, 0, 50000 + 200);
            const char *piece = sockets_read(pair[1], NULL);
            memcpy(text + used, piece, strlen(piece) + 1);
            used += strlen(piece);
            assert_true(flow_flush(&download.flow, pair[0], &client.sent) >= 0);
        }
        const char *piece = sockets_read(pair[1], NULL);
        memcpy(text + used, piece, strlen(piece) + 1);
        used += strlen(piece);
        assert_int_equal(client.sent, used);
        if (i > 0)
            dechunk(text);
        char *arrived = strstr(text, "\r\n\r\n") + 4;
        assert_int_equal(strlen(arrived), LARGE);
        assert_memory_equal(arrived, expected, LARGE);
        end();
    }
}

/* Behind an interim head that waits, all that follows waits in its order. */
static void test_interim_waits(void **state)
{
    (void)state;
    begin(1, true);
    size_t stuffed = sockets_stuff(pair[0]);
    static const char response[] =
        "HTTP/1.1 100 Continue\r\n\r\n" OK_HEAD "Content-Length: 1\r\n\r\n!";
    assert_int_equal(take(response, strlen(response)), DOWNLOAD_COMPLETE);
    assert_int_equal(client.sent, 0);
    sockets_skip(pair[1], stuffed);
    assert_int_equal(flow_flush(&download.flow, pair[0], &client.sent), FLOW_DONE);
    assert_string_equal(sockets_read(pair[1], NULL),
        "HTTP/1.1 100 Continue\r\n\r\n" OK_HEAD DATED "Content-Length: 1\r\n\r\n!");
    end();
}

static void test_client_is_gone(void **state)
{
    static const char *const responses[] = {
        OK_HEAD "Content-Length: 1\r\n\r\n!", "HTTP/1.1 100 Continue\r\n\r\n", SWITCHING};

    (void)state;
    for (size_t i = 0; i < COUNT(responses); i++) {
        begin(1, false);
        client.may_switch = true;
        pair[1] = fd_close(pair[1]);
        assert_int_equal(take(responses[i], strlen(responses[i])), DOWNLOAD_LEFT);
        end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_connection_ends_with_it),
        cmocka_unit_test(test_more_than_the_response),
        cmocka_unit_test(test_switch),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_head_without_end),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_interim_waits),
        cmocka_unit_test(test_client_is_gone),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
