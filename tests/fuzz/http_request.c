/*
 * A request head, whole and in random pieces: both must come to the same end, and every span must
 * lie within the head.
 *
 * The first byte seeds the pieces, the second chooses the limits, the rest is the head.
 */
#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <string.h>

#include "http/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
    int result;
    unsigned status;
    const char *why;
    struct request request;
    char *bytes;
};

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* @random 0: all at once. What has not arrived must not be read. */
static void feed(
    struct outcome *outcome, struct span head, uint32_t random, const struct head_limits *limits)
{
    struct head_parser parser;
    size_t length = 0;

    outcome->result = HEAD_MORE;
    outcome->status = 0;
    outcome->why = "";
    outcome->bytes = malloc(head.length + 1);
    require(outcome->bytes);
    memcpy(outcome->bytes, head.at, head.length);
    head_parser_start(&parser, &outcome->request, limits);
    while (outcome->result == HEAD_MORE && length < head.length) {
        size_t piece = head.length - length;
        if (random > 0) {
            random = random * 1664525 + 1013904223;
            piece = 1 + (random >> 16) % (random >> 30 ? 4 : 40);
        }
        length = piece < head.length - length ? length + piece : head.length;
        ASAN_UNPOISON_MEMORY_REGION(outcome->bytes, length);
        ASAN_POISON_MEMORY_REGION(outcome->bytes + length, head.length + 1 - length);
        outcome->result = head_parser_feed(
            &parser, (struct span){outcome->bytes, length}, &outcome->status, &outcome->why);
        require(outcome->result != HEAD_REFUSED || (outcome->status >= 400 && outcome->why));
    }
    ASAN_UNPOISON_MEMORY_REGION(outcome->bytes, head.length + 1);
}

/* Where the span lies in the head; 0 for none. */
static size_t offset(const struct outcome *outcome, struct span span)
{
    if (!span.at) {
        require(span.length == 0);
        return 0;
    }
    require(span.at >= outcome->bytes &&
            span.at + span.length < outcome->bytes + outcome->request.head_length);
    return (size_t)(span.at - outcome->bytes);
}

static void compare(
    const struct outcome *a, const struct outcome *b, struct span left, struct span right)
{
    require(!left.at == !right.at && left.length == right.length);
    require(offset(a, left) == offset(b, right));
}

static void check_complete(const struct outcome *outcome, size_t limit)
{
    const struct request *request = &outcome->request;

    require(request->head_length <= limit && request->head_length >= 4);
    require(memcmp(outcome->bytes + request->head_length - 4, "\r\n\r\n", 4) == 0);
    require(
        request->method == METHOD_CONNECT ? request->path.length == 0 : request->path.length > 0);
    require(request->path.length == 0 || request->path.at[0] == '/' ||
            span_equal(request->path, SPAN("*")));
    for (size_t i = 0; i < request->field_count; i++) {
        struct span value = request->fields[i].value;
        for (size_t j = 0; j < value.length; j++)
            require(
                value.at[j] == '\t' || ((unsigned char)value.at[j] >= 0x20 && value.at[j] != 0x7f));
        require(span_equal(value, span_trim(value)));
    }
}

static void compare_complete(const struct outcome *a, const struct outcome *b)
{
    const struct request *left = &a->request, *right = &b->request;

    compare(a, b, left->method_text, right->method_text);
    compare(a, b, left->target, right->target);
    compare(a, b, left->path, right->path);
    compare(a, b, left->query, right->query);
    compare(a, b, left->host, right->host);
    require(left->head_length == right->head_length && left->field_count == right->field_count);
    require(left->method == right->method && left->minor == right->minor);
    require(left->keep_alive == right->keep_alive && left->upgrade == right->upgrade);
    require(left->expect_continue == right->expect_continue);
    require(left->framing == right->framing && left->content_length == right->content_length);
    for (size_t i = 0; i < left->field_count; i++) {
        compare(a, b, left->fields[i].name, right->fields[i].name);
        compare(a, b, left->fields[i].value, right->fields[i].value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct outcome whole, pieces;

    if (size < 2)
        return 0;
    struct head_limits limits = {.size = 16384, .fields = 100};
    if (data[1] % 4 == 0)
        limits = (struct head_limits){.size = data[1], .fields = data[1] % 7};
    struct span head = {(const char *)data + 2, size - 2};
    feed(&whole, head, 0, &limits);
    feed(&pieces, head, 1 + data[0], &limits);
    require(whole.result == pieces.result && whole.status == pieces.status);
    require(strcmp(whole.why, pieces.why) == 0);
    if (whole.result == HEAD_COMPLETE) {
        check_complete(&whole, limits.size);
        compare_complete(&whole, &pieces);
    }
    free(whole.bytes);
    free(pieces.bytes);
    return 0;
}
