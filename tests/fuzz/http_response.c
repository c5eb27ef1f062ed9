/*
 * A response head, whole and in random pieces: both must come to the same end, and every span must
 * lie within the head. What is sent on of it must be read again as the same response.
 *
 * The first byte seeds the pieces, the second chooses the request it answers and the limits, the
 * rest is the head.
 */
#include <stdlib.h>
#include <string.h>

#include "http/field_kind.h"
#include "http/forward.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
    int result;
    const char *why;
    struct response response;
    char *bytes;
};

static const struct head_limits widest = {.size = SIZE_MAX, .fields = REQUEST_FIELDS_MAX};

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* What has not arrived must not be read: each piece more is a copy without a byte to spare. */
static void parse(
    struct outcome *outcome, struct span head, bool head_request, const struct head_limits *limits)
{
    outcome->why = "";
    outcome->bytes = malloc(head.length);
    require(outcome->bytes || head.length == 0);
    if (head.length > 0)
        memcpy(outcome->bytes, head.at, head.length);
    outcome->result = response_parse((struct span){outcome->bytes, head.length}, head_request,
        limits, &outcome->response, &outcome->why);
    require(outcome->result != RESPONSE_BAD || (outcome->why && *outcome->why));
}

static void parse_pieces(struct outcome *outcome, struct span head, uint32_t random,
    bool head_request, const struct head_limits *limits)
{
    size_t length = 0;

    do {
        random = random * 1664525 + 1013904223;
        size_t piece = 1 + (random >> 16) % (random >> 30 ? 7 : 70);
        if (length > 0)
            free(outcome->bytes);
        length = piece < head.length - length ? length + piece : head.length;
        parse(outcome, (struct span){head.at, length}, head_request, limits);
    } while (outcome->result == RESPONSE_MORE && length < head.length);
}

/* Where the span lies in the head. */
static size_t offset(const struct outcome *outcome, struct span span)
{
    require(span.at >= outcome->bytes &&
            span.at + span.length < outcome->bytes + outcome->response.head_length);
    return (size_t)(span.at - outcome->bytes);
}

static void compare(
    const struct outcome *a, const struct outcome *b, struct span left, struct span right)
{
    require(left.length == right.length && offset(a, left) == offset(b, right));
}

static void check_complete(const struct outcome *outcome, size_t limit)
{
    const struct response *response = &outcome->response;

    require(response->head_length <= limit && response->head_length >= 16);
    require(memcmp(outcome->bytes, "HTTP/1.", 7) == 0);
    require(memcmp(outcome->bytes + response->head_length - 4, "\r\n\r\n", 4) == 0);
    require(response->status >= 100 && response->status <= 599 && response->minor <= 1);
    require(!response->keep_alive || response->framing != RESPONSE_CLOSE);
    require(response->framing != RESPONSE_LENGTH || response->has_length);
    for (size_t i = 0; i < response->field_count; i++) {
        struct span value = response->fields[i].value;
        for (size_t j = 0; j < value.length; j++)
            require(
                value.at[j] == '\t' || ((unsigned char)value.at[j] >= 0x20 && value.at[j] != 0x7f));
        require(span_equal(value, span_trim(value)));
    }
}

static void compare_complete(const struct outcome *a, const struct outcome *b)
{
    const struct response *left = &a->response, *right = &b->response;

    compare(a, b, left->reason, right->reason);
    require(left->head_length == right->head_length && left->field_count == right->field_count);
    require(left->status == right->status && left->minor == right->minor);
    require(left->keep_alive == right->keep_alive && left->upgrade == right->upgrade);
    require(left->framing == right->framing && left->content_length == right->content_length);
    require(left->has_length == right->has_length);
    for (size_t i = 0; i < left->field_count; i++) {
        compare(a, b, left->fields[i].name, right->fields[i].name);
        compare(a, b, left->fields[i].value, right->fields[i].value);
    }
}

/* What a gateway would choose. */
static enum forward_body body_for(const struct response *response, unsigned minor)
{
    switch (response->framing) {
    case RESPONSE_NO_BODY:
        return FORWARD_NO_BODY;
    case RESPONSE_LENGTH:
        return FORWARD_LENGTH;
    case RESPONSE_CHUNKED:
    case RESPONSE_CLOSE:
        break;
    }
    return minor > 0 ? FORWARD_CHUNKED : FORWARD_CLOSE;
}

static void check_fields(const struct response *before, const struct response *after)
{
    size_t cookies = fields_count(before->fields, before->field_count, "set-cookie");

    require(fields_count(after->fields, after->field_count, "set-cookie") == cookies);
    require(before->status < 200 || response_field(after, "date").at);
    require(fields_count(after->fields, after->field_count, "connection") <= 1);
    for (size_t i = 0; i < after->field_count; i++) {
        struct span name = after->fields[i].name;
        enum field_kind kind = field_kind_of(name);
        require(kind != FIELD_HOP);
        require(kind != FIELD_CONNECTION || span_equal(name, SPAN("Connection")));
        require(kind != FIELD_CONTENT_LENGTH || span_equal(name, SPAN("Content-Length")));
        require(kind != FIELD_TRANSFER_ENCODING || span_equal(name, SPAN("Transfer-Encoding")));
    }
}

static void check_forwarded(const struct response *response, unsigned minor, bool close)
{
    static struct outcome again;
    CLEANUP_BUFFER struct buffer out = {0};
    enum forward_body body = body_for(response, minor);
    const struct response *after = &again.response;

    require(forward_response(response, minor, body, close, "now", &out) == 0);
    parse(&again, buffer_span(&out), body == FORWARD_NO_BODY, &widest);
    require(again.result == RESPONSE_COMPLETE && after->head_length == out.length);
    require(after->status == response->status && span_equal(after->reason, response->reason));
    require(after->upgrade == (response->upgrade && response_field(after, "upgrade").at));
    require((after->framing == RESPONSE_CHUNKED) == (body == FORWARD_CHUNKED));
    require((after->framing == RESPONSE_LENGTH) == (body == FORWARD_LENGTH));
    require((after->framing == RESPONSE_CLOSE) == (body == FORWARD_CLOSE));
    require(!after->has_length || after->content_length == response->content_length);
    if (response->status >= 200)
        require(after->keep_alive == (!close && body != FORWARD_CLOSE));
    check_fields(response, after);
    free(again.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct outcome whole, pieces;

    if (size < 2)
        return 0;
    struct head_limits limits = {.size = 16384, .fields = 100};
    if (data[1] % 4 == 0)
        limits = (struct head_limits){.size = 1 + data[1], .fields = data[1] % 7};
    bool head_request = data[1] & 32;
    struct span head = {(const char *)data + 2, size - 2};
    parse(&whole, head, head_request, &limits);
    parse_pieces(&pieces, head, data[0], head_request, &limits);
    require(whole.result == pieces.result && strcmp(whole.why, pieces.why) == 0);
    if (whole.result == RESPONSE_COMPLETE) {
        check_complete(&whole, limits.size);
        compare_complete(&whole, &pieces);
        check_forwarded(&whole.response, data[1] >> 6 & 1, data[1] & 128);
    }
    free(whole.bytes);
    free(pieces.bytes);
    return 0;
}
