#include "connection/flow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/fd.h"
#include "sockets.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define LARGE 300000

static struct flow flow;
static uint64_t sent;
static int pair[2]; /* the flow's, and who receives */
static char large[LARGE];

static int set_up(void **state)
{
    (void)state;
    flow = (struct flow){0};
    sent = 0;
    sockets_pair(pair, true);
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (char)('a' + i % 23);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    flow_clear(&flow);
    fd_close(pair[0]);
    fd_close(pair[1]);
    return 0;
}

/* What arrives while the flow is flushed, to its end. */
static const char *flush_all(void)
{
    static char text[2 * LARGE];
    size_t length = 0;
    int r;

    do {
        r = flow_flush(&flow, pair[0], &sent);
        assert_true(r == FLOW_DONE || r == FLOW_BLOCKED);
        const char *piece = sockets_read(pair[1], NULL);
        memcpy(text + length, piece, strlen(piece) + 1);
        length += strlen(piece);
    } while (r == FLOW_BLOCKED);
    return text;
}

static void test_what_fits_is_not_kept(void **state)
{
    struct iovec spans[] = {{"one ", 4}, {"", 0}, {"two", 3}};

    (void)state;
    assert_int_equal(flow_send(&flow, pair[0], spans, COUNT(spans), &sent), FLOW_DONE);
    assert_true(flow_is_empty(&flow));
    assert_null(flow.bytes);
    assert_int_equal(sent, 7);
    assert_string_equal(sockets_read(pair[1], NULL), "one two");
    assert_int_equal(flow_send_span(&flow, pair[0], SPAN("three"), &sent), FLOW_DONE);
    assert_int_equal(sent, 12);
    assert_string_equal(sockets_read(pair[1], NULL), "three");
}

/* Wherever the socket is full: no byte is lost, none comes twice. */
static void test_what_does_not_fit_is_kept(void **state)
{
    (void)state;
    for (size_t first = 0; first <= LARGE; first += LARGE / 7) {
        struct iovec spans[] = {{large, first}, {large + first, LARGE - first}};
        sent = 0;
        assert_int_equal(flow_send(&flow, pair[0], spans, 2, &sent), FLOW_BLOCKED);
        assert_in_range(sent, 1, LARGE - 1);
        assert_int_equal(flow.length, LARGE - sent);
        assert_int_equal(flow_span(&flow).length, flow.length);
        assert_memory_equal(flow_span(&flow).at, large + sent, flow.length);
        assert_memory_equal(flush_all(), large, LARGE);
        assert_int_equal(sent, LARGE);
        assert_true(flow_is_empty(&flow));
        assert_null(flow.bytes); /* an idle one holds nothing */
    }
}

/* The socket may take more by now: what came first goes first. */
static void test_order(void **state)
{
    struct iovec spans[] = {{"three ", 6}, {"four ", 5}};
    size_t stuffed = sockets_stuff(pair[0]);

    (void)state;
    assert_int_equal(flow_send_span(&flow, pair[0], SPAN("one "), &sent), FLOW_BLOCKED);
    assert_int_equal(sent, 0);
    sockets_skip(pair[1], stuffed);
    assert_int_equal(flow_send_span(&flow, pair[0], SPAN("two "), &sent), FLOW_BLOCKED);
    assert_int_equal(flow_send(&flow, pair[0], spans, 2, &sent), FLOW_BLOCKED);
    assert_int_equal(flow_keep(&flow, SPAN("five")), 0);
    assert_int_equal(sent, 0);
    assert_string_equal(flush_all(), "one two three four five");
    assert_int_equal(sent, 23);
}

/* Kept behind what went out in part. */
static void test_keep_behind_a_part(void **state)
{
    (void)state;
    assert_int_equal(
        flow_send_span(&flow, pair[0], (struct span){large, LARGE}, &sent), FLOW_BLOCKED);
    const char *first = sockets_read(pair[1], NULL);
    size_t length = strlen(first);
    assert_memory_equal(first, large, length);
    assert_int_equal(flow_flush(&flow, pair[0], &sent), FLOW_BLOCKED);
    assert_true(flow.start > 0);
    assert_int_equal(flow_keep(&flow, SPAN("end")), 0);
    const char *rest = flush_all();
    assert_memory_equal(rest, large + length, LARGE - length);
    assert_string_equal(rest + LARGE - length, "end");
}

static void test_nothing(void **state)
{
    struct span none = {NULL, 0};

    (void)state;
    assert_int_equal(flow_send_span(&flow, pair[0], none, &sent), FLOW_DONE);
    assert_int_equal(flow_keep(&flow, none), 0);
    assert_int_equal(flow_flush(&flow, pair[0], &sent), FLOW_DONE);
    assert_null(flow.bytes);
    assert_int_equal(flow_span(&flow).length, 0);
    assert_int_equal(flow_keep(&flow, SPAN("x")), 0);
    assert_int_equal(flow_send_span(&flow, pair[0], none, &sent), FLOW_BLOCKED);
    flow_clear(&flow);
    assert_true(flow_is_empty(&flow));
    assert_int_equal(sent, 0);
}

/* Without a signal. */
static void test_broken(void **state)
{
    (void)state;
    pair[1] = fd_close(pair[1]);
    assert_int_equal(flow_send_span(&flow, pair[0], SPAN("x"), &sent), -EPIPE);
    assert_true(flow_is_empty(&flow));
    assert_int_equal(flow_keep(&flow, SPAN("x")), 0);
    assert_int_equal(flow_flush(&flow, pair[0], &sent), -EPIPE);
    assert_int_equal(sent, 0);
}

#define WITH_PAIR(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_PAIR(test_what_fits_is_not_kept),
        WITH_PAIR(test_what_does_not_fit_is_kept),
        WITH_PAIR(test_order),
        WITH_PAIR(test_keep_behind_a_part),
        WITH_PAIR(test_nothing),
        WITH_PAIR(test_broken),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
