#include "http/response.h"

#include <llhttp.h>
#include <stddef.h>
#include <string.h>

#include "http/syntax.h"

struct span response_field(const struct response *response, const char *name)
{
    return fields_find(response->fields, response->field_count, name);
}

struct reader {
    struct response *response;
    const struct head_limits *limits;
    struct field field; /* the one being read */
    const char *why;    /* of a refusal */
};

/* What llhttp reports. */

static int refuse(struct reader *reader, const char *why)
{
    reader->why = why;
    return -1;
}

static int on_version_complete(llhttp_t *llhttp)
{
    struct reader *reader = llhttp->data;

    if (llhttp_get_http_major(llhttp) != 1)
        return refuse(reader, "a version other than HTTP/1");
    reader->response->minor = llhttp_get_http_minor(llhttp) > 0 ? 1 : 0;
    return 0;
}

static int on_header_field(llhttp_t *llhttp, const char *at, size_t length)
{
    struct reader *reader = llhttp->data;

    field_extend(&reader->field.name, at, length);
    return 0;
}

static int on_header_field_complete(llhttp_t *llhttp)
{
    struct reader *reader = llhttp->data;
    size_t count = reader->response->field_count;

    if (!reader->field.name.at)
        return refuse(reader, "an empty field name");
    if (count >= reader->limits->fields || count >= REQUEST_FIELDS_MAX)
        return refuse(reader, "too many fields");
    return 0;
}

static int on_header_value(llhttp_t *llhttp, const char *at, size_t length)
{
    struct reader *reader = llhttp->data;

    field_extend(&reader->field.value, at, length);
    return 0;
}

static int on_header_value_complete(llhttp_t *llhttp)
{
    struct reader *reader = llhttp->data;
    struct response *response = reader->response;

    field_complete(&reader->field);
    response->fields[response->field_count++] = reader->field;
    reader->field = (struct field){0};
    return 0;
}

/* Ends llhttp_execute() with HPE_PAUSED_UPGRADE right after the head, as in request.c. */
static int on_headers_complete(llhttp_t *llhttp)
{
    (void)llhttp;
    return 2;
}

static const llhttp_settings_t settings = {
    .on_version_complete = on_version_complete,
    .on_header_field = on_header_field,
    .on_header_field_complete = on_header_field_complete,
    .on_header_value = on_header_value,
    .on_header_value_complete = on_header_value_complete,
    .on_headers_complete = on_headers_complete,
};

/* The checks of a complete head: each returns NULL or what is wrong. */

static bool skip_digits(const char **cursor, const char *end, size_t count)
{
    for (; count > 0; count--, (*cursor)++)
        if (*cursor == end || **cursor < '0' || **cursor > '9')
            return false;
    return true;
}

/*
 * RFC 9112 §4, byte for byte. The space before the reason phrase is not optional there, but servers
 * without a phrase leave it out, and nothing else can be meant.
 */
static const char *read_status_line(struct response *response, const char **cursor, const char *end)
{
    const char *line_end;

    if (!fields_skip(cursor, end, SPAN("HTTP/1.")) || !skip_digits(cursor, end, 1) ||
        !fields_skip(cursor, end, SPAN(" ")) || !skip_digits(cursor, end, 3))
        return "a malformed status line";
    response->reason.at = *cursor;
    if (fields_skip(cursor, end, SPAN(" "))) {
        line_end = memchr(*cursor, '\r', (size_t)(end - *cursor));
        if (!line_end)
            return "the status line does not end in CR LF";
        response->reason = (struct span){*cursor, (size_t)(line_end - *cursor)};
        *cursor = line_end;
    }
    if (!syntax_all(response->reason, SYNTAX_FIELD_VALUE))
        return "a reason phrase with a control character";
    if (!fields_skip(cursor, end, SPAN("\r\n")))
        return "the status line does not end in CR LF";
    if (response->status < 100 || response->status > 599)
        return "a status that is not from 100 to 599";
    return NULL;
}

static const char *check_shape(struct response *response, const char *at, const char *end)
{
    const char *why = read_status_line(response, &at, end);

    return why ? why : fields_check_shape(response->fields, response->field_count, at, end);
}

/* RFC 9112 §6.1 and §6.2; what §6.3 lets a proxy repair is refused, as in request.c. */
static const char *read_coding_and_length(struct response *response, bool *ret_chunked)
{
    const struct field *fields = response->fields;
    size_t count = response->field_count,
           lengths = fields_count_kind(fields, count, FIELD_CONTENT_LENGTH),
           codings = fields_count_kind(fields, count, FIELD_TRANSFER_ENCODING);

    if (codings > 0 && lengths > 0)
        return "Transfer-Encoding and Content-Length";
    if (codings > 0 && response->minor == 0)
        return "Transfer-Encoding in HTTP/1.0";
    if (codings > 1 ||
        (codings > 0 && !span_equal_case(fields_find_kind(fields, count, FIELD_TRANSFER_ENCODING),
                            SPAN("chunked"))))
        return "a Transfer-Encoding other than chunked";
    if (lengths > 1)
        return "more than one Content-Length";
    if (lengths > 0 && span_to_u64(fields_find_kind(fields, count, FIELD_CONTENT_LENGTH),
                           &response->content_length) < 0)
        return "a malformed Content-Length";
    response->has_length = lengths > 0;
    *ret_chunked = codings > 0;
    return NULL;
}

/* RFC 9112 §6.3. */
static enum response_framing framing_of(
    const struct response *response, bool head_request, bool chunked)
{
    if (head_request || response->status < 200 || response->status == 204 ||
        response->status == 304)
        return RESPONSE_NO_BODY;
    if (chunked)
        return RESPONSE_CHUNKED;
    return response->has_length ? RESPONSE_LENGTH : RESPONSE_CLOSE;
}

/* RFC 9110 §7.8 and §15.2.2, RFC 9112 §9.3. */
static void read_connection(struct response *response, bool chunked)
{
    struct connection_options options =
        fields_connection_options(response->fields, response->field_count);
    /* A server that announces the body a 204 cannot have may well send it, and the next response
     * on this connection would begin with it. */
    bool unwanted_body = response->status == 204 && (chunked || response->content_length > 0);

    response->keep_alive = !options.close && (response->minor >= 1 || options.keep_alive) &&
                           response->framing != RESPONSE_CLOSE && !unwanted_body;
    response->upgrade =
        response->status == 101 && options.upgrade && response->minor >= 1 &&
        fields_count_kind(response->fields, response->field_count, FIELD_UPGRADE) > 0;
}

static const char *finish(struct response *response, struct span head, bool head_request)
{
    const char *why = check_shape(response, head.at, head.at + head.length);
    bool chunked;

    if (!why)
        why = read_coding_and_length(response, &chunked);
    if (why)
        return why;
    response->framing = framing_of(response, head_request, chunked);
    read_connection(response, chunked);
    response->head_length = head.length;
    return NULL;
}

static int parse(struct reader *reader, struct span bytes, bool head_request)
{
    llhttp_t llhttp;

    if (bytes.length == 0)
        return RESPONSE_MORE;
    if (bytes.at[0] != 'H') { /* llhttp skips line ends in front */
        reader->why = "no status line";
        return RESPONSE_BAD;
    }
    llhttp_init(&llhttp, HTTP_RESPONSE, &settings);
    llhttp.data = reader;
    llhttp.lenient_flags |= LENIENT_VERSION; /* on_version_complete() decides */
    llhttp_errno_t error = llhttp_execute(&llhttp, bytes.at, bytes.length);
    if (error == HPE_OK)
        return RESPONSE_MORE;
    if (error != HPE_PAUSED_UPGRADE) {
        if (!reader->why)
            reader->why = llhttp_get_error_reason(&llhttp);
        return RESPONSE_BAD;
    }
    reader->response->status = (unsigned)llhttp_get_status_code(&llhttp);
    bytes.length = (size_t)(llhttp_get_error_pos(&llhttp) - bytes.at);
    reader->why = finish(reader->response, bytes, head_request);
    return reader->why ? RESPONSE_BAD : RESPONSE_COMPLETE;
}

int response_parse(struct span bytes, bool head_request, const struct head_limits *limits,
    struct response *ret, const char **ret_why)
{
    struct reader reader = {.response = ret, .limits = limits};
    bool cut = bytes.length >= limits->size;

    if (cut)
        bytes.length = limits->size;
    memset(ret, 0, offsetof(struct response, fields)); /* the fields are 8 KiB */
    ret->head_length = 0;
    int r = parse(&reader, bytes, head_request);
    if (r == RESPONSE_MORE && cut) {
        reader.why = "the head is over the limit";
        r = RESPONSE_BAD;
    }
    if (r == RESPONSE_BAD)
        *ret_why = reader.why;
    return r;
}
