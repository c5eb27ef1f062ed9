#include "connection/reading.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"

#define HEAD_SIZE 2048
#define FIRST "GET /first HTTP/1.1\r\nHost: x\r\n\r\n"
#define SECOND "GET /second HTTP/1.1\r\nHost: y\r\n\r\n"

static const struct head_limits limits = {.size = HEAD_SIZE, .fields = 16};
static struct reading_pool pool;
static struct reading *reading;
static unsigned status;
static const char *why;

static int set_up(void **state)
{
    (void)state;
    reading_pool_init(&pool, HEAD_SIZE);
    reading = reading_take(&pool, &limits);
    return reading ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    if (reading)
        reading_return(&pool, reading);
    reading_pool_destroy(&pool);
    return 0;
}

/* As recv(2) would: what finds no room is not taken. Returns how much was. */
static size_t receive(const char *bytes, size_t length)
{
    size_t room = reading_room(reading, &limits), taken = length < room ? length : room;

    memcpy(reading->bytes + reading->end, bytes, taken);
    reading->end += taken;
    return taken;
}

static void receive_all(const char *text)
{
    assert_int_equal(receive(text, strlen(text)), strlen(text));
}

static int parse(void)
{
    return reading_parse(reading, &status, &why);
}

static void assert_span(struct span span, const char *expected)
{
    assert_true(span_equal(span, span_of(expected)));
    /* It lies in the bytes as they are now. */
    assert_true(
        span.at >= reading->bytes && span.at + span.length <= reading->bytes + reading->end);
}

static void test_pool(void **state)
{
    enum { MANY = 200 };
    static struct reading *many[MANY];
    struct reading *first = reading;

    (void)state;
    reading_return(&pool, first);
    reading = reading_take(&pool, &limits);
    assert_ptr_equal(reading, first);
    for (size_t i = 0; i < MANY; i++)
        assert_non_null(many[i] = reading_take(&pool, &limits));
    for (size_t i = 0; i < MANY; i++)
        reading_return(&pool, many[i]);
    assert_in_range(pool.free_count, 1, MANY / 2); /* the rest of a burst goes back */
    size_t kept = pool.free_count;
    for (size_t i = 0; i < kept; i++)
        many[i] = reading_take(&pool, &limits);
    assert_int_equal(pool.free_count, 0);
    assert_null(pool.free);
    for (size_t i = 0; i < kept; i++)
        reading_return(&pool, many[i]);
}

static void test_has_whole(void **state)
{
    static const struct {
        const char *behind;
        bool whole;
    } cases[] = {{"", false}, {"\r\n", false}, {"\r\n\r", false}, {"GET / HTTP/1.1\r\n", false},
        {"GET / HTTP/1.1\r\n\r\n", true}, {"GET / HTTP/1.1\r\n\r\nG", false}, {"\r\n\r\n", true},
        {"\r\nGET / HTTP/1.1\r\n\r\n", true}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        reading->start = reading->end = 0;
        head_parser_start(&reading->parser, &reading->request, &limits);
        receive_all(FIRST);
        receive_all(cases[i].behind);
        assert_int_equal(parse(), HEAD_COMPLETE);
        reading_start_body(reading);
        assert_int_equal(reading_has_whole(reading), cases[i].whole);
    }
}

/* What comes from a worker whose limits were larger has room all the same, but not in the pool. */
static void test_take_with(void **state)
{
    static char bytes[5 * HEAD_SIZE];

    (void)state;
    memset(bytes, 'x', sizeof bytes);
    memcpy(bytes, FIRST, strlen(FIRST));
    for (size_t length = 0; length <= sizeof bytes; length += sizeof bytes / 2) {
        reading_return(&pool, reading);
        reading = reading_take_with(&pool, &limits, (struct span){bytes, length});
        assert_non_null(reading);
        assert_int_equal(reading->end - reading->start, length);
        assert_memory_equal(reading->bytes, bytes, length);
        assert_true(reading_room(reading, &limits) >= 4096);
        if (length > 0)
            assert_int_equal(parse(), HEAD_COMPLETE);
    }
    size_t kept = pool.free_count;
    reading_return(&pool, reading);
    assert_int_equal(pool.free_count, kept);
    reading = reading_take(&pool, &limits);
    assert_int_equal(reading->capacity, pool.capacity);
    assert_int_equal(parse(), HEAD_MORE); /* nothing of the former one is left */
}

static void test_requests_in_pieces(void **state)
{
    static const char text[] = FIRST SECOND;

    (void)state;
    for (size_t i = 0; i < strlen(FIRST) - 1; i++) {
        assert_int_equal(receive(text + i, 1), 1);
        assert_int_equal(parse(), HEAD_MORE);
    }
    receive_all(text + strlen(FIRST) - 1);
    assert_int_equal(parse(), HEAD_COMPLETE);
    assert_span(reading->request.target, "/first");
    reading_start_body(reading);
    assert_int_equal(reading_skip_body(reading), BODY_COMPLETE);
    assert_true(reading_next(reading, &limits));
    assert_int_equal(parse(), HEAD_COMPLETE);
    assert_span(reading->request.target, "/second");
    assert_span(reading->request.host, "y");
    reading_start_body(reading);
    assert_false(reading_next(reading, &limits));
}

static void test_refused(void **state)
{
    (void)state;
    receive_all("GET / HTTP/1.1\r\n\r\n");
    assert_int_equal(parse(), HEAD_REFUSED);
    assert_int_equal(status, 400);
    assert_non_null(why);
}

/* A head that is over the limit is refused before the room for it is used up. */
static void test_room_for_the_largest_head(void **state)
{
    char line[] = "GET / HTTP/1.1\r\n", field[] = "X: 0123456789\r\n";

    (void)state;
    receive_all(line);
    while (parse() == HEAD_MORE)
        receive_all(field);
    assert_int_equal(status, 431);
    assert_true(reading_room(reading, &limits) > 0);
}

static void start(const char *head)
{
    receive_all(head);
    assert_int_equal(parse(), HEAD_COMPLETE);
    reading_start_body(reading);
}

static void test_body_by_length(void **state)
{
    char piece[1500];
    uint64_t received = 0;

    (void)state;
    memset(piece, 'b', sizeof piece);
    start("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
    assert_int_equal(reading_skip_body(reading), BODY_MORE);
    for (; received + sizeof piece < 100000; received += sizeof piece) {
        assert_int_equal(receive(piece, sizeof piece), sizeof piece); /* its room is free again */
        assert_int_equal(reading_skip_body(reading), BODY_MORE);
        assert_int_equal(reading->body_read, received + sizeof piece);
    }
    assert_int_equal(receive(piece, (size_t)(100000 - received)), 100000 - received);
    receive_all(SECOND);
    assert_int_equal(reading_skip_body(reading), BODY_COMPLETE);
    assert_int_equal(reading->body_read, 100000);
    assert_span(reading->request.target, "/"); /* the head stays where it was */
    assert_true(reading_next(reading, &limits));
    assert_int_equal(parse(), HEAD_COMPLETE);
    assert_span(reading->request.target, "/second");
}

static void test_body_chunked(void **state)
{
    static const char body[] = "5\r\nhello\r\n0006;x=y\r\n world\r\n0\r\nTrailer: z\r\n\r\n";

    (void)state;
    for (int again = 0; again < 2; again++) {
        start("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (size_t i = 0; i < strlen(body); i++) {
            assert_int_equal(reading_skip_body(reading), BODY_MORE);
            assert_int_equal(receive(body + i, 1), 1);
        }
        assert_int_equal(reading_skip_body(reading), BODY_COMPLETE);
        assert_int_equal(reading->body_read, strlen("hello world"));
        assert_false(reading_next(reading, &limits));
        receive_all(again ? SECOND : "");
        assert_int_equal(reading_next(reading, &limits), again);
        head_parser_start(&reading->parser, &reading->request, &limits);
    }
    assert_int_equal(parse(), HEAD_COMPLETE);
    assert_span(reading->request.target, "/second");
}

static void test_body_malformed(void **state)
{
    (void)state;
    start("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloo");
    assert_int_equal(reading_skip_body(reading), BODY_MALFORMED);
    assert_true(reading->body <= reading->end); /* as it will be written down, if it moves */
}

/* Requests one behind the other until the bytes are full, and the last one is cut off by that. */
static void test_partial_head_moves_to_the_front(void **state)
{
    CLEANUP_BUFFER struct buffer text = {0};
    size_t at = 0, requests = 0, moved = 0;

    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(buffer_printf(&text, "GET /%d HTTP/1.1\r\nHost: host%d\r\n\r\n", i, i), 0);
    while (requests < 1000) {
        size_t before = reading->start;
        at += receive(text.bytes + at, text.length - at);
        moved += reading->start < before;
        for (bool more = true; more && parse() == HEAD_COMPLETE; requests++) {
            char target[16], host[16];
            (void)snprintf(target, sizeof target, "/%zu", requests);
            (void)snprintf(host, sizeof host, "host%zu", requests);
            assert_span(reading->request.target, target);
            assert_span(request_field(&reading->request, "host"), host);
            reading_start_body(reading);
            more = reading_next(reading, &limits);
        }
    }
    assert_true(moved > 3);
}

/* A complete head far behind leaves its body little room: it moves, too, and stays complete. */
static void test_complete_head_moves_to_the_front(void **state)
{
    static const char head[] = "PUT /last HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n";
    char *filler = calloc(1, pool.capacity);
    size_t room = pool.capacity - strlen(head) - 1;

    (void)state;
    assert_non_null(filler);
    int used = snprintf(filler, room, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %05zu\r\n\r\n",
        room - strlen("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 00000\r\n\r\n"));
    memset(filler + used, 'b', room - (size_t)used);
    assert_int_equal(receive(filler, room), room);
    assert_int_equal(parse(), HEAD_COMPLETE);
    reading_start_body(reading);
    receive_all(head);
    assert_int_equal(reading_skip_body(reading), BODY_COMPLETE);
    assert_true(reading_next(reading, &limits));
    assert_int_equal(parse(), HEAD_COMPLETE);
    reading_start_body(reading);
    assert_int_equal(reading_skip_body(reading), BODY_MORE);
    assert_int_equal(reading->capacity - reading->end, 1);
    assert_int_equal(receive(filler + used, 4000), 4000);
    assert_int_equal(reading->start, 0);
    assert_span(reading->request.target, "/last");
    assert_span(request_field(&reading->request, "host"), "x");
    assert_int_equal(reading->request.framing, FRAMING_LENGTH);
    assert_int_equal(reading_skip_body(reading), BODY_MORE);
    assert_int_equal(reading->body_read, 4000);
    assert_int_equal(reading->body_left, 5000);
    free(filler);
}

static void test_resume(void **state)
{
    static const char text[] = FIRST "rest";
    struct reading_pool small;

    (void)state;
    /* The limits of the worker it came from were other ones. */
    reading_pool_init(&small, 8);
    const struct head_limits tight = {.size = 8, .fields = 0};
    struct reading *adopted = reading_take_with(&small, &tight, span_of(text));
    assert_non_null(adopted);
    assert_true(reading_resume(adopted, strlen(FIRST), strlen(FIRST)));
    assert_true(span_equal(adopted->request.target, SPAN("/first")));
    assert_int_equal(adopted->body, strlen(FIRST));
    assert_int_equal(adopted->end, strlen(text));
    assert_false(reading_resume(adopted, strlen(FIRST) - 1, strlen(FIRST)));
    assert_false(reading_resume(adopted, strlen(FIRST) + 1, strlen(FIRST) + 1));
    adopted->bytes[0] = ' ';
    assert_false(reading_resume(adopted, strlen(FIRST), strlen(FIRST)));
    adopted->bytes[0] = 'G';
    adopted->end = strlen(FIRST) - 1;
    assert_false(reading_resume(adopted, strlen(FIRST), strlen(FIRST) - 1));
    reading_return(&small, adopted);
    reading_pool_destroy(&small);
}

static void test_resume_refused(void **state)
{
    (void)state;
    receive_all("GET /refused HTTP/1.1\r\n\r\n");
    reading_resume_refused(reading);
    assert_int_equal(reading->request.head_length, 0);
    assert_span(reading->request.target, "/refused");
    assert_span(reading->request.method_text, "GET");
    /* One that was refused for its size may be within the limits of who adopts it. */
    reading_return(&pool, reading);
    reading = reading_take_with(&pool, &limits, SPAN(FIRST));
    reading_resume_refused(reading);
    assert_int_equal(reading->request.head_length, 0);
    assert_span(reading->request.target, "/first");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pool, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_has_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_take_with, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_requests_in_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_room_for_the_largest_head, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_body_by_length, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_body_chunked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_body_malformed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_partial_head_moves_to_the_front, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_complete_head_moves_to_the_front, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_resume, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_resume_refused, set_up, tear_down),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
