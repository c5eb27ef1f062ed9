#include "http/request.h"

#include <stddef.h>
#include <string.h>

#include "http/authority.h"
#include "http/syntax.h"
#include "http/target.h"

/* Longer than any method llhttp knows; RFC 9112 §3: a longer one SHOULD be answered with 501. */
#define METHOD_LENGTH_MAX 24

struct span request_field(const struct request *request, const char *name)
{
    return fields_find(request->fields, request->field_count, name);
}

size_t request_field_count(const struct request *request, const char *name)
{
    return fields_count(request->fields, request->field_count, name);
}

bool request_is_traced(const struct request *request)
{
    return request->method == METHOD_OPTIONS || request->method == METHOD_TRACE;
}

bool request_ends_here(const struct request *request)
{
    uint64_t left;

    return request_is_traced(request) &&
           span_to_u64(fields_find_kind(request->fields, request->field_count, FIELD_MAX_FORWARDS),
               &left) == 0 &&
           left == 0;
}

bool request_list_next(const struct request *request, struct list_walk *walk, struct span *ret)
{
    return fields_list_next(request->fields, request->field_count, walk, ret);
}

static int refuse(struct head_parser *parser, unsigned status, const char *why)
{
    parser->refused = status;
    parser->why = why;
    return HEAD_REFUSED;
}

/* What llhttp reports. */

static int on_url(llhttp_t *llhttp, const char *at, size_t length)
{
    struct head_parser *parser = llhttp->data;

    field_extend(&parser->request->target, at, length);
    return 0;
}

static enum method known_method(llhttp_t *llhttp)
{
    switch (llhttp_get_method(llhttp)) {
    case HTTP_GET:
        return METHOD_GET;
    case HTTP_HEAD:
        return METHOD_HEAD;
    case HTTP_POST:
        return METHOD_POST;
    case HTTP_PUT:
        return METHOD_PUT;
    case HTTP_DELETE:
        return METHOD_DELETE;
    case HTTP_OPTIONS:
        return METHOD_OPTIONS;
    case HTTP_CONNECT:
        return METHOD_CONNECT;
    case HTTP_TRACE:
        return METHOD_TRACE;
    case HTTP_PATCH:
        return METHOD_PATCH;
    }
    return METHOD_OTHER;
}

static int on_url_complete(llhttp_t *llhttp)
{
    struct head_parser *parser = llhttp->data;
    struct request *request = parser->request;
    uint8_t method = llhttp_get_method(llhttp);
    const char *why;

    if (method >= HTTP_DESCRIBE && method <= HTTP_FLUSH) {
        (void)refuse(parser, 501, "a method of RTSP");
        return -1;
    }
    request->method = known_method(llhttp);
    if (target_parse(request, &why) < 0) {
        (void)refuse(parser, 400, why);
        return -1;
    }
    if (request->target.at[request->target.length] != ' ') { /* the byte that ended it is there */
        (void)refuse(parser, 505, "HTTP/0.9, or a line end within the request line");
        return -1;
    }
    return 0;
}

static int on_version_complete(llhttp_t *llhttp)
{
    struct head_parser *parser = llhttp->data;
    const struct span *target = &parser->request->target;

    if (memcmp(target->at + target->length, " HTTP/", 6) != 0) {
        (void)refuse(parser, 400, "the target is not followed by one space and HTTP/");
        return -1;
    }
    if (llhttp_get_http_major(llhttp) != 1) {
        (void)refuse(parser, 505, "a version other than HTTP/1");
        return -1;
    }
    parser->request->minor = llhttp_get_http_minor(llhttp) > 0 ? 1 : 0;
    return 0;
}

static int on_header_field(llhttp_t *llhttp, const char *at, size_t length)
{
    struct head_parser *parser = llhttp->data;

    field_extend(&parser->field.name, at, length);
    return 0;
}

static int on_header_field_complete(llhttp_t *llhttp)
{
    struct head_parser *parser = llhttp->data;
    size_t count = parser->request->field_count;

    if (!parser->field.name.at) {
        (void)refuse(parser, 400, "an empty field name");
        return -1;
    }
    if (count >= parser->limits->fields || count >= REQUEST_FIELDS_MAX) {
        (void)refuse(parser, 431, "too many fields");
        return -1;
    }
    return 0;
}

static int on_header_value(llhttp_t *llhttp, const char *at, size_t length)
{
    struct head_parser *parser = llhttp->data;

    field_extend(&parser->field.value, at, length);
    return 0;
}

static int on_header_value_complete(llhttp_t *llhttp)
{
    struct head_parser *parser = llhttp->data;
    struct request *request = parser->request;
    struct field *field = &parser->field;

    field_complete(field);
    request->fields[request->field_count++] = *field;
    *field = (struct field){0};
    return 0;
}

/* Ends llhttp_execute() with HPE_PAUSED_UPGRADE right after the head: the body is not its business.
 */
static int on_headers_complete(llhttp_t *llhttp)
{
    (void)llhttp;
    return 2;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_url_complete = on_url_complete,
    .on_version_complete = on_version_complete,
    .on_header_field = on_header_field,
    .on_header_field_complete = on_header_field_complete,
    .on_header_value = on_header_value,
    .on_header_value_complete = on_header_value_complete,
    .on_headers_complete = on_headers_complete,
};

/* The checks of a complete head. */

/*
 * The request line must be, byte for byte, the spans we have with exactly what the grammar puts
 * between them (RFC 9112 §2.1, §3), and so must the fields.
 */
static const char *check_shape(const struct request *request, const char *end)
{
    const char *cursor = request->method_text.at + request->method_text.length;

    if (!fields_skip(&cursor, end, SPAN(" ")) || cursor != request->target.at)
        return "more than one space after the method";
    cursor += request->target.length + sizeof " HTTP/1.1" - 1; /* as on_version_complete() saw */
    if (cursor > end || !fields_skip(&cursor, end, SPAN("\r\n")))
        return "the request line does not end in CR LF";
    return fields_check_shape(request->fields, request->field_count, cursor, end);
}

static size_t count_of(const struct request *request, enum field_kind kind)
{
    return fields_count_kind(request->fields, request->field_count, kind);
}

static struct span value_of(const struct request *request, enum field_kind kind)
{
    return fields_find_kind(request->fields, request->field_count, kind);
}

/* RFC 9112 §3.2: exactly one valid Host in HTTP/1.1; a target with a host of its own wins. */
static int read_host(struct head_parser *parser)
{
    struct request *request = parser->request;
    size_t count = count_of(request, FIELD_HOST);
    struct authority authority;

    if (count > 1 || (count == 0 && request->minor >= 1))
        return refuse(parser, 400, count > 1 ? "more than one Host" : "no Host");
    if (count == 0)
        return HEAD_COMPLETE;
    if (authority_parse(value_of(request, FIELD_HOST), &authority) < 0)
        return refuse(parser, 400, "a malformed Host");
    if (!request->host.at)
        request->host = authority.host;
    return HEAD_COMPLETE;
}

/* RFC 9112 §6.1: "chunked" is the last coding, and the only one that we know. */
static int read_transfer_encoding(struct head_parser *parser)
{
    struct list_walk walk = {.kind = FIELD_TRANSFER_ENCODING};
    bool chunked = false, other = false;
    struct span coding;

    while (request_list_next(parser->request, &walk, &coding)) {
        if (chunked || coding.length == 0)
            return refuse(parser, 400, "a malformed Transfer-Encoding");
        if (span_equal_case(coding, SPAN("chunked")))
            chunked = true;
        else
            other = true;
    }
    if (!chunked)
        return refuse(parser, 400, "a Transfer-Encoding that does not end in chunked");
    if (other)
        return refuse(parser, 501, "a Transfer-Encoding other than chunked");
    parser->request->framing = FRAMING_CHUNKED;
    return HEAD_COMPLETE;
}

/* RFC 9112 §6.3, but what it lets a server repair is refused: two readers could differ on it. */
static int read_framing(struct head_parser *parser)
{
    struct request *request = parser->request;
    size_t lengths = count_of(request, FIELD_CONTENT_LENGTH);

    if (count_of(request, FIELD_TRANSFER_ENCODING) > 0) {
        if (lengths > 0)
            return refuse(parser, 400, "Transfer-Encoding and Content-Length");
        if (request->minor == 0)
            return refuse(parser, 400, "Transfer-Encoding in HTTP/1.0");
        return read_transfer_encoding(parser);
    }
    if (lengths == 0)
        return HEAD_COMPLETE;
    if (lengths > 1)
        return refuse(parser, 400, "more than one Content-Length");
    if (span_to_u64(value_of(request, FIELD_CONTENT_LENGTH), &request->content_length) < 0)
        return refuse(parser, 400, "a malformed Content-Length");
    request->framing = FRAMING_LENGTH;
    return HEAD_COMPLETE;
}

/* RFC 9110 §7.6.1 and §7.8, RFC 9112 §9.3. */
static void read_connection(struct request *request)
{
    struct connection_options options =
        fields_connection_options(request->fields, request->field_count);

    request->keep_alive = !options.close && (request->minor >= 1 || options.keep_alive);
    request->upgrade =
        request->method == METHOD_CONNECT ||
        (options.upgrade && request->minor >= 1 && count_of(request, FIELD_UPGRADE) > 0);
}

/* RFC 9110 §10.1.1: not of HTTP/1.0, and of no use where no body follows. */
static int read_expect(struct head_parser *parser)
{
    struct request *request = parser->request;
    struct list_walk walk = {.kind = FIELD_EXPECT};
    struct span expectation;
    bool body = request->framing == FRAMING_CHUNKED || request->content_length > 0;

    if (request->minor == 0)
        return HEAD_COMPLETE;
    while (request_list_next(request, &walk, &expectation)) {
        if (span_equal_case(expectation, SPAN("100-continue")))
            request->expect_continue = body;
        else if (expectation.length > 0)
            return refuse(parser, 417, "an expectation other than 100-continue");
    }
    return HEAD_COMPLETE;
}

static int finish(struct head_parser *parser, const char *end)
{
    const char *why = check_shape(parser->request, end);
    int r;

    if (why)
        return refuse(parser, 400, why);
    r = read_host(parser);
    if (r == HEAD_COMPLETE)
        r = read_framing(parser);
    if (r == HEAD_COMPLETE)
        r = read_expect(parser);
    if (r == HEAD_COMPLETE)
        read_connection(parser->request);
    return r;
}

/*
 * The empty line before a request, and its method. llhttp gets nothing until both are whole: it
 * skips any number of line ends, and gives up in the middle of a method it does not know.
 */
static int read_method(struct head_parser *parser, struct span bytes)
{
    size_t start = 0, end;

    if (bytes.length > 0 && bytes.at[0] == '\r') {
        if (bytes.length == 1)
            return HEAD_MORE;
        if (bytes.at[1] != '\n')
            return refuse(parser, 400, "CR without LF before the request line");
        start = 2;
    }
    for (end = start; end < bytes.length && syntax_is(bytes.at[end], SYNTAX_TOKEN); end++)
        if (end - start == METHOD_LENGTH_MAX)
            return refuse(parser, 501, "a method longer than any known one");
    if (end == bytes.length)
        return HEAD_MORE;
    if (end == start || bytes.at[end] != ' ')
        return refuse(parser, 400, "the request line does not begin with a method and a space");
    struct span method = {bytes.at + start, end - start};
    if (span_equal(method, SPAN("PRI"))) /* RFC 9113 §3.4 */
        return refuse(parser, 505, "the preface of HTTP/2");
    parser->request->method_text = method;
    parser->parsed = start;
    return HEAD_COMPLETE;
}

static int parse(struct head_parser *parser, struct span bytes)
{
    if (!parser->request->method_text.at) {
        int r = read_method(parser, bytes);
        if (r != HEAD_COMPLETE)
            return r;
    }
    llhttp_errno_t error =
        llhttp_execute(&parser->llhttp, bytes.at + parser->parsed, bytes.length - parser->parsed);
    parser->parsed = bytes.length;
    if (parser->refused)
        return HEAD_REFUSED;
    if (error == HPE_OK)
        return HEAD_MORE;
    if (error != HPE_PAUSED_UPGRADE)
        return refuse(parser, error == HPE_INVALID_METHOD ? 501 : 400,
            llhttp_get_error_reason(&parser->llhttp));
    const char *end = llhttp_get_error_pos(&parser->llhttp);
    int r = finish(parser, end);
    if (r == HEAD_COMPLETE)
        parser->request->head_length = (size_t)(end - bytes.at);
    return r;
}

static int refuse_size(struct head_parser *parser, struct span bytes)
{
    struct span line = bytes;

    if (span_starts(line, SPAN("\r\n")))
        line = (struct span){line.at + 2, line.length - 2};
    (void)span_cut(&line, '\n');
    return line.at ? refuse(parser, 431, "the head is over the limit")
                   : refuse(parser, 414, "the request line is over the limit");
}

void head_parser_start(
    struct head_parser *parser, struct request *request, const struct head_limits *limits)
{
    memset(request, 0, offsetof(struct request, fields)); /* the fields are 8 KiB */
    request->head_length = 0;
    *parser = (struct head_parser){.request = request, .limits = limits};
    llhttp_init(&parser->llhttp, HTTP_REQUEST, &settings);
    parser->llhttp.data = parser;
    parser->llhttp.lenient_flags |= LENIENT_VERSION; /* on_version_complete() decides */
}

int head_parser_feed(
    struct head_parser *parser, struct span bytes, unsigned *ret_status, const char **ret_why)
{
    if (bytes.length > parser->limits->size)
        bytes.length = parser->limits->size;
    int r = parse(parser, bytes);
    if (r == HEAD_MORE && bytes.length == parser->limits->size)
        r = refuse_size(parser, bytes);
    if (r == HEAD_REFUSED) {
        *ret_status = parser->refused;
        *ret_why = parser->why;
    }
    return r;
}
