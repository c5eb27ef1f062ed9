#include "load_answer.h"

#include <errno.h>
#include <string.h>

#include "websocket.h"

#define SECTION_MAX (64 * 1024)

void answer_begin(struct answer *answer, bool to_head)
{
    buffer_clear(&answer->line);
    *answer = (struct answer){.state = ANSWER_STATUS_LINE, .to_head = to_head};
}

void answer_clear(struct answer *answer)
{
    buffer_clear(&answer->line);
}

static int malformed(struct reason *reason, const char *what)
{
    return reason_set(reason, -EBADMSG, "%s", what);
}

/* Cuts the first @length bytes off *rest. */
static struct span take(struct answer *answer, struct span *rest, size_t length)
{
    struct span taken = {rest->at, length};

    rest->at += length;
    rest->length -= length;
    answer->bytes += length;
    return taken;
}

/* What cannot become a status line is malformed at once, however long its end is awaited. */
static int check_line_begun(const struct answer *answer, struct reason *reason)
{
    struct span version = SPAN("HTTP/1.");

    if (answer->state != ANSWER_STATUS_LINE)
        return 0;
    if (answer->line.length < version.length)
        version.length = answer->line.length;
    if (!span_starts(buffer_span(&answer->line), version))
        return malformed(reason, "the answer does not begin with HTTP/1.");
    return 0;
}

/*
 * Cuts the next line off *rest; *ret_line is without its CRLF and holds until the next call.
 * Returns 1, or 0 when the end of the line has not arrived, or as answer_feed().
 */
static int take_line(
    struct answer *answer, struct span *rest, struct span *ret_line, struct reason *reason)
{
    const char *end = rest->length > 0 ? memchr(rest->at, '\n', rest->length) : NULL;
    struct span line = take(answer, rest, end ? (size_t)(end + 1 - rest->at) : rest->length);
    int r;

    answer->section += line.length;
    if (answer->section > SECTION_MAX)
        return malformed(reason, "a head, or the trailers, of more than 64 KiB");
    if (!end || answer->line.length > 0) {
        r = buffer_append(&answer->line, line);
        if (r < 0)
            return r;
        if (!end)
            return check_line_begun(answer, reason);
        line = buffer_span(&answer->line);
        answer->line.length = 0;
    }
    if (line.length < 2 || line.at[line.length - 2] != '\r')
        return malformed(reason, "a line that does not end in CRLF");
    line.length -= 2;
    *ret_line = line;
    return 1;
}

/* tchar, RFC 9110 §5.6.2 */
static bool is_token_byte(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

/* Field values and reason phrases: visible bytes, spaces and tabs (RFC 9110 §5.5). */
static bool is_text(struct span text)
{
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

/* RFC 9112 §4: the space after the status code is there even when no reason follows. */
static int read_status_line(struct answer *answer, struct span line, struct reason *reason)
{
    struct span prefix = SPAN("HTTP/1.");
    unsigned status = 0;

    if (line.length < 13 || !span_starts(line, prefix) ||
        (line.at[7] != '0' && line.at[7] != '1') || line.at[8] != ' ' || line.at[12] != ' ' ||
        !is_text(line))
        return malformed(reason, "a malformed status line");
    for (int i = 9; i < 12; i++) {
        if (line.at[i] < '0' || line.at[i] > '9')
            return malformed(reason, "a status code that is not a number");
        status = status * 10 + (unsigned)(line.at[i] - '0');
    }
    if (status < 100 || status > 599 || (status == 101 && !answer->to_upgrade))
        return malformed(reason, "a status code that cannot be");
    answer->status = status;
    answer->http10 = line.at[7] == '0';
    answer->state = ANSWER_FIELDS;
    return 0;
}

static void read_connection(struct answer *answer, struct span value)
{
    while (value.at) {
        struct span option = span_trim(span_cut(&value, ','));
        if (span_equal_case(option, SPAN("close")))
            answer->says_close = true;
        else if (span_equal_case(option, SPAN("keep-alive")))
            answer->says_keep = true;
        else if (span_equal_case(option, SPAN("upgrade")))
            answer->says_upgrade = true;
    }
}

static int read_framing(
    struct answer *answer, struct span name, struct span value, struct reason *reason)
{
    if (span_equal_case(name, SPAN("content-length"))) {
        if (answer->has_length)
            return malformed(reason, "two Content-Length fields");
        if (span_to_u64(value, &answer->length) < 0)
            return malformed(reason, "a Content-Length that is not a number");
        answer->has_length = true;
    } else if (span_equal_case(name, SPAN("transfer-encoding"))) {
        if (answer->chunked)
            return malformed(reason, "two Transfer-Encoding fields");
        if (!span_equal_case(value, SPAN("chunked")))
            return malformed(reason, "a Transfer-Encoding other than chunked");
        answer->chunked = true;
    } else if (span_equal_case(name, SPAN("connection"))) {
        read_connection(answer, value);
    } else if (span_equal_case(name, SPAN("upgrade"))) {
        answer->is_websocket = span_equal_case(value, SPAN("websocket"));
    } else if (span_equal_case(name, SPAN("sec-websocket-accept"))) {
        answer->is_accepted = span_equal(value, SPAN(WEBSOCKET_ACCEPT));
    }
    return 0;
}

/* A field line of the head or of the trailers: RFC 9112 §5. */
static int read_field(struct answer *answer, struct span line, struct reason *reason)
{
    struct span value = line, name = span_cut(&value, ':');

    if (!value.at || name.length == 0)
        return malformed(reason, "a field line without a name and a colon");
    for (size_t i = 0; i < name.length; i++)
        if (!is_token_byte(name.at[i]))
            return malformed(reason, "a field name that is not a token");
    if (!is_text(value))
        return malformed(reason, "a control character in a field value");
    if (answer->state == ANSWER_TRAILERS) /* RFC 9110 §6.5.1: no framing there */
        return 0;
    return read_framing(answer, name, span_trim(value), reason);
}

/* The empty line: how the content is framed, RFC 9112 §6.3. */
static int end_head(struct answer *answer, struct reason *reason)
{
    bool switches = answer->status == 101, interim = answer->status < 200 && !switches;

    if (answer->chunked && (answer->has_length || answer->http10))
        return malformed(reason, "Transfer-Encoding beside Content-Length, or in HTTP/1.0");
    if (switches && !(answer->says_upgrade && answer->is_websocket && answer->is_accepted))
        return malformed(reason, "a handshake that is not the answer to ours (RFC 6455 §4.1)");
    if ((interim || switches || answer->status == 204) && (answer->chunked || answer->has_length))
        return malformed(reason, "Content-Length or Transfer-Encoding with a status of no content");
    if (interim) {
        uint64_t bytes = answer->bytes;
        bool to_upgrade = answer->to_upgrade;
        answer_begin(answer, answer->to_head);
        answer->to_upgrade = to_upgrade;
        answer->bytes = bytes;
        return 0;
    }
    answer->left = answer->length;
    if (answer->to_head || switches || answer->status == 204 || answer->status == 304)
        answer->state = ANSWER_WHOLE;
    else if (answer->chunked)
        answer->state = ANSWER_CHUNK_SIZE;
    else if (!answer->has_length)
        answer->state = ANSWER_UNTIL_CLOSE;
    else
        answer->state = answer->length > 0 ? ANSWER_SIZED : ANSWER_WHOLE;
    return 0;
}

/* RFC 9112 §7.1; a chunk extension is read over. */
static int read_chunk_size(struct answer *answer, struct span line, struct reason *reason)
{
    struct span extension = line, digits = span_cut(&extension, ';');
    uint64_t size = 0;

    if (digits.length == 0 || digits.length > 15 || !is_text(line))
        return malformed(reason, "a malformed chunk size");
    for (size_t i = 0; i < digits.length; i++) {
        char c = digits.at[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                                : 16;
        if (digit > 15)
            return malformed(reason, "a chunk size that is not hexadecimal");
        size = size * 16 + digit;
    }
    answer->left = size;
    answer->section = 0;
    answer->state = size > 0 ? ANSWER_CHUNK_CONTENT : ANSWER_TRAILERS;
    return 0;
}

static int read_line(struct answer *answer, struct span line, struct reason *reason)
{
    switch (answer->state) {
    case ANSWER_STATUS_LINE:
        return read_status_line(answer, line, reason);
    case ANSWER_FIELDS:
        return line.length > 0 ? read_field(answer, line, reason) : end_head(answer, reason);
    case ANSWER_CHUNK_SIZE:
        return read_chunk_size(answer, line, reason);
    case ANSWER_CHUNK_END:
        if (line.length > 0)
            return malformed(reason, "a chunk longer than its size");
        answer->section = 0;
        answer->state = ANSWER_CHUNK_SIZE;
        return 0;
    default: /* ANSWER_TRAILERS */
        if (line.length > 0)
            return read_field(answer, line, reason);
        answer->state = ANSWER_WHOLE;
        return 0;
    }
}

/* Cuts what belongs to the content, or to the chunk, off *rest; the last byte ends that state. */
static struct span take_content(struct answer *answer, struct span *rest)
{
    if (answer->state == ANSWER_UNTIL_CLOSE)
        return take(answer, rest, rest->length);
    size_t length = answer->left < rest->length ? answer->left : rest->length;
    answer->left -= length;
    if (answer->left == 0)
        answer->state = answer->state == ANSWER_SIZED ? ANSWER_WHOLE : ANSWER_CHUNK_END;
    return take(answer, rest, length);
}

int answer_feed(
    struct answer *answer, struct span *rest, struct span *ret_content, struct reason *reason)
{
    struct span line = {NULL, 0};
    int r;

    for (;;) {
        if (answer->state == ANSWER_WHOLE)
            return ANSWER_COMPLETE;
        if (rest->length == 0)
            return 0;
        switch (answer->state) {
        case ANSWER_SIZED:
        case ANSWER_UNTIL_CLOSE:
        case ANSWER_CHUNK_CONTENT:
            *ret_content = take_content(answer, rest);
            return ANSWER_CONTENT;
        default:
            r = take_line(answer, rest, &line, reason);
            if (r > 0)
                r = read_line(answer, line, reason);
            if (r < 0)
                return r;
        }
    }
}

bool answer_ends_by_close(const struct answer *answer)
{
    return answer->state == ANSWER_UNTIL_CLOSE;
}

bool answer_is_last(const struct answer *answer)
{
    bool framed = answer->chunked || answer->has_length || answer->to_head ||
                  answer->status == 101 || answer->status == 204 || answer->status == 304;

    if (!framed || answer->says_close)
        return true;
    return answer->http10 && !answer->says_keep;
}
