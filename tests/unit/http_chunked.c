#include "http/chunked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"

struct outcome {
    bool bad, done;
    size_t consumed;
    struct buffer data, trailers;
    struct chunked chunked;
};

static void clear(struct outcome *outcome)
{
    buffer_clear(&outcome->data);
    buffer_clear(&outcome->trailers);
}

/* Reads @body in pieces of @piece bytes, each from memory of its own. */
static void read_body(struct outcome *outcome, struct span body, size_t piece)
{
    *outcome = (struct outcome){0};
    while (!outcome->bad && !outcome->done && outcome->consumed < body.length) {
        size_t left = body.length - outcome->consumed, length = left < piece ? left : piece;
        struct chunked_run run;
        size_t consumed;
        char *bytes = malloc(length);
        assert_non_null(bytes);
        memcpy(bytes, body.at + outcome->consumed, length);
        outcome->bad =
            chunked_read(&outcome->chunked, bytes, length, &consumed, &run) == CHUNKED_BAD;
        if (outcome->bad) {
            assert_null(run.at);
        } else {
            struct buffer *out = run.trailer ? &outcome->trailers : &outcome->data;
            assert_in_range(consumed, 1, length);
            assert_true(run.trailer || !run.at || outcome->trailers.length == 0);
            assert_int_equal(buffer_append(out, (struct span){run.at, run.length}), 0);
            outcome->consumed += consumed;
        }
        outcome->done = outcome->chunked.state == CHUNKED_DONE;
        free(bytes);
    }
}

static const struct {
    struct span body;
    const char *data; /* NULL: CHUNKED_BAD */
    size_t rest;      /* bytes behind the body */
    const char *trailers;
} rows[] = {
    {SPAN("0\r\n\r\n"), "", 0, ""},
    {SPAN("5\r\nhello\r\n0\r\n\r\n"), "hello", 0, ""},
    {SPAN("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET / "), "hello world", 6, ""},
    {SPAN("0\r\n\r\n0\r\n\r\n"), "", 5, ""},
    {SPAN("a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n"), "01234567890123456789", 0, ""},
    {SPAN("0000000000000002\r\n\r\n\r\n0\r\n\r\n"), "\r\n", 0, ""},
    {SPAN("1;a=b;c=\"d e\";f\r\nx\r\n0;g\r\n\r\n"), "x", 0, ""},
    {SPAN("1 \t;a\r\nx\r\n0 \r\n\r\n"), "x", 0, ""},
    {SPAN("0\r\nA: b\r\nC:\r\nD: \t\xff\r\n\r\n!"), "", 1, "A: b\r\nC:\r\nD: \t\xff\r\n"},
    {SPAN("1;a=b\r\nx\r\n0;c\r\nA:b\r\n\r\n"), "x", 0, "A:b\r\n"},
    /* the size */
    {SPAN("\r\n"), NULL, 0, ""},
    {SPAN(" 1\r\nx\r\n"), NULL, 0, ""},
    {SPAN(";a\r\n"), NULL, 0, ""},
    {SPAN("g\r\n"), NULL, 0, ""},
    {SPAN("-1\r\n"), NULL, 0, ""},
    {SPAN("+1\r\nx\r\n"), NULL, 0, ""},
    {SPAN("0x1\r\nx\r\n"), NULL, 0, ""},
    {SPAN("1 1\r\nx\r\n"), NULL, 0, ""},
    {SPAN("1,\r\nx\r\n"), NULL, 0, ""},
    {SPAN("00000000000000001\r\nx\r\n"), NULL, 0, ""}, /* 17 digits */
    {SPAN("10000000000000000\r\nx\r\n"), NULL, 0, ""},
    /* line ends */
    {SPAN("1\nx\r\n0\r\n\r\n"), NULL, 0, ""},
    {SPAN("1\rx\r\n0\r\n\r\n"), NULL, 0, ""},
    {SPAN("1\r\r\nx\r\n0\r\n\r\n"), NULL, 0, ""},
    {SPAN("1;a\nx\r\n0\r\n\r\n"), NULL, 0, ""},
    {SPAN("1;a\rb\r\nx\r\n0\r\n\r\n"), NULL, 0, ""},
    {SPAN("1;a\0\r\nx\r\n0\r\n\r\n"), NULL, 0, ""},
    {SPAN("1 \nx\r\n0\r\n\r\n"), NULL, 0, ""},
    {SPAN("1\r\nx\n0\r\n\r\n"), NULL, 0, ""},
    {SPAN("1\r\nxy\r\n0\r\n\r\n"), NULL, 0, ""},
    {SPAN("1\r\nx\rx0\r\n\r\n"), NULL, 0, ""},
    {SPAN("1\r\nx0\r\n\r\n"), NULL, 0, ""},
    {SPAN("0\r\n\n"), NULL, 0, ""},
    {SPAN("0\r\n\rx"), NULL, 0, ""},
    {SPAN("0\n\n"), NULL, 0, ""},
    /* trailers */
    {SPAN("0\r\nA: b\n\r\n"), NULL, 0, ""},
    {SPAN("0\r\nA: b\rc\r\n\r\n"), NULL, 0, ""},
    {SPAN("0\r\nA: \x01\r\n\r\n"), NULL, 0, ""},
    {SPAN("0\r\nA : b\r\n\r\n"), NULL, 0, ""},
    {SPAN("0\r\nA: b\r\n c\r\n\r\n"), NULL, 0, ""},
    {SPAN("0\r\n A: b\r\n\r\n"), NULL, 0, ""},
    {SPAN("0\r\n: b\r\n\r\n"), NULL, 0, ""},
    {SPAN("0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), NULL, 0, ""},
};

static void test_rows(void **state)
{
    static const size_t pieces[] = {SIZE_MAX, 1, 2, 3, 5};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t j = 0; j < sizeof pieces / sizeof *pieces; j++) {
            struct outcome outcome;
            read_body(&outcome, rows[i].body, pieces[j]);
            if (outcome.bad != !rows[i].data || outcome.done != !!rows[i].data)
                fail_msg(
                    "in pieces of %zu: %.*s", pieces[j], (int)rows[i].body.length, rows[i].body.at);
            if (outcome.done) {
                assert_string_equal(buffer_string(&outcome.data), rows[i].data);
                assert_string_equal(buffer_string(&outcome.trailers), rows[i].trailers);
                assert_int_equal(outcome.consumed, rows[i].body.length - rows[i].rest);
            }
            clear(&outcome);
        }
}

static void test_one_run_a_call(void **state)
{
    static const char body[] = "2\r\nab\r\n3\r\ncde\r\n0\r\nA: b\r\nC:d\r\n\r\nmore";
    static const struct {
        size_t consumed; /* up to the next run */
        const char *run;
        bool trailer;
        enum chunked_state state;
    } calls[] = {
        {10, "ab", false, CHUNKED_DATA},
        {8, "cde", false, CHUNKED_TRAILER_START},
        {13, "A: b\r\nC:d\r\n", true, CHUNKED_DONE},
        {0, NULL, false, CHUNKED_DONE},
    };
    struct chunked chunked = {0};
    struct span rest = {body, sizeof body - 1};

    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct chunked_run run;
        size_t consumed;
        assert_int_equal(chunked_read(&chunked, rest.at, 0, &consumed, &run), CHUNKED_OK);
        assert_int_equal(consumed, 0);
        assert_null(run.at);
        assert_int_equal(chunked_read(&chunked, rest.at, rest.length, &consumed, &run), CHUNKED_OK);
        assert_int_equal(consumed, calls[i].consumed);
        assert_int_equal(run.trailer, calls[i].trailer);
        assert_true(calls[i].run
                        ? span_equal((struct span){run.at, run.length}, span_of(calls[i].run))
                        : !run.at);
        assert_int_equal(chunked.state, calls[i].state);
        rest.at += consumed;
        rest.length -= consumed;
    }
}

static void test_largest_size(void **state)
{
    struct chunked chunked = {0};
    struct chunked_run run;
    size_t consumed;

    (void)state;
    assert_int_equal(
        chunked_read(&chunked, "ffffffffffffffff\r\nabc", 21, &consumed, &run), CHUNKED_OK);
    assert_int_equal(consumed, 21);
    assert_int_equal(run.length, 3);
    assert_true(chunked.remaining == UINT64_MAX - 3);
}

/* Extensions and trailers count together, over the whole body: to the byte. */
static void test_overhead_is_bounded(void **state)
{
    CLEANUP_BUFFER struct buffer body = {0};
    const int extension = sizeof " a=\"b\"\r" - 1, trailer = sizeof "T: \r\r" - 1, chunks = 1024;

    (void)state;
    for (int over = 0; over <= 1; over++) {
        struct outcome outcome;
        int digits = CHUNKED_OVERHEAD_MAX - chunks * extension - trailer + over;
        body.length = 0;
        for (int i = 0; i < chunks; i++)
            assert_int_equal(buffer_append_string(&body, "1; a=\"b\"\r\nx\r\n"), 0);
        assert_int_equal(buffer_printf(&body, "0\r\nT: %0*d\r\n\r\n", digits, 0), 0);
        read_body(&outcome, buffer_span(&body), 1000);
        assert_int_equal(outcome.bad, over);
        assert_int_equal(outcome.done, !over);
        clear(&outcome);
    }
}

/* A record from another process may hold anything. */
static void test_any_record_is_safe(void **state)
{
    static const char bytes[] = "5\r\n0123456789\r\n0\r\n\r\n";

    (void)state;
    for (int i = -1; i <= CHUNKED_DONE + 1; i++) {
        struct chunked chunked = {(enum chunked_state)i, UINT32_MAX, UINT32_MAX, UINT64_MAX};
        struct chunked_run run;
        size_t consumed;
        int r = chunked_read(&chunked, bytes, sizeof bytes - 1, &consumed, &run);
        assert_true(consumed <= sizeof bytes - 1);
        if (i < 0 || i > CHUNKED_DONE)
            assert_int_equal(r, CHUNKED_BAD);
    }
}

static void test_append_size(void **state)
{
    static const struct {
        uint64_t size;
        const char *line;
    } sizes[] = {
        {0, "0\r\n"},
        {9, "9\r\n"},
        {10, "a\r\n"},
        {16, "10\r\n"},
        {0x1234567890abcdef, "1234567890abcdef\r\n"},
        {UINT64_MAX, "ffffffffffffffff\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        CLEANUP_BUFFER struct buffer out = {0};
        assert_int_equal(buffer_append_string(&out, "!"), 0);
        assert_int_equal(chunked_append_size(&out, sizes[i].size), 0);
        assert_string_equal(buffer_string(&out) + 1, sizes[i].line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_one_run_a_call),
        cmocka_unit_test(test_largest_size),
        cmocka_unit_test(test_overhead_is_bounded),
        cmocka_unit_test(test_any_record_is_safe),
        cmocka_unit_test(test_append_size),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
